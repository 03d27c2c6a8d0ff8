"""TAP-Vid's pickles: arrays of numbers are read, anything else is refused without running it."""

import os
import pickle

import numpy as np
import pytest

from evaluation.ground_truth import tapvid_tracks
from preprocessing.tapvid_pickle import read_tapvid
from utils.errors import InputError


class PickledCall:
    """An object that pickles to a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


ADDRESSES = b"C\x20" + b"A" * 32
OBJECTS = (
    named("numpy", "dtype") + text("O") + b"\x89\x88\x87R"
)  # dtype("O", False, True), then its object flag cleared
DISGUISED = OBJECTS + b"(K\x03" + text("|") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
START = named("numpy.core.multiarray", "_reconstruct") + named("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
FORGED = {
    "called": named("numpy", "ndarray") + b"K\x04\x85" + DISGUISED + ADDRESSES + b"\x87R",
    "made anew": named("numpy", "ndarray") + b"K\x04\x85" + DISGUISED + ADDRESSES + b"\x87\x81",
    "from a buffer": named("numpy.core.numeric", "_frombuffer")
    + (b"(" + ADDRESSES + DISGUISED + b"K\x04\x85" + text("C") + b"tR"),
    # dtype("f8") in the byte order "O,": two fields, one of them an object.
    "by its byte order": START
    + (b"(K\x01K\x01\x85" + named("numpy", "dtype") + text("f8") + b"\x89\x88\x87R")
    + (b"(K\x03" + text("O,") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb" + b"\x89](K\x01K\x02\x86etb"),
    "by its state": START + b"(K\x01K\x04\x85" + DISGUISED + b"\x89" + ADDRESSES + b"tb",
}


@pytest.mark.parametrize("forged", FORGED)
def test_addresses_that_a_pickle_calls_objects_are_refused(tmp_path, forged):
    path = tmp_path / "tapvid.pkl"
    path.write_bytes(b"\x80\x04}" + text("goat") + b"}" + text("occluded") + FORGED[forged] + b"ss.")
    with pytest.raises(InputError, match="'O,f8', expected numbers" if "byte order" in forged else "pickle"):
        tapvid_tracks(path, "goat", (20, 40))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_numbers_survive_every_protocol(tmp_path, protocol):
    kinds = ("u1", "<f4", ">f8", "?", "<i8")
    arrays = {kind: np.arange(24).reshape(2, 3, 4).astype(kind) for kind in kinds}
    arrays["columns"] = np.asfortranarray(arrays["<f4"])
    path = tmp_path / "tapvid.pkl"
    path.write_bytes(pickle.dumps({"goat": arrays}, protocol))
    for name, found in read_tapvid(path)["goat"].items():
        assert found.dtype.newbyteorder("=") == arrays[name].dtype.newbyteorder("="), name
        np.testing.assert_array_equal(found, arrays[name])


def test_a_pickle_that_calls_a_function_is_refused_without_the_call(tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"goat": {"points": PickledCall(os.mkdir, str(trace))}}))
    with pytest.raises(InputError, match="the pickle refers to"):
        tapvid_tracks(path, "goat", (20, 40))
    assert not trace.exists()
