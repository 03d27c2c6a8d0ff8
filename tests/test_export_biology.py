"""Tracks in napari and DeepLabCut, by readers that are not ours; napari's own if it is installed."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.track_tables import FRAMES, HEIGHT, POINTS, WIDTH, random_table
from visualization.export_biology import write_dlc, write_napari
from visualization.export_tracks import TrackTable

NAMES = ("left ear", 'the "nose"', "", "Öhr, rechts", "left ear", "two\nlines", "7")
LABELS = ["left ear", 'the "nose"', "point 2", "Öhr, rechts", "left ear point 4", "two\nlines", "7"]


@pytest.fixture
def table() -> TrackTable:
    return replace(random_table(), names=NAMES)


def confidence(table: TrackTable) -> np.ndarray:
    """Restated: the complement of the occlusion score, and 0 where the pixel's centre is outside the image."""
    x, y = np.moveaxis(table.tracks, -1, 0)
    inside = (x >= 0) & (x <= WIDTH - 1) & (y >= 0) & (y <= HEIGHT - 1)
    assert inside.any() and not inside.all()
    return (1 - table.occlusion_score) * inside


def rows_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_napari_has_the_columns_that_its_reader_takes(table, tmp_path):
    """Its documented layout of points: the columns `axis-N` are the data, all others but `index` are features."""
    write_napari(tmp_path / "tracks.csv", table)
    header, *rows = rows_of(tmp_path / "tracks.csv")
    assert header == ["index", "axis-0", "axis-1", "axis-2", "axis-3", "visible", "confidence", "name"]
    assert [int(row[0]) for row in rows] == list(range(FRAMES * POINTS))
    for _, n, t, y, x, visible, sure, name in rows:
        at = int(t), int(n)
        np.testing.assert_allclose([float(x), float(y)], table.tracks[at], atol=6e-5)
        assert int(visible) == table.visibility[at] and name == LABELS[int(n)]
        assert float(sure) == pytest.approx(confidence(table)[at], abs=6e-5)


def test_napari_opens_them_as_a_tracks_layer(table, tmp_path):
    components = pytest.importorskip("napari.components", reason="napari is not installed")
    pytest.importorskip("npe2").PluginManager.instance().discover()
    write_napari(tmp_path / "tracks.csv", table)
    (layer,) = components.ViewerModel().open(str(tmp_path / "tracks.csv"), layer_type="tracks")
    expected = [[n, t, *table.tracks[t, n, ::-1]] for n in range(POINTS) for t in range(FRAMES)]
    assert type(layer).__name__ == "Tracks"
    np.testing.assert_allclose(layer.data, expected, atol=6e-5)
    np.testing.assert_array_equal(layer.features["visible"], table.visibility.T.ravel())
    assert layer.features["name"].tolist() == np.repeat(LABELS, FRAMES).tolist()
    layer.color_by = "confidence"  # as the documents advise


def test_deeplabcut_has_three_rows_of_names_and_a_row_for_each_frame(table, tmp_path):
    write_dlc(tmp_path / "tracks.csv", table)
    scorer, parts, coords, *rows = rows_of(tmp_path / "tracks.csv")
    assert scorer == ["scorer", *["OmniMotion"] * (3 * POINTS)]
    assert parts == ["bodyparts", *np.repeat(LABELS, 3)] and coords == ["coords", *["x", "y", "likelihood"] * POINTS]
    assert [row[0] for row in rows] == [str(t) for t in range(FRAMES)]
    values = np.array([row[1:] for row in rows], float).reshape(FRAMES, POINTS, 3)
    np.testing.assert_allclose(values[..., :2], table.tracks, atol=6e-5)
    np.testing.assert_allclose(values[..., 2], confidence(table), atol=6e-5)
