"""The depth prior, on clips whose layers are known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import criterion
from loaders.depth_prior import (
    FAR,
    NEAR,
    OCCLUDED_SHARE,
    estimate_depth_prior,
    independent_motion,
    independent_motion_probability,
)
from loaders.flow_store import FlowStore, PairMask
from preprocessing.sequence_paths import SequencePaths
from train import main

HEIGHT, WIDTH, NUM_FRAMES = 48, 64, 12


class MovingSquare(FlowStore):
    """Exact flow of a square that moves over the background of a moving, slightly turning camera."""

    def __init__(self, valid: bool = True, speed: float = 2.0, num_frames: int = NUM_FRAMES):
        self.valid, self.known, self.speed = valid, ~np.eye(num_frames, dtype=bool), speed
        self.size = (HEIGHT, WIDTH)

    def square(self, i: int) -> np.ndarray:
        square = np.zeros((HEIGHT, WIDTH), bool)
        left = round(21 + self.speed * (i - (NUM_FRAMES - 1) / 2))
        square[14:34, left : left + 20] = True
        return square

    def mask(self, i: int, j: int) -> PairMask:
        x, y = np.moveaxis(np.rint(np.indices(self.size)[::-1].transpose(1, 2, 0) + self.flow(i, j)).astype(int), -1, 0)
        inside = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
        visible = inside & (self.square(j)[y.clip(0, HEIGHT - 1), x.clip(0, WIDTH - 1)] == self.square(i))
        return PairMask(visible & self.valid, np.zeros_like(visible))

    def flow(self, i: int, j: int) -> np.ndarray:
        y, x = np.indices(self.size)
        turn = 0.002 * (j - i)
        background = np.stack([-1.0 * (j - i) - turn * (y - 24), turn * (x - 32)], -1)
        flow = np.where(self.square(i)[..., None], [self.speed * (j - i), 0.0], background)
        return flow.astype(np.float32)


def test_independent_motion_is_in_front():
    store = MovingSquare()
    depth = estimate_depth_prior(store)
    assert depth.shape == (NUM_FRAMES, HEIGHT, WIDTH) and depth.dtype == np.float32
    for i in range(NUM_FRAMES):
        square = depth[i][store.square(i)]
        assert (square < (NEAR + FAR) / 2).mean() > 0.95 and np.median(square) == pytest.approx(NEAR, abs=0.05)
        background = depth[i][~store.square(i)]
        known = ~np.isnan(background)  # all but what leaves the image within 5 frames
        assert known.mean() > 0.8 and (np.abs(background[known] - FAR) < 0.01).mean() > 0.95


def test_slow_motion_is_no_background():
    store = MovingSquare(speed=-0.8)  # 0.2 pixels per frame against the background, as 0.6 in an image of 192
    depth = estimate_depth_prior(store)
    for i in range(NUM_FRAMES):
        square = store.square(i)
        assert np.nanmedian(depth[i][square]) == pytest.approx(NEAR, abs=0.05)
        assert np.nanmedian(depth[i][~square]) == pytest.approx(FAR)


def test_noisy_flow_leaves_the_background_static():
    class Noisy(MovingSquare):
        def flow(self, i: int, j: int) -> np.ndarray:
            flow = super().flow(i, j)
            return flow + np.random.default_rng((i, j)).normal(0, 0.2, flow.shape).astype(np.float32)

        def mask(self, i: int, j: int) -> PairMask:
            return MovingSquare().mask(i, j)

    store = Noisy()
    depth = estimate_depth_prior(store)
    square = np.stack([store.square(i) for i in range(NUM_FRAMES)])
    assert np.nanmedian(depth[square]) < NEAR + 0.1 and np.nanmedian(depth[~square]) > FAR - 0.02


@pytest.mark.parametrize("num_frames", range(2, 9))
def test_short_clips_have_a_prior(num_frames):
    store = MovingSquare(num_frames=num_frames)
    depth = estimate_depth_prior(store)
    for i in range(num_frames):
        square = store.square(i)
        assert np.nanmedian(depth[i][square]) == pytest.approx(NEAR, abs=0.05), "even where votes are too few"
        assert np.nanmedian(depth[i][~square]) == pytest.approx(FAR) and np.isnan(depth[i]).mean() < 0.3


def test_independent_motion_is_in_pixels_per_frame():
    motion = independent_motion(MovingSquare(), 3)
    square = MovingSquare().square(3)
    assert np.median(motion[square]) == pytest.approx(3, abs=0.3) and np.nanmedian(motion[~square]) < 0.1


def test_pixels_without_valid_flow_have_no_depth():
    class Holes(MovingSquare):
        def mask(self, i: int, j: int) -> PairMask:
            mask = super().mask(i, j)
            mask.consistent[20:26, 20:40] = False
            return mask

    whole, holes = (estimate_depth_prior(store())[6] for store in (MovingSquare, Holes))
    unknown = np.isnan(holes) & ~np.isnan(whole)
    assert unknown[20:26, 20:40].all() and unknown.sum() == 6 * 20 and np.isnan(whole).mean() < 0.05
    assert np.nanmean(np.abs(whole - holes)) < 0.02
    assert np.isnan(estimate_depth_prior(MovingSquare(valid=False))).all()


def test_independent_motion_probability_by_hand():
    depth = np.array([np.nan, FAR, FAR - OCCLUDED_SHARE / 2, FAR - OCCLUDED_SHARE, NEAR])
    np.testing.assert_allclose(independent_motion_probability(depth), [0, 0, 0.5, 1, 1])


def test_the_loss_by_hand():
    depths = torch.tensor([[0.0, 1.0, 2.0]] * 3, dtype=torch.float64)
    weights = torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    loss = criterion.depth_prior_loss(depths, weights, torch.tensor([0.5, 1.5, torch.nan], dtype=torch.float64))
    assert loss.item() == pytest.approx(((1.5 / 1.001 - 0.5) + 1.5) / 2)


def test_the_prior_counts_in_the_first_fifth_only(tiny_flags, scene_dir):
    main([*tiny_flags, "--num_iters", "10", "--depth_prior", "3", "--motion_share", "0.5", "--i_print", "1"])
    lines = [json.loads(line) for line in Path("logs/tiny_scene/metrics.jsonl").read_text().splitlines()]
    with_prior = {line["step"] for line in lines if "loss/loss_depth_prior" in line}
    assert with_prior == {1, 2}
    first = next(line for line in lines if line["step"] == 1)
    assert 0 < first["loss/loss_depth_prior"] < 2
    store = FlowStore(SequencePaths(scene_dir), [p.name for p in sorted((scene_dir / "color").iterdir())])
    depth = estimate_depth_prior(store)
    assert np.isnan(depth).mean() < 0.3 and NEAR <= np.nanmin(depth) < np.nanmax(depth) <= FAR


def test_the_prior_is_estimated_once(tiny_flags, monkeypatch):
    estimated = []

    def estimate(*args, **options):
        estimated.append(estimate_depth_prior(*args))
        return estimated[-1]

    monkeypatch.setattr("loaders.training_data.estimate_depth_prior", estimate)
    flags = ["--depth_prior", "3", "--motion_share", "0.5", "--use_error_map", "false"]
    main([*tiny_flags, *flags, "--num_iters", "10"])  # more than two times i_cache
    assert len(estimated) == 1
