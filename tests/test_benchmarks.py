"""Every benchmark starts."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
COMMANDS = [path.stem for path in FOLDER.glob("*.py") if "argparse" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", COMMANDS)
def test_it_tells_its_flags(name):
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"], cwd=FOLDER.parent, capture_output=True, text=True
    )
    assert done.returncode == 0 and "usage" in done.stdout, done.stderr
