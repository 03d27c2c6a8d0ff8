"""The README's pictures: `python -m benchmarks.readme_pictures`, after the demo was trained and drawn by viz.py.

Writes `assets/demo_trails.gif`, every second frame of the trails made small, and `assets/demo_dense.png`: one frame and
its rendering, depth, flow and canonical places.
"""

import argparse
import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from utils.atomic import write_whole
from utils.video_io import read_video, write_image

HEIGHT = 136  # pixels of each picture
COLORS = 128  # of the gif
FRAME = 14  # of the still pictures: the objects meet
STILLS = ("color", "depth", "00000_flow", "canonical")


def _frames(path: Path) -> list[np.ndarray]:
    """A video's frames, `HEIGHT` high."""
    frames = list(read_video(path))
    size = round(frames[0].shape[1] * HEIGHT / frames[0].shape[0]), HEIGHT
    return [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]


def _gif(frames: list[np.ndarray]) -> bytes:
    """One palette and no dithering: what stands still costs little."""
    palette = Image.fromarray(np.concatenate(frames[::3])).quantize(COLORS)
    first, *others = (Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=200, loop=0)
    return buffer.getvalue()


def main() -> None:
    """Read the demo's videos, write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vis", type=Path, default=Path("out/demo_demo_scene/vis"), help="pictures of the demo")
    parser.add_argument("--out", type=Path, default=Path("assets"), help="folder of the small ones")
    args = parser.parse_args()
    write_whole(args.out / "demo_trails.gif", _gif(_frames(args.vis / "00000_trails.mp4")[::2]))
    stills = [_frames(args.vis / f"{name}.mp4")[FRAME] for name in STILLS]
    write_image(args.out / "demo_dense.png", np.concatenate(stills, axis=1))


if __name__ == "__main__":
    main()
