"""Readers of files that others made: whatever is in the file, it is read or refused in a sentence, never worse.

Every reader gets the same inputs in each run: 100, or the number in FUZZ_EXAMPLES.
"""

import copy
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from networks.checkpoint_validation import validate_checkpoint
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from networks.optimizer import ModelOptimizer
from tests.readers import READERS, damaged, prepare
from tests.test_optimizer import CONFIG, checkpoint_of, make, take_steps
from utils.errors import InputError

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))


@pytest.mark.parametrize("name", READERS)
def test_damage_is_read_or_refused_in_a_sentence(name, tmp_path):
    reader, folder = READERS[name], tmp_path
    good, refusals = prepare(reader, folder), []

    @settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(damaged(good))
    def check(data: bytes) -> None:
        (folder / reader.path).write_bytes(data)
        try:
            reader.read(folder)
        except InputError as error:
            refusals.append(str(error))
        except SystemExit as stopped:  # of the flags' parser, which has said it
            assert stopped.code == 2
            refusals.append("refused")

    check()
    assert len(refusals) > EXAMPLES / 10, "the damage is too small to prove anything"
    assert all(0 < len(sentence) < 2000 for sentence in refusals)


ODD: list[object] = [None, "x", -1, 0, 2.5, 10**12, math.nan, math.inf, True, [], {}]
ODD += [torch.zeros(()), torch.full((3,), torch.nan)]


def key_paths(value: Any) -> Iterator[tuple]:
    """Keys that lead to each entry of nested dicts and lists."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (key,)
        yield from ((key, *rest) for rest in key_paths(value[key]))


def test_a_checkpoint_with_any_entry_changed_is_refused_or_can_be_resumed():
    model, optimizer = make(0.01)
    take_steps(model, optimizer, 2)
    whole, config = checkpoint_of(model, optimizer), replace(CONFIG, lr_muon=0.01)
    assert validate_checkpoint(whole) is None
    refused = []

    @settings(max_examples=200, derandomize=True, deadline=None, database=None)
    @given(st.sampled_from(list(key_paths(whole))), st.sampled_from(ODD), st.booleans())
    def check(keys: tuple, odd: object, leave_out: bool) -> None:
        checkpoint = entry = copy.deepcopy(whole)
        for key in keys[:-1]:
            entry = entry[key]
        if leave_out:
            del entry[keys[-1]]
        else:
            entry[keys[-1]] = odd
        refused.append(validate_checkpoint(checkpoint))
        if refused[-1] is None and {"optimizer", "scheduler", "step"} <= checkpoint.keys():
            again = OmniMotion(ModelConfig(**checkpoint["model_config"]))
            again.load_state_dict(checkpoint["model"])
            its = ModelOptimizer(again.named_parameter_groups(), again.coupling_matrices(), config)
            its.load(checkpoint)
            take_steps(again, its, 1)
            assert all(torch.isfinite(p).all() for p in again.parameters())

    check()
    assert 50 < sum(sentence is not None for sentence in refused) < 200
