"""The stages together: complete, resumable, and never two methods in one folder."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
import pytest

import preprocessing.pairs as pairs_module
from loaders.flow_store import FlowStore
from preprocessing import main_processing, manifest, pipeline
from preprocessing.manifest import read_record, stage_settings, write_record
from preprocessing.pipeline import preprocess, require_complete
from preprocessing.products import describe_missing
from preprocessing.report import report_path
from preprocessing.sequence_paths import SequencePaths
from preprocessing.settings import Settings
from utils.errors import InputError
from utils.images import decode_image, write_image

NUM_FRAMES = 4
CHAINED, UNCHAINED = Settings(flow="dis"), Settings(flow="dis", chain=False)
NAMES = [f"{t:05d}.png" for t in range(NUM_FRAMES)]


@pytest.fixture
def paths(tmp_path):
    """A texture that moves by two pixels a frame, 64x48."""
    noise = np.random.default_rng(0).random((60, 80, 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2)
    texture = ((blurred - blurred.min()) / np.ptp(blurred) * 255).astype(np.uint8)
    for t, name in enumerate(NAMES):
        write_image(tmp_path / "seq" / "color" / name, texture[5:53, 2 * t : 2 * t + 64])
    return SequencePaths(tmp_path / "seq")


def snapshot(paths):
    return {p.relative_to(paths.root): p.read_bytes() for p in paths.root.rglob("*") if p.is_file()}


def clear(paths):
    for path in paths.root.iterdir():
        if path.is_dir() and path != paths.color:
            shutil.rmtree(path)
        elif path != paths.color:
            path.unlink()


def as_if_by_raft(paths, folder):
    """Preprocess by DIS, and record weights of RAFT instead; return their file and the record."""
    weights = folder / "weights.pth"
    weights.write_bytes(b"some weights")
    preprocess(paths, CHAINED)
    record = read_record(paths)
    record["settings"] = stage_settings(Settings(raft_weights=weights))
    del record["settings"]["flow"]["scale"]  # 1 is not recorded
    paths.manifest.write_text(json.dumps(record))
    return weights, record


def test_opencv_by_any_of_its_names_will_do(paths, monkeypatch):
    def version_without_opencv(package):
        if package.startswith("opencv"):
            raise PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr("preprocessing.manifest.version", version_without_opencv)
    write_record(paths, NAMES, stage_settings(CHAINED), finished=set(), complete=False)
    assert read_record(paths)["versions"]["opencv"] == cv2.__version__


def test_a_complete_folder_keeps_the_versions_that_made_it(paths):
    preprocess(paths, UNCHAINED)
    record_of_old = read_record(paths) | {"versions": {"torch": "2.9.0"}}
    paths.manifest.write_text(json.dumps(record_of_old, indent=1))
    before = paths.manifest.read_bytes()
    preprocess(paths, UNCHAINED)
    assert paths.manifest.read_bytes() == before, "the training's file would be made anew"


def test_dis_makes_everything_training_needs(paths):
    assert "12 flows in raft_exhaustive" in describe_missing(paths, NAMES, CHAINED)
    preprocess(paths, Settings(flow="dis"))
    assert not describe_missing(paths, NAMES, CHAINED)
    record = read_record(paths)
    assert sorted(record["frames"]) == NAMES and "torch" in record["versions"]
    assert record["settings"]["flow"]["flow"] == "dis" and record["settings"]["features"]["features"] == "sift"
    stats = json.loads(paths.chained.flow_stats.read_text())
    assert all(count > 0.6 * 64 * 48 for row in stats.values() for count in row.values())
    flow = FlowStore(paths, NAMES).flow(0, 3)
    assert np.abs(np.median(flow, (0, 1)) - (-6, 0)).max() < 0.2


def test_chaining_can_be_left_out_and_added_later(paths):
    preprocess(paths, Settings(flow="dis", chain=False))
    assert not paths.chained.root.exists()
    assert not describe_missing(paths, NAMES, UNCHAINED)
    assert "chained/raft_exhaustive" in describe_missing(paths, NAMES, CHAINED)
    preprocess(paths, Settings(flow="dis"))
    assert not describe_missing(paths, NAMES, CHAINED)


@pytest.mark.parametrize("stage", ["write_flows", "write_features", "filter_flow", "chain_flow"])
def test_killed_before_any_stage_it_continues_to_the_same_result(paths, monkeypatch, stage):
    class Killed(BaseException):
        pass

    def die(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, stage, die)
        with pytest.raises(Killed):
            preprocess(paths, Settings(flow="dis"))
    assert describe_missing(paths, NAMES, CHAINED)
    preprocess(paths, Settings(flow="dis"))
    resumed = snapshot(paths)
    clear(paths)
    preprocess(paths, Settings(flow="dis"))
    assert snapshot(paths) == resumed


def test_a_complete_folder_is_left_alone(paths, monkeypatch):
    preprocess(paths, Settings(flow="dis"))
    for stage in ("write_flows", "write_features", "filter_flow", "chain_flow"):
        monkeypatch.setattr(pipeline, stage, lambda *args, **kwargs: pytest.fail("did something"))
    preprocess(paths, Settings(flow="dis"))


def test_a_complete_raft_folder_needs_no_weights(paths, monkeypatch):
    preprocess(paths, Settings(flow="dis"))
    record = read_record(paths)
    record["settings"] = stage_settings(Settings(flow="raft"))
    paths.manifest.write_text(json.dumps(record))
    monkeypatch.setattr(pipeline, "load_raft", lambda *args: pytest.fail("loaded weights"))
    preprocess(paths, Settings(flow="raft"))


def test_the_first_frames_alone_can_be_done(paths):
    preprocess(paths, Settings(flow="dis"), num_frames=3)
    assert not describe_missing(paths, NAMES[:3], CHAINED)
    assert "6 flows" in describe_missing(paths, NAMES, CHAINED)
    preprocess(paths, Settings(flow="dis"))
    assert not describe_missing(paths, NAMES, CHAINED)


def test_another_method_on_the_same_folder_is_refused_by_name(paths):
    preprocess(paths, Settings(flow="dis", chain=False))
    before = snapshot(paths)
    with pytest.raises(InputError, match="preprocessed with flow dis, but raft is requested: add --redo"):
        preprocess(paths, Settings(flow="raft"))
    with pytest.raises(InputError, match="preprocessed with pairs all, but sparse"):
        preprocess(paths, Settings(flow="dis", pairs="sparse"))
    with pytest.raises(InputError, match="preprocessed with features sift, but dino"):
        preprocess(paths, Settings(flow="dis", features="dino"))
    assert snapshot(paths) == before
    text = paths.manifest.read_text()
    paths.manifest.write_text('{"flow": "dis", "features": "sift", "chain": true}')
    with pytest.raises(InputError, match=r"earlier version \(format 0, now 4\): --redo"):
        preprocess(paths, Settings(flow="dis"))
    paths.manifest.write_text(text.replace('"format": 4', '"format": 3'))  # before DIS grew coarser
    with pytest.raises(InputError, match=r"earlier version \(format 3, now 4\): --redo"):
        preprocess(paths, Settings(flow="dis", chain=False))


def test_redo_remakes_what_depends_on_the_change_and_nothing_else(paths, monkeypatch):
    preprocess(paths, CHAINED)
    before, kept = snapshot(paths), {p: p.stat().st_mtime_ns for p in paths.root.rglob("*") if p.is_file()}
    monkeypatch.setattr(manifest, "CYCLE_THRESHOLD", 1e-3)
    with pytest.raises(InputError, match=r"cycle threshold 3.0, but 0.001 .*--redo"):
        preprocess(paths, CHAINED)
    preprocess(paths, CHAINED, redo=True)
    touched = {p for p, time in kept.items() if p.stat().st_mtime_ns != time}
    folders = {p.relative_to(paths.root).parts[0] for p in touched}
    assert folders == {"raft_masks", "count_maps", "flow_stats.json", "chained", "preprocess.json", "report.png"}
    assert {path for path, content in snapshot(paths).items() if content != before[path]} == {Path("preprocess.json")}


def test_redo_after_a_frame_changed_gives_what_a_fresh_folder_gives(paths):
    preprocess(paths, CHAINED)
    write_image(paths.color / NAMES[3], decode_image(paths.color / NAMES[2])[..., ::-1])
    preprocess(paths, CHAINED, redo=True)
    redone = snapshot(paths)
    clear(paths)
    preprocess(paths, CHAINED)
    assert snapshot(paths) == redone


def test_the_report_is_of_what_training_reads(paths, capsys):
    preprocess(paths, CHAINED)
    chained = report_path(paths).read_bytes()
    capsys.readouterr()
    preprocess(paths, UNCHAINED)
    assert f"picture: {report_path(paths, chain=False)}" in capsys.readouterr().out
    assert report_path(paths, chain=False).read_bytes() != chained == report_path(paths).read_bytes()


def test_the_batch_of_raft_is_compared_while_flow_is_missing(paths, tmp_path):
    weights, record = as_if_by_raft(paths, tmp_path)
    preprocess(paths, Settings(raft_weights=weights, raft_batch=2))  # complete
    paths.manifest.write_text(json.dumps(record))
    paths.flow(NAMES[0], NAMES[1]).unlink()
    with pytest.raises(InputError, match="preprocessed with raft_batch by memory, but 2 is requested"):
        preprocess(paths, Settings(raft_weights=weights, raft_batch=2))


def test_products_of_unknown_origin_are_not_mixed_with_ours(paths):
    preprocess(paths, UNCHAINED)
    paths.manifest.unlink()
    before = snapshot(paths)
    preprocess(paths, Settings(flow="raft"))  # complete: as published data are, used as it is
    assert snapshot(paths) == before
    paths.flow(NAMES[0], NAMES[1]).unlink()
    for redo in (False, True):
        with pytest.raises(InputError, match=r"no preprocess\.json says how they were made"):
            preprocess(paths, UNCHAINED, redo=redo)
    shutil.rmtree(paths.root / "raft_exhaustive")  # what depends on it is as unknown
    with pytest.raises(InputError, match=r"holds features, raft_masks, count_maps, flow_stats\.json, but no"):
        preprocess(paths, UNCHAINED)


@pytest.mark.parametrize(("first", "then"), [("all", "sparse"), ("sparse", "all")])
def test_other_pairs_keep_the_near_ones(paths, monkeypatch, first, then):
    for module in (manifest, pairs_module):
        monkeypatch.setattr(module, "WINDOW", 1)
    preprocess(paths, Settings(flow="dis", pairs=first))
    near = [path for pair in (NAMES[:2], NAMES[2:0:-1]) for path in (paths.flow(*pair), paths.flow_mask(*pair))]
    times = [path.stat().st_mtime_ns for path in near]
    preprocess(paths, Settings(flow="dis", pairs=then), redo=True)
    assert [path.stat().st_mtime_ns for path in near] == times
    redone = snapshot(paths)
    clear(paths)
    preprocess(paths, Settings(flow="dis", pairs=then))
    assert snapshot(paths) == redone


def test_published_flow_is_never_deleted(paths, monkeypatch):
    preprocess(paths, UNCHAINED)
    np.save(paths.released_flow(NAMES[0], NAMES[1]), np.zeros((48, 64, 2), np.float32))
    monkeypatch.setattr(manifest, "STEPS_PER_PX", 8)
    with pytest.raises(InputError, match="not deleted: move it away"):
        preprocess(paths, UNCHAINED, redo=True)


def test_a_part_of_a_clip_gets_the_counts_of_that_part(paths, tmp_path):
    other = SequencePaths(tmp_path / "other")
    shutil.copytree(paths.color, other.color)
    preprocess(paths, CHAINED)
    preprocess(paths, CHAINED, num_frames=3)
    preprocess(other, CHAINED, num_frames=3)
    for mine, fresh in ((paths, other), (paths.chained, other.chained)):
        assert mine.flow_stats.read_bytes() == fresh.flow_stats.read_bytes()
        assert mine.count_map(NAMES[0]).read_bytes() == fresh.count_map(NAMES[0]).read_bytes()
    assert report_path(paths).read_bytes() == report_path(other).read_bytes()


def test_removed_frames_are_noticed(paths):
    preprocess(paths, CHAINED)
    (paths.color / NAMES[1]).unlink()
    with pytest.raises(InputError, match=f"{NAMES[1]} was removed since"):
        preprocess(paths, CHAINED)
    preprocess(paths, CHAINED, redo=True)
    redone = snapshot(paths)
    clear(paths)
    preprocess(paths, CHAINED)
    assert snapshot(paths) == redone


def test_weights_are_compared_where_they_matter(paths, tmp_path):
    _, record = as_if_by_raft(paths, tmp_path)
    preprocess(paths, Settings())  # complete: whatever weights were used
    assert read_record(paths)["settings"] == record["settings"]
    other = tmp_path / "other.pth"
    other.write_bytes(b"other weights")
    with pytest.raises(InputError, match="preprocessed with raft_weights"):
        preprocess(paths, Settings(raft_weights=other))
    paths.flow(NAMES[0], NAMES[1]).unlink()
    with pytest.raises(InputError, match=r"raft_weights .* but the download is requested"):
        preprocess(paths, Settings())


def test_never_preprocessing_still_refuses_what_was_made_otherwise(paths):
    preprocess(paths, CHAINED)
    require_complete(paths, NAMES, CHAINED)
    with pytest.raises(InputError, match="preprocessed with flow dis, but raft"):
        require_complete(paths, NAMES, Settings())
    write_image(paths.color / NAMES[3], np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(InputError, match="has changed"):
        require_complete(paths, NAMES, CHAINED)


def test_never_preprocessing_says_how_to_do_without_chaining(paths):
    preprocess(paths, UNCHAINED)
    with pytest.raises(InputError, match=r"lacks 12 flows in chained.*, or give --chain false$"):
        require_complete(paths, NAMES, CHAINED)
    paths.flow(NAMES[0], NAMES[1]).unlink()
    with pytest.raises(InputError, match=r"lacks 1 flows in raft_exhaustive.*; drop the flag, or preprocess first$"):
        require_complete(paths, NAMES, UNCHAINED)


def test_changed_frames_are_noticed(paths):
    preprocess(paths, Settings(flow="dis"), num_frames=3)
    preprocess(paths, Settings(flow="dis"))
    write_image(paths.color / NAMES[3], np.zeros((48, 64, 3), np.uint8))
    preprocess(paths, Settings(flow="dis"), num_frames=3)
    with pytest.raises(InputError, match=f"{NAMES[3]} has changed since the flow"):
        preprocess(paths, Settings(flow="dis"))


@pytest.mark.parametrize("options", [{"flow": "farneback"}, {"features": "surf"}, {"pairs": "some"}])
def test_unknown_methods_are_refused(paths, options):
    with pytest.raises(InputError, match="unknown method"):
        Settings(**{"flow": "dis", **options})


def test_missing_weights_are_reported_before_any_work(paths, tmp_path):
    with pytest.raises(InputError, match="no weights file"):
        preprocess(paths, Settings(raft_weights=tmp_path / "none.pth"))
    with pytest.raises(InputError, match="no weights file"):
        preprocess(paths, Settings(flow="dis", features="dino", dino_weights=tmp_path / "none.pth"))
    assert [p.name for p in paths.root.iterdir()] == ["color"]


@pytest.mark.parametrize(
    ("words", "chain"),
    [("", True), ("--chain", True), ("--chain true", True), ("--chain false", False), ("--chain=no", False)],
)
def test_switches_have_one_grammar(words, chain):
    assert main_processing.parse_flags(["--data_dir", "x", *words.split()]).chain is chain


def test_a_switch_is_on_or_off(capsys):
    with pytest.raises(SystemExit):
        main_processing.main(["--data_dir", "x", "--chain", "perhaps"])
    assert "perhaps" in capsys.readouterr().err


def test_help_loads_no_torch():
    script = Path(main_processing.__file__)
    code = f"import runpy, sys; sys.argv = ['x', '--help']; runpy.run_path({str(script)!r}, run_name='__main__')"
    code = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "--chain" in done.stdout and done.stdout.endswith("False\n")


def run_script(*arguments):
    script = Path(main_processing.__file__)
    return subprocess.run([sys.executable, str(script), *map(str, arguments)], capture_output=True, text=True)


def test_the_script_runs_from_anywhere(paths, tmp_path):
    root = tmp_path / "data"
    done = run_script(
        "--data_dir", paths.root, "--data_root", root, "--flow", "dis", "--max_side", 48, "--device", "cpu"
    )
    assert done.returncode == 0, done.stderr
    assert not describe_missing(SequencePaths(root / "seq_48"), NAMES, CHAINED)
    assert f"ready: {root / 'seq_48'}" in done.stdout


def test_mistakes_are_reported_in_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main_processing.main(["--data_dir", str(tmp_path / "nothing")])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: nothing at")
