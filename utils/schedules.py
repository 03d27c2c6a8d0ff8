"""What changes with the step: loss weights, the largest frame gap, when near samples are masked.

The released values are written for a run of 100,000 steps. `scale` compresses them for a shorter one: everything below
depends on step / scale alone (scale 1 = released).
"""

MASK_NEAR_STEPS = 4000
RELEASED_ITERS = 100_000
PRIOR_SHARE = 0.2


def loss_weights(step: int, scale: float = 1.0) -> dict[str, float]:
    """The factor of each loss term at a step; `rgb_gradient` shares the factor of `rgb`."""
    step = step / scale
    w_rgb = min(step / 5000, 10.0)
    return {
        "flow": 1.0,
        "rgb": w_rgb,
        "rgb_gradient": w_rgb,
        "depth_range": 10.0,
        "distortion": min(max(step - 40_000, 0) / 2000, 10.0),
        "scene_flow_smoothness": 20.0,
        "canonical_unit_sphere": 0.0,
        "flow_gradient": min(step / 500_000, 0.1),
    }


def depth_prior_weight(step: int, weight: float, num_iters: int) -> float:
    """The factor of the guessed depth: `weight` at first, 0 after the first fifth of a run, whose flow then decides."""
    return weight * max(0.0, 1 - step / (PRIOR_SHARE * num_iters))


def max_frame_gap(step: int, start_interval: int, num_frames: int, scale: float = 1.0) -> int:
    """The largest |i − j| of a training pair: grows by one every 2000 steps."""
    return min(start_interval + int(step / scale) // 2000, num_frames - 1)


def masks_near(step: int, scale: float = 1.0) -> bool:
    """Whether `mask_near` still hides the nearest samples at a step."""
    return step / scale < MASK_NEAR_STEPS
