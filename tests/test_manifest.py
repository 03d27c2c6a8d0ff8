"""Records of how a folder was preprocessed: earlier versions and other devices."""

import hashlib
import json
import shutil

import pytest

from preprocessing import pipeline
from preprocessing.manifest import read_record
from preprocessing.pipeline import preprocess, require_complete
from preprocessing.sequence_paths import SequencePaths
from preprocessing.settings import Settings
from utils.errors import InputError

# As commit f2785e5 wrote them, when precision and the batch of DINO were flags.
RAFT_RECORD = """{
 "settings": {
  "flow": {
   "format": 2,
   "flow": "raft",
   "pairs": "all",
   "window": null,
   "steps per pixel": 16,
   "updates": 20,
   "raft_weights": "the download",
   "raft_half": false,
   "raft_batch": "by memory"
  },
  "features": {
   "features": "dino",
   "dino_weights": "the download",
   "dino_half": false,
   "dino_batch": 1
  },
  "filter": {
   "cycle threshold": 3.0,
   "cosine threshold": 0.5
  },
  "chain": {
   "colour threshold": 0.3
  }
 },
 "versions": {
  "torch": "2.14.1",
  "torchvision": "0.29.1",
  "kornia": "0.9.0",
  "numpy": "2.4.6",
  "scipy": "1.17.1",
  "opencv": "5.0.0"
 },
 "frames": FRAMES
}"""
DIS_RECORD = """{
 "settings": {
  "flow": {
   "format": 4,
   "flow": "dis",
   "pairs": "all",
   "window": null,
   "steps per pixel": 16,
   "updates": null,
   "raft_weights": null,
   "raft_half": null,
   "raft_batch": null
  },
  "features": {
   "features": "sift",
   "dino_weights": null,
   "dino_half": null,
   "dino_batch": null
  },
  "filter": {
   "cycle threshold": 3.0,
   "cosine threshold": 0.85
  },
  "chain": {
   "colour threshold": 0.3
  }
 },
 "versions": {
  "torch": "2.14.1"
 },
 "frames": FRAMES
}"""
SETTINGS = {"raft": Settings(), "dis": Settings(flow="dis")}


@pytest.fixture
def folder_with(scene_dir, tmp_path):
    """Function that makes a finished folder with a record. The flow is by DIS, whatever the record contains."""

    def make(record):
        paths = SequencePaths(tmp_path / "scene")
        shutil.copytree(scene_dir, paths.root)
        frames = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths.color.iterdir())}
        text = json.dumps(frames, indent=1).replace("\n", "\n ")
        paths.manifest.write_text(record.replace("FRAMES", text))
        return paths, list(frames)

    return make


def snapshot(paths):
    return {path: path.read_bytes() for path in paths.root.rglob("*") if path.is_file()}


@pytest.fixture(params=[False, True], ids=["float32", "float16"])
def half(request, monkeypatch):
    """Whether the device, as preprocessing sees it, computes in float16."""
    monkeypatch.setattr(pipeline, "computes_in_half", lambda device: request.param)
    return request.param


@pytest.mark.parametrize(("record", "flow"), [(RAFT_RECORD, "raft"), (DIS_RECORD, "dis")])
def test_a_finished_folder_of_an_earlier_version_is_accepted_as_it_is(folder_with, half, record, flow):
    paths, names = folder_with(record)
    before = snapshot(paths)
    preprocess(paths, SETTINGS[flow])
    require_complete(paths, names, SETTINGS[flow])
    assert snapshot(paths) == before


def test_a_folder_finished_in_another_precision_is_accepted_as_it_is(folder_with, half):
    other = str(not half).lower()
    record = RAFT_RECORD.replace('_half": false', f'_half": {other}').replace('dino_batch": 1', 'dino_batch": 8')
    paths, names = folder_with(record)
    before = snapshot(paths)
    preprocess(paths, SETTINGS["raft"])
    require_complete(paths, names, SETTINGS["raft"])
    assert snapshot(paths) == before


def test_an_unfinished_flow_continues_in_its_precision_alone(folder_with, monkeypatch):
    monkeypatch.setattr(pipeline, "computes_in_half", lambda device: True)
    paths, names = folder_with(RAFT_RECORD)
    paths.flow(names[0], names[1]).unlink()
    before = snapshot(paths)
    with pytest.raises(InputError, match=r"started in float32, but this device uses float16.*--device.*--redo"):
        preprocess(paths, SETTINGS["raft"])
    assert snapshot(paths) == before


def test_later_stages_may_be_done_on_another_device(folder_with, monkeypatch):
    """The flow is finished, the masks are not; SIFT has no precision."""
    monkeypatch.setattr(pipeline, "computes_in_half", lambda device: True)
    record, dis = json.loads(RAFT_RECORD.replace("FRAMES", "{}")), json.loads(DIS_RECORD.replace("FRAMES", "{}"))
    for stage in ("features", "filter"):
        record["settings"][stage] = dis["settings"][stage]
    paths, names = folder_with(json.dumps(record | {"frames": "FRAMES"}).replace('"FRAMES"', "FRAMES"))
    masks = [paths.flow_mask(*names[:2]), paths.chained.flow_mask(*names[:2])]
    before = [mask.read_bytes() for mask in masks]
    for mask in masks:
        mask.unlink()
    preprocess(paths, Settings(features="sift"))
    assert [mask.read_bytes() for mask in masks] == before
    assert read_record(paths)["settings"]["flow"]["raft_half"] is False
