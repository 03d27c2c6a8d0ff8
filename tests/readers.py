"""Readers of files that others made, with a good file for each, from which damaged ones are made."""

import io
import json
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image

from configs.flags import parse_train
from evaluation.ground_truth import badja_keypoints, exact_tracks, tapvid_tracks
from loaders.clip_masks import ClipMasks
from loaders.flow_store import FlowStore
from loaders.track_file import read_tracks
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from networks.released_checkpoint import load_released_checkpoint
from preprocessing import manifest
from preprocessing.flow_files import pack_flow, read_flow, read_pair_mask
from preprocessing.sequence_paths import SequencePaths
from preprocessing.settings import Settings
from preprocessing.tapvid_pickle import read_tapvid
from utils.images import write_image
from utils.masks import read_mask
from visualization.query_files import read_queries
from visualization.query_points import check_queries

NAMES = ["00000.png", "00001.png"]
HEIGHT, WIDTH = 8, 12
CLIP = ModelConfig(2, HEIGHT, WIDTH)


def saved(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def checkpoint() -> bytes:
    """A checkpoint of the smallest networks, after one step."""
    nets: dict[str, Any] = {
        f"{net}_{size}": 1 for net in ("code", "coupling", "volume", "affine") for size in ("width", "depth")
    }
    model = OmniMotion.initialised(replace(CLIP, **nets, code_size=1, num_layers=1), seed=0)
    groups = [list(group.values()) for group in model.named_parameter_groups().values()]
    optimizer = torch.optim.Adam([{"params": group} for group in groups])
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    state = {
        "model_config": asdict(model.config),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": {"last_epoch": 1},
        "step": 1,
        "flags": {"expname": "x"},
    }
    return saved(lambda buffer: torch.save(state, buffer))


def tapvid() -> bytes:
    points, occluded = np.zeros((3, 2, 2)), np.zeros((3, 2), bool)
    return pickle.dumps({"goat": {"video": np.zeros((2, 4, 4, 3), np.uint8), "points": points, "occluded": occluded}})


def png(shape: tuple[int, ...]) -> bytes:
    image = np.random.default_rng(0).integers(0, 2, shape, np.uint8) * 255
    return cv2.imencode(".png", image)[1].tobytes()


def palette() -> bytes:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 3, (HEIGHT, WIDTH), np.uint8))
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    return saved(lambda buffer: image.save(buffer, "PNG"))


def badja() -> bytes:
    labels = [{"image_path": f"x/{name}", "joints": [[3, 4], [5, 6]], "visibility": [1, 0]} for name in NAMES]
    return json.dumps(labels).encode()


def config() -> bytes:
    flags = vars(parse_train(["--data_dir", "x"]))
    plain = {name: value for name, value in flags.items() if value and isinstance(value, int | float | str)}
    return "".join(f"{name} = {value}\n" for name, value in plain.items()).encode()


def points() -> bytes:
    return b"t,x,y\n0,1.5,2\n1 3 4 # here\n\n" + b"1,2,3\n" * 9


@dataclass(frozen=True)
class Reader:
    """A reader of one file: `seed()` is a good file, `path` is its relative path, `read(folder)` reads it."""

    seed: Callable[[], bytes]
    path: str
    read: Callable[[Path], object]


def masks_in(folder: Path) -> ClipMasks:
    return ClipMasks({name: folder / "m" / name for name in NAMES}, folder / "m")


def read_masks_of_pair(folder: Path) -> None:
    read_pair_mask(SequencePaths(folder), *NAMES)


def read_config(folder: Path) -> None:
    parse_train(["--config", str(folder / "c.txt"), "--data_dir", "x"])


def read_scene(folder: Path) -> None:
    """Statistics beside frames."""
    FlowStore(SequencePaths(folder), NAMES)


def read_points(path: Path) -> None:
    check_queries(read_queries(str(path)), 2, HEIGHT, WIDTH)


def read_record(folder: Path) -> None:
    manifest.read_record(SequencePaths(folder))
    wanted = manifest.stage_settings(Settings(flow="dis"))
    manifest.check_record(SequencePaths(folder), NAMES, wanted, finished=set())


def read_pickle(folder: Path) -> None:
    read_tapvid(folder / "tapvid.pkl")
    tapvid_tracks(folder / "tapvid.pkl", "goat", (HEIGHT, WIDTH), 2)


TRACKS = np.full((2, 3, 2), 3, np.float32)
STATS = {NAMES[0]: {NAMES[1]: 5}, NAMES[1]: {NAMES[0]: 7}}
RECORD = {"settings": {"flow": {"flow": "dis"}}, "versions": {}, "frames": {}}
FLOW = np.random.default_rng(0).normal(0, 3, (HEIGHT, WIDTH, 2)).astype(np.float32)
READERS = {
    "config": Reader(
        config, "c.txt", lambda folder: parse_train(["--config", str(folder / "c.txt"), "--data_dir", "x"])
    ),
    "packed flow": Reader(
        lambda: pack_flow(FLOW),
        "raft_exhaustive/00000.png_00001.png.flow",
        lambda folder: read_flow(SequencePaths(folder), *NAMES),
    ),
    "published flow": Reader(
        lambda: saved(lambda buffer: np.save(buffer, FLOW)),
        "raft_exhaustive/00000.png_00001.png.npy",
        lambda folder: read_flow(SequencePaths(folder), *NAMES),
    ),
    "mask": Reader(lambda: png((HEIGHT, WIDTH, 4)), "mask.png", lambda folder: read_mask(folder / "mask.png", 8, 12)),
    "label mask": Reader(palette, "m.png", lambda folder: read_mask(folder / "m.png", 8, 12)),
    "mask, npy": Reader(
        lambda: saved(lambda buffer: np.save(buffer, np.eye(HEIGHT, WIDTH, dtype=bool))),
        "m.npy",
        lambda folder: read_mask(folder / "m.npy", 8, 12),
    ),
    "pair mask": Reader(lambda: png((HEIGHT, WIDTH, 3)), "raft_masks/00000.png_00001.png.png", read_masks_of_pair),
    "statistics": Reader(lambda: json.dumps(STATS).encode(), "flow_stats.json", read_scene),
    "record": Reader(lambda: json.dumps(RECORD).encode(), "preprocess.json", read_record),
    "TAP-Vid": Reader(tapvid, "tapvid.pkl", read_pickle),
    "BADJA": Reader(
        badja, "b.json", lambda folder: badja_keypoints(folder / "b.json", NAMES, masks_in(folder), (9, 16))
    ),
    "tracks": Reader(
        lambda: saved(lambda buffer: np.savez(buffer, tracks=TRACKS, visibility=np.ones((2, 3), bool))),
        "t.npz",
        lambda folder: read_tracks(folder / "t.npz", 2, HEIGHT, WIDTH),
    ),
    "exact tracks": Reader(
        lambda: saved(lambda buffer: np.savez(buffer, points=np.ones((3, 2, 2)), occluded=np.ones((3, 2), bool))),
        "gt.npz",
        lambda folder: exact_tracks(folder / "gt.npz", (HEIGHT, WIDTH), 2),
    ),
    "points": Reader(points, "p.txt", lambda folder: read_points(folder / "p.txt")),
    "points, npz": Reader(
        lambda: saved(lambda buffer: np.savez(buffer, queries=np.ones((5, 3), np.float32))),
        "p.npz",
        lambda folder: read_points(folder / "p.npz"),
    ),
    "points, json": Reader(
        lambda: json.dumps([[0, 1.5, 2], {"t": 1, "x": 3, "y": 4, "name": "nose"}]).encode(),
        "p.json",
        lambda folder: read_points(folder / "p.json"),
    ),
    "points with names": Reader(
        lambda: b'name;x;y;frame\nnose;1,5;2;0\n"left; ear";3;4;1\n' + b"tail;3;4;1\n" * 5,
        "p.csv",
        lambda folder: read_points(folder / "p.csv"),
    ),
    "checkpoint": Reader(
        checkpoint,
        "model_000001.pth",
        lambda folder: load_released_checkpoint(folder / "model_000001.pth", CLIP),
    ),
}


def prepare(reader: Reader, folder: Path) -> bytes:
    """Put the good file and frames into a folder; the file's bytes. It must be read."""
    for name in NAMES:
        write_image(folder / "color" / name, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        write_image(folder / "m" / name, np.full((9, 16), 255, np.uint8))
    good, path = reader.seed(), folder / reader.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(good)
    reader.read(folder)
    return good


WORDS = [b"nan", b"-1", b"1e999", b"null", b"[]", b"{}", b'"x"', b"true", b"=", b"\n", b"\0", b"\xff" * 8]


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """A file with some bytes changed, cut out, put in or repeated, or its end cut off; or anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 16))
        kind = draw(st.sampled_from(["flip", "cut out", "put in", "word", "repeat", "cut off"]))
        if kind == "flip" and at < len(data):
            data[at] ^= draw(st.integers(1, 255))
        elif kind == "cut out":
            del data[at : at + length]
        elif kind == "put in":
            data[at:at] = draw(st.binary(max_size=16))
        elif kind == "word":
            word = draw(st.sampled_from(WORDS))
            data[at : at + draw(st.integers(0, len(word)))] = word
        elif kind == "repeat":
            data[at:at] = data[at : at + length]
        elif kind == "cut off":
            del data[at:]
    return bytes(data)
