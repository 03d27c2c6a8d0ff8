"""A clip of the released limit through everything: `python -m benchmarks.long_clip --out DIR [--num_frames 250]`.

Makes the frames (a texture that sways, and a disc that crosses and occludes it), then runs preprocessing of sparse
pairs, a short training and viz.py, each as a process of its own: time, peak memory, bytes on disk. A stage that is done
is not run again; after a stop the same command continues.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks.measure import write_json
from evaluation.tables import Row, format_table
from preprocessing.sequence_paths import SequencePaths
from utils.images import write_image

REPOSITORY = Path(__file__).resolve().parents[1]
COMMON = ["--config", "configs/fast.txt", "--pairs", "sparse", "--device", "cpu", "--expname", "long"]
SWAY = 0.15  # amplitude of the texture's motion, a fraction of the image's sides


def make_texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return smooth coloured noise of two scales, uint8 [H,W,3]."""
    image = np.full((height, width, 3), 128.0)
    for sigma in (2, 9):
        image += 90 * sigma * cv2.GaussianBlur(rng.standard_normal((height, width, 3)), (0, 0), sigma)
    return np.clip(image, 0, 255).astype(np.uint8)


def write_frames(paths: SequencePaths, num_frames: int, height: int, width: int) -> None:
    """Write the frames that are missing."""
    rng = np.random.default_rng(0)
    margin_y, margin_x = round(SWAY * height), round(SWAY * width)
    back = make_texture(rng, height + 2 * margin_y, width + 2 * margin_x)
    front, disc = make_texture(rng, height, width), np.zeros((height, width), np.float32)
    cv2.circle(disc, (width // 2, height // 2), height // 5, 1, -1, cv2.LINE_AA)
    for t in tqdm(range(num_frames), desc="frames"):
        file, angle = paths.color / f"{t:05d}.png", 2 * np.pi * t / 100
        if not file.exists():
            sway = (-margin_x * (1 + np.sin(angle)), -margin_y * (1 + np.cos(0.7 * angle)))
            crossing = (width * (t / max(1, num_frames - 1) - 0.5), 0.2 * height * np.sin(3 * angle))
            alpha = shift(disc, crossing, height, width)[..., None]
            frame = shift(back, sway, height, width) * (1 - alpha) + shift(front, crossing, height, width) * alpha
            write_image(file, frame.astype(np.uint8))


def shift(image: np.ndarray, offset: tuple[float, float], height: int, width: int) -> np.ndarray:
    """Return the image moved by (x, y) pixels and cut out."""
    matrix = np.array([[1, 0, offset[0]], [0, 1, offset[1]]], np.float32)
    return cv2.warpAffine(image, matrix, (width, height))


def measure(command: list[str], log: Path) -> Row:
    """Run a command with its output in `log`; return time and memory. Exit if the command fails."""
    start = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, *command], cwd=REPOSITORY, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{command[0]} ended with {os.waitstatus_to_exitcode(status)}, see {log}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"s": time.perf_counter() - start, "CPU s": cpu, "peak memory, GB": usage.ru_maxrss * 1024 / 1e9}


def main() -> None:
    """Run the stages that are missing, print a table, keep it as `measured.json` in the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the clip, its run and the table")
    parser.add_argument("--num_frames", type=int, default=250)
    parser.add_argument("--size", type=int, nargs=2, default=[854, 480], metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--num_iters", type=int, default=50, help="steps of the training")
    args = parser.parse_args()
    out, (width, height) = args.out.resolve(), args.size
    paths, file = SequencePaths(out / "clip"), out / "measured.json"
    write_frames(paths, args.num_frames, height, width)
    steps = ["--num_iters", str(args.num_iters), "--i_img", str(args.num_iters)]
    run = [*COMMON, "--data_dir", str(paths.root), "--save_dir", str(out), *steps]
    source = ["--data_dir", str(paths.root), "--flow", "dis", "--pairs", "sparse", "--chain", "false"]
    commands = {
        "preprocessing": ["preprocessing/main_processing.py", *source, "--device", "cpu"],
        "training": ["train.py", *run],
        "viz": ["viz.py", *run],
    }
    rows = json.loads(file.read_text()) if file.exists() else {}
    for name, command in commands.items():
        if name not in rows:
            rows[name] = measure(command, out / f"{name}.log")
            write_json(file, rows)
    print(format_table(rows))
    for folder in sorted(path for path in paths.root.iterdir() if path.is_dir()):
        print(f"{folder.name}: {sum(f.stat().st_size for f in folder.rglob('*') if f.is_file()) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
