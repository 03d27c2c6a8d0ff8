"""The stages that write masks, counts and chained flow, on hand-made sequences and on the released numbers."""

import json
import shutil

import numpy as np
import pytest
import torch

import preprocessing.consistency as consistency
from loaders.flow_store import FlowStore
from preprocessing.chain_flow import Chain, chain_flow, read_chained
from preprocessing.filter_flow import filter_flow
from preprocessing.flow_files import read_flow, read_pair_mask, write_flow
from preprocessing.pair_files import counts_missing, write_counts, write_pair_mask
from preprocessing.pairs import Pairs
from preprocessing.pipeline import preprocess, require_complete
from preprocessing.sequence_paths import SequencePaths
from preprocessing.settings import Settings
from tests.oracles.reference_filtering import reference_filter_and_chain
from utils.coords import is_inside_image, pixel_grid
from utils.errors import InputError
from utils.images import decode_image, write_image

H, W = 16, 24


def constant(dx, dy=0.0):
    return torch.tensor([dx, dy]).expand(H, W, 2)


def make_sequence(root, num_frames=5, shift=2.0, break_pair=None):
    """A sequence moving by `shift` pixels a frame with exact flows; `break_pair` gets wrong ones."""
    paths, names = SequencePaths(root), [f"{i}.png" for i in range(num_frames)]
    for name in names:
        write_image(paths.color / name, np.full((H, W, 3), 100, np.uint8))
        paths.feature("dino", name).parent.mkdir(parents=True, exist_ok=True)
        np.save(paths.feature("dino", name), np.ones((4, 6, 3), np.float16))
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            if i != j:
                dy = 6.0 if {i, j} == break_pair else 0.0
                write_flow(paths, a, b, constant(shift * (j - i), dy).numpy())
    return paths, names


def test_counts_and_statistics_add_up(tmp_path):
    paths, names = make_sequence(tmp_path)
    filter_flow(paths, names, "dino")
    stats = json.loads(paths.flow_stats.read_text())
    assert stats["0.png"] == {f"{j}.png": H * (W - 2 * j) for j in range(1, 5)}
    count = decode_image(paths.count_map("0.png"))
    assert count.dtype == np.uint16 and count[3, 0] == 4 and count[3, -1] == 0 and count[3, W - 3] == 1


def test_chaining_replaces_a_wrong_direct_flow_and_keeps_the_raw_one(tmp_path):
    paths, names = make_sequence(tmp_path, break_pair={0, 4})
    filter_flow(paths, names, "dino")
    raw = paths.flow("0.png", "4.png").read_bytes()
    assert not read_pair_mask(paths, "0.png", "4.png")[0].any()
    chain_flow(paths, names, "dino")
    valid, rescued = read_pair_mask(paths.chained, "0.png", "4.png")
    assert valid[:, : W - 8].all() and not valid[:, W - 8 :].any() and not rescued.any()
    assert np.isnan(read_flow(paths.chained, "0.png", "4.png")[~valid]).all()
    flow, same = read_chained(paths, "0.png", "4.png")
    assert (same.numpy() == valid).all()
    assert np.allclose(flow[valid], (8, 0), atol=1e-4)
    assert np.allclose(flow[~valid], (8, 6))  # where nothing is chained, the direct flow
    assert paths.flow("0.png", "4.png").read_bytes() == raw
    assert json.loads(paths.chained.flow_stats.read_text())["0.png"]["4.png"] == H * (W - 8)


def test_each_stage_can_be_repeated_after_losing_files(tmp_path):
    paths, names = make_sequence(tmp_path, break_pair={0, 3})

    def snapshot():
        return {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    filter_flow(paths, names, "dino")
    chain_flow(paths, names, "dino")
    before = snapshot()
    paths.flow_mask("2.png", "0.png").unlink()
    paths.flow_stats.unlink()
    paths.chained.flow("0.png", "2.png").unlink()
    paths.chained.count_map("1.png").unlink()
    filter_flow(paths, names, "dino")
    chain_flow(paths, names, "dino")
    assert snapshot() == before
    assert not counts_missing(paths, names, Pairs(5)) and counts_missing(paths, [*names, "5.png"], Pairs(6))


@pytest.mark.parametrize(
    ("kind", "cosine", "similar"),
    [("dino", 0.49, False), ("dino", 0.51, True), ("sift", 0.84, False), ("sift", 0.86, True)],
)
def test_appearance_is_compared_from_gap_three_on(tmp_path, kind, cosine, similar):
    paths, names = make_sequence(tmp_path)
    paths.feature(kind, names[0]).parent.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names):
        feature = [1.0, 0.0] if k == 0 else [cosine, (1 - cosine**2) ** 0.5]
        np.save(paths.feature(kind, name), np.tile(np.array(feature, np.float16), (4, 6, 1)))
    filter_flow(paths, names, kind)
    for gap in (1, 2, 3, 4):
        consistent, _ = read_pair_mask(paths, names[0], names[gap])
        inside = consistent[:, : W - 2 * gap]
        assert inside.all() == inside.any() == (gap < 3 or similar)


def test_only_pairs_closer_than_gap_three_rescue_pixels(tmp_path):
    paths, names = make_sequence(tmp_path, shift=0.0)
    for name in names[1:]:  # columns 12 to 19 are still, and what lies 8 pixels to their left moves onto them
        write_flow(paths, name, names[0], constant(-8.0).numpy())
        flow = constant(8.0).clone()
        flow[:, 12:] = 0.0
        write_flow(paths, names[0], name, flow.numpy())
    filter_flow(paths, names, "dino")
    rescued = [bool(read_pair_mask(paths, names[0], names[gap])[1].any()) for gap in (1, 2, 3, 4)]
    assert rescued == [True, True, False, False]


def test_flow_that_is_valid_nowhere_is_refused(tmp_path):
    paths, names = make_sequence(tmp_path, shift=100.0)
    with pytest.raises(InputError, match="valid anywhere"):
        filter_flow(paths, names, "dino")


@pytest.fixture
def released(golden, tmp_path):
    """Copies of the golden filtered sequence and its frame names."""
    shutil.copytree(golden / "preprocess" / "filtered", tmp_path / "seq", copy_function=shutil.copyfile)
    paths = SequencePaths(tmp_path / "seq")
    return paths, sorted(p.name for p in paths.color.iterdir())


@pytest.mark.parity
def test_masks_of_the_released_filter(golden, released):
    paths, names = released
    shutil.rmtree(paths.root / "raft_masks")
    filter_flow(paths, names, "dino")
    theirs = SequencePaths(golden / "preprocess" / "filtered")
    different = total = 0
    for a in names:
        for b in (name for name in names if name != a):
            flow = torch.from_numpy(read_flow(paths, a, b))
            inside = is_inside_image(pixel_grid(*flow.shape[:2]) + flow, *flow.shape[:2]).numpy()
            for ours, their in zip(read_pair_mask(paths, a, b), read_pair_mask(theirs, a, b), strict=True):
                different += (ours != their)[inside].sum()
                total += inside.sum()
                assert not ours[~inside].any()
    assert different <= 1e-4 * total


@pytest.mark.parity
def test_counts_follow_from_the_released_masks(golden, released):
    paths, names = released
    shutil.rmtree(paths.root / "count_maps")
    paths.flow_stats.unlink()
    write_counts(paths, names, Pairs(len(names)), "golden")
    theirs = SequencePaths(golden / "preprocess" / "filtered")
    assert json.loads(paths.flow_stats.read_text()) == json.loads(theirs.flow_stats.read_text())
    for name in names:
        np.testing.assert_array_equal(decode_image(paths.count_map(name)), decode_image(theirs.count_map(name)))


@pytest.mark.parity
def test_published_data_are_used_as_they_are(released):
    """Without a record of ours nothing is made or changed, whatever the settings; the flow is read from .npy."""
    paths, names = released
    before = {p: p.read_bytes() for p in paths.root.rglob("*") if p.is_file()}
    for settings in (Settings(), Settings(flow="dis", pairs="sparse")):
        preprocess(paths, settings)
        require_complete(paths, names, settings)
    assert {p: p.read_bytes() for p in paths.root.rglob("*") if p.is_file()} == before
    store = FlowStore(paths, names)
    np.testing.assert_array_equal(store.flow(0, 2), np.load(paths.released_flow(names[0], names[2])))
    assert store.known[~np.eye(len(names), dtype=bool)].all()
    paths.flow_mask(names[0], names[1]).unlink()
    with pytest.raises(InputError, match=r"no preprocess.json says .* published"):
        preprocess(paths, Settings(flow="dis"), redo=True)


@pytest.mark.parity
def test_flows_of_the_released_chaining(golden, released):
    """In memory; the packed files add at most 1/32 px."""
    paths, names = released
    chain, theirs = Chain(paths, names, "dino", "cpu"), SequencePaths(golden / "preprocess" / "chained")
    different = total = 0
    for i, js in Pairs(len(names)).sweeps():
        for pair, chained, valid, _ in chain.along_sweep((i, js)):
            a, b = (names[k] for k in pair)
            ours, flow = valid.numpy(), torch.where(chained.isnan(), torch.from_numpy(read_flow(paths, a, b)), chained)
            their, _ = read_pair_mask(theirs, a, b)
            different += (ours != their).sum()
            total += ours.size
            assert np.abs(flow.numpy() - read_flow(theirs, a, b))[ours & their].max() < 1e-3
    assert different <= 0.01 * total


def test_pair_masks_survive_the_disk(tmp_path):
    consistent, rescued = (np.random.default_rng(s).random((4, 5)) > 0.5 for s in (0, 1))
    write_pair_mask(SequencePaths(tmp_path), "a.jpg", "b.jpg", consistent, rescued)
    back = read_pair_mask(SequencePaths(tmp_path), "a.jpg", "b.jpg")
    assert (back[0] == consistent).all() and (back[1] == rescued).all()


@pytest.mark.parametrize("products_per_point", [0, 1e9])  # products of points, products of cells
def test_filter_and_chain_agree_with_the_reference(scene_dir, tmp_path, monkeypatch, products_per_point):
    monkeypatch.setattr(consistency, "PRODUCTS_PER_POINT", products_per_point)
    names = [f"{t:05d}.png" for t in range(5)]
    ours, plain = SequencePaths(tmp_path / "ours"), SequencePaths(tmp_path / "plain")
    for name in names:
        write_image(ours.color / name, decode_image(scene_dir / "color" / name)[..., ::-1])
        frame = torch.from_numpy(decode_image(ours.color / name) / 255.0)[None].movedim(-1, 1)
        feature = torch.nn.functional.interpolate(frame, (6, 9), mode="area")[0].movedim(0, -1) - frame.mean((2, 3))
        ours.feature("dino", name).parent.mkdir(parents=True, exist_ok=True)
        np.save(ours.feature("dino", name), feature.numpy().astype(np.float16))
    for a in names:
        for b in (name for name in names if name != a):
            write_flow(ours, a, b, read_flow(SequencePaths(scene_dir), a, b))
    shutil.copytree(ours.root, plain.root)
    filter_flow(ours, names, "dino")
    chain_flow(ours, names, "dino")
    reference_filter_and_chain(plain, "dino", names)
    filled = 0
    for a, b in Pairs(5).named(names):
        for paths, other in ((ours, plain), (ours.chained, plain.chained)):
            masks = zip(read_pair_mask(paths, a, b), read_pair_mask(other, a, b), strict=True)
            assert all((mine != theirs).mean() <= 2e-3 for mine, theirs in masks)  # rounding at the thresholds
        mine, theirs = (read_flow(paths.chained, a, b) for paths in (ours, plain))
        both = np.isfinite(mine) & np.isfinite(theirs)
        filled += both.sum()
        assert (np.isfinite(mine) != np.isfinite(theirs)).mean() <= 2e-3
        assert np.abs(mine - theirs)[both].max(initial=0) <= 1 / 16
    assert filled > 100


def test_sparse_pairs_are_chained_from_their_halves(tmp_path):
    """Every direct flow beyond gap 8 is wrong: what is valid there came from the halves."""
    paths, names = SequencePaths(tmp_path), [f"{t:02d}.png" for t in range(18)]
    pairs = Pairs(18, "sparse")
    paths.feature("dino", "x").parent.mkdir(parents=True)
    for name in names:
        write_image(paths.color / name, np.full((H, W, 3), 100, np.uint8))
        np.save(paths.feature("dino", name), np.ones((4, 6, 3), np.float16))
    for i, j in pairs.all():
        write_flow(paths, names[i], names[j], constant(j - i, 6.0 if abs(i - j) > 8 else 0.0).numpy())
    filter_flow(paths, names, "dino", pairs=pairs)
    chain_flow(paths, names, "dino", pairs=pairs)
    assert json.loads(paths.flow_stats.read_text())["00.png"]["16.png"] == 0
    for i, j in ((0, 16), (17, 1)):
        flow, valid = read_chained(paths, names[i], names[j])
        stays = slice(0, W - 16) if j > i else slice(16, W)
        assert valid[:, stays].all() and valid.sum() == H * (W - 16)
        assert torch.allclose(flow[valid], torch.tensor([float(j - i), 0.0]), atol=1e-3)
