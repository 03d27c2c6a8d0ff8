"""The report: numbers from the statistics, the frames that will fail by name, once."""

import json

import numpy as np
import pytest

from preprocessing.pipeline import preprocess
from preprocessing.report import report_path, valid_fractions, write_report
from preprocessing.sequence_paths import SequencePaths
from preprocessing.settings import Settings
from utils.images import decode_image, write_image

NAMES = [f"{t}.png" for t in range(10)]


def statistics(paths, share, missing=()):
    """Every pair of frames valid in `share(i, j)` of 200 pixels; no flow for the pairs `missing`."""
    every = [(i, j) for i in range(10) for j in range(10) if i != j and (i, j) not in missing]
    stats = {a: {NAMES[j]: int(200 * share(i, j)) for k, j in every if k == i} for i, a in enumerate(NAMES)}
    paths.flow_stats.write_text(json.dumps(stats))
    for name in NAMES:
        write_image(paths.count_map(name), np.full((10, 20), 5, np.uint16))


def test_shares_by_gap_and_poor_frames(tmp_path):
    paths = SequencePaths(tmp_path)
    statistics(paths, lambda i, j: 0.1 if i == 7 else 0.9 if abs(i - j) < 5 else 0.3, missing={(0, 9), (9, 0)})
    fractions = valid_fractions(paths, NAMES)
    assert np.isnan(fractions[0, 9]) and fractions[7, 3] == pytest.approx(0.1) and fractions[0, 1] == pytest.approx(0.9)
    text = write_report(paths, NAMES, tmp_path / "report.png")
    assert "at gap 1, 30% at gap 8; half of the first is lost at gap 5" in text
    assert "1 of 10 frames have few" in text and "7.png" in text and "6.png" not in text
    picture = decode_image(tmp_path / "report.png")
    assert picture.shape[0] > 200 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def test_a_good_clip_has_no_warning(tmp_path):
    paths = SequencePaths(tmp_path)
    statistics(paths, lambda i, j: 0.9)
    text = write_report(paths, NAMES, tmp_path / "report.png")
    assert "few" not in text and "half" not in text and "90% of the pixels are valid at gap 1" in text


def test_it_is_printed_once_after_preprocessing(scene_dir, tmp_path, capsys):
    paths = SequencePaths(tmp_path / "clip")
    for name in ("00000.png", "00001.png", "00002.png"):
        write_image(paths.color / name, decode_image(scene_dir / "color" / name)[..., ::-1])
    preprocess(paths, Settings(flow="dis"))
    assert f"picture: {report_path(paths)}" in capsys.readouterr().out
    preprocess(paths, Settings(flow="dis"))
    assert capsys.readouterr().out == ""
