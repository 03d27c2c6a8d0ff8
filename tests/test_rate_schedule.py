"""Learning rates by hand."""

from itertools import pairwise

import pytest
import torch

from networks.rate_schedule import FLOOR, RateSchedule


def rates(steps: int, *args, base: float = 0.1, **options) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    schedule, found = RateSchedule(optimizer, *args, **options), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_without_more_it_is_the_decay_in_steps():
    assert rates(7, 3, 0.5) == [0.1] * 3 + [0.05] * 3 + [0.025]


def test_rates_rise_in_equal_steps_and_then_decay():
    assert rates(6, 4, 0.5, warmup=4) == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.05, 0.05])


@pytest.mark.parametrize(("fall", "middle"), [("square", (1 + 3 * FLOOR) / 4), ("cosine", (1 + FLOOR) / 2)])
def test_a_fall_goes_from_the_rate_to_the_floor_and_stays_there(fall, middle):
    found = rates(13, 1, 0.5, fall=fall, num_steps=10)
    assert found[0] == 0.1 and found[5] == pytest.approx(0.1 * middle)
    assert all(a > b for a, b in pairwise(found[:11]))
    assert found[10:] == pytest.approx([0.1 * FLOOR] * 3)


def test_a_state_goes_on_where_it_was():
    options = {"warmup": 3, "fall": "square", "num_steps": 20}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = RateSchedule(optimizer, 5, 0.5, **options)
    for _ in range(8):
        optimizer.step()
        schedule.step()
    fresh = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.7)
    again = RateSchedule(fresh, 1, 0.1)
    again.load_state_dict(schedule.state_dict())
    again.apply()
    assert fresh.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] == rates(9, 5, 0.5, **options)[8]
