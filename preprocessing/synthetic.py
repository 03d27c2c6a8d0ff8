"""A seeded demo clip with exact tracks: textured blobs move, bend and hide each other over a slow pan."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from preprocessing.sequence_paths import SequencePaths
from preprocessing.synthetic_layers import ROLES, Layer, Role, build_layers, topmost
from utils.atomic import atomic_folder
from utils.coords import is_inside_image
from utils.data_files import read_arrays
from utils.errors import InputError

SUPERSAMPLING = 3  # samples per pixel and axis; textures are smooth at this spacing, so only outlines need it
NUM_POINTS = 300


@dataclass(frozen=True)
class Scene:
    """A rendered clip and its exact tracks.

    video: uint8 [T,H,W,3] RGB; masks: bool [T,H,W], any moving layer; points: float32 [N,T,2] (x, y),
    integer = pixel centre; occluded: bool [N,T], behind a nearer layer or outside the image.
    """

    video: np.ndarray
    masks: np.ndarray
    points: np.ndarray
    occluded: np.ndarray


def _render(layers: list[Layer], t: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame t, uint8 [H,W,3], and where moving layers cover at least half of a pixel, bool [H,W]."""
    n = SUPERSAMPLING
    xs, ys = ((np.arange(size * n) + 0.5) / n - 0.5 for size in (width, height))
    px = np.stack(np.meshgrid(xs, ys), -1)
    owner = topmost(layers, px, t)
    fine = np.empty((*owner.shape, 3))
    for index, layer in enumerate(layers):
        mine = owner == index
        if mine.any():  # a layer may be hidden altogether
            fine[mine] = layer.colors(layer.to_layer(px[mine], t))
    image = fine.reshape(height, n, width, n, 3).mean((1, 3))
    share = (owner > 0).reshape(height, n, width, n).mean((1, 3))
    return np.round(255 * image).astype(np.uint8), share >= 0.5


def _draw_points(
    rng: np.random.Generator, layers: list[Layer], num_frames: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points seen at random, spread evenly over frames and layers: layer index [N], coordinates [N,2]."""
    ring = 1.5 * np.array([(np.cos(a), np.sin(a)) for a in np.arange(8) * np.pi / 4])
    owners, coordinates = [], []
    counts = [0] * len(layers)
    for t in range(num_frames):
        px = rng.uniform(0, 1, (4 * NUM_POINTS, 2)) * [width - 1, height - 1]
        owner = topmost(layers, px, t)
        # A query within a pixel of an outline would leave open which side is meant.
        clear = (topmost(layers, px[:, None] + ring, t) == owner[:, None]).all(-1)
        for index, layer in enumerate(layers):
            wanted = math.ceil(NUM_POINTS * (t + 1) / num_frames / len(layers)) - counts[index]
            found = layer.to_layer(px[clear & (owner == index)][:wanted], t)
            counts[index] += len(found)
            owners += [index] * len(found)
            coordinates += list(found)
    return np.array(owners), np.array(coordinates)


def make_scene(
    num_frames: int = 24, height: int = 96, width: int = 160, seed: int = 0, roles: Sequence[Role] = ROLES
) -> Scene:
    """Render a scene of a background and what moves before it (`roles`); the same arguments give the same scene.

    The story fills the clip whatever its length: 24 frames of 160x96 move by up to about 4 pixels a frame.
    Each of about 300 points is drawn where it is visible, in any frame, and followed through all of them.

    Raises InputError if the clip is too short or too small to show anything.
    """
    if num_frames < 2 or min(height, width) < 16:
        raise InputError(f"a scene of {num_frames} frames, {width}x{height}: need at least 2 frames and 16x16 pixels")
    layers = build_layers(num_frames, height, width, seed, roles)
    frames, masks = zip(*(_render(layers, t, height, width) for t in range(num_frames)), strict=True)
    owners, u = _draw_points(np.random.default_rng((seed, 1)), layers, num_frames, height, width)
    points = np.empty((len(u), num_frames, 2))
    hidden = np.empty((len(u), num_frames), bool)
    for t in range(num_frames):
        for index, layer in enumerate(layers):
            points[owners == index, t] = layer.to_image(u[owners == index], t)
        hidden[:, t] = topmost(layers, points[:, t], t) != owners
    outside = ~is_inside_image(torch.from_numpy(points), height, width).numpy()
    return Scene(np.stack(frames), np.stack(masks), points.astype(np.float32), hidden | outside)


def write_scene(scene: Scene, paths: SequencePaths) -> None:
    """Write `color/%05d.png`, `mask/%05d.png` (0/255) and `gt_tracks.npz`: the folder is complete or absent.

    A folder that already holds this scene is left as it is. Raises InputError if it holds anything else.
    """
    root = paths.root
    if root.is_file() or (root.is_dir() and any(root.iterdir())):
        _require_same(scene, paths)
        return
    with atomic_folder(root) as folder:
        staged = SequencePaths(folder)
        grey = scene.masks.astype(np.uint8) * 255
        for folder, images in ((staged.color, scene.video), (staged.mask, grey)):
            folder.mkdir(parents=True)
            for t, image in enumerate(images):
                _write_png(folder / f"{t:05d}.png", image)
        np.savez(staged.gt_tracks, points=scene.points, occluded=scene.occluded)


def _write_png(path: Path, image: np.ndarray) -> None:
    pixels = image[..., ::-1] if image.ndim == 3 else image  # OpenCV writes BGR
    if not cv2.imwrite(str(path), pixels):
        raise OSError(f"could not write {path}")


def _require_same(scene: Scene, paths: SequencePaths) -> None:
    """Raise InputError unless the folder holds this scene, whole."""
    advice = "give another folder, or remove this one to have it written anew"
    names = {f"{t:05d}.png" for t in range(len(scene.video))}
    if not paths.gt_tracks.is_file():
        raise InputError(f"{paths.root} exists and holds no demo scene (no {paths.gt_tracks.name}): {advice}")
    for folder in (paths.color, paths.mask):
        if not folder.is_dir() or names - {file.name for file in folder.iterdir()}:
            raise InputError(f"{folder} does not hold the {len(names)} frames of this scene: {advice}")
    try:
        (points,) = read_arrays(paths.gt_tracks, "points")
    except (OSError, ValueError) as error:
        raise InputError(f"{paths.gt_tracks} cannot be read ({error}): {advice}") from error
    # A hundredth of a pixel: far above rounding on another machine, far below what another seed changes.
    if points.shape != scene.points.shape or not np.allclose(points, scene.points, atol=1e-2):
        raise InputError(f"{paths.root} holds a scene of another seed or size: {advice}")
