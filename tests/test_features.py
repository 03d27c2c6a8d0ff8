"""Dense features: the released DINO, and SIFT that needs no weights."""

import cv2
import numpy as np
import pytest
import torch

from preprocessing.dino_network import build_dino, dino_tokens, load_dino, resize_positions
from preprocessing.features import dino_input, feature_extractor, missing_features, sift_map, write_features
from preprocessing.sequence_paths import SequencePaths
from preprocessing.weights import computes_in_half, inference_precision
from tests.rule_weights import rule_weights
from utils.errors import InputError
from utils.images import write_image


def texture(height, width, seed=0):
    noise = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return ((blurred - blurred.min()) / np.ptp(blurred) * 255).astype(np.uint8)


@pytest.mark.parity
def test_tokens_of_the_released_dino(golden, tmp_path):
    data = np.load(golden / "golden_dino.npz")
    torch.save(rule_weights(golden / "dino_official_keys.json", int(data["weights_seed"])), tmp_path / "dino.pth")
    tokens = dino_tokens(load_dino(tmp_path / "dino.pth", "cpu"), torch.from_numpy(data["image"]))
    assert np.abs(tokens[0].numpy() - data["features"]).max() < 1e-3


def test_at_the_training_size_dino_is_the_forward_pass_of_torchvision():
    torch.manual_seed(0)
    network = build_dino().eval()
    image = torch.rand(1, 3, 224, 224)
    kept = []
    network.encoder.ln.register_forward_hook(lambda module, inputs, output: kept.append(output))
    with torch.inference_mode():
        network(image)
    tokens = dino_tokens(network, image)
    assert torch.allclose(tokens.reshape(1, 196, 384), kept[0][:, 1:], atol=1e-5)


def test_positions_keep_the_class_and_follow_the_grid():
    ramp = torch.arange(14.0).repeat_interleave(14)
    positions = torch.cat([torch.tensor([-5.0]), ramp])[None, :, None]
    resized = resize_positions(positions, 28, 7)
    assert resized.shape == (1, 1 + 28 * 7, 1) and resized[0, 0, 0] == -5
    grid = resized[0, 1:, 0].reshape(28, 7)
    assert torch.allclose(grid, grid[:, :1].expand(-1, 7), atol=1e-4)  # varies along rows only
    assert (grid[20, 0] - grid[8, 0]) / 12 == pytest.approx(14 / 28.1, abs=0.01)


@pytest.mark.parametrize(
    ("size", "expected"), [((480, 854), (480, 832)), ((854, 480), (832, 480)), ((96, 96), (480, 448))]
)
def test_dino_gets_a_short_side_of_480(size, expected):
    image = dino_input(np.full((*size, 3), 255, np.uint8))
    assert image.shape == (1, 3, *expected)
    assert torch.allclose(image[0, :, 0, 0], torch.tensor([0.515 / 0.228, 0.544 / 0.224, 0.594 / 0.225]), atol=1e-4)


@pytest.mark.parametrize("size", [(40, 60), (41, 59)])
def test_sift_maps_align_their_corners_with_the_image(size):
    """Mirroring the image mirrors the map: only true for cells placed symmetrically."""
    image = texture(*size)
    features = sift_map(image)
    assert features.shape == (-(-size[0] // 2), -(-size[1] // 2), 32)
    for axis in (0, 1):
        mirrored = sift_map(np.ascontiguousarray(np.flip(image, axis))).flip(axis)
        # The sum over a descriptor's bins is what mirroring leaves alone.
        assert (features.sum(-1) - mirrored.sum(-1)).abs().mean() < 0.01


def test_sift_distinguishes_points():
    big = texture(60, 90)
    here, there = sift_map(big[:50, :80]), sift_map(big[10:60, 10:90])
    same = torch.cosine_similarity(here[8:20, 10:35], there[3:15, 5:30], dim=-1)
    other = torch.cosine_similarity(here[8:20, 10:35], there[8:20, 10:35], dim=-1)
    assert same.min() > 0.97 and other.median() < 0.85


def test_features_are_written_once_in_half_precision(tmp_path):
    paths, names = SequencePaths(tmp_path), ["0.png", "1.png"]
    for seed, name in enumerate(names):
        write_image(paths.color / name, texture(20, 30, seed))
    extract = feature_extractor("sift", "cpu")
    write_features(paths, names, "sift", extract)
    assert missing_features(paths, names, "sift") == []
    stored = np.load(paths.feature("sift", "1.png"))
    assert stored.dtype == np.float16 and stored.shape == (10, 15, 32)
    write_features(paths, names, "sift", lambda frames: pytest.fail("computed again"))


def test_frames_of_a_batch_get_the_features_that_they_get_alone(tmp_path, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr("preprocessing.features.DINO_SIDE", 128)
    torch.save(build_dino().state_dict(), tmp_path / "dino.pth")
    extract = feature_extractor("dino", "cpu", tmp_path / "dino.pth")
    frames = [texture(64, 64, seed) for seed in range(3)]
    together = extract(frames)
    assert together.shape == (3, 8, 8, 384)
    for frame, features in zip(frames, together, strict=True):
        assert torch.allclose(features, extract([frame])[0], atol=1e-4)
    assert (together[0] - together[1]).abs().max() > 0.1


@pytest.mark.parametrize(("device", "sizes"), [("cpu", [1] * 20), ("cuda", [16, 4])])
def test_a_gpu_takes_frames_in_batches_each_written_under_its_name(tmp_path, device, sizes):
    paths, names, given = SequencePaths(tmp_path), [f"{k:02d}.png" for k in range(20)], []
    for k, name in enumerate(names):
        write_image(paths.color / name, np.full((4, 6, 3), 10 * k, np.uint8))

    def extract(frames):
        given.append(len(frames))
        return torch.stack([torch.full((2, 3, 1), float(frame[0, 0, 0])) for frame in frames])

    write_features(paths, names, "dino", extract, device)
    assert given == sizes and missing_features(paths, names, "dino") == []
    assert all((np.load(paths.feature("dino", name)) == 10 * k).all() for k, name in enumerate(names))


def test_wrong_kinds_and_weights_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="dino or sift"):
        feature_extractor("surf", "cpu")
    torch.save({"blocks.0.norm1.weight": torch.zeros(384)}, tmp_path / "few.pth")
    with pytest.raises(InputError, match=r"few\.pth does not fit .*Missing"):
        load_dino(tmp_path / "few.pth", "cpu")

    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(InputError, match=r"https://.*dino.*--dino_weights.*--features sift"):
        load_dino(None, "cpu")


def test_a_download_that_has_changed_is_refused(tmp_path, monkeypatch):
    def fetch(url, target, *args, **kwargs):
        torch.save(build_dino().state_dict(), target)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for _ in range(2):
        load_dino(None, "cpu")
    (cached,) = tmp_path.glob("checkpoints/*.pth")
    fetch("", cached)
    with pytest.raises(InputError, match=r"has SHA-256 .* but had .* delete both"):
        load_dino(None, "cpu")


def test_half_precision_is_near_float32(tmp_path, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr("preprocessing.features.DINO_SIDE", 128)  # seconds less
    torch.save(build_dino().state_dict(), tmp_path / "dino.pth")
    extract = feature_extractor("dino", "cpu", tmp_path / "dino.pth")
    (whole,) = extract([texture(64, 64)])
    half_on_cpu = torch.autocast("cpu", torch.float16)
    monkeypatch.setattr("preprocessing.features.inference_precision", lambda device: half_on_cpu)
    half = extract([texture(64, 64)])[0].float()
    assert whole.shape == (8, 8, 384) and whole.dtype == torch.float32
    assert 1e-5 < (half - whole).norm() / whole.norm() < 1e-2


def test_precision_is_chosen_by_device():
    assert computes_in_half("cuda") and computes_in_half(torch.device("cuda:1"))
    assert not computes_in_half("cpu") and not computes_in_half("mps")
    with inference_precision("cpu"):
        assert not torch.is_autocast_enabled("cpu")
