"""RAFT: the same numbers as the released model, a start for every pair, weights from anywhere."""

import time

import numpy as np
import pytest
import torch
from torchvision.models.optical_flow import raft_large

from preprocessing import flow_raft
from preprocessing.flow_raft import CELL, MIN_SIDE, RaftFlow, pad_frames, upsample_flow
from preprocessing.raft_network import load_raft, to_torchvision_names
from preprocessing.settings import RELEASED_UPDATES
from tests.conftest import GPU_ALONE
from tests.rule_weights import rule_weights
from utils.errors import InputError
from utils.images import read_frame
from utils.parallel import run_in_threads


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return raft_large(weights=None).eval()


def video(num_frames, height, width):
    return np.random.default_rng(0).integers(0, 255, (num_frames, height, width, 3), np.uint8)


@pytest.mark.parity
def test_flow_of_the_released_model(golden, tmp_path):
    data = np.load(golden / "golden_raft.npz")
    state = rule_weights(golden / "raft_official_keys.json", int(data["weights_seed"]))
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "raft.pth")
    frames = [data[name][0].transpose(1, 2, 0) for name in ("image1", "image2")]
    raft = RaftFlow(frames.__getitem__, load_raft(tmp_path / "raft.pth", "cpu"))
    features, context, target = raft.features(0), raft.context(0), raft.features(1)
    full, low = raft.refine(features, context, target, None)
    warm, _ = raft.refine(features, context, target, torch.from_numpy(data["flow_low"]))
    assert np.abs(full.numpy() - data["flow_up"]).max() < 1e-2
    assert np.abs(low.numpy() - data["flow_low"]).max() < 1e-2
    assert np.abs(warm.numpy() - data["flow_up_warm"]).max() < 1e-2
    assert np.abs(warm.numpy() - data["flow_up"]).max() > 1  # so the start counts


@GPU_ALONE
@pytest.mark.parity
def test_half_precision_changes_flow_by_a_part_of_a_pixel(golden, tmp_path, monkeypatch, device, record_property):
    data = np.load(golden / "golden_raft.npz")
    torch.save(rule_weights(golden / "raft_official_keys.json", int(data["weights_seed"])), tmp_path / "raft.pth")
    frames, flows = [data[name][0].transpose(1, 2, 0) for name in ("image1", "image2")], []
    for half in (True, False):
        monkeypatch.setattr("preprocessing.weights.computes_in_half", lambda device, half=half: half)
        raft = RaftFlow(frames.__getitem__, load_raft(tmp_path / "raft.pth", device))
        flows += [flow for _, flow in raft.estimate_sweeps([(0, [1])])]
    error = np.linalg.norm(flows[0] - flows[1], axis=-1)
    record_property("RAFT in float16: median difference, px", float(np.median(error)))
    record_property("RAFT in float16: largest difference, px", float(error.max()))
    assert 0 < np.median(error) < 0.2, "0.04 by a CPU's float16, where flow is 35 px on average"


def test_without_a_start_it_is_the_forward_pass_of_torchvision(network):
    frames = video(2, MIN_SIDE, MIN_SIDE)
    images = [torch.from_numpy(frame).permute(2, 0, 1)[None] / 127.5 - 1 for frame in frames]
    with torch.inference_mode():
        expected = network(*images, num_flow_updates=4)[-1]
    ((_, found),) = RaftFlow(frames.__getitem__, network, updates=4).estimate_sweeps([(0, [1])])
    assert np.array_equal(found, expected[0].permute(1, 2, 0))


def test_a_sweep_starts_from_the_flow_before_and_encodes_each_frame_once(network, monkeypatch):
    frames = video(4, 50, 70)
    raft = RaftFlow(frames.__getitem__, network, block=2)
    starts, encodings, encode = [], [], raft._encode

    def fake_refine(features, context, target, start):
        starts.append(start)
        batch = len(features)
        low = torch.full((batch, 2, 16, 16), float(len(starts))) + torch.arange(batch).reshape(-1, 1, 1, 1) / 10
        return torch.zeros(batch, 2, MIN_SIDE, MIN_SIDE), low

    def counted_encode(encoder, index):
        encodings.append(index)
        return encode(encoder, index)

    monkeypatch.setattr(raft, "refine", fake_refine)
    monkeypatch.setattr(raft, "_encode", counted_encode)
    flows = dict([*raft.estimate_sweeps([(0, [1, 2, 3]), (1, [2, 3])]), *raft.estimate_sweeps([(3, [2, 1])])])
    assert set(flows) == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (3, 2), (3, 1)}
    levels = [None if start is None else start[:, 0, 0, 0].tolist() for start in starts]
    assert levels == [None, pytest.approx([1, 1.1]), pytest.approx([2]), None, pytest.approx([4])]
    assert sorted(encodings) == [0, 0, 1, 1, 2, 3, 3]  # features of each, the contexts of the three sources
    assert all(flow.shape == (50, 70, 2) for flow in flows.values())


def test_pairs_of_a_block_get_the_flow_that_they_get_alone(network):
    frames = video(4, 50, 70)
    sweeps = [(0, [1, 2]), (1, [2, 3]), (2, [3])]
    together = dict(RaftFlow(frames.__getitem__, network, block=3, updates=4).estimate_sweeps(sweeps))
    for sweep in sweeps:
        for pair, flow in RaftFlow(frames.__getitem__, network, block=1, updates=4).estimate_sweeps([sweep]):
            assert np.abs(flow - together[pair]).max() < 1e-2


def test_upsampled_flow_mixes_the_cells_around(network):
    """Against a loop over pixels, in float64."""
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(2, 2, 3, 4, generator=generator, dtype=torch.float64)
    mask = torch.randn(2, 9 * 64, 3, 4, generator=generator, dtype=torch.float64)
    found = upsample_flow(low, mask)
    around = torch.nn.functional.pad(low, [1] * 4)  # cells outside count as zero
    for b, y, x in ((0, 0, 0), (1, 23, 31), (0, 12, 9), (1, 5, 17)):
        row, column, inside = y // CELL, x // CELL, y % CELL * CELL + x % CELL
        weights = mask[b, :, row, column].reshape(9, 64)[:, inside].softmax(0)
        cells = around[b, :, row : row + 3, column : column + 3].reshape(2, 9)
        assert torch.allclose(found[b, :, y, x], CELL * (cells @ weights))


def test_flow_can_start_from_a_given_flow(network, monkeypatch):
    """Without updates the result is the start, upsampled."""
    raft = RaftFlow(video(2, 128, 160).__getitem__, network, updates=0)
    monkeypatch.setattr(
        flow_raft, "upsample_flow", lambda low, mask: CELL * low.repeat_interleave(8, 2).repeat_interleave(8, 3)
    )
    start = np.full((128, 160, 2), (16.0, -4.0), np.float32)
    ((pair, flow),) = raft.estimate_from([(0, 1)], [start])
    assert pair == (0, 1) and np.allclose(flow, start)


def test_memory_bounds_the_block_and_the_frames_kept(network, monkeypatch):
    frames = video(3, 128, 128)
    assert RaftFlow(frames.__getitem__, network).block == 16
    pair = flow_raft.CORRELATION_BYTES * 256**2
    monkeypatch.setattr(flow_raft, "CPU_LIMITS", flow_raft.Limits(block=3 * pair, pair=pair, encoded=0))
    raft = RaftFlow(frames.__getitem__, network)
    assert RaftFlow(frames.__getitem__, network, block=20).block == 20  # --raft_batch wins
    assert raft.block == 3 and raft.features.cache_info().maxsize == 4
    list(raft.estimate_sweeps([(0, [1])]))
    assert not network.corr_block.corr_pyramid  # would lie beside the next pairs'


def test_half_precision_is_near_float32(network, monkeypatch):
    frames = video(2, 128, 128)
    ((_, whole),) = RaftFlow(frames.__getitem__, network, updates=2).estimate_sweeps([(0, [1])])
    monkeypatch.setattr(flow_raft, "inference_precision", lambda device: torch.autocast("cpu", torch.bfloat16))
    ((_, half),) = RaftFlow(frames.__getitem__, network, updates=2).estimate_sweeps([(0, [1])])
    assert half.dtype == np.float32 and 0 < np.abs(half - whole).max() < 0.05 * np.abs(whole).max()


@pytest.mark.parity
def test_bfloat16_moves_flow_between_neighbours_by_less_than_a_twentieth_of_a_pixel(golden, monkeypatch):
    """With trained weights on real frames. A GPU's float16 has three more bits, but takes a CPU minutes."""
    weights, clip = golden.parent / "weights" / "raft-sintel.pth", golden.parent / "data" / "davis" / "dog" / "color"
    if not weights.is_file() or not clip.is_dir():
        pytest.skip(f"no trained weights or no clip beside {golden}")
    frames = [read_frame(path)[160:320, 300:556] for path in sorted(clip.iterdir())[:2]]
    network = load_raft(weights, "cpu")
    ((_, whole),) = RaftFlow(frames.__getitem__, network, updates=8).estimate_sweeps([(0, [1])])
    monkeypatch.setattr(flow_raft, "inference_precision", lambda device: torch.autocast("cpu", torch.bfloat16))
    ((_, half),) = RaftFlow(frames.__getitem__, network, updates=8).estimate_sweeps([(0, [1])])
    assert np.linalg.norm(whole, axis=-1).mean() > 3
    assert 0.001 < np.linalg.norm(half - whole, axis=-1).mean() < 0.05


@pytest.mark.parametrize("size", [(96, 160), (131, 150), (136, 128)])
def test_padding_repeats_borders_up_to_a_fitting_size(size):
    frames = torch.rand(1, 3, *size)
    padded, (top, left) = pad_frames(frames)
    height, width = padded.shape[-2:]
    assert height % 8 == width % 8 == 0 and min(height, width) >= MIN_SIDE
    assert height - max(size[0], MIN_SIDE) < 8 and width - max(size[1], MIN_SIDE) < 8
    assert torch.equal(padded[..., top : top + size[0], left : left + size[1]], frames)
    assert torch.equal(padded[..., 0, left], frames[..., 0, 0])


def test_torchvision_weights_survive_a_file(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "own.pth")
    loaded = load_raft(tmp_path / "own.pth", "cpu").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in network.state_dict().items())


def test_princeton_names_are_translated():
    value = torch.zeros(1)
    renamed = to_torchvision_names(
        {
            "module.fnet.layer2.0.conv1.weight": value,
            "cnet.norm1.bias": value,
            "cnet.layer2.0.norm3.weight": value,
            "update_block.gru.convq2.bias": value,
        }
    )
    assert set(renamed) == {
        "feature_encoder.layer2.0.convnormrelu1.0.weight",
        "context_encoder.convnormrelu.1.bias",
        "update_block.recurrent_block.convgru2.convq.bias",
    }


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(InputError, match="no weights file"):
        load_raft(tmp_path / "none.pth", "cpu")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(InputError, match=r"text\.pth cannot be read"):
        load_raft(tmp_path / "text.pth", "cpu")
    torch.save({"fnet.conv1.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"does not fit RAFT \(Missing key.*; size mismatch for feature_encoder"):
        load_raft(tmp_path / "other.pth", "cpu")
    torch.save({"model": {"a": torch.zeros(2)}}, tmp_path / "nested.pth")
    with pytest.raises(InputError, match="no state dict"):
        load_raft(tmp_path / "nested.pth", "cpu")


def test_a_file_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "hacked"), "w"))

    torch.save({"fnet.conv1.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="cannot be read"):
        load_raft(tmp_path / "evil.pth", "cpu")
    assert not (tmp_path / "hacked").exists()


def test_offline_one_sentence_says_what_to_do(offline):
    with pytest.raises(InputError, match=r"https://.*raft_large.*--raft_weights.*--flow dis"):
        load_raft(None, "cpu")


def test_a_stop_request_is_followed_between_two_updates(network, monkeypatch):
    frames, update = video(2, MIN_SIDE, MIN_SIDE), network.update_block.forward
    updates: list[int] = []

    def slow(*args):
        updates.append(len(updates))
        time.sleep(0.1)
        return update(*args)

    def work(job):
        if job == 1:
            while not updates:
                time.sleep(0.01)
            raise KeyboardInterrupt
        yield from RaftFlow(frames.__getitem__, network).estimate_sweeps([(0, [1])])

    monkeypatch.setattr(network.update_block, "forward", slow)
    with pytest.raises(KeyboardInterrupt):
        run_in_threads(work, range(2), 2)
    assert 0 < len(updates) < RELEASED_UPDATES
