"""Readers of files that others made: whatever is in the file, it is read or refused in a sentence, never worse.

Every reader here gets the same 100 inputs in each run; `python -m benchmarks.fuzz` tries as many others as it is told.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from readers import READERS, damaged, prepare

from utils.errors import InputError

EXAMPLES = 100


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
