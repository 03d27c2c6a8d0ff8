"""Clips as users have them, in files of many kinds, and what preprocessing must make of them.

Every clip shows a texture that moves two pixels to the left a frame: frames in a wrong order, turned or with wrapped
values would not give that flow.
"""

import subprocess
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

import preprocessing.main_processing as main_processing
from loaders.flow_store import FlowStore
from preprocessing.products import describe_missing
from preprocessing.sequence_paths import SequencePaths
from preprocessing.settings import Settings
from utils.images import list_frames, read_frames

STEP = 2  # pixels


def clip(num_frames: int = 4, height: int = 32, width: int = 48) -> np.ndarray:
    """RGB uint8 [T,H,W,3] over most of the range, so that wrapped or clipped values would show."""
    noise = np.random.default_rng(0).random((height, width + STEP * num_frames, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5)
    texture = ((smooth - smooth.min()) / np.ptp(smooth) * 250).astype(np.uint8)
    return np.stack([texture[:, STEP * t : STEP * t + width] for t in range(num_frames)])


def encode(path: Path, rgb: np.ndarray) -> Path:
    """Write [H,W] or [H,W,C] of any depth as OpenCV does; the fourth channel is alpha."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = rgb if rgb.ndim == 2 else rgb[..., [2, 1, 0, *range(3, rgb.shape[2])]]
    cv2.imencode(path.suffix, bgr)[1].tofile(path)
    return path


def write_images(folder: Path, video: np.ndarray, name: str = "{:05d}.png", first: int = 0) -> Path:
    for t, frame in enumerate(video, first):
        encode(folder / name.format(t), frame)
    return folder


def grey(video: np.ndarray) -> np.ndarray:
    return video[..., 1]


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def prepare(source: Path, tmp_path: Path, *flags: str) -> None:
    fixed = {"data_dir": source, "data_root": tmp_path / "data", "flow": "dis", "device": "cpu"}
    main_processing.main([text for name, value in fixed.items() for text in (f"--{name}", str(value))] + list(flags))


def check_prepared(root: Path, expected: np.ndarray, tolerance: float) -> None:
    """The frames are `expected` within a mean error, everything is there and the flow is the motion."""
    paths = SequencePaths(root)
    files = list_frames(paths.color)
    video, names = read_frames(files), [file.name for file in files]
    assert video.shape == expected.shape and np.abs(video.astype(int) - expected).mean() <= tolerance
    assert not describe_missing(paths, names, Settings(flow="dis"))
    store = FlowStore(paths, names)
    for t in range(1, len(names)):
        flow = store.flow(0, t)
        assert np.abs(np.median(flow, (0, 1)) - (-STEP * t, 0)).max() < 0.3


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *arguments], check=True)


def count_packets(path: Path) -> int:
    """Coded frames of a video file, as ffmpeg lists them without decoding."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path, "-map", "0:v:0", "-c", "copy"]
    listed = subprocess.run([*command, "-f", "framecrc", "-"], check=True, capture_output=True, text=True)
    return sum(not line.startswith("#") for line in listed.stdout.splitlines())
