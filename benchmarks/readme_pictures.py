"""The README's pictures: `python -m benchmarks.readme_pictures`, after the demo was trained and drawn by viz.py.

Writes `assets/demo_trails.gif`, every second frame of the trails made small, and `assets/demo_dense.png`: one frame
with its rendering, depth, flow and canonical coordinates.
"""

import argparse
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

from utils.atomic import atomic_path
from utils.images import write_image
from utils.video import read_video

HEIGHT = 136  # pixels of each picture
COLORS, FPS = 128, 5  # of the gif
FRAME = 14  # of the still pictures: the objects meet
STILLS = ("color", "depth", "00000_flow", "canonical")


def read_small(path: Path) -> list[np.ndarray]:
    """Return a video's frames, `HEIGHT` pixels high."""
    frames = list(read_video(path))
    size = round(frames[0].shape[1] * HEIGHT / frames[0].shape[0]), HEIGHT
    return [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]


def write_gif(path: Path, frames: list[np.ndarray]) -> None:
    """Write a gif with one palette and no dithering, so that still regions take few bytes."""
    palette = f"split[a][b];[a]palettegen=max_colors={COLORS}[p];[b][p]paletteuse=dither=none:diff_mode=rectangle"
    height, width, _ = frames[0].shape
    with atomic_path(path) as temporary:
        writer = imageio_ffmpeg.write_frames(
            temporary,
            (width, height),
            fps=FPS,
            codec="gif",
            pix_fmt_out="pal8",
            macro_block_size=1,
            output_params=["-vf", palette],
        )
        writer.send(None)  # starts it
        for frame in frames:
            writer.send(frame.tobytes())
        writer.close()


def main() -> None:
    """Read the demo's videos, write the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vis", type=Path, default=Path("out/demo_demo_scene/vis"), help="pictures of the demo")
    parser.add_argument("--out", type=Path, default=Path("assets"), help="folder of the small ones")
    args = parser.parse_args()
    write_gif(args.out / "demo_trails.gif", read_small(args.vis / "00000_trails.mp4")[::2])
    stills = [read_small(args.vis / f"{name}.mp4")[FRAME] for name in STILLS]
    write_image(args.out / "demo_dense.png", np.concatenate(stills, axis=1))


if __name__ == "__main__":
    main()
