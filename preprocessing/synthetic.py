"""A seeded demo clip with exact tracks: textured blobs that move, bend and occlude each other over a slow pan."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from preprocessing.sequence_paths import SequencePaths
from preprocessing.synthetic_layers import ROLES, Layer, Role, build_layers, topmost
from utils.atomic import atomic_folder
from utils.coords import is_inside_image
from utils.data_files import read_arrays
from utils.errors import InputError
from utils.images import write_image

SUPERSAMPLING = 3  # samples for each pixel and axis; textures are smooth, so only outlines need them
NUM_POINTS = 300


@dataclass(frozen=True)
class Scene:
    """A rendered clip and its exact tracks.

    Args:
        video: RGB uint8 [T,H,W,3].
        masks: Where any moving layer is visible, bool [T,H,W].
        points: Tracks, float32 [N,T,2] (x, y), integer = pixel centre.
        occluded: Whether a point lies behind a nearer layer or outside the image, bool [N,T].
    """

    video: np.ndarray
    masks: np.ndarray
    points: np.ndarray
    occluded: np.ndarray


def make_scene(
    num_frames: int = 24, height: int = 96, width: int = 160, seed: int = 0, roles: Sequence[Role] = ROLES
) -> Scene:
    """Render a scene; the same arguments always give the same scene.

    The motion fills the clip whatever its length: 24 frames of 160x96 pixels move by up to about 4 pixels a frame.
    About 300 points are drawn, each where it is visible in one of the frames, and followed through all frames.

    Args:
        num_frames: Length of the clip.
        height: Height of the frames, pixels.
        width: Width of the frames, pixels.
        seed: Seed of shapes, textures, paths and points.
        roles: The background, and the objects that move in front of it, from far to near.

    Raises:
        InputError: The clip is too short or too small to show anything.
    """
    if num_frames < 2 or min(height, width) < 16:
        raise InputError(f"a scene of {num_frames} frames, {width}x{height}: give at least 2 frames and 16x16 pixels")
    layers = build_layers(num_frames, height, width, seed, roles)
    frames, masks = zip(*(_render(layers, t, height, width) for t in range(num_frames)), strict=True)
    owners, u = _draw_points(np.random.default_rng((seed, 1)), layers, num_frames, height, width)
    points = np.empty((len(u), num_frames, 2))
    covered = np.empty((len(u), num_frames), bool)
    for t in range(num_frames):
        for index, layer in enumerate(layers):
            points[owners == index, t] = layer.to_image(u[owners == index], t)
        covered[:, t] = topmost(layers, points[:, t], t) != owners
    outside = ~is_inside_image(torch.from_numpy(points), height, width).numpy()
    return Scene(np.stack(frames), np.stack(masks), points.astype(np.float32), covered | outside)


def _render(layers: list[Layer], t: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Render frame t: RGB uint8 [H,W,3], and where moving layers cover at least half of a pixel, bool [H,W]."""
    n = SUPERSAMPLING
    xs, ys = ((np.arange(size * n) + 0.5) / n - 0.5 for size in (width, height))
    px = np.stack(np.meshgrid(xs, ys), -1)
    owner = topmost(layers, px, t)
    fine = np.empty((*owner.shape, 3))
    for index, layer in enumerate(layers):
        mine = owner == index
        if mine.any():  # a layer may be occluded completely
            fine[mine] = layer.colors(layer.to_layer(px[mine], t))
    image = fine.reshape(height, n, width, n, 3).mean((1, 3))
    coverage = (owner > 0).reshape(height, n, width, n).mean((1, 3))
    return np.round(255 * image).astype(np.uint8), coverage >= 0.5


def _draw_points(
    rng: np.random.Generator, layers: list[Layer], num_frames: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw visible points evenly over frames and layers; return their layers [N] and layer coordinates [N,2]."""
    ring = 1.5 * np.array([(np.cos(a), np.sin(a)) for a in np.arange(8) * np.pi / 4])
    owners, coordinates = [], []
    counts = [0] * len(layers)
    for t in range(num_frames):
        px = rng.uniform(0, 1, (4 * NUM_POINTS, 2)) * [width - 1, height - 1]
        owner = topmost(layers, px, t)
        # Points this close to an outline are skipped: their layer would be ambiguous.
        clear = (topmost(layers, px[:, None] + ring, t) == owner[:, None]).all(-1)
        for index, layer in enumerate(layers):
            wanted = math.ceil(NUM_POINTS * (t + 1) / num_frames / len(layers)) - counts[index]
            found = layer.to_layer(px[clear & (owner == index)][:wanted], t)
            counts[index] += len(found)
            owners += [index] * len(found)
            coordinates += list(found)
    return np.array(owners), np.array(coordinates)


def write_scene(scene: Scene, paths: SequencePaths) -> None:
    """Write a scene as a sequence folder, completely or not at all; a folder that already holds it is kept.

    The files are `color/%05d.png`, `mask/%05d.png` (0 or 255) and `gt_tracks.npz`.

    Raises:
        InputError: The folder holds anything else.
    """
    root = paths.root
    if root.is_file() or (root.is_dir() and any(root.iterdir())):
        _require_same(scene, paths)
        return
    with atomic_folder(root) as folder:
        staged = SequencePaths(folder)
        for t, (frame, mask) in enumerate(zip(scene.video, scene.masks, strict=True)):
            write_image(staged.color / f"{t:05d}.png", frame)
            write_image(staged.mask / f"{t:05d}.png", mask.astype(np.uint8) * 255)
        np.savez(staged.gt_tracks, points=scene.points, occluded=scene.occluded)


def _require_same(scene: Scene, paths: SequencePaths) -> None:
    """Raise an InputError unless the folder holds all of this scene."""
    advice = "give another folder, or remove this one so that it is rewritten"
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
    # A hundredth of a pixel is far above rounding on another machine and far below what another seed changes.
    if points.shape != scene.points.shape or not np.allclose(points, scene.points, atol=1e-2):
        raise InputError(f"{paths.root} holds a scene of another seed or size: {advice}")
