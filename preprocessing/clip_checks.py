"""Warnings about a clip: cuts, noise, darkness, no motion, few or small frames.

The checks compare neighbouring frames by flow and colours. Each warning is a sentence that gives the consequence.
"""

import cv2
import numpy as np
from tqdm import tqdm

from preprocessing.flow_files import read_flow
from preprocessing.sequence_paths import SequencePaths
from utils.images import read_frame

# Mean difference between a frame and its warped neighbour, divided by the frame's mean deviation from its mean colour:
# at most 0.3 in filmed and drawn clips, above 1.1 across a cut and in noise.
MAX_DIFFERENCE = 0.6
PLAIN = 2.0  # of 255: mean deviation below which flow finds nothing to follow
STILL = 0.25  # pixels
MOVING_SHARE = 0.005  # share of the pixels, as of a small object before a static camera
FEW_FRAMES, SMALL_SIDE = 4, 32


def check_clip(paths: SequencePaths, names: list[str]) -> list[str]:
    """Return sentences about problems of a clip; none for an ordinary one.

    Args:
        paths: Sequence with the flow between neighbouring frames.
        names: Frame file names in order.
    """
    plain, unexplained, motion = [], [], 0.0
    before = read_frame(paths.color / names[0]).astype(np.float32)
    for k, name in enumerate(tqdm(names, desc="looking for cuts", unit="frame")):
        frame = read_frame(paths.color / name).astype(np.float32)
        deviation = np.abs(frame - frame.mean((0, 1))).mean()
        if deviation < PLAIN:
            plain.append(name)
        if k > 0:
            flow = read_flow(paths, name, names[k - 1])
            differs = np.abs(warp(before, flow) - frame).mean() > MAX_DIFFERENCE * deviation
            if differs and name not in plain and names[k - 1] not in plain:
                unexplained.append(f"{names[k - 1]} → {name}")
            motion = max(motion, float(np.quantile(np.linalg.norm(flow, axis=-1), 1 - MOVING_SHARE)))
        before = frame
    height, width = before.shape[:2]
    problems = []
    if len(names) < FEW_FRAMES:
        problems.append(f"{len(names)} frames: what is occluded in one of them is hardly seen in another; give more")
    if min(height, width) < SMALL_SIDE:
        problems.append(f"frames of {width}x{height} pixels: their flow is coarse; give larger ones if there are any")
    if plain:
        problems.append(f"{_listed(plain)} of one colour (black?): nothing can be followed there; leave them out")
    if len(unexplained) > len(names) / 2:
        problems.append("most frames look unlike their neighbours, whatever moves: noise, or frames in a wrong order?")
    elif unexplained:
        problems.append(f"a cut, or a flash? flow does not explain {_listed(unexplained)}; train each shot by itself")
    if motion < STILL and len(plain) < len(names):
        problems.append(f"nothing moves by more than {motion:.2f} px between neighbours: a still needs no tracking")
    return problems


def warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Warp an image [H,W,3] to the frame in which `flow` [H,W,2] starts; the border is repeated."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    return cv2.remap(image, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
