"""Images of more than 8 bits, and floats beyond 0 to 1: one range of values for the whole clip."""

import json
from pathlib import Path

import numpy as np
import pytest

from preprocessing.deep_images import estimate_range
from preprocessing.frames import prepare_sequence
from preprocessing.manifest import digest
from preprocessing.sequence_paths import SequencePaths
from preprocessing.source_frames import original_frames
from preprocessing.sources import open_source
from preprocessing.value_range import ValueRange
from tests.input_files import check_prepared, clip, ffmpeg, grey, prepare, snapshot, write_images
from utils.images import list_frames, read_frames

VIDEO = clip(4)
DARK = VIDEO * np.uint16(4) + np.uint16(20)  # 10-bit data: 20 to 1020 of 65535


def read(root: Path) -> np.ndarray:
    return read_frames(list_frames(root / "color"))


def scaled(video: np.ndarray, low: float, high: float) -> np.ndarray:
    return ((video.astype(np.float64) - low) / (high - low) * 255).clip(0, 255)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("folder", ["seq", "seq/color"])
def test_dark_images_use_all_grey_levels(tmp_path, train_to_flow, suffix, folder):
    write_images(tmp_path / folder, DARK, "{}" + suffix)
    before = snapshot(tmp_path / "seq")
    said = train_to_flow(tmp_path / "seq")
    root = tmp_path / "data" / "seq"
    low, high = np.percentile(DARK, (0.1, 99.9))
    assert f"values from {low:g} to {high:g} become 0 to 255 (percentiles; --value_range" in said
    check_prepared(root, scaled(DARK, low, high), 0.6)
    assert len(np.unique(read(root))) > 200
    assert json.loads((root / "source.json").read_text())["scaled_from"] == str(ValueRange(low, high))
    assert snapshot(tmp_path / "seq") == before
    assert f"values from {low:g} to {high:g}" in train_to_flow(tmp_path / "seq")  # from the copy


@pytest.mark.parametrize("shown", [np.s_[..., 1], np.s_[:, :, 1::3]])
def test_samples_of_large_frames_are_of_all_channels_and_columns(tmp_path, monkeypatch, shown):
    """Only green, or every third column, shows something; a step in values would miss it."""
    monkeypatch.setattr("preprocessing.deep_images.SAMPLED_PIXELS", 32 * 48 // 12)
    video = np.zeros_like(DARK)
    video[shown] = DARK[shown] + np.uint16(1000)
    write_images(tmp_path / "seq", video, "{}.png")
    found = estimate_range(open_source(tmp_path / "seq"), range(4))
    low, high = np.percentile(video, (0.1, 99.9))
    assert (found.low, found.high) == pytest.approx((low, high), abs=100)


@pytest.mark.parametrize("factor", [1.0, -30.0, 1e6])
def test_floats_of_any_range_are_scaled(tmp_path, train_to_flow, factor):
    video = VIDEO.astype(np.float32) * np.float32(factor / 100)
    write_images(tmp_path / "seq", video, "{}.tiff")
    train_to_flow(tmp_path / "seq")
    check_prepared(tmp_path / "data" / "seq", scaled(video, *np.percentile(video, (0.1, 99.9))), 0.6)


def test_one_range_holds_for_all_frames_and_hot_pixels_do_not_stretch_it(tmp_path):
    video = (DARK * np.array([0.5, 1, 1, 1])[:, None, None, None]).astype(np.uint16)
    video[1, 3, 4] = 65535
    write_images(tmp_path / "seq", video)
    found = read(prepare_sequence(tmp_path / "seq", None, tmp_path / "data").root).astype(float)
    np.testing.assert_allclose(found, scaled(video, *np.percentile(video, (0.1, 99.9))), atol=1)
    assert found[0].mean() < 0.6 * found[2].mean() and found[2].max() > 230


def test_a_range_can_be_given(tmp_path, train_to_flow, refused_by_train):
    write_images(tmp_path / "seq" / "color", DARK)
    said = train_to_flow(tmp_path / "seq", "--value_range", "20:1020")
    assert "values from 20 to 1020 become 0 to 255 (--value_range)" in said
    check_prepared(tmp_path / "data" / "seq", scaled(DARK, 20, 1020), 0.6)
    assert "differs in value_range" in refused_by_train(tmp_path / "seq")


def test_a_deep_video_is_scaled_and_a_display_video_is_not(tmp_path, train_to_flow):
    write_images(tmp_path / "frames", grey(DARK), "{}.png")
    frames = ["-start_number", "0", "-i", tmp_path / "frames" / "%d.png"]
    ffmpeg(*frames, "-c:v", "ffv1", tmp_path / "deep.mkv")
    train_to_flow(tmp_path / "deep.mkv")
    expected = np.repeat(grey(DARK)[..., None], 3, axis=-1)
    check_prepared(tmp_path / "data" / "deep", scaled(expected, *np.percentile(expected, (0.1, 99.9))), 0.6)
    write_images(tmp_path / "shown", VIDEO, "{}.png")
    shown = ["-start_number", "0", "-i", tmp_path / "shown" / "%d.png"]
    ffmpeg(*shown, "-pix_fmt", "yuv444p10le", "-crf", "1", tmp_path / "ten_bit.mp4")
    assert "become 0 to 255" not in train_to_flow(tmp_path / "ten_bit.mp4")
    check_prepared(tmp_path / "data" / "ten_bit", VIDEO, 9)


def test_eight_bits_stay_as_they_are(tmp_path, train_to_flow, refused_by_train):
    write_images(tmp_path / "seq", VIDEO // 8)
    assert "become 0 to 255" not in train_to_flow(tmp_path / "seq")
    assert (read(tmp_path / "data" / "seq") == VIDEO // 8).all()
    assert "have 8 bits and stay as they are: drop it" in refused_by_train(tmp_path / "seq", "--value_range", "0:40")


@pytest.mark.parametrize("folder", ["seq", "seq/color"])
@pytest.mark.parametrize(
    ("video", "message"),
    [
        (np.full_like(DARK, 7), "all sampled values of .*seq are 7, expected frames that show something"),
        (np.full(VIDEO.shape, np.nan, np.float32), "0.tiff holds NaN or infinite values"),
        (np.where(np.arange(4)[:, None, None, None] == 2, np.inf, VIDEO).astype(np.float32), "2.tiff holds NaN or inf"),
    ],
)
def test_constant_and_nan_images_are_refused(tmp_path, refused_by_train, folder, video, message):
    write_images(tmp_path / folder, video, "{}.tiff")
    said = refused_by_train(tmp_path / "seq")
    assert all(part in said for part in message.split(".*"))


def test_floats_beyond_1_in_a_frame_that_was_not_sampled_are_refused(tmp_path, monkeypatch, refused_by_train):
    monkeypatch.setattr("preprocessing.deep_images.SAMPLED_FRAMES", 2)
    video = VIDEO.astype(np.float32) / 255
    video[1] *= 2
    write_images(tmp_path / "seq", video, "{}.tiff")
    said = refused_by_train(tmp_path / "seq")
    assert "1.tiff holds floats from 0.101961 to 1.96078" in said and "(--value_range lo:hi)" in said


def test_images_of_two_depths_are_refused(tmp_path, refused_by_train):
    write_images(tmp_path / "seq", VIDEO)
    write_images(tmp_path / "seq", DARK[:1], first=2)
    assert "00002.png holds uint16 and the first frame uint8" in refused_by_train(tmp_path / "seq")


def test_a_deep_sequence_that_was_preprocessed_before_stays_usable(tmp_path, train_to_flow):
    """Earlier versions scaled by all that 16 bits can hold."""
    root = tmp_path / "seq"
    write_images(root / "color", VIDEO)
    prepare(root, tmp_path)
    write_images(root / "color", VIDEO * np.uint16(257))
    record = json.loads((root / "preprocess.json").read_text())
    record["frames"] = {name: digest(root / "color" / name) for name in record["frames"]}
    (root / "preprocess.json").write_text(json.dumps(record))
    said = train_to_flow(root)
    assert "was preprocessed with values scaled by all that their type can hold, and is used so" in said
    assert not (tmp_path / "data").exists()
    check_prepared(root, VIDEO, 0)


def test_originals_of_a_reduced_copy_are_scaled_alike(tmp_path):
    video = np.repeat(np.repeat(DARK, 2, 1), 2, 2)
    write_images(tmp_path / "seq", video)
    root = prepare_sequence(tmp_path / "seq", 48, tmp_path / "data", frame_range="1:4").root
    assert root.name == "seq_1-4_48"
    reader = original_frames(SequencePaths(root), read(root))
    found = np.stack(list(reader.read([0, 2])))
    low, high = np.percentile(video[1:4], (0.1, 99.9))
    assert reader.size == (64, 96)
    np.testing.assert_allclose(found, scaled(video[[1, 3]], low, high), atol=1)


@pytest.mark.parametrize("text", ["5", "5:1", "a:b", "1:2:3", "nan:1", "0:inf"])
def test_ranges_are_checked(text, refused_by_train):
    assert "--value_range" in refused_by_train("anywhere", "--value_range", text)


def test_a_range_of_values_keeps_its_text():
    assert str(ValueRange.parse("-0.5:1e4")) == "-0.5:10000"
    with pytest.raises(ValueError, match="lo < hi"):
        ValueRange(2, 1)
