"""DIS flow and the writing of all pairs."""

import cv2
import numpy as np
import pytest

from preprocessing.flow_dis import DisFlow, compose
from preprocessing.flow_pairs import load_flow, missing_flows, sweeps, write_flows
from utils.errors import InputError
from utils.paths import SequencePaths


def moving_video(num_frames, step, height=96, width=160):
    """A smooth random texture seen through a window that moves by `step` (x, y) whole pixels a frame."""
    margin = np.abs(step) * num_frames
    noise = np.random.default_rng(0).random((height + margin[1], width + margin[0], 3)).astype(np.float32)
    texture = cv2.GaussianBlur(noise, (0, 0), 3)
    texture = ((texture - texture.min()) / np.ptp(texture) * 255).astype(np.uint8)
    return np.stack([texture[t * step[1] :, t * step[0] :][:height, :width] for t in range(num_frames)])


def test_sweeps_cover_every_ordered_pair_once():
    pairs = [(i, j) for i, js in sweeps(5) for j in js]
    assert len(pairs) == 20 and set(pairs) == {(i, j) for i in range(5) for j in range(5) if i != j}
    assert all(abs(j - i) == 1 + k for i, js in sweeps(5) for k, j in enumerate(js))


def test_composition_follows_the_first_flow():
    first = np.zeros((20, 30, 2), np.float32)
    first[..., 0] = 2
    second = np.zeros((20, 30, 2), np.float32)
    second[..., 1] = np.arange(30)  # depends on x, so it tells where it was read
    composed = compose(first, second)
    assert (composed[..., 0] == 2).all()
    assert np.allclose(composed[:, :28, 1], np.arange(30)[2:], atol=1e-4)


@pytest.mark.parametrize("size", [(96, 160), (24, 40)])
def test_a_shift_is_found_at_small_sizes(size):
    video = moving_video(2, np.array([2, 1]), *size)
    forward, backward = (next(DisFlow(video).sweep(i, [1 - i])) for i in (0, 1))
    assert forward.shape == (*size, 2) and forward.dtype == np.float32
    middle = (slice(6, -6), slice(6, -6))
    assert np.abs(forward[middle] - (-2, -1)).max() < 0.3
    assert np.abs(backward[middle] - (2, 1)).max() < 0.3


def test_far_pairs_need_the_start_and_get_it():
    """Over 12 frames the texture moves by 72 of 160 pixels: hopeless from zero, easy from the flow before."""
    video = moving_video(13, np.array([6, 0]))
    flow = list(DisFlow(video).sweep(0, list(range(1, 13))))[-1]
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (video[0], video[12])]
    alone = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, None)
    seen = (slice(8, -8), slice(88, -8))  # still inside the last frame
    error, error_alone = (np.abs(f[seen] - (-72, 0)).mean() for f in (flow, alone))
    assert error < 0.5 < 10 < error_alone


def test_a_sweep_gives_the_same_numbers_again():
    video = moving_video(4, np.array([3, 2]))
    first, second = (list(DisFlow(video).sweep(3, [2, 1, 0])) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


class CountingEstimator:
    """Flow whose value names its pair; counts what it is asked for, and fails where told to."""

    workers = 2

    def __init__(self, fail_at=None):
        self.asked, self.fail_at = [], fail_at

    def sweep(self, source, targets):
        for target in targets:
            self.asked.append((source, target))
            if (source, target) == self.fail_at:
                raise InputError("stop here")
            yield np.full((2, 3, 2), 10 * source + target)


def test_a_killed_run_keeps_its_files_and_is_finished_later(tmp_path):
    paths, names = SequencePaths(tmp_path), ["0.png", "1.png", "2.png", "3.png"]
    with pytest.raises(InputError, match="stop here"):
        write_flows(paths, names, CountingEstimator(fail_at=(2, 3)))
    left = missing_flows(paths, names)
    assert ("2.png", "3.png") in left and len(left) < 12
    np.save(paths.flow("0.png", "1.png"), np.zeros((2, 3, 2)))  # existing files are kept, whatever they hold
    write_flows(paths, names, CountingEstimator())
    assert missing_flows(paths, names) == []
    assert load_flow(paths.flow("0.png", "1.png")).max() == 0
    assert (load_flow(paths.flow("2.png", "3.png")) == 23).all()
    assert len(list(paths.flow("a", "b").parent.iterdir())) == 12
    again = CountingEstimator()
    write_flows(paths, names, again)
    assert again.asked == []


def test_flow_files_are_read_as_float32_or_refused(tmp_path):
    np.save(tmp_path / "half.npy", np.full((2, 3, 2), 1.5, np.float16))
    assert load_flow(tmp_path / "half.npy").dtype == np.float32
    np.save(tmp_path / "image.npy", np.zeros((2, 3, 3)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "half.npy").read_bytes()[:-4])
    for name in ("image", "cut", "gone"):
        with pytest.raises(InputError, match=name):
            load_flow(tmp_path / f"{name}.npy")
