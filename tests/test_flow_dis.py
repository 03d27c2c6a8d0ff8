"""DIS flow and the writing of all pairs."""

import cv2
import numpy as np
import pytest

from preprocessing.flow_dis import DisFlow
from preprocessing.flow_pairs import compose


def moving_video(num_frames, step, height=96, width=160):
    """A smooth random texture seen through a window that moves by `step` (x, y) whole pixels a frame."""
    margin = np.abs(step) * num_frames
    noise = np.random.default_rng(0).random((height + margin[1], width + margin[0], 3)).astype(np.float32)
    texture = cv2.GaussianBlur(noise, (0, 0), 3)
    texture = ((texture - texture.min()) / np.ptp(texture) * 255).astype(np.uint8)
    return np.stack([texture[t * step[1] :, t * step[0] :][:height, :width] for t in range(num_frames)])


def dis_sweep(video, source, targets):
    return [flow for _, flow in DisFlow(video.__getitem__).estimate_sweeps([(source, targets)])]


def test_composition_follows_the_first_flow():
    first = np.zeros((20, 30, 2), np.float32)
    first[..., 0] = 2
    second = np.zeros((20, 30, 2), np.float32)
    second[..., 1] = np.arange(30)  # depends on x, so the value shows where it was read
    composed = compose(first, second)
    assert (composed[..., 0] == 2).all()
    assert np.allclose(composed[:, :28, 1], np.arange(30)[2:], atol=1e-4)


@pytest.mark.parametrize("size", [(96, 160), (24, 40)])
def test_a_shift_is_found_at_small_sizes(size):
    video = moving_video(2, np.array([2, 1]), *size)
    forward, backward = (dis_sweep(video, i, [1 - i])[0] for i in (0, 1))
    assert forward.shape == (*size, 2) and forward.dtype == np.float32
    middle = (slice(6, -6), slice(6, -6))
    assert np.abs(forward[middle] - (-2, -1)).max() < 0.3
    assert np.abs(backward[middle] - (2, 1)).max() < 0.3


def test_far_pairs_need_the_start_and_get_it():
    """Over 12 frames the texture moves by 72 of 160 pixels: hopeless from zero, easy from the flow before."""
    video = moving_video(13, np.array([6, 0]))
    flow = dis_sweep(video, 0, list(range(1, 13)))[-1]
    first, last = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (video[0], video[12]))
    alone = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(first, last, None)  # type: ignore[call-overload]
    seen = (slice(8, -8), slice(88, -8))  # still inside the last frame
    error, error_alone = (np.abs(f[seen] - (-72, 0)).mean() for f in (flow, alone))
    assert error < 0.5 < 10 < error_alone


def test_a_sweep_gives_the_same_numbers_again():
    video = moving_video(4, np.array([3, 2]))
    first, second = (dis_sweep(video, 3, [2, 1, 0]) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_a_doubled_gap_is_found_from_its_halves():
    video = moving_video(17, np.array([5, 0]))
    start = np.tile(np.array([-80, 0], np.float32), (96, 160, 1))
    ((pair, flow),) = DisFlow(video.__getitem__).estimate_from([(0, 16)], [start])
    assert pair == (0, 16) and np.abs(flow[8:-8, 96:-8] - (-80, 0)).mean() < 0.5
