"""Shared fixtures: the golden folder and a tiny prepared sequence."""

import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder with numbers of the released implementation; tests that need it skip where there is none."""
    folder = Path(os.environ.get("OMNIMOTION_GOLDEN", REPOSITORY.parent / "shared" / "golden"))
    if not folder.is_dir():
        pytest.skip(f"no golden folder at {folder} (set OMNIMOTION_GOLDEN)")
    return folder


@pytest.fixture(autouse=True)
def two_threads() -> None:
    """One thread count for all tests: sums come out the same bit for bit."""
    torch.set_num_threads(2)
