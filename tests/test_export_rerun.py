"""A recording of rerun, read back by its own API."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from plyfile import PlyData

from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from tests.track_tables import FRAMES, HEIGHT, POINTS, WIDTH, random_table
from visualization.export import export
from visualization.export_model import PointCloud
from visualization.export_rerun import write_rrd

chunk = pytest.importorskip("rerun.chunk", reason="rerun-sdk is not installed, or older than its reader")

RNG = np.random.default_rng(4)
VIDEO = np.repeat(RNG.integers(0, 256, (FRAMES, 1, 1, 3), np.uint8), HEIGHT, 1).repeat(WIDTH, 2)
DEPTHS = RNG.uniform(0, 2, (FRAMES, 4, 6)).astype(np.float32)
CLOUD_POINTS = RNG.normal(size=(9, 3)).astype(np.float32)
CLOUD = PointCloud(CLOUD_POINTS, RNG.integers(0, 256, (9, 3), np.uint8), np.ones(9, np.float32))
NUMBERS = [1001, 1003, 1005, 1007, 1009]


def read(path: Path) -> dict[str, dict[str, Any]]:
    """{entity: {column: its values, in the order of frames}}."""
    found: dict[str, dict[str, Any]] = {}
    for piece in chunk.RrdReader(str(path)).stream():
        batch = piece.to_record_batch()
        names = [name for name in batch.schema.names if ":" in name or name == "frame"]
        columns = found.setdefault(piece.entity_path, {name: [] for name in names})
        if piece.entity_path != "/__properties":
            for name in names:
                columns[name] += batch.column(name).to_pylist()
    return found


def test_a_model_is_recorded_with_its_depth_and_cloud(tmp_path):
    sizes: dict[str, Any] = {"code_size": 8, "code_width": 8, "coupling_width": 8, "volume_width": 8}
    config = ModelConfig(FRAMES, HEIGHT, WIDTH, num_layers=2, num_samples_ray=4, **sizes)
    model = OmniMotion.initialised(config, seed=0).eval()
    formats = ["ply", "rrd"]
    written = export(model, VIDEO, [[1, 5.0, 6.0]], formats, tmp_path, first_frame=1001, density_th=0)
    assert [path.name for path in written] == ["canonical.ply", "tracks.rrd"]
    found = read(tmp_path / "tracks.rrd")
    assert found["/video"]["frame"] == found["/depth"]["frame"] == list(range(1001, 1001 + FRAMES))
    assert found["/video/visible"]["Points2D:positions"][1] == [[5.5, 6.5]]
    (depth,) = found["/depth"]["DepthImage:buffer"][2]
    expected = model.depth(2).numpy()
    np.testing.assert_allclose(np.array(depth, np.uint8).view(np.float16).reshape(expected.shape), expected, atol=1e-3)
    vertices = PlyData.read(tmp_path / "canonical.ply")["vertex"]
    points = np.stack([vertices[axis] for axis in "xyz"], 1)
    np.testing.assert_allclose(found["/canonical"]["Points3D:positions"][0], points)


def test_everything_is_on_one_time_line(tmp_path):
    table = replace(random_table(), names=tuple(f"joint {n}" for n in range(POINTS)))
    write_rrd(tmp_path / "tracks.rrd", table, VIDEO, DEPTHS, CLOUD)
    found = read(tmp_path / "tracks.rrd")
    assert all(found[name]["frame"] == NUMBERS for name in ("/video", "/depth", "/video/visible", "/video/occluded"))
    assert "frame" not in found["/canonical"]
    for t in range(FRAMES):
        (jpeg,) = found["/video"]["EncodedImage:blob"][t]
        picture = np.asarray(cv2.imdecode(np.array(jpeg, np.uint8), cv2.IMREAD_COLOR))
        np.testing.assert_allclose(picture[..., ::-1], VIDEO[t], atol=4)
        (depth,) = found["/depth"]["DepthImage:buffer"][t]
        np.testing.assert_allclose(np.array(depth, np.uint8).view(np.float16), DEPTHS[t].ravel(), atol=1e-3)
    np.testing.assert_allclose(found["/canonical"]["Points3D:positions"][0], CLOUD.points)


def test_tracks_are_visible_or_occluded_from_the_corner_and_keep_their_colours_and_names(tmp_path):
    table = replace(random_table(), names=tuple(f"joint {n}" for n in range(POINTS)))
    write_rrd(tmp_path / "tracks.rrd", table, VIDEO, DEPTHS, CLOUD)
    found = read(tmp_path / "tracks.rrd")
    colors: dict[int, int] = {}
    for name, shown in (("visible", table.visibility), ("occluded", ~table.visibility)):
        columns = found[f"/video/{name}"]
        for t in range(FRAMES):
            points = np.flatnonzero(shown[t])
            positions = np.reshape(columns["Points2D:positions"][t], (-1, 2))
            np.testing.assert_allclose(positions, table.tracks[t, points] + 0.5, rtol=1e-6)
            assert columns["Points2D:labels"][t] == [f"joint {n}" for n in points]
            for n, color in zip(points.tolist(), columns["Points2D:colors"][t], strict=True):
                assert colors.setdefault(n, color) == color
    assert len(set(colors.values())) == POINTS
