"""What is wrong with a clip that no file says: cuts, noise, darkness, nothing that moves, too few frames.

Measured between neighbouring frames, by their flow and colours; each fault is a sentence that says what to expect.
"""

import cv2
import numpy as np
from tqdm import tqdm

from preprocessing.flow_files import read_flow
from preprocessing.sequence_paths import SequencePaths
from utils.images import read_frame

# A frame warped onto its neighbour differs by a share of what its colours vary by: at most 0.3 in filmed and drawn
# clips, above 1.1 across a cut and in noise.
UNEXPLAINED = 0.6
PLAIN = 2.0  # of 255: colours that vary less hold nothing that flow could follow
STILL = 0.25  # pixels
MOVING_SHARE = 0.005  # of the pixels: a small object before a camera at rest
FEW_FRAMES, SMALL_SIDE = 4, 32


def check_clip(paths: SequencePaths, names: list[str]) -> list[str]:
    """Sentences about the frames `names`, whose neighbours' flow is there; none for an ordinary clip."""
    plain, unexplained, motion, before = [], [], 0.0, None
    for k, name in enumerate(tqdm(names, desc="looking for cuts", unit="frame")):
        frame = read_frame(paths.color / name).astype(np.float32)
        spread = np.abs(frame - frame.mean((0, 1))).mean()
        if spread < PLAIN:
            plain.append(name)
        if k > 0:
            flow = read_flow(paths, name, names[k - 1])
            differs = np.abs(warped(before, flow) - frame).mean() > UNEXPLAINED * spread
            if differs and name not in plain and names[k - 1] not in plain:
                unexplained.append(f"{names[k - 1]} → {name}")
            motion = max(motion, float(np.quantile(np.linalg.norm(flow, axis=-1), 1 - MOVING_SHARE)))
        before = frame
    height, width = frame.shape[:2]
    faults = []
    if len(names) < FEW_FRAMES:
        faults.append(f"{len(names)} frames: what is hidden in one of them is hardly seen in another; give more")
    if min(height, width) < SMALL_SIDE:
        faults.append(f"frames of {width}x{height} pixels: flow of so few is coarse; give larger ones if there are any")
    if plain:
        faults.append(f"{_listed(plain)} of one colour (black?): nothing can be followed there; leave them out")
    if len(unexplained) > len(names) / 2:
        faults.append("most frames look unlike their neighbours, whatever moves: noise, or frames in a wrong order?")
    elif unexplained:
        faults.append(f"a cut, or a flash? flow does not explain {_listed(unexplained)}; train each shot by itself")
    if motion < STILL and len(plain) < len(names):
        faults.append(f"nothing moves by more than {motion:.2f} px between neighbours: a still needs no tracking")
    return faults


def warped(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """`image` [H,W,3] seen from the frame in which `flow` [H,W,2] starts."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    return cv2.remap(image, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
