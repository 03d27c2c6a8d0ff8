"""The demo scene has exact tracks and exact visibility, and is the same for the same seed."""

from typing import Any

import cv2
import numpy as np
import pytest

from preprocessing.sequence_paths import SequencePaths
from preprocessing.synthetic import Scene, make_scene, write_scene
from preprocessing.synthetic_layers import ROLES, build_layers, topmost
from utils.errors import InputError
from utils.images import decode_image

SHAPE = (24, 96, 160)
SMALL = (6, 48, 80)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(*SHAPE, seed=0)


@pytest.fixture(scope="module")
def owners(scene: Scene) -> np.ndarray:
    """The layer of each point: the nearest one in a frame where the point is visible."""
    layers = build_layers(*SHAPE, seed=0)
    first = scene.occluded.argmin(1)
    nearest = [topmost(layers, scene.points[n, t].astype(float), t) for n, t in enumerate(first)]
    return np.array(nearest)


def lookup(image: np.ndarray, px: np.ndarray) -> np.ndarray:
    """Bilinear lookup written out, [N,C]."""
    x0, y0 = np.minimum(np.floor(px).astype(int), [image.shape[1] - 2, image.shape[0] - 2]).T
    fx, fy = (px - np.stack([x0, y0], -1)).T[:, :, None]
    top = image[y0, x0] * (1 - fx) + image[y0, x0 + 1] * fx
    return top * (1 - fy) + (image[y0 + 1, x0] * (1 - fx) + image[y0 + 1, x0 + 1] * fx) * fy


def color_error(scene: Scene, owners: np.ndarray, shift: tuple[float, float]) -> float:
    """Mean difference (of 255) between texture and video where visible points are, moved by `shift`."""
    layers, errors = build_layers(*SHAPE, seed=0), []
    corner = np.array([SHAPE[2] - 1, SHAPE[1] - 1])
    for t in range(SHAPE[0]):
        for index, layer in enumerate(layers):
            mine = scene.points[(owners == index) & ~scene.occluded[:, t], t].astype(float)
            if len(mine):
                texture = 255 * layer.colors(layer.to_layer(mine, t))
                seen = lookup(scene.video[t].astype(float), np.clip(mine + shift, 0, corner))
                errors.append(np.abs(texture - seen).mean(-1))
    return float(np.concatenate(errors).mean())


def test_shapes_and_types(scene: Scene):
    n = len(scene.points)
    assert 250 <= n <= 320
    assert scene.video.shape == (*SHAPE, 3) and scene.video.dtype == np.uint8
    assert scene.masks.shape == SHAPE and scene.masks.dtype == bool
    assert scene.points.shape == (n, SHAPE[0], 2) and scene.points.dtype == np.float32
    assert scene.occluded.shape == (n, SHAPE[0]) and scene.occluded.dtype == bool
    assert not scene.occluded.all(1).any()


def test_maps_invert_each_other():
    rng = np.random.default_rng(0)
    for layer in build_layers(*SHAPE, seed=3):
        u = rng.uniform(-30, 30, (200, 2))
        for t in (0, 7, 23):
            np.testing.assert_allclose(layer.to_layer(layer.to_image(u, t), t), u, atol=1e-6)


def test_a_track_stays_on_its_texture(scene: Scene, owners: np.ndarray):
    for index, layer in enumerate(build_layers(*SHAPE, seed=0)):
        tracks = scene.points[owners == index].astype(float)
        u = np.stack([layer.to_layer(tracks[:, t], t) for t in range(SHAPE[0])], 1)
        assert np.abs(u - u[:, :1]).max() < 1e-4
        inside = layer.to_layer(np.array([[0.0, 0], [159, 0], [0, 95], [159, 95]]), 0)
        if index == 0:  # the background's texture reaches over the whole image
            assert np.abs(inside).max() < len(layer.texture) / 4


def test_video_shows_the_texture_exactly_where_the_tracks_are(scene: Scene, owners: np.ndarray):
    exact = color_error(scene, owners, (0.0, 0.0))
    assert exact < 8
    for shift in ((0.3, 0), (-0.3, 0), (0, 0.3), (0, -0.3)):
        assert color_error(scene, owners, shift) > exact


def test_visible_points_lie_under_no_nearer_layer(scene: Scene, owners: np.ndarray):
    """Checked on outlines drawn as polygons through `to_image`, which rendering never uses."""
    angles = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    direction = np.stack([np.cos(angles), np.sin(angles)], -1)
    for index, layer in enumerate(build_layers(*SHAPE, seed=0)[1:], start=1):
        orders = np.arange(2, 2 + len(layer.ripples))
        swell = layer.ripples[:, 0] * np.cos(orders * angles[:, None] + layer.ripples[:, 1])
        rim = direction * (layer.radius * (1 + swell.sum(-1)))[:, None]
        for t in range(SHAPE[0]):
            polygon = layer.to_image(rim, t).astype(np.float32)[:, None]
            for point, owner, occluded in zip(scene.points[:, t].tolist(), owners, scene.occluded[:, t], strict=True):
                depth = cv2.pointPolygonTest(polygon, point, True)
                if owner < index and depth > 0.05:
                    assert occluded
                if owner == index:
                    assert depth > -0.05


def test_masks_agree_with_visible_points(scene: Scene, owners: np.ndarray):
    n, t = np.nonzero(~scene.occluded)
    x, y = np.round(scene.points[n, t]).astype(int).T
    agreement = scene.masks[t, y, x] == (owners[n] > 0)
    assert agreement.mean() > 0.97  # rounding to a pixel may cross an outline


def test_the_story(scene: Scene, owners: np.ndarray):
    steps = np.linalg.norm(np.diff(scene.points, axis=1), axis=-1)
    assert 2 < np.quantile(steps, 0.9) < steps.max() < 5
    far = np.linalg.norm(scene.points[:, 10:] - scene.points[:, :-10], axis=-1)
    assert np.median(far[owners > 0]) > 10 and far.max() > 25
    middle = slice(SHAPE[0] // 3, 2 * SHAPE[0] // 3)
    out_again = ~scene.occluded[:, 0] & scene.occluded[:, middle].any(1) & ~scene.occluded[:, -1]
    assert (out_again & (owners == 1)).sum() > 20
    outside = ((scene.points < 0) | (scene.points > [159, 95])).any(-1)
    assert scene.occluded[outside].all()


def test_adjacent_frames_are_trackable(scene: Scene):
    flow_of: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in scene.video]
    errors = []
    for t in range(SHAPE[0] - 1):
        both = ~scene.occluded[:, t] & ~scene.occluded[:, t + 1]
        here, there = scene.points[both, t], scene.points[both, t + 1]
        flow = lookup(flow_of.calc(grey[t], grey[t + 1], None), here)
        errors.append(np.linalg.norm(here + flow - there, axis=-1))
    assert np.median(np.concatenate(errors)) < 0.4


def test_roles_decide_what_there_is():
    bare = make_scene(*SMALL, roles=ROLES[:1])
    assert not bare.masks.any() and not (bare.occluded & inside(bare)).any(), "nothing moves before the background"
    one = make_scene(*SMALL, roles=[ROLES[0], ROLES[3]])
    assert one.masks.any((1, 2)).all() and (one.occluded & inside(one)).any()


def inside(scene: Scene) -> np.ndarray:
    """Which points lie inside the image, bool [N,T]."""
    return np.all((scene.points >= 0) & (scene.points <= np.array(scene.video.shape[2:0:-1]) - 1), axis=-1)


def test_seed_decides():
    first, again, other = (make_scene(*SMALL, seed=seed) for seed in (5, 5, 6))
    for name in ("video", "masks", "points", "occluded"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.video != other.video).mean() > 0.5


def test_too_small_is_refused():
    with pytest.raises(InputError, match="at least 2 frames"):
        make_scene(1, 48, 80)


def test_written_scene_reads_back_and_is_kept(tmp_path):
    scene, paths = make_scene(*SMALL, seed=1), SequencePaths(tmp_path / "in" / "demo")
    write_scene(scene, paths)
    assert [p.name for p in paths.root.parent.iterdir()] == ["demo"]
    for t in range(SMALL[0]):
        color = decode_image(paths.color / f"{t:05d}.png")[..., ::-1]
        mask = decode_image(paths.mask / f"{t:05d}.png")
        np.testing.assert_array_equal(color, scene.video[t])
        np.testing.assert_array_equal(mask, np.where(scene.masks[t], 255, 0))
    with np.load(paths.gt_tracks) as stored:
        np.testing.assert_array_equal(stored["points"], scene.points)
        np.testing.assert_array_equal(stored["occluded"], scene.occluded)
    written = paths.gt_tracks.stat().st_mtime_ns
    write_scene(scene, paths)
    assert paths.gt_tracks.stat().st_mtime_ns == written


def test_another_scene_or_other_files_are_never_overwritten(tmp_path):
    scene, paths = make_scene(*SMALL, seed=1), SequencePaths(tmp_path / "demo")
    write_scene(scene, paths)
    with pytest.raises(InputError, match="another seed or size"):
        write_scene(make_scene(*SMALL, seed=2), paths)
    (paths.color / "00003.png").unlink()
    with pytest.raises(InputError, match="does not hold the 6 frames"):
        write_scene(scene, paths)
    foreign = SequencePaths(tmp_path / "mine")
    foreign.color.mkdir(parents=True)
    with pytest.raises(InputError, match="holds no demo scene"):
        write_scene(scene, foreign)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="disk full"):
        write_scene(make_scene(*SMALL), SequencePaths(tmp_path / "demo"))
    assert not list(tmp_path.iterdir())
