"""Which flow is trusted: cycles, appearance, chains; pure functions on hand-made flows."""

import pytest
import torch

from preprocessing.consistency import (
    appearance_similarity,
    cycle_masks,
    extend_chain,
    keep_similar,
    keep_similar_colour,
    lookup,
)
from utils.coords import pixel_grid

H, W = 16, 24


def constant(dx, dy=0.0):
    return torch.tensor([dx, dy]).expand(H, W, 2).clone()


def test_lookup_keeps_leading_dimensions_and_is_exact_on_a_ramp():
    maps = pixel_grid(5, 7).expand(2, 3, 5, 7, 2)
    px = torch.rand(2, 3, 4, 6, 2) * torch.tensor([6.0, 4.0])
    assert torch.allclose(lookup(maps, px), px, atol=1e-5)


def test_opposite_flows_are_consistent_exactly_where_they_stay_inside():
    consistent, rescued = cycle_masks(constant(5.0), constant(-5.0))
    assert consistent[:, : W - 5].all() and not consistent[:, W - 5 :].any() and not rescued.any()


@pytest.mark.parametrize(("miss", "accepted"), [(2.99, True), (3.01, False)])
def test_the_cycle_closes_within_three_pixels(miss, accepted):
    consistent, _ = cycle_masks(constant(5.0), constant(-5.0 + miss))
    assert consistent[:, 8:12].all() == consistent[:, 8:12].any() == accepted


@pytest.mark.parametrize(("miss", "accepted"), [(4.49, False), (4.51, True)])
def test_a_pixel_is_rescued_if_the_first_cycle_misses_by_more_than_four_and_a_half_pixels(miss, accepted):
    flow, back = constant(5.0), constant(-5.0)
    back[:, 10] = torch.tensor([miss - 5.0, 0.0])  # the target of column 5
    flow[:, 6:] = torch.tensor([5.0 - miss, 0.0])  # the second cycle ends in column 10 again
    consistent, rescued = cycle_masks(flow, back)
    assert rescued[:, 5].all() == rescued[:, 5].any() == accepted and not consistent[:, 5].any()


def test_a_pixel_that_becomes_occluded_is_rescued():
    """Background is still, a bar moves by 8: what it covers goes back with the bar, and on to it again."""
    flow, back = constant(0.0), constant(0.0)
    flow[:, 2:8] = torch.tensor([8.0, 0.0])  # the bar, columns 2…7, comes to lie on columns 10…15
    back[:, 10:16] = torch.tensor([-8.0, 0.0])
    consistent, rescued = cycle_masks(flow, back)
    assert consistent[:, 2:8].all() and consistent[:, 18:].all()
    assert rescued[:, 10:16].all() and not consistent[:, 10:16].any()
    assert not rescued[:, :9].any() and not rescued[:, 17:].any()


def test_masks_accept_leading_dimensions():
    flows, backs = torch.randn(2, 3, H, W, 2) * 3, torch.randn(2, 3, H, W, 2) * 3
    together = cycle_masks(flows, backs)
    for a in range(2):
        for b in range(3):
            alone = cycle_masks(flows[a, b], backs[a, b])
            assert all(torch.equal(t[a, b], s) for t, s in zip(together, alone, strict=True))


def test_similarity_reads_corner_aligned_maps():
    coarse = pixel_grid(4, 6) * torch.tensor([(W - 1) / 5, (H - 1) / 3]) + 1  # holds the pixel itself, plus one
    px = torch.rand(50, 2) * torch.tensor([W - 1.0, H - 1.0])
    other = torch.rand(50, 2) * torch.tensor([W - 1.0, H - 1.0])
    expected = torch.nn.functional.cosine_similarity(px + 1, other + 1, dim=-1)
    assert torch.allclose(appearance_similarity(coarse, coarse, px, other, (H, W)), expected, atol=1e-5)


def test_only_similar_pixels_are_kept_and_none_is_added():
    left, right = torch.zeros(H, W, 2), torch.zeros(H, W, 2)
    left[..., 0], right[:, :12, 0], right[:, 12:, 1] = 1, 1, 1
    mask = torch.zeros(H, W, dtype=torch.bool)
    mask[4:8] = True
    kept = keep_similar(mask, constant(4.0), left, right, 0.5)
    assert kept[4:8, :8].all() and not kept[4:8, 8:20].any() and kept.sum() == 4 * 8
    assert not keep_similar(mask & False, constant(4.0), left, right, 0.5).any()


def test_a_chain_adds_up_and_stops_at_gaps_and_borders():
    step_valid = torch.ones(H, W, dtype=torch.bool)
    step_valid[:, 10] = False
    flow, valid = extend_chain(constant(2.5), torch.ones(H, W, dtype=torch.bool), constant(3.0, 1.0), step_valid)
    assert torch.allclose(flow, constant(5.5, 1.0), atol=1e-5)
    expected = torch.zeros(H, W, dtype=torch.bool)
    expected[:-1, : W - 5] = True  # p + 5.5 ≤ W − 1 and p + 1 ≤ H − 1
    expected[:-1, W - 6] = False
    expected[:, 7:9] = False  # 9.5 and 10.5 mix in the invalid column 10
    expected[:, W - 6 :] = False
    assert torch.equal(valid, expected)


def test_a_chain_is_continued_only_inside_its_mask():
    mask = torch.rand(H, W, generator=torch.Generator().manual_seed(0)) < 0.5
    step_valid = torch.ones(H, W, dtype=torch.bool)
    everywhere, valid = extend_chain(constant(2.5), step_valid, constant(3.0, 1.0), step_valid)
    flow, inside = extend_chain(constant(2.5), mask, constant(3.0, 1.0), step_valid)
    assert torch.equal(flow[mask], everywhere[mask]) and torch.equal(inside, valid & mask)
    assert not extend_chain(constant(2.5), mask & False, constant(3.0, 1.0), step_valid)[1].any()


def test_colours_are_compared_at_the_target():
    black, other = torch.zeros(H, W, 3), torch.zeros(H, W, 3)
    other[..., 0], other[:, 12:, 0] = 0.29, 0.31
    mask = torch.ones(H, W, dtype=torch.bool)
    mask[0] = False
    similar = keep_similar_colour(mask, constant(4.0), black, other)
    assert similar[1:, :8].all() and not similar[:, 8:].any() and not similar[0].any()
    assert not keep_similar_colour(mask & False, constant(4.0), black, other).any()


@pytest.mark.parametrize("cells", [(2, 3), (1, 4), (7, 5)])
def test_products_of_cells_are_products_of_points(cells):
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(*cells, 16, generator=generator) for _ in range(2)]
    px = [torch.rand(500, 2, generator=generator) * torch.tensor([W - 1.0, H - 1.0]) for _ in range(2)]
    px[0][:4] = torch.tensor([[0.0, 0], [W - 1, 0], [0, H - 1], [W - 1, H - 1]])
    few = appearance_similarity(maps[0], maps[1], px[0], px[1], (H, W))
    one_by_one = torch.cat(
        [appearance_similarity(maps[0], maps[1], a[None], b[None], (H, W)) for a, b in zip(*px, strict=True)]
    )
    assert torch.allclose(few, one_by_one, atol=1e-5)
