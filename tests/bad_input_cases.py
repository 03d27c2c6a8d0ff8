"""What a user can get wrong: the cases of test_bad_input.py, and how a prepared folder is spoilt for them."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from preprocessing.flow_files import pack_flow
from preprocessing.sequence_paths import SequencePaths
from tests.archive_files import pickled, tapvid_sequence
from utils.images import write_image
from utils.video import write_video

DEMO = Path(__file__).resolve().parent.parent / "configs" / "demo.txt"
SCENE, RUN = SequencePaths(Path("scene")), Path("out/tiny_scene")
CHECKPOINT = RUN / "model_000003.pth"
NAMES = [f"{t:05d}.png" for t in range(6)]
PAIR = NAMES[0], NAMES[1]

Step = Callable[[], object]  # changes the folder
Case = tuple[str, list[str], Step | None, str]  # command, more flags, what happens before, part of the sentence


def cut(path: Path | str) -> Step:
    """Keep the first half of a file."""
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[: Path(path).stat().st_size // 2])


def put(path: Path | str, content: bytes | str) -> Step:
    return lambda: Path(path).write_bytes(content.encode() if isinstance(content, str) else content)


def gone(path: Path | str) -> Step:
    return lambda: shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()


def both(*steps: Step) -> Step:
    return lambda: [step() for step in steps]


def picture(path: Path, value: np.ndarray) -> Step:
    return lambda: write_image(path, value)


def edited(path: Path, change: Callable[[dict], object]) -> Step:
    """Change a JSON file."""

    def edit() -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


def checkpoint(change: Callable[[dict], object]) -> Step:
    """Change the run's checkpoint."""

    def edit() -> None:
        content = torch.load(CHECKPOINT, weights_only=True)
        change(content)
        torch.save(content, CHECKPOINT)

    return edit


def released(array: np.ndarray | Callable[[np.ndarray], np.ndarray]) -> Step:
    """Another array in the place of one published flow, whose copy in the mapped file is forgotten."""

    def replace() -> None:
        path = SCENE.released_flow(*PAIR)
        np.save(path, array(np.load(path)) if callable(array) else array, allow_pickle=True)

    return both(replace, forget)


def forget() -> None:
    """Delete the files that training maps flow from, so that it is read again."""
    for folder in (SCENE.root, SCENE.chained.root):
        shutil.rmtree(folder / "training_flow", ignore_errors=True)


def saved(name: Path | str, **arrays: Any) -> Step:
    return lambda: np.savez(name, **arrays)


def spoilt(flow: np.ndarray, value: float) -> np.ndarray:
    flow[3, 4] = value
    return flow


class Evil:
    """Leaves a file behind if it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


def evil(path: Path | str) -> Step:
    return lambda: Path(path).write_bytes(pickle.dumps({"goat": Evil()}))


GREY, SMALL = np.zeros((40, 56), np.uint8), np.zeros((20, 30, 3), np.uint8)
SHAPE = (6, 300, 2)
# what is wrong: (command, more flags, what happens to the folder before, part of the sentence)
FLAGS = [
    ("num_pairs", "0", "num_pairs: found 0"),
    ("num_pts", "many", "num_pts: found many, expected a whole number"),
    ("num_pts", "99999999999999999999", "num_pts: found 99999999999999999999"),
    ("num_iters", "-5", "num_iters: found -5"),
    ("num_iters", "1.5", "found 1.5, expected a whole number"),
    ("num_workers", "-1", "num_workers: found -1"),
    ("num_workers", "1000000", "num_workers: found 1000000"),
    ("num_threads", "-1", "num_threads: found -1"),
    ("num_threads", "1000000", "num_threads: found 1000000"),
    ("num_pts", "1000000000", "samples per batch"),
    ("num_samples_ray", "1000000000", "samples per batch"),
    ("load_opt", "2", "load_opt: found 2"),
    ("load_scheduler", "-1", "load_scheduler: found -1"),
    ("loader_seed", "-1", "loader_seed: found -1"),
    ("num_imgs", "1", "num_imgs: found 1"),
    ("max_side", "0", "max_side: found 0"),
    ("raft_batch", "0", "raft_batch: found 0"),
    ("flow", "farneback", "invalid choice: 'farneback'"),
    ("features", "vgg", "invalid choice: 'vgg'"),
    ("pairs", "some", "invalid choice: 'some'"),
    ("preprocess", "yes", "invalid choice: 'yes'"),
    ("device", "tpu", "--device tpu"),
    ("device", "cuda:x", "--device cuda:x"),
    ("device", "cpu:7", "--device cpu:7"),
    ("use_affine", "perhaps", "found 'perhaps', expected true or false"),
    ("pe_freq", "-1", "pe_freq: found -1"),
    ("num_layers", "0", "num_layers: found 0"),
    ("coupling_width", "0", "coupling_width: found 0"),
    ("num_samples_ray", "1", "num_samples_ray: found 1"),
    ("min_depth", "2", "min_depth is 2.0"),
    ("max_depth", "inf", "max_depth: found inf"),
    ("max_depth", "-1", "min_depth is 0.0, expected one below --max_depth, which is -1.0"),
    ("lr_feature", "nan", "lr_feature: found nan"),
    ("lr_deform", "-0.0001", "lr_deform: found -0.0001"),
    ("lr_muon", "nan", "lr_muon: found nan"),
    ("lr_muon", "-0.01", "lr_muon: found -0.01"),
    ("lr_muon", "1e308", "lr_muon: found 1e308"),
    ("lr_color", "1e-3x", "found 1e-3x, expected a number"),
    ("lrate_decay_steps", "0", "lrate_decay_steps: found 0"),
    ("lrate_decay_factor", "-0.5", "lrate_decay_factor: found -0.5"),
    ("lr_schedule", "poly", "invalid choice: 'poly'"),
    ("lr_warmup", "-1", "lr_warmup: found -1"),
    ("grad_clip", "nan", "grad_clip: found nan"),
    ("micro_batch", "-1", "micro_batch: found -1"),
    ("start_interval", "0", "start_interval: found 0"),
    ("max_padding", "-1", "max_padding: found -1"),
    ("schedule_scale", "0", "schedule_scale: found 0"),
    ("i_print", "0", "i_print: found 0"),
    ("plane_size", "-1", "plane_size: found -1"),
    ("soft_bound", "1e-46", "soft_bound is 1e-46"),
    ("soft_bound", "9", "soft_bound: found 9"),
    ("plane_size", "1000000 --expname new", "not enough memory"),
    ("depth_prior", "-1", "depth_prior: found -1"),
    ("motion_share", "1", "motion_share: found 1"),
    ("chunk_size", "0", "chunk_size: found 0"),
    ("query_frame_id", "6", "query_frame_id is 6, expected one of the clip's frames, 0 to 5"),
    ("query_frame_id", "-1", "query_frame_id: found -1"),
    ("occlusion_th", "1.5", "occlusion_th: found 1.5"),
    ("expname", "../../x", "'../../x', expected a name without slashes"),
    ("expname", "x" * 300, "File name too long.*choose another name"),
    ("data_dir", "sc\udcffne", "not valid UTF-8 text"),
    ("dataset_types", "depth", "invalid choice: 'depth'"),
    ("dataset_types", "tracks", "--tracks is missing"),
    ("tracks", "tracks.npz", "--tracks is given, but --dataset_types is flow"),
    ("dataset_weights", "1 2", r"dataset_weights is \[1.0, 2.0\]"),
    ("dataset_weights", "nan", "dataset_weights: found nan, expected a number above 0"),
    ("num_pair", "4", "--num_pair"),
    ("style", "grid", "unrecognized arguments: --style"),  # viz.py's
    ("data_dir", "nowhere", "nothing at nowhere"),
    ("data_dir", "tracks.npz", r"tracks.npz as an array of frames .*found \['tracks', 'visibility'\], expected one"),
    ("data_dir", "https://example.org/v.mp4", "is a URL, expected a file: download it"),
    ("frame_range", "4:5", "holds no two frames"),
    ("frame_range", "1:2:3:4", "expected a:b or a:b:step"),
    ("frame_range", "0:7", "expected an end of at most 6, as many frames as scene has"),
    ("value_range", "9:1", "expected lo:hi with lo < hi"),
    ("value_range", "0:9", "frames of scene have 8 bits and stay as they are: drop it"),
    ("ckpt_path", "none.pth", "none.pth: no such file"),
    ("foreground_mask_path", "none.png", "no mask at none.png"),
    ("mask_dir", "none", "--mask_dir: found no mask in none, no such folder"),
    ("mask_dir", "scene/raft_masks", "scene/raft_masks holds 30 masks for 6 frames"),
    ("mask_label", "0", "mask_label: found 0"),
    ("mask_label", "7", "mask scene/mask/00000.png has no label 7, found 255"),
    ("config", "none.txt", "cannot read the config file none.txt of --config .No such file"),
    ("config", "scene", "cannot read the config file scene"),
    ("config", f"{DEMO} --data_dir data/demo_scen", "nothing at data/demo_scen"),  # demo.txt makes no scene there
]
# viz.py's own
VIEWS = [
    ("style", "paint", "invalid choice: 'paint'"),
    ("run", "nowhere", "no folder nowhere: give the folder of a run"),
    ("run", "scene", "scene holds no checkpoint"),
    ("run", "tracks.npz", "no folder tracks.npz"),
    ("export", "npz,obj", "no export format obj"),
    ("export", "npz,ae", "ae needs the frame rate, which the source does not have: give fps .--fps."),
    ("first_frame", "-1", "first_frame: found -1"),
    ("first_frame", "one", "found one, expected a whole number"),
    ("points", "none.txt", "cannot read --points none.txt"),
    ("points", "0,1;2", "point or line 1: found '0,1'"),
    ("points", "0,nan,3", "finite x, y"),
    ("points", "0.5,1,2", "expected a whole frame number"),
    ("points", "6,1,1", "expected t from 0 to 5"),
    ("points", "0,56,1", "x from 0 to 55"),
    ("points", "0,1,-1", "y from 0 to 39"),
    ("points", "0,1,1 --random 5", "drop --region, --random"),
    ("points", "scene/color/00000.png", "cannot read --points"),
    ("points", "tracks.npz", "found .*, no queries"),
    ("points", "scene", "cannot read --points scene"),
    ("grid_interval", "0", "found 0, expected a whole number of at least 1"),
    ("grid_interval", "500", "has no point on the mask"),
    ("random", "-3", "found -3, expected a whole number of at least 1"),
    ("random", "99999", "--random is 99999, but there are [0-9]+ pixels"),
    ("random", "5 --grid_interval 5", "expected one of them: drop the other"),
    ("region", "5,5,5,9", "holds no pixel"),
    ("region", "a,b,c,d", "'a,b,c,d', expected x0,y0,x1,y1"),
    ("region", "0,0,57,40", "x up to 56"),
    ("frames", "4:2", "'4:2' holds no frame"),
    ("frames", "2:9", "--frames ends at 9"),
    ("fps", "0", "found 0, expected a number of at least 0.001 and at most 1000"),
    ("fps", "nan", "found nan, expected a number"),
    ("fps", "inf", "fps: found inf"),
    ("fps", "1e-30", "fps: found 1e-30"),
    ("fps", "1e30", "fps: found 1e30"),
    ("radius", "-1", "found -1, expected a number above 0 and at most 1000"),
    ("radius", "1000000000", "radius: found 1000000000"),
    ("trail_length", "0", "found 0, expected a whole number"),
]
CONFIGS: dict[str, tuple[bytes | str, str]] = {
    "unknown key": ("num_pair = 4\n", "bad.txt sets 'num_pair', which is no flag"),
    "wrong type": ("lrate_decay_steps = four\n", "bad.txt: .*lrate_decay_steps: found four, expected a whole number"),
    "no value": ("lrate_decay_steps\n", "lrate_decay_steps"),
    "out of range": ("lr_deform = -1\n", "bad.txt: .*lr_deform: found -1"),
    "a list": ("lrate_decay_steps = [1, 2]\n", "lrate_decay_steps|unrecognized"),
    "nonsense": ("[general\n]]=\n", "bad.txt sets ']]'"),
    "a missing base": ("base = none.txt\n", "cannot read the config file none.txt of bad.txt"),
    "its own base": ("base = bad.txt\n", "bad.txt builds on itself: delete the line `base = bad.txt` of bad.txt"),
    "a base of bytes": ("base = tracks.npz\n", "cannot read the config file tracks.npz of bad.txt"),
    "a folder as base": ("base = scene\n", "cannot read the config file scene of bad.txt"),
    "another config": ("config = other.txt\n", "bad.txt sets 'config'"),
    "no text": (b"\xff\xfe\x00\x81" * 9, "bad.txt"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "bad.txt"),
}
FRAMES: dict[str, tuple[str, Step | None, str]] = {
    "cut frame": ("train", cut(SCENE.color / NAMES[2]), r"00002\.png: the image is cut short"),
    "text as frame": ("viz", put(SCENE.color / NAMES[2], "no image"), r"00002\.png: not an image"),
    "empty frame": ("evaluate", put(SCENE.color / NAMES[2], ""), r"00002\.png: the file is empty"),
    "frame of another size": ("train", picture(SCENE.color / NAMES[5], SMALL), "00005.png is 30x20 but 00000.png"),
    "changed frame": ("prepare", picture(SCENE.color / NAMES[3], np.zeros((40, 56, 3), np.uint8)), "has changed since"),
    "removed frame": (
        "prepare",
        gone(SCENE.color / NAMES[2]),
        "00002.png was removed since|00002.png got a new neighbour",
    ),
    "renamed frame": (
        "prepare",
        lambda: (SCENE.color / NAMES[2]).rename(SCENE.color / "x.png"),
        "was removed|neighbour",
    ),
    "added frame": (
        "never --no_reload",
        both(lambda: shutil.copy(SCENE.color / NAMES[5], SCENE.color / "00006.png"), gone(SCENE.gt_tracks)),
        "lacks 12 flows",
    ),
    "no frames": ("train", gone(SCENE.color), "found . image"),
    "frame in two formats": ("train", lambda: shutil.copy(SCENE.color / NAMES[0], SCENE.color / "00000.jpg"), "both"),
    "too many points": ("viz --points p.txt", put("p.txt", "0,1,1\n" * 10001), "found 10001 query points"),
    "points of words": ("viz --points p.txt", put("p.txt", "t,x,y\na,b,c\n"), "line 2: found 'a,b,c'"),
    "points of other columns": ("viz --points p.csv", put("p.csv", "time;a;b\n0;1;2\n"), "the columns are time, a, b"),
    "points outside": (
        "viz --points p.csv",
        put("p.csv", "t,x,y,name\n" + "0,1,1,in\n" + "9,1,1,out\n" * 7),
        r"7 of 8 points .*line 3 \(9,1,1\).*line 7 \(9,1,1\) and 2 more: expected t from 0 to 5",
    ),
    "points of JSON": ("viz --points p.json", put("p.json", '{"a": [1]}'), "p.json, point 1: found"),
    "points in depths": ("viz --points p.json", put("p.json", "[" * 10**5), "cannot read p.json as JSON"),
    "no points": ("viz --points p.txt", put("p.txt", "# none\n"), "holds no point"),
    "cut points": ("viz --points tracks.npz", cut("tracks.npz"), "cannot read --points tracks.npz"),
    "points of objects": (
        "viz --points p.npz",
        lambda: np.savez("p.npz", queries=np.full((2, 3), Evil())),
        "cannot read --points p.npz",
    ),
    "empty mask": ("viz", picture(SCENE.mask / NAMES[0], GREY), "selects nothing"),
    "mask of other proportions": (
        "train",
        picture(SCENE.mask / NAMES[0], GREY[:20]),
        "is 56x20 but its frame is 56x40",
    ),
    "cut mask": ("train", cut(SCENE.mask / NAMES[0]), "mask/00000.png: the image is cut short"),
    "cut video": ("video", both(lambda: write_video(Path("v.mp4"), np.zeros((8, 32, 48, 3))), cut("v.mp4")), "v.mp4"),
    "text as video": ("video", put("v.mp4", "no film"), "cannot read .*v.mp4 as a video"),
}
PRODUCTS: dict[str, tuple[str, Step | None, str]] = {
    "cut flow": ("train", both(cut(SCENE.chained.flow(*PAIR)), forget), "cannot read the flow .*00000.png_00001.png"),
    "flow of noise": ("train", both(put(SCENE.chained.flow(*PAIR), bytes(99)), forget), "not a packed flow"),
    "flow of another size": (
        "train",
        both(lambda: SCENE.chained.flow(*PAIR).write_bytes(pack_flow(np.zeros((20, 30, 2)))), forget),
        "00000.png_00001.png.flow is 30x20 but its frame is 56x40",
    ),
    "flow that promises a giant": (
        "train",
        both(put(SCENE.chained.flow(*PAIR), b"OMFLOW02" + b"\xff" * 8 + pack_flow(np.zeros((2, 2, 2)))[16:]), forget),
        "cannot read the flow",
    ),
    "raw flow not finite": (
        "train",
        both(
            *(put(folder.flow(*PAIR), pack_flow(np.full((40, 56, 2), np.nan))) for folder in (SCENE, SCENE.chained)),
            forget,
        ),
        "not finite",
    ),
    "missing flow": ("never", gone(SCENE.chained.flow(*PAIR)), "lacks 1 flows in chained"),
    "cut pair mask": ("train", both(cut(SCENE.chained.flow_mask(*PAIR)), forget), "raft_masks.*is cut short"),
    "pair mask of another size": (
        "train",
        both(picture(SCENE.chained.flow_mask(*PAIR), SMALL), forget),
        "raft_masks.*is 30x20 but its frame is 56x40",
    ),
    "pair mask of another clip": (
        "train",
        both(picture(SCENE.chained.flow_mask(*PAIR), np.zeros((40, 56, 3), np.uint8)), forget),
        "has 0 valid pixels",
    ),
    "cut count map": ("train", both(cut(SCENE.chained.count_map(NAMES[0])), forget), "count_maps.*is cut short"),
    "count map of another size": (
        "train",
        picture(SCENE.chained.count_map(NAMES[1]), np.zeros((20, 30), np.uint16)),
        "count_maps.*is 30x20 but its frame is 56x40",
    ),
    "cut statistics": ("never", cut(SCENE.chained.flow_stats), "lacks count maps or flow_stats.json"),
    "statistics of words": (
        "never",
        edited(SCENE.chained.flow_stats, lambda stats: stats[NAMES[0]].update({NAMES[1]: "all"})),
        "flow_stats.json is damaged",
    ),
    "more valid pixels than pixels": (
        "never",
        both(edited(SCENE.chained.flow_stats, lambda stats: stats[NAMES[0]].update({NAMES[1]: 10**9})), forget),
        "has 1000000000 valid pixels of 2240",
    ),
    "cut record": ("train", cut(SCENE.manifest), "preprocess.json is damaged"),
    "record of numbers": ("train", put(SCENE.manifest, "[1, 2]"), "preprocess.json is damaged"),
    "record of other types": ("train", put(SCENE.manifest, '{"settings": 3, "frames": []}'), "preprocess.json is dam"),
    "no record": ("train", both(gone(SCENE.manifest), gone(SCENE.flow_mask(*PAIR))), "no preprocess.json says"),
    "cut tracks": ("train", cut(SCENE.gt_tracks), "gt_tracks.npz"),
    "tracks of fewer frames": (
        "evaluate",
        saved(SCENE.gt_tracks, points=np.zeros((9, 4, 2)), occluded=np.zeros((9, 4), bool)),
        "gt_tracks.npz has 4 frames, the clip 6",
    ),
    "tracks of objects": (
        "train",
        saved(SCENE.gt_tracks, points=np.array([Evil()]), occluded=np.zeros(1)),
        "gt_tracks.npz holds no exact tracks",
    ),
    "tracks that are not finite": (
        "evaluate",
        saved(SCENE.gt_tracks, points=np.full((9, 6, 2), np.nan), occluded=np.zeros((9, 6), bool)),
        "gt_tracks.npz.*not finite",
    ),
}
RELEASED: dict[str, tuple[Step, str]] = {
    "flow of another size": (released(np.zeros((20, 30, 2), np.float32)), "is 30x20 but its frame is 56x40"),
    "NaN in flow": (released(lambda flow: spoilt(flow, np.nan)), "not finite"),
    "infinite flow": (released(lambda flow: spoilt(flow, np.inf)), "not finite"),
    "flow with three channels": (released(np.zeros((40, 56, 3), np.float32)), r"shape \[40, 56, 3\]"),
    "flow of words": (released(np.full((40, 56, 2), "x")), "00001.png.npy"),
    "flow of objects": (released(np.full((40, 56, 2), Evil())), "00001.png.npy"),
    "cut flow": (both(cut(SCENE.released_flow(*PAIR)), forget), "00001.png.npy"),
    "empty flow": (both(put(SCENE.released_flow(*PAIR), b""), forget), "00001.png.npy"),
    "renamed frame": (lambda: (SCENE.color / NAMES[5]).rename(SCENE.color / "9.png"), "missing"),
    "added frame": (
        both(lambda: shutil.copy(SCENE.color / NAMES[5], SCENE.color / "00006.png"), gone(SCENE.gt_tracks), gone(RUN)),
        "missing",
    ),
}
CHECKPOINTS: dict[str, tuple[Step, str]] = {
    "cut": (cut(CHECKPOINT), "cannot be read as a checkpoint"),
    "empty": (put(CHECKPOINT, b""), "cannot be read as a checkpoint"),
    "text": (put(CHECKPOINT, "weights"), "cannot be read as a checkpoint"),
    "code": (evil(CHECKPOINT), "cannot be read as a checkpoint"),
    "a list": (lambda: torch.save([1], CHECKPOINT), "holds a list"),
    "no networks": (checkpoint(lambda c: c.pop("model")), "lacks model"),
    "a parameter less": (checkpoint(lambda c: c["model"].popitem()), "does not fit|damaged"),
    "a parameter of another shape": (
        checkpoint(lambda c: c["model"].update({"volume.net.output.bias": torch.zeros(9)})),
        "does not fit|damaged",
    ),
    "unknown sizes": (checkpoint(lambda c: c["model_config"].update(depth=3)), "damaged"),
    "sizes of a giant": (checkpoint(lambda c: c["model_config"].update(coupling_width=10**9)), "damaged|does not fit"),
    "sizes of words": (checkpoint(lambda c: c["model_config"].update(code_size="8")), "damaged"),
    "a step of words": (checkpoint(lambda c: c.update(step="two")), "damaged"),
    "no rates": (checkpoint(lambda c: c.update(scheduler={})), "damaged"),
    "moments of other networks": (checkpoint(lambda c: c["optimizer"]["param_groups"].pop()), "damaged"),
    "parameters not finite": (
        checkpoint(lambda c: c["model"]["volume.net.output.bias"].fill_(np.nan)),
        "not finite",
    ),
    "rates of a released run": (
        checkpoint(lambda c: (c.pop("flags"), c["scheduler"].update(base_lrs=[1.0]))),
        "holds no usable learning rates",
    ),
    "steps of moments": (
        checkpoint(lambda c: c["optimizer"]["state"][0].update(step=torch.zeros(3))),
        "another shape",
    ),
    "an axis too many": (checkpoint(lambda c: c["model_config"].update(axes=[0, 1, 2, 0, 1, 7])), "damaged.*axes"),
    "rays without end": (checkpoint(lambda c: c["model_config"].update(max_depth=np.inf)), "max_depth is inf"),
    "other pictures": (checkpoint(lambda c: c["thumbnails"].add_(100)), "other pictures"),
    "more frames": (checkpoint(lambda c: c["model_config"].update(num_frames=9)), "num_frames 9|frames, height, width"),
    "another size": (checkpoint(lambda c: c["model_config"].update(height=41)), "height 41|frames, height, width"),
}
OTHERS: dict[str, tuple[str, Step | None, str]] = {
    "other coupling layers": ("train --num_layers 4", None, "num_layers 6, this run has 4"),
    "other widths": ("train --coupling_width 9", None, "coupling_width 8, this run has 9"),
    "a file in the place of runs": ("train --save_dir tracks.npz", None, "Not a directory.*choose another name"),
    "no run": ("viz --expname other", None, "no checkpoint in out/other_scene: train first"),
    "no run to score": ("evaluate --expname other", None, "no checkpoint in out/other_scene"),
    "other layers to draw": ("viz --num_imgs 4", None, r"trained on \(frames, height, width\)"),
    "cut stored tracks": ("stored", cut("tracks.npz"), "tracks.npz"),
    "text as tracks": ("stored", put("tracks.npz", "1 2 3"), "tracks.npz is no npz file"),
    "tracks of objects": (
        "stored",
        saved("tracks.npz", tracks=np.array([Evil()]), visibility=np.zeros(1)),
        "tracks.npz",
    ),
    "tracks of other names": ("stored", saved("tracks.npz", a=np.zeros(3)), r"holds the arrays \['a'\]"),
    "tracks of fewer frames": (
        "stored",
        saved("tracks.npz", tracks=np.ones((4, 9, 2)), visibility=np.ones((4, 9))),
        "4 frames",
    ),
    "tracks that are not finite": (
        "stored",
        saved("tracks.npz", tracks=np.full(SHAPE, np.nan), visibility=np.ones(SHAPE[:2])),
        "not finite",
    ),
    "tracks outside the image": (
        "stored",
        saved("tracks.npz", tracks=np.full(SHAPE, 999.0), visibility=np.ones(SHAPE[:2])),
        "scale the tracks",
    ),
    "no truth": ("stored --gt none.npz", None, "--gt none.npz"),
    "more tracks than queries": (
        "stored --query_mode first",
        saved("tracks.npz", tracks=np.ones((6, 9999, 2)) * 9, visibility=np.ones((6, 9999))),
        "9999 tracks, but",
    ),
    "cut pickle": ("evaluate --benchmark tapvid --gt tapvid.pkl", cut("tapvid.pkl"), "cannot read tapvid.pkl"),
    "code in a pickle": ("evaluate --benchmark tapvid --gt tapvid.pkl", evil("tapvid.pkl"), "refers to pathlib"),
    "another video's truth": ("evaluate --benchmark tapvid --gt tapvid.pkl", None, "has no video scene, it holds goat"),
    "BADJA without labels": ("evaluate --benchmark badja", None, "badja.json"),
    "BADJA in depths": ("evaluate --benchmark badja", put("scene/badja.json", "[" * 10**5), "nested too deeply"),
    "BADJA of numbers": ("evaluate --benchmark badja", put("scene/badja.json", "[1, 2]"), "badja.json"),
    "BADJA of an object": ("evaluate --benchmark badja", put("scene/badja.json", '{"a": 1}'), "badja.json"),
    "no clip to score": ("evaluate --data_dir nowhere", None, "--data_dir: nothing at nowhere"),
    "no run to score by --run": ("evaluate --run nowhere", None, "no folder nowhere: give the folder of a run"),
    "a config in a circle": (
        "train --config a.txt",
        both(put("a.txt", "base = b.txt\n"), put("b.txt", "base = a.txt\n")),
        "a.txt builds on itself: delete the line `base = a.txt` of b.txt",
    ),
    "a base with an unknown key": (
        "train --config a.txt",
        both(put("a.txt", "base = b.txt\n"), put("b.txt", "num_pair = 4\n")),
        "b.txt sets 'num_pair'",
    ),
    "a run on a clip that is gone": ("moved", gone("scene"), "trained on scene, which does not exist here"),
    "a run without flags": ("moved", checkpoint(lambda c: c.pop("flags")), "holds no flags of its training"),
    "weights that are none": (
        "prepare --flow raft --raft_weights w.pth --redo",
        put("w.pth", "text"),
        "w.pth cannot be read as PyTorch weights",
    ),
    "code in weights": (
        "prepare --flow raft --raft_weights w.pth --redo",
        evil("w.pth"),
        "w.pth cannot be read as PyTorch weights",
    ),
    "no weights": ("prepare --flow raft --raft_weights none.pth", None, "no weights file at none.pth"),
    "other weights": (
        "prepare --flow raft --raft_weights w.pth --redo",
        lambda: torch.save({"w": torch.zeros(2)}, "w.pth"),
        "does not fit RAFT",
    ),
    "other preprocessing": ("train --features dino", None, "with features sift, but dino is requested"),
    "one frame": ("prepare --num_frames 1", None, "--num_frames: found 1, expected a whole number of at least 2"),
    "no pixel": ("prepare --max_side 0", None, "--max_side: found 0, expected a whole number of at least 1"),
    "unknown flag": ("prepare --fast", None, "--fast"),
    "half a boolean": ("prepare --chain maybe", None, "maybe"),
    "no source": ("prepare --data_dir nowhere", None, "nothing at nowhere"),
    "cut archive": ("davis", cut("davis.zip"), "cannot read davis.zip as a zip"),
    "an unknown sequence": ("davis --sequences cat", None, "no sequence cat in the archive, which holds: bear"),
    "no archive": ("davis --archive none.zip", None, "no archive at none.zip"),
    "a name that leads out": (
        "tapvid",
        lambda: pickled(Path("tapvid.pkl"), {"../goat": tapvid_sequence()}),
        "cannot name",
    ),
    "code in an archive": ("tapvid", evil("tapvid.pkl"), "refers to pathlib"),
    "negative size": ("tapvid --size -1", None, "--size -1"),
}


def cases() -> dict[str, Case]:
    """All of them by name: command, more flags, what happens before, what the sentence says."""
    found: dict[str, Case] = {
        f"--{name} {value}": ("train", [f"--{name}", *value.split()], None, said) for name, value, said in FLAGS
    }
    for name, value, said in VIEWS:
        found[f"viz --{name} {value}"] = "viz", [f"--{name}", *value.split()], None, said
    for kind, (content, said) in CONFIGS.items():
        found[f"config: {kind}"] = "train", ["--config", "bad.txt"], put("bad.txt", content), said
    short = {"never": ["train", "--preprocess", "never"], "video": ["prepare", "--data_dir", "v.mp4"]}
    for group in (FRAMES, PRODUCTS, OTHERS):
        for kind, (line, before, said) in group.items():
            first, *more = line.split()
            command, *flags = [*short.get(first, [first]), *more]
            found[kind if kind not in found else f"{kind} ({command})"] = command, flags, before, said
    for kind, (before, said) in RELEASED.items():
        found[f"published: {kind}"] = "train", [], before, said
    for kind, (before, said) in CHECKPOINTS.items():
        for command in ("train", "viz", "evaluate"):
            if command == "train" or not any(word in kind for word in ("rates", "moments", "step")):
                found[f"checkpoint: {kind}, {command}"] = command, [], before, said
    return found
