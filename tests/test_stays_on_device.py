"""What preprocessing computes on a GPU makes no tensor elsewhere and reads no value back: both would make it wait.

On the meta device, whose tensors have no values to read. The indices of a mask's pixels, which do depend on values, are
left out, and so is torchvision's volume of correlations, which makes a small tensor on the CPU for each update.
"""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torchvision.models.optical_flow import raft_large

from preprocessing import flow_raft
from preprocessing.consistency import appearance_similarity, cycle_masks
from preprocessing.dino_network import build_dino, dino_tokens
from preprocessing.flow_raft import Limits, RaftFlow, normalize, pad_frames, upsample_flow
from utils.coords import pixel_grid, sample_bilinear


class OnMeta(TorchFunctionMode):
    """Refuses results on another device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        results = result if isinstance(result, (tuple, list)) else [result]
        assert all(value.is_meta for value in results if isinstance(value, Tensor)), f"{func} computes elsewhere"
        return result


def meta(*shape: int) -> Tensor:
    return torch.empty(*shape, device="meta")


def test_the_mode_refuses_a_tensor_elsewhere_and_a_value_read_back():
    with OnMeta(), pytest.raises(AssertionError, match="elsewhere"):
        meta(2) + torch.arange(2)
    for read in (Tensor.item, Tensor.cpu, Tensor.tolist, bool):
        with OnMeta(), pytest.raises((RuntimeError, NotImplementedError)):
            read(meta(1))


@pytest.mark.parametrize("rescue", [False, True])
def test_filtering(rescue):
    with OnMeta():
        masks = cycle_masks(meta(24, 32, 2), meta(24, 32, 2), rescue)
        assert [mask.shape for mask in masks] == [(24, 32)] * 2
        assert sample_bilinear(meta(1, 6, 8, 3), pixel_grid(24, 32, "meta")[None]).shape == (1, 24, 32, 3)
        for cells in ((6, 8), (240, 320)):  # products of cells, products of points
            cosine = appearance_similarity(meta(*cells, 4), meta(*cells, 4), meta(700, 2), meta(700, 2), (24, 32))
            assert cosine.shape == (700,)


def test_features():
    network = build_dino().eval().to("meta")
    with OnMeta():
        assert dino_tokens(network, meta(2, 3, 64, 80)).shape == (2, 4, 5, 384)


def test_flow(monkeypatch):
    with torch.device("meta"):
        network = raft_large(weights=None).eval()
    monkeypatch.setattr(flow_raft, "inference_precision", lambda device: nullcontext())  # meta has no autocast
    monkeypatch.setattr(flow_raft, "CPU_LIMITS", Limits(block=1, pair=1, encoded=1))  # correlations on demand
    raft = RaftFlow(lambda index: np.zeros((130, 140, 3), np.uint8), network, updates=2)
    with OnMeta():
        padded = normalize(pad_frames(meta(2, 3, 130, 140))[0])
        features, context = network.feature_encoder(padded), network.context_encoder(padded)
        flow, low = raft.refine(features, context, features, meta(2, 2, 17, 18))
        assert flow.shape == (2, 2, 136, 144) and low.shape == (2, 2, 17, 18)
        assert upsample_flow(low, meta(2, 576, 17, 18)).shape == flow.shape
