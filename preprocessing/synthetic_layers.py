"""The moving layers of the demo clip: textured blobs over a panning background, with exact motion.

A layer has flat coordinates of its own (pixels, origin at its centre) in which outline and texture are fixed.
In frame t, a pixel p has the layer coordinates u = q + bend_t(q) with q = R(θ_t)ᵀ(p − c_t)/s_t; `to_image` inverts
this by iteration. Layers are listed from far to near; the first is the background, which covers everything.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from utils.coords import sample_bilinear

TEXELS_PER_PX = 2
SOLVER_STEPS = 64  # bends contract by 0.7 a step or faster: 0.7^64 of a few pixels is far below float32 tracks


@dataclass(frozen=True)
class Role:
    """How one layer looks and moves; positions are fractions of (width, height)."""

    radius: float  # fraction of the shorter side; infinite for the background
    path: tuple[tuple[float, float], tuple[float, float]]  # centre in the first and the last frame
    turn: float  # rotation over the clip, radians
    growth: float  # largest change of the scale's logarithm
    bend: float  # strength of the deformation: 0 = rigid, below 1, so that it stays invertible
    ramp: str  # colours from the troughs to the peaks of the noise, hexadecimal
    marks: str  # colour of the stripes or spots painted over it
    stripes: bool  # warped stripes instead of spots


# The first object, the smaller one, passes behind the second at mid-clip. Each part is occluded for a while, about a
# third at a time but never all: flow follows pixels from frame to frame, so neither it nor a model of it could connect
# what is visible before a full occlusion to what is visible after it.
ROLES = (
    Role(math.inf, ((0.56, 0.52), (0.44, 0.47)), 0.06, 0.03, 0.0, "24505a 6fa59a f0e6c4", "16323a", False),
    Role(0.17, ((0.30, 0.25), (0.69, 0.31)), 0.6, 0.07, 0.3, "0b2a8f 2f7bff 9fe0ff", "fff3d6", True),
    Role(0.26, ((0.54, 0.46), (0.46, 0.52)), -0.5, 0.07, 0.6, "c8321b f58a1f ffd873", "4a1020", False),
    Role(0.16, ((0.79, 0.80), (0.40, 0.77)), -1.1, 0.08, 0.3, "7a1fa0 e23fa5 ffc4e6", "d8ff3e", False),
)


@dataclass(frozen=True)
class Layer:
    """A textured plane cut along an outline, and its pose in each frame.

    Args:
        texture: float32 [S,S,3] in 0..1.
        radius: Mean radius of the outline, pixels; infinite for no outline.
        ripples: Amplitude (fraction of the radius) and phase of the outline's harmonics 2..M+1, [M,2].
        centers: Positions of the layer's origin, pixels [T,2].
        angles: Rotations, radians [T].
        scales: Image pixels per layer pixel, [T].
        waves: Angular frequencies of the deformation's waves, [K,2].
        swing: Amplitudes of the waves, pixels [T,K].
        phases: Phases of the waves, radians [K].
    """

    texture: np.ndarray
    radius: float
    ripples: np.ndarray
    centers: np.ndarray
    angles: np.ndarray
    scales: np.ndarray
    waves: np.ndarray
    swing: np.ndarray
    phases: np.ndarray

    def _bend(self, q: np.ndarray, t: int) -> np.ndarray:
        """Return the displacement [*,2] of coordinates [*,2]: shear waves, each across its own direction."""
        across = self.waves[:, ::-1] * [-1, 1] / np.linalg.norm(self.waves, axis=-1, keepdims=True)
        return (self.swing[t] * np.sin(q @ self.waves.T + self.phases)) @ across

    def _rotation(self, t: int) -> np.ndarray:
        cos, sin = np.cos(self.angles[t]), np.sin(self.angles[t])
        return np.array([[cos, -sin], [sin, cos]])

    def to_layer(self, px: np.ndarray, t: int) -> np.ndarray:
        """Convert pixels [*,2] of frame t to layer coordinates [*,2]."""
        q = (px - self.centers[t]) @ self._rotation(t) / self.scales[t]
        return q + self._bend(q, t)

    def to_image(self, u: np.ndarray, t: int) -> np.ndarray:
        """Convert layer coordinates [*,2] to pixels [*,2] of frame t, by fixed-point iteration."""
        q = u
        for _ in range(SOLVER_STEPS):
            q = u - self._bend(q, t)
        return self.centers[t] + self.scales[t] * q @ self._rotation(t).T

    def may_cover(self, px: np.ndarray, t: int) -> np.ndarray:
        """Return which pixels [*,2] lie in a disc around the layer, bool [*]: a cheap superset of `covers`."""
        reach = self.radius * (1 + self.ripples[:, 0].sum()) + np.abs(self.swing[t]).sum()
        return np.hypot(*np.moveaxis(px - self.centers[t], -1, 0)) <= self.scales[t] * reach

    def covers(self, u: np.ndarray) -> np.ndarray:
        """Return which layer coordinates [*,2] lie inside the outline, bool [*]."""
        return _distance_from_rim(u, self.radius, self.ripples) >= 0

    def colors(self, u: np.ndarray) -> np.ndarray:
        """Return the texture's colours [M,3] in 0..1 at layer coordinates [M,2]."""
        texels = u * TEXELS_PER_PX + (len(self.texture) - 1) / 2
        return sample_bilinear(torch.from_numpy(self.texture)[None], torch.from_numpy(texels).float()[None])[0].numpy()


def _distance_from_rim(u: np.ndarray, radius: float, ripples: np.ndarray) -> np.ndarray:
    """Return 1 at the centre, 0 on the outline, negative values outside; [*,2] → [*]."""
    if math.isinf(radius):
        return np.ones(u.shape[:-1])
    orders = np.arange(2, 2 + len(ripples))
    angle = np.arctan2(u[..., 1], u[..., 0])[..., None]
    rim = radius * (1 + (ripples[:, 0] * np.cos(orders * angle + ripples[:, 1])).sum(-1))
    return 1 - np.hypot(u[..., 0], u[..., 1]) / rim


def _noise(rng: np.random.Generator, size: int, grain: float) -> np.ndarray:
    """Return smooth noise [size,size] of zero mean and unit deviation; `grain` is its blur in pixels of the video."""
    blurred = cv2.GaussianBlur(rng.standard_normal((size, size)), (0, 0), grain * TEXELS_PER_PX)
    return (blurred - blurred.mean()) / blurred.std()


def _smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return 0 below `low`, 1 above `high`, and a smooth transition between."""
    s = np.clip((x - low) / (high - low), 0, 1)
    return s * s * (3 - 2 * s)


def _rgb(code: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(code), np.uint8) / 255


def _paint(rng: np.random.Generator, role: Role, extent: float, radius: float, ripples: np.ndarray) -> np.ndarray:
    """Paint a texture [S,S,3] for layer coordinates up to ±`extent`: octaves of noise, marks, a darker rim."""
    size = 2 * math.ceil(extent * TEXELS_PER_PX)
    octaves = sum(weight * _noise(rng, size, grain) for grain, weight in ((1.5, 0.6), (3.5, 0.8), (9, 0.8)))
    level = 0.5 + 0.3 * octaves
    ramp = np.array([_rgb(code) for code in role.ramp.split()])
    color = np.stack([np.interp(level, np.linspace(0, 1, len(ramp)), channel) for channel in ramp.T], -1)
    u = np.stack(np.meshgrid(*[(np.arange(size) - (size - 1) / 2) / TEXELS_PER_PX] * 2), -1)
    if role.stripes:  # bent by noise, so that no two stripes look alike
        marks = _smoothstep(np.sin(u @ [0.55, 0.3] + 1.6 * _noise(rng, size, 5)), 0.2, 0.9)
    else:
        marks = _smoothstep(_noise(rng, size, 2.2), 0.9, 1.5)
    color += marks[..., None] * (_rgb(role.marks) - color)
    rim = 0.45 + 0.55 * _smoothstep(_distance_from_rim(u, radius, ripples), 0, 0.3)
    return np.clip(color * rim[..., None], 0, 1).astype(np.float32)


def _build_layer(rng: np.random.Generator, role: Role, num_frames: int, height: int, width: int) -> Layer:
    """Build the layer of a role, with details of path, shape and deformation drawn from `rng`."""
    unit = min(height, 0.6 * width)
    ripples = np.stack([rng.uniform(0.05, 0.16, 3) / [1, 1, 2], rng.uniform(0, 2 * np.pi, 3)], -1)
    radius = role.radius * unit
    extent = 0.8 * math.hypot(height, width) if math.isinf(radius) else 1.5 * radius
    clock = np.linspace(0, 1, num_frames)
    start, end = np.array(role.path) + rng.uniform(-0.02, 0.02, (2, 2))
    # The sway vanishes at mid-clip, where the paths must cross.
    sway = 0.05 * rng.choice([-1, 1]) * np.sin(2 * np.pi * clock)
    centers = start + (end - start) * clock[:, None] + sway[:, None] * (end - start)[::-1]
    heading = rng.uniform(0, 2 * np.pi) + np.array([0, 1.9])
    frequency = 2.4 / (unit * 0.27)  # about 2.6 radians of wave on the radius of the largest object
    beat = np.sin(2 * np.pi * rng.uniform(0.7, 1.0, 2) * clock[:, None] + rng.uniform(0, 2 * np.pi, 2))
    return Layer(
        texture=_paint(rng, role, extent, radius, ripples),
        radius=radius,
        ripples=ripples,
        centers=centers * [width, height],
        angles=role.turn * (clock - 0.5 + 0.1 * np.sin(2 * np.pi * clock)),
        scales=np.exp(role.growth * np.sin(2 * np.pi * clock + rng.uniform(0, 2 * np.pi))),
        waves=frequency * np.stack([np.cos(heading), np.sin(heading)], -1),
        swing=role.bend / 2 / frequency * beat,
        phases=rng.uniform(0, 2 * np.pi, 2),
    )


def build_layers(num_frames: int, height: int, width: int, seed: int, roles: Sequence[Role] = ROLES) -> list[Layer]:
    """Build the layers of a scene, from far to near."""
    rngs = np.random.default_rng(seed).spawn(len(roles))
    return [_build_layer(rng, role, num_frames, height, width) for rng, role in zip(rngs, roles, strict=True)]


def topmost(layers: list[Layer], px: np.ndarray, t: int) -> np.ndarray:
    """Return the index of the nearest layer at pixels [*,2] of frame t, int [*]."""
    owner = np.zeros(px.shape[:-1], int)
    for index, layer in enumerate(layers[1:], start=1):
        near = layer.may_cover(px, t)
        owner[near] = np.where(layer.covers(layer.to_layer(px[near], t)), index, owner[near])
    return owner
