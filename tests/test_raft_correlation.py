"""Correlations without their volume: those of torchvision, and the same flow."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.models.optical_flow import raft_large
from torchvision.models.optical_flow.raft import CorrBlock

from preprocessing import flow_raft, raft_correlation
from preprocessing.flow_raft import CORRELATION_BYTES, Limits, RaftFlow
from preprocessing.raft_correlation import OnDemandCorrelation
from utils.errors import InputError


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_every_level_is_that_of_torchvision(dtype, tolerance, monkeypatch):
    monkeypatch.setattr(raft_correlation, "LOOKUP_MEMORY", 2**20)  # several chunks
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randn(2, 64, 18, 23, generator=generator, dtype=dtype) for _ in range(2))
    coords = torch.rand(2, 2, 18, 23, generator=generator, dtype=dtype) * 60 - 20
    coords[0, :, 0, :4] = torch.tensor([[3, 17, 22, -1], [5, 17, 0, 9]])  # whole numbers, corners, just outside
    coords[1, :, 2, 2:5] = torch.tensor([[1e6, -1e9, 22.5], [3, 1e9, 17.5]])  # far outside
    whole, ours = CorrBlock(), OnDemandCorrelation.like(CorrBlock())
    for correlation in (whole, ours):
        correlation.build_pyramid(source, target)
    expected, found = whole.index_pyramid(coords), ours.index_pyramid(coords)
    assert found.shape == expected.shape and found.dtype == dtype
    for level in range(4):
        here = slice(81 * level, 81 * (level + 1))
        assert expected[:, here].abs().max() > 0.1
        torch.testing.assert_close(found[:, here], expected[:, here], rtol=0, atol=tolerance)


def test_targets_that_are_no_numbers_are_no_crash():
    correlation = OnDemandCorrelation(num_levels=2, radius=1)
    correlation.build_pyramid(torch.ones(1, 4, 4, 4), torch.ones(1, 4, 4, 4))
    found = correlation.index_pyramid(torch.full((1, 2, 4, 4), torch.nan))
    assert found.shape == (1, 18, 4, 4) and found.isnan().all()


def test_frames_whose_correlations_do_not_fit_get_the_same_flow(monkeypatch):
    torch.manual_seed(0)
    network = raft_large(weights=None).eval()
    frames = np.random.default_rng(0).integers(0, 255, (3, 128, 136, 3), np.uint8)
    sweeps = [(0, [1, 2]), (1, [2])]
    needed = CORRELATION_BYTES * (16 * 17) ** 2
    flows = {}
    for limit in (needed, needed - 1):
        monkeypatch.setattr(flow_raft, "CPU_LIMITS", Limits(block=2 * needed, pair=limit, encoded=0))
        raft = RaftFlow(frames.__getitem__, network, updates=3)
        assert isinstance(raft.correlation, OnDemandCorrelation) == (limit < needed) and raft.block == 2
        flows[limit] = dict(raft.estimate_sweeps(sweeps))
        assert not raft.correlation.corr_pyramid
    for pair, flow in flows[needed].items():
        assert np.abs(flows[needed - 1][pair] - flow).max() < 1e-3 * np.abs(flow).max()


@pytest.mark.parametrize("cells", [3 * 256 + 255, 255])
def test_a_block_has_no_more_cells_than_a_gpu_can_look_up(monkeypatch, cells):
    monkeypatch.setattr(flow_raft, "MAX_CELLS", cells)
    raft = RaftFlow(lambda index: np.zeros((128, 128, 3), np.uint8), raft_large(weights=None).eval())
    fits = cells > 256
    assert raft.block == (3 if fits else 1) and isinstance(raft.correlation, CorrBlock) == fits


def test_a_given_block_is_refused_if_it_has_too_many_cells():
    flow_raft.check_block(10, 60 * 107)
    with pytest.raises(InputError, match="--raft_batch is 11, expected at most 10"):
        flow_raft.check_block(11, 60 * 107)


def test_a_gpu_gives_shares_of_its_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=120))
    assert flow_raft.memory_limits(torch.device("cuda")) == Limits(block=20, pair=40, encoded=10)
    assert flow_raft.memory_limits(torch.device("cpu")) == flow_raft.CPU_LIMITS
