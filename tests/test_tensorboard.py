"""The pictures for TensorBoard."""

import math

import numpy as np
import torch
from torch import nn

from visualization.tensorboard import MAX_GROUPS, parameter_groups, stack_truth_over_prediction, weight_figure


def test_truth_lies_over_prediction():
    stacked = stack_truth_over_prediction(np.zeros((3, 5, 3), np.uint8), np.ones((3, 5, 3), np.uint8))
    assert stacked.shape == (8, 5, 3)
    assert (stacked[:3] == 0).all() and (stacked[3:5] == 255).all() and (stacked[5:] == 1).all()


def test_every_parameter_is_in_one_group_and_the_groups_fit_the_figure():
    deep = nn.ModuleDict({n: nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(20)) for n in "ab"})
    groups = parameter_groups(deep)
    assert len(groups) <= MAX_GROUPS
    assert sum(t.numel() for ts in groups.values() for t in ts) == sum(p.numel() for p in deep.parameters())
    assert set(parameter_groups(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))) == {"0", "1"}


def test_the_weight_figure_survives_zero_and_infinite_weights_and_takes_no_gradient():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    with torch.no_grad():
        first.weight.zero_(), first.bias.zero_(), second.weight.fill_(math.inf)
    layers = nn.Sequential(first, second)
    image = weight_figure(layers)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[1] > 800
    assert all(p.grad is None for p in layers.parameters())
