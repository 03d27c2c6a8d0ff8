"""Occupancy: which samples are dense, and that leaving the others out hardly changes who is occluded."""

import torch

from networks.model_config import ModelConfig
from networks.occupancy import Occupancy
from networks.omnimotion import OmniMotion
from utils.coords import pixel_grid, with_time

HEIGHT, WIDTH, FRAMES = 24, 35, 3


def model_with_a_wall(motion: float = 1.0) -> OmniMotion:
    """A volume that is empty but for dense regions, many pixels wide; larger maps move some points behind them."""
    config = ModelConfig(FRAMES, HEIGHT, WIDTH, num_layers=3, num_samples_ray=8, coupling_width=16, volume_width=16)
    model = OmniMotion.initialised(config, seed=1).eval()

    with torch.no_grad():
        for name, parameter in model.warp.named_parameters():
            parameter.mul_(motion if name.startswith("layers") else 1)

    def volume(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        wall = (x[..., 2] < 0.7) & (x[..., 2] > 0.3) & (x[..., 0] > 0.1)
        return torch.zeros_like(x), torch.where(wall | (x[..., 2] > 1.2), 50.0, 0.0)

    vars(model.volume)["forward"] = volume
    return model


def test_points_are_occluded_as_without_it_from_fewer_samples():
    model = model_with_a_wall(motion=1.4)
    occupancy = Occupancy.of_model(model, 100)
    queries = torch.cat([with_time(t, pixel_grid(HEIGHT, WIDTH).reshape(-1, 2)) for t in range(FRAMES)])
    plain, quick = model.track(queries), model.track(queries, occupancy=occupancy)
    torch.testing.assert_close(quick.px, plain.px)
    occluded = plain.occluded(0.99, HEIGHT, WIDTH)
    assert (plain.occlusion > 0.99).float().mean() > 0.01 and 0.1 < occupancy.dense.float().mean() < 0.9
    assert (occluded != quick.occluded(0.99, HEIGHT, WIDTH)).float().mean() < 2e-3  # at the walls' sharp edges


def test_every_dense_sample_is_found_and_nothing_outside_the_image():
    model = model_with_a_wall()
    occupancy = Occupancy.of_model(model, 10000)
    px = torch.rand(FRAMES, 200, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [WIDTH - 1.0, HEIGHT - 1]
    )
    with torch.no_grad():
        alphas = model.march(model.warp.at(torch.arange(FRAMES)), model.rays(px)).alphas
    assert occupancy.at(range(FRAMES), px)[alphas > 0.5].all()
    assert not occupancy.at([2], px[:1] + torch.tensor([WIDTH, 0.0])).any()
