"""The model's tracks, motion, depth and geometry in exported files; their formats are in test_export_files.py."""

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import OpenEXR
import pytest
import torch
from plyfile import PlyData

from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from networks.tracks import TrackingOptions
from preprocessing.source_frames import FrameReader
from preprocessing.source_record import FrameOrigin
from preprocessing.sources import numbers_in_names
from utils.coords import pixel_grid
from utils.errors import InputError
from visualization import export_formats
from visualization.export import export
from visualization.export_formats import EXPORT_FORMATS, parse_formats

HEIGHT, WIDTH, FRAMES = 20, 32, 3
SIZES: dict[str, Any] = {"code_size": 8, "code_width": 8, "coupling_width": 8, "affine_width": 8, "volume_width": 8}
QUERIES = torch.tensor([[1, 5.0, 6.0], [0, 20.0, 3.0]])
VIDEO = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture
def model() -> OmniMotion:
    config = ModelConfig(FRAMES, HEIGHT, WIDTH, num_layers=3, num_samples_ray=4, min_depth=0.5, max_depth=2.5, **SIZES)
    return OmniMotion.initialised(config, seed=0).eval()


def channel(path: Path, name: str) -> np.ndarray:
    with OpenEXR.File(str(path), separate_channels=True) as file:
        return file.channels()[name].pixels


def test_tracks_are_the_models(model, tmp_path):
    tracking = TrackingOptions(occlusion_th=0.3)
    written = export(model, VIDEO, QUERIES, ["npz"], tmp_path, fps=25, first_frame=1001, tracking=tracking)
    assert written == [tmp_path / "tracks.npz"]
    tracks = model.track(QUERIES)
    with np.load(written[0]) as file:
        np.testing.assert_allclose(file["tracks"], tracks.px, atol=1e-4)
        np.testing.assert_allclose(file["depth"], tracks.depth, atol=1e-5)
        np.testing.assert_array_equal(file["visibility"], ~tracks.occluded(0.3, HEIGHT, WIDTH))
        np.testing.assert_array_equal(file["queries"], QUERIES)
        np.testing.assert_array_equal(file["colors"], [VIDEO[1, 6, 5], VIDEO[0, 3, 20]])
        assert file["size"].tolist() == [HEIGHT, WIDTH] and file["fps"] == 25 and file["first_frame"] == 1001


def test_flow_and_stmaps_say_where_pixels_are(model, tmp_path):
    export(model, VIDEO, QUERIES, ["flow", "exr"], tmp_path, query_frame=1, first_frame=7)
    grid = pixel_grid(HEIGHT, WIDTH).numpy()
    for t in range(FRAMES):
        there, back = (next(model.dense_tracks(*pair)).numpy() for pair in ((1, [t]), (t, [1])))
        flow = cv2.readOpticalFlow(str(tmp_path / f"flow/00008_0000{7 + t}.flo"))
        np.testing.assert_allclose(grid + flow, there, atol=1e-4)
        np.testing.assert_array_equal(np.load(tmp_path / f"flow/00008_0000{7 + t}.npy"), flow)
        for name, px in (("stabilise", there), ("matchmove", back)):
            u, v = (channel(tmp_path / f"stmap/{name}_00008.0000{7 + t}.exr", c) for c in "RG")
            np.testing.assert_allclose(np.stack([u * WIDTH - 0.5, (1 - v) * HEIGHT - 0.5], -1), px, atol=1e-4)


def test_depth_png_spans_the_rays(model, tmp_path):
    export(model, VIDEO, QUERIES, ["depth"], tmp_path)
    for t in range(FRAMES):
        depth = np.load(tmp_path / f"depth/0000{t}.npy")
        np.testing.assert_allclose(depth, model.depth(t), atol=1e-5)
        steps = np.asarray(cv2.imread(str(tmp_path / f"depth/0000{t}.png"), cv2.IMREAD_UNCHANGED))
        assert steps.dtype == np.uint16 and steps.shape == (HEIGHT, WIDTH)
        np.testing.assert_allclose(0.5 + steps / 65535 * 2, depth.clip(0.5, 2.5), atol=2e-5)


def test_the_cloud_is_what_the_pixels_show(model, tmp_path):
    export(model, VIDEO, QUERIES, ["ply"], tmp_path, density_th=0)
    vertices = PlyData.read(tmp_path / "canonical.ply")["vertex"]
    points = torch.tensor(np.stack([vertices["x"], -vertices["y"], -vertices["z"]], 1)).reshape(FRAMES, -1, 3)
    with torch.no_grad():
        local = model.warp.to_local(points, torch.arange(FRAMES))
        _, sigmas = model.volume(points)
    expected = pixel_grid(HEIGHT, WIDTH).reshape(-1, 2) / torch.tensor([WIDTH - 1, HEIGHT - 1]) * 2 - 1
    torch.testing.assert_close(local[..., :2], expected.expand(FRAMES, -1, 2), atol=1e-4, rtol=0)
    np.testing.assert_allclose(sigmas.flatten(), vertices["density"], rtol=1e-4)
    middle = float(np.median(vertices["density"]))
    export(model, VIDEO, QUERIES, ["ply"], tmp_path, density_th=middle)
    fewer = PlyData.read(tmp_path / "canonical.ply")["vertex"]["density"]
    assert fewer.min() >= middle and abs(len(fewer) - len(vertices) / 2) <= 1


@pytest.mark.parametrize(("name", "per_frame"), [("flow", 2), ("exr", 2)])
def test_a_frame_is_written_before_the_next_is_computed(model, tmp_path, monkeypatch, name, per_frame):
    """Memory is bounded, and an end in the middle leaves whole files alone."""
    given, real = [], model.dense_tracks

    def frames(src_id, tgt_ids, chunk_size):
        if tgt_ids is not None:
            yield from real(src_id, tgt_ids, chunk_size)
            return
        for t in range(FRAMES):
            assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == per_frame * t
            if t == 2:
                raise KeyboardInterrupt
            given.append(t)
            yield next(real(src_id, [t], chunk_size))

    monkeypatch.setattr(model, "dense_tracks", frames)
    with pytest.raises(KeyboardInterrupt):
        export(model, VIDEO, QUERIES, [name], tmp_path)
    assert given == [0, 1] and not list(tmp_path.rglob("*.partial*"))


@pytest.mark.parametrize(("name", "number"), [("plate.1001.png", 1001), ("00007.jpg", 7), ("first.png", 0)])
def test_frames_are_numbered_as_their_files(model, tmp_path, name, number):
    origin = FrameOrigin(range(FRAMES), numbers_in_names([name] * FRAMES))
    written = export(model, VIDEO, QUERIES, ["depth", "npz"], tmp_path, origin=origin)
    assert written == [tmp_path / "tracks.npz", tmp_path / "depth"]
    assert sorted(path.name for path in written[1].glob("*.npy"))[0] == f"{number:05d}.npy"
    assert np.load(written[0])["first_frame"] == number


def test_formats_are_checked_before_any_work(model, tmp_path, monkeypatch):
    monkeypatch.setattr(export_formats, "version", lambda name: "9.0.1")  # whatever is installed here
    with pytest.raises(InputError, match="no export format gif: choose some of npz, csv"):
        export(model, VIDEO, QUERIES, ["npz", "gif"], tmp_path)
    with pytest.raises(InputError, match="no export format gif"):
        parse_formats("all,gif")
    assert not list(tmp_path.iterdir())
    assert parse_formats("npz, flow") == ["npz", "flow"] and parse_formats("npz,all") == list(EXPORT_FORMATS)


@pytest.mark.parametrize("installed", [None, "3.4.17"])
def test_exr_is_refused_without_its_package_before_any_work_and_alone(model, tmp_path, monkeypatch, installed):
    """An older one cannot write into memory."""
    real = importlib.metadata.version
    monkeypatch.setitem(sys.modules, "OpenEXR", None)  # importing it fails
    monkeypatch.setattr(export_formats, "version", lambda name: installed or real("is-not-installed"))
    for formats in ("exr", "all"):
        with pytest.raises(InputError, match=r"install it with `pip install -U OpenEXR`, or leave exr out"):
            parse_formats(formats)
    with pytest.raises(InputError, match="OpenEXR"):
        export(model, VIDEO, QUERIES, ["npz", "exr"], tmp_path)
    assert not list(tmp_path.iterdir())
    others = parse_formats("npz,csv,tapvid,nuke,ae,blender,napari,dlc,flow,depth,ply")
    assert len(export(model, VIDEO, QUERIES, others, tmp_path, fps=24)) == len(others) == 11


def test_a_recording_is_refused_without_its_package_before_any_work(model, tmp_path, monkeypatch):
    monkeypatch.setattr(export_formats, "version", lambda name: {"OpenEXR": "3.5.0", "rerun-sdk": "0.9.0"}[name])
    message = r"rrd needs the package rerun-sdk, .* or leave rrd out \(all that can be written: .*,exr,depth,ply\)"
    with pytest.raises(InputError, match=message):
        export(model, VIDEO, QUERIES, ["npz", "rrd"], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fps": float("nan")}, "ae needs the frame rate, which the source does not have: give fps"),
        ({"first_frame": 1048574, "formats": ["blender"]}, "Blender counts to 1048574: give first_frame"),
        ({"query_points": np.zeros((0, 3))}, r"shape \[0, 3\]: expected \[N,3\]"),
        ({"query_points": [[5.0, 6.0]]}, r"shape \[1, 2\]: expected \[N,3\]"),
        ({"names": ["nose"]}, "found 1 names for 2 query points"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_any_work(model, tmp_path, monkeypatch, changed, message):
    monkeypatch.setattr(model, "track", lambda *args: pytest.fail("it was not refused"))
    given: dict[str, Any] = {"query_points": QUERIES, "fps": 24.0, "formats": ["npz", "ae"]} | changed
    with pytest.raises(InputError, match=message):
        export(model, VIDEO, out_dir=tmp_path, **given)
    assert not list(tmp_path.iterdir())


def test_what_has_no_tracks_needs_no_points(model, tmp_path):
    assert export(model, VIDEO, np.zeros((0, 3)), ["depth"], tmp_path) == [tmp_path / "depth"]


def test_compositing_gets_pixels_of_the_source(model, tmp_path):
    """The first query point (5, 6) of frame 1, in a source of twice the width and three times the height."""
    plate = FrameReader(
        (3 * HEIGHT, 2 * WIDTH), lambda ids: (np.zeros((3 * HEIGHT, 2 * WIDTH, 3), np.uint8) for _ in ids)
    )
    export(model, VIDEO, QUERIES, ["ae", "nuke", "npz", "dlc"], tmp_path, fps=24, plate=plate)
    keyframes = (tmp_path / "after_effects" / "0_point 0.txt").read_text()
    assert f"\tSource Width\t{2 * WIDTH}\n\tSource Height\t{3 * HEIGHT}\n" in keyframes
    assert "\n\t1\t11.0000\t19.5000\t0\t\n" in keyframes  # (5.5, 6.5) from the corner, times (2, 3)
    assert " x1 11.0000 x2 " in (tmp_path / "tracks.nk").read_text()
    assert np.load(tmp_path / "tracks.npz")["tracks"][1, 0].tolist() == [5, 6]
    assert (tmp_path / "tracks_dlc.csv").read_text().splitlines()[4].startswith("1,5.0000,6.0000,")


@pytest.mark.parametrize("is_fallback", [True, False])
def test_pixels_that_are_not_the_sources_are_announced(model, tmp_path, capsys, is_fallback):
    plate = FrameReader((HEIGHT, WIDTH), lambda ids: (VIDEO[t] for t in ids), is_fallback)
    export(model, VIDEO, QUERIES, ["npz", "blender", "nuke"], tmp_path, plate=plate)
    sentence = f"nuke, blender fit the reduced frames of {WIDTH}x{HEIGHT} pixels"
    assert (sentence in capsys.readouterr().out) == is_fallback
