"""Synthetic scenes unlike the demo's, for measurements that must not hold for one scene alone."""

import colorsys
import math

import numpy as np

from preprocessing.synthetic import Scene, make_scene
from preprocessing.synthetic_layers import Role

NUM_FRAMES = 24
SIZES = ((128, 192), (128, 128), (120, 200), (192, 128))  # height, width of scenes 1, 2, …, in turn
NUM_OBJECTS = (1, 2, 3, 5)

Path = tuple[tuple[float, float], tuple[float, float]]  # centre in the first and the last frame


def other_scene(number: int) -> Scene:
    """Return scene 1, 2, …; its number sets size and objects, and seeds camera, paths, shapes and textures."""
    height, width = SIZES[(number - 1) % len(SIZES)]
    rng = np.random.default_rng((number, 2))
    objects = [_object(rng) for _ in range(NUM_OBJECTS[(number - 1) % len(NUM_OBJECTS)])]
    return make_scene(NUM_FRAMES, height, width, number, (_background(rng), *objects))


def _background(rng: np.random.Generator) -> Role:
    """Return a background that pans by up to a quarter of the image, turns and zooms, as the camera moves."""
    pan = rng.uniform(0.02, 0.12) * _direction(rng)
    path = _path(np.array([0.5, 0.5]), pan)
    return Role(math.inf, path, rng.uniform(-0.2, 0.2), rng.uniform(0, 0.1), 0.0, *_texture(rng))


def _object(rng: np.random.Generator) -> Role:
    """Return a blob that crosses somewhere near the middle."""
    middle, half = rng.uniform(0.35, 0.65, 2), rng.uniform(0.1, 0.3) * _direction(rng)
    turn, growth, bend = rng.uniform(-1.2, 1.2), rng.uniform(0, 0.1), rng.uniform(0, 0.6)
    return Role(rng.uniform(0.14, 0.28), _path(middle, half), turn, growth, bend, *_texture(rng))


def _direction(rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def _path(middle: np.ndarray, half: np.ndarray) -> Path:
    (x0, y0), (x1, y1) = middle - half, middle + half
    return (x0, y0), (x1, y1)


def _texture(rng: np.random.Generator) -> tuple[str, str, bool]:
    """Return colours from dark to light around a hue, marks of the opposite hue, and whether these are stripes."""
    hue, saturation = rng.uniform(0, 1), rng.uniform(0.3, 0.9)
    ramp = [_hex_color(hue + shift, saturation, value) for shift, value in ((-0.05, 0.35), (0, 0.7), (0.08, 1.0))]
    return " ".join(ramp), _hex_color(hue + 0.5, 0.5, rng.choice([0.2, 0.95])), bool(rng.random() < 0.5)


def _hex_color(hue: float, saturation: float, value: float) -> str:
    return "".join(f"{round(255 * channel):02x}" for channel in colorsys.hsv_to_rgb(hue % 1, saturation, value))
