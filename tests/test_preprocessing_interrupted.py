"""Whatever stops preprocessing, the same command ends with the same bytes; so do several processes."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import preprocessing.main_processing as main_processing
from preprocessing.flow_files import write_flow
from preprocessing.frames import prepare_sequence
from preprocessing.pipeline import preprocess
from preprocessing.sequence_paths import SequencePaths
from preprocessing.settings import Settings
from preprocessing.synthetic import make_scene
from utils.atomic import write_array
from utils.errors import InputError
from utils.images import write_image
from utils.video import write_video

SCRIPT = str(Path(main_processing.__file__))
SPARSE = Settings(flow="dis", pairs="sparse")


def copy_of_clip(root):
    for t, frame in enumerate(make_scene(18, 32, 48, seed=1).video):
        write_image(root / "color" / f"{t:02d}.png", frame)
    return SequencePaths(root)


def contents(root):
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    paths = copy_of_clip(tmp_path_factory.mktemp("whole"))
    preprocess(paths, SPARSE)
    return contents(paths.root)


def command(root, *launcher):
    flags = ["--data_dir", str(root), "--flow", "dis", "--pairs", "sparse", "--device", "cpu"]
    return [sys.executable, *launcher, SCRIPT, *flags]


def test_killed_at_any_moment_it_ends_with_the_same_bytes(uninterrupted, tmp_path):
    paths = copy_of_clip(tmp_path / "clip")
    for after in (0.2, 0.7):
        process = subprocess.Popen(command(paths.root), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and sum(p.is_file() for p in paths.root.rglob("*")) < after * len(uninterrupted):
            time.sleep(0.002)
        assert process.poll() is None  # else there is nothing to kill
        process.send_signal(signal.SIGKILL)
        process.wait()
        (paths.flow("a", "b").parent / f".00.png_01.png.{process.pid}.partial.flow").write_bytes(b"half a file")
    subprocess.run(command(paths.root), check=True, capture_output=True)
    assert contents(paths.root) == uninterrupted


def test_two_processes_make_the_same_bytes(uninterrupted, tmp_path):
    paths = copy_of_clip(tmp_path / "clip")
    done = subprocess.run(
        command(paths.root, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ready:") == 1
    assert contents(paths.root) == uninterrupted


def test_every_process_prints_a_mistake_without_a_traceback(tmp_path):
    done = subprocess.run(
        command(tmp_path / "nowhere", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode != 0 and done.stderr.count("error: nothing at") == 2
    assert 'main_processing.py", line' not in done.stderr


@contextmanager
def room_for(size):
    """Any file beyond `size` bytes cannot be written, by C code neither."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [20, 300])
def test_a_file_that_does_not_fit_is_an_error_and_is_not_there(tmp_path, size):
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    writers = [
        lambda: write_image(tmp_path / "image.png", noise),
        lambda: write_array(tmp_path / "array.npy", noise),
        lambda: write_flow(SequencePaths(tmp_path), "a", "b", noise[..., :2].astype(np.float32)),
        lambda: write_video(tmp_path / "video.mp4", [noise]),  # by ffmpeg, which has the same limit
    ]
    for write in writers:
        with room_for(size), pytest.raises((OSError, InputError), match=r"too large|cannot write"):
            write()
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_disk_that_is_full_before_all_frames_are_copied(tmp_path, monkeypatch):
    frames = copy_of_clip(tmp_path / "clip").color

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("preprocessing.frame_copies.write_image", full)
        with pytest.raises(InputError, match=r"No space left on device.*run the same command again"):
            prepare_sequence(frames, None, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    assert len(contents(prepare_sequence(frames, None, tmp_path / "data").color)) == len(contents(frames))


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(uninterrupted, tmp_path, monkeypatch):
    paths, replace, room = copy_of_clip(tmp_path / "clip"), os.replace, iter(range(150))

    def until_full(source, target):
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", until_full)
        with pytest.raises(InputError, match=r"No space left on device.*run the same command again"):
            preprocess(paths, SPARSE)
    assert not [p for p in paths.root.rglob(".*")] and 100 < len(contents(paths.root)) < len(uninterrupted)
    preprocess(paths, SPARSE)
    assert contents(paths.root) == uninterrupted
