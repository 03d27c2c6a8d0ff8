"""What the benchmarks count is what is there: bytes alive, and points that pass the networks."""

from contextlib import nullcontext

import pytest
import torch
from benchmarks.gpu_memory import LiveBytes
from conftest import REPOSITORY
from test_same_computation import make_batch, make_model, rays_of
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.train_step import kept_bytes
from benchmarks.visualization_cost import CLIPS, visualization_share
from trainer import batch_losses
from utils.config import parse_config


@pytest.mark.parametrize("fake", [False, True])
def test_peak_by_hand(fake):
    with FakeTensorMode() if fake else nullcontext(), LiveBytes() as live:
        x = torch.ones(1000)  # 4000 bytes
        y = x * 2  # 4000
        view = y[:10]
        y = y + 1  # 4000, while the product lives on in the view
        assert live.now == 12000
        del view
        assert live.now == 8000
        (x.double() * 2).sum()  # 8000 each, and 8 of the sum
        assert live.now == 8000 and live.peak == 24000


def test_what_autograd_keeps_is_alive():
    model, batch = make_model(torch.float32), make_batch(torch.float32)
    depths = rays_of(model, batch)
    with LiveBytes() as live:
        total = sum(batch_losses(model, batch, depths).values())
        alive = live.now
    kept = kept_bytes(lambda: batch_losses(model, batch, depths)["flow"])
    held_before = sum(p.numel() * 4 for p in model.parameters())  # kept as well, but made before the count
    assert 0.9 * (kept - held_before) < alive < 1.2 * kept
    del total
    assert live.now < 0.01 * alive


def test_pictures_and_scores_are_a_small_part_of_a_run():
    args = parse_config(["--config", str(REPOSITORY / "configs" / "demo.txt"), "--data_dir", "x"])
    row = visualization_share(args, (8, 40, 56), CLIPS["configs/demo.txt"][1])
    assert row["pictures"] + row["scores"] > 0 and row["share"] < 0.1
    args.i_img = 1
    assert visualization_share(args, (8, 40, 56), CLIPS["configs/demo.txt"][1])["share"] > 0.5, "nothing is counted"
