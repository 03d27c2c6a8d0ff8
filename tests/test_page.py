"""The interactive page before a browser sees it: what is in the file, and how large it gets."""

import base64
import json
import re
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loaders.clip import Clip
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from networks.tracks import TrackingOptions, Tracks
from preprocessing.sequence_paths import SequencePaths
from utils.run_log import read_curves
from visualization import page, page_tracks
from visualization.dense import work_per_ray
from visualization.page_file import STEPS_PER_PIXEL, block_size, escape_json, pack_tracks, quantize_positions
from visualization.view import View, ViewOptions

HEIGHT, WIDTH, FRAMES = 30, 44, 5
HOSTILE = "<img src=x onerror=hacked=1></script><script>hacked=1</script>\u2028&amp;'\""


def untrained(frames: int, height: int, width: int) -> OmniMotion:
    sizes: dict[str, Any] = {"code_size": 8, "code_width": 8, "affine_width": 8, "coupling_width": 16}
    config = ModelConfig(frames, height, width, num_layers=3, num_samples_ray=6, volume_width=16, **sizes)
    return OmniMotion.initialised(config, seed=1).eval()


def moving_model() -> OmniMotion:
    """Untrained networks whose points move by some pixels and occlude each other here and there."""
    model = untrained(FRAMES, HEIGHT, WIDTH)
    with torch.no_grad():
        for name, parameter in model.warp.named_parameters():
            parameter.mul_(2.0 if name.startswith("layers") else 1.0)
    return model


def make_page(folder: Path, name: str = "clip", query_frame: int = 2) -> tuple[Path, OmniMotion, np.ndarray]:
    """A page of `moving_model`, whose run, flags and clip are called `name`."""
    texture = np.random.default_rng(0).integers(0, 60, (HEIGHT, WIDTH, 3))
    video = np.stack([texture + 40 * t for t in range(FRAMES)]).astype(np.uint8)
    model = moving_model()
    return page_of(model, video, folder, name, query_frame), model, video


def page_of(
    model: OmniMotion, video: np.ndarray, folder: Path, name: str, query_frame: int, work_share: float = 1.0
) -> Path:
    clip = Clip(SequencePaths(folder), [f"{t}.png" for t in range(len(video))], video, None)
    checkpoint = folder / "model_000007.pth"
    torch.save({"model_config": asdict(model.config), "step": 7, "flags": {name: name, "lr": 0.5}}, checkpoint)
    tracking = TrackingOptions(chunk_size=400, occlusion_th=0.3)
    options = ViewOptions(folder / "vis", query_frame, fps=10.0, tracking=tracking)
    view = View(model, clip, np.zeros((0, 3), np.float32), options)
    return page.save_page(view, f"{name}_seq", checkpoint, folder / "metrics.jsonl", work_share)


def blocks(path: Path) -> dict[str, bytes]:
    """The binary blocks of a page by name."""
    found = re.findall(r'<script type="text/plain" id="data-([\w-]+)">(.*?)</script>', path.read_text(encoding="utf-8"))
    return {name: base64.b64decode(text) for name, text in found}


def meta(path: Path) -> dict:
    text = path.read_text(encoding="utf-8")
    (found,) = re.findall(r'id="data-meta">(.*?)</script>', text)
    return json.loads(found)


def unpacked(data: bytes, frames: int, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode the numbers that `pack_tracks` wrote, one by one."""
    raw, at, positions, unseen = zlib.decompress(data), 0, np.zeros((frames, 2, rows, columns), int), []
    count = rows * columns
    for t in range(frames):
        low, high = raw[at : at + 2 * count], raw[at + 2 * count : at + 4 * count]
        at += 4 * count
        for k in range(2 * count):
            axis, row, column = k // count, k % count // columns, k % columns
            number = low[k] + 256 * high[k]
            value = number // 2 if number % 2 == 0 else -(number + 1) // 2
            before = positions[t - 1, axis] if t else np.zeros((rows, columns), int)
            left = positions[t, axis, row, column - 1] - before[row, column - 1] if column else 0
            positions[t, axis, row, column] = (value + left + before[row, column] + 2**15) % 2**16 - 2**15
        size = -(-count // 8)
        unseen.append([raw[at + k // 8] >> (7 - k % 8) & 1 for k in range(count)])
        at += size
    assert at == len(raw)
    return positions, np.array(unseen, bool).reshape(frames, rows, columns)


def test_tracks_are_packed_without_loss():
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.integers(-9, 10, (4, 2, 5, 7)), 0)
    wild = rng.integers(-(2**15) + 1, 2**15, (4, 2, 5, 7))  # differences leave 16 bits
    for positions in (smooth, wild):
        unseen = rng.random((4, 5, 7)) < 0.3
        found, bits = unpacked(pack_tracks(positions.astype(np.int16), unseen), 4, 5, 7)
        np.testing.assert_array_equal(found, positions)
        np.testing.assert_array_equal(bits, unseen)


def test_positions_are_rounded_to_an_eighth_and_those_far_away_are_kept_within_reach():
    px = np.random.default_rng(1).uniform(-500, 900, (100, 2))
    assert np.abs(quantize_positions(px) / STEPS_PER_PIXEL - px).max() <= 1 / 16
    assert quantize_positions(np.array([9e5, -9e5])).tolist() == [2**15 - 1, 1 - 2**15]


def test_text_cannot_leave_its_json():
    value = {HOSTILE: [HOSTILE, 1.5]}
    text = escape_json(value)
    assert json.loads(text) == value and text.isascii() and not re.search("[<>&]", text)


def test_query_frames_are_spread_however_many_fit():
    assert page_tracks.spread_frames(10, 61, 4) == [10, 60, 35, 22]  # each in the middle of the largest gap left
    assert page_tracks.spread_frames(10, 61, 6)[:4] == [10, 60, 35, 22]
    assert sorted(page_tracks.spread_frames(2, 3, 3)) == [0, 1, 2]


@pytest.mark.parametrize("size,spacing", [((30, 44), 1), ((30, 44), 3), ((31, 45), 7), ((5, 9), 12)])
def test_a_grid_lies_in_the_image_and_leaves_no_pixel_far_from_it(size, spacing):
    grid = page_tracks.Grid.centered(0, spacing, *size)
    px = grid.queries()[:, 1:].numpy()
    assert len(px) == len(np.unique(px, axis=0)) == grid.rows * grid.columns
    assert (px >= 0).all() and (px < size[::-1]).all()
    ys, xs = np.mgrid[: size[0], : size[1]]
    away = np.abs(np.stack([xs, ys], -1)[..., None, :] - px).max(-1).min(-1)
    assert away.max() < spacing
    thinned = {tuple(p) for p in grid.thinned().queries()[:, 1:].numpy()}
    assert thinned == {tuple(p) for p in px if not ((p - [grid.left, grid.top]) % (2 * spacing)).any()}


def test_the_grid_is_as_fine_as_size_and_work_allow():
    model = untrained(60, 480, 854)
    assert page_tracks.plan_grids(model, 1e12, np.inf) == (1, 6)
    spacing, count = page_tracks.plan_grids(model, 20e6, np.inf)
    assert count == 6 and 1 < spacing <= page_tracks.COARSE_SPACING
    assert page_tracks.plan_grids(model, 3e6, np.inf)[1] < 6
    spacing, count = page_tracks.plan_grids(model, 5e5, np.inf)
    assert count == 1 and spacing > page_tracks.COARSE_SPACING
    spacing, _ = page_tracks.plan_grids(model, 1e12, work=1e7)
    assert page_tracks.COARSE_SPACING < spacing < page_tracks.plan_grids(model, 1e12, work=1e6)[0]


def test_the_page_holds_the_models_tracks_of_every_pixel(tmp_path):
    path, model, _ = make_page(tmp_path)
    known, data = meta(path), blocks(path)
    assert [grid["frame"] for grid in known["queries"]] == list(range(FRAMES)) and known["first_query"] == 2
    for grid in known["queries"]:
        t = grid["frame"]
        positions, unseen = unpacked(data[f"tracks-{t}"], FRAMES, HEIGHT, WIDTH)
        tracks = model.track(torch.tensor([[t, x, y] for y in range(HEIGHT) for x in range(WIDTH)]).float())
        px = tracks.px.numpy().transpose(0, 2, 1).reshape(positions.shape)
        assert np.abs(positions / STEPS_PER_PIXEL - px).max() <= 1 / 16 + 1e-3
        occluded = tracks.occluded(0.3, HEIGHT, WIDTH).numpy().reshape(unseen.shape)
        assert (unseen != occluded).mean() < 1e-3  # scores at the threshold: sums of other pieces round otherwise
        assert 0.02 < unseen.mean() < 0.98 and np.abs(px - px[t]).max() > 2  # otherwise the test covers little
    assert known["settings"][0] == ["step", "7"] and ["lr", "0.5"] in known["settings"]


def test_a_page_keeps_its_size_by_fewer_query_frames_then_by_a_coarser_grid(tmp_path, monkeypatch, capsys):
    whole = make_page(tmp_path)[0]
    tracks = [block_size(len(data)) for name, data in blocks(whole).items() if name.startswith("tracks")]
    rest = whole.stat().st_size - sum(tracks)
    monkeypatch.setattr(page, "META_BYTES", rest - whole.read_text(encoding="utf-8").index('id="data-tracks'))
    monkeypatch.setattr(page_tracks, "BYTES_PER_POSITION", 0.0001)  # so that it begins with a grid too fine
    for room, count, spacing in ((2.5 * max(tracks), 2, 1), (0.5 * min(tracks), 1, 2)):
        monkeypatch.setattr(page, "PAGE_BYTES", rest + room)
        path = make_page(tmp_path)[0]
        grids = meta(path)["queries"]
        assert path.stat().st_size <= page.PAGE_BYTES
        assert (len(grids), grids[0]["spacing"]) == (count, spacing)
        assert f"of {count} query frames" in capsys.readouterr().out.splitlines()[-1]


def test_large_frames_are_reduced_until_they_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "FRAME_BYTES", 2000)
    path, _, video = make_page(tmp_path)
    frames = [data for name, data in blocks(path).items() if name.startswith("frame")]
    assert len(frames) == len(video) and sum(block_size(len(f)) for f in frames) < 2000
    assert "reduced to 1/" in dict(meta(path)["facts"])["Frames"]


@pytest.mark.slow
def test_a_page_of_sixty_large_frames_stays_below_25_mb(tmp_path, monkeypatch):
    """With no limit but the size, frames and depths like noise, and tracks that deflate badly."""
    model, rng = untrained(60, 480, 854), np.random.default_rng(0)
    waves = torch.from_numpy(rng.normal(size=(8, 3)) * [0.1, 0.02, 0.02]).float()  # radians a frame, a pixel
    ways = torch.from_numpy(rng.normal(size=(8, 2)) * 20).float()

    def track(queries: torch.Tensor, *_) -> Tracks:
        """Smooth motion, and each point some pixels off it in each frame."""
        frames = torch.arange(60.0)[:, None, None].expand(-1, len(queries), 1)
        positions = torch.cat([frames, queries[:, 1:].expand(60, -1, -1)], -1)
        motion = (torch.sin(positions @ waves.T) - torch.sin(queries @ waves.T)) @ ways
        score = torch.sin(positions @ waves[0]).abs()
        return Tracks(queries[:, 1:] + motion + 4 * torch.randn(motion.shape), score, score)

    monkeypatch.setattr(model, "track", track)
    monkeypatch.setattr(model, "render", lambda t, px, _: (None, torch.rand(len(px))))
    monkeypatch.setattr(page_tracks, "POINTS_PER_RAY", np.inf)
    monkeypatch.setattr(page_tracks, "_affordable_positions", lambda *_: np.inf)  # as on a GPU
    monkeypatch.setattr(page, "CPU_DEPTH_WORK", 1e30)
    frames = rng.integers(0, 256, (60, 480, 854, 3), np.uint8)
    path = page_of(model, frames, tmp_path, "clip", 0)
    assert 15e6 < path.stat().st_size < 25e6
    assert 1 <= len(meta(path)["queries"]) < page_tracks.MAX_QUERY_FRAMES  # the guess was too small, the limit has held


def test_a_page_of_less_work_has_coarser_tracks_and_depth(tmp_path, monkeypatch):
    model, video = moving_model(), np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    rays = FRAMES * HEIGHT * WIDTH / 4  # depth of every second pixel
    monkeypatch.setattr(page, "CPU_DEPTH_WORK", rays * work_per_ray(model))
    monkeypatch.setattr(page, "CPU_TRACK_WORK", FRAMES * rays * work_per_ray(model))
    facts = {}
    for share in (1.0, 0.25):
        facts[share] = dict(meta(page_of(model, video, tmp_path, "clip", 0, share))["facts"])
    assert "22×15 points" in facts[1.0]["Depth"] and "11×8 points" in facts[0.25]["Depth"]
    assert facts[1.0]["Tracks"] != facts[0.25]["Tracks"]


def test_curves_leave_out_what_is_not_finite_or_cut_short(tmp_path):
    lines = [f'{{"step": {k}, "loss/a": {k}.5, "loss/b": NaN}}' for k in range(1000)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 7, "lo']), encoding="utf-8")
    curves = read_curves(tmp_path / "metrics.jsonl", max_points=10)
    assert list(curves) == ["loss/a"] and len(curves["loss/a"]) == 10
    assert curves["loss/a"][0] == (0, 0.5) and curves["loss/a"][-1] == (999, 999.5)
    assert read_curves(tmp_path / "none.jsonl") == {}
