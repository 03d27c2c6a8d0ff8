"""Benchmarks, run as commands in this process: tests import none of them."""

import runpy
import signal
import sys
import warnings

import pytest


def run_benchmark(name: str, *flags: object) -> None:
    """Run `python -m benchmarks.<name> flags…` in this process; SystemExit and its status are the command's."""
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'benchmarks", RuntimeWarning)  # one imported by another is run anew
        patch.setattr(sys, "argv", [name, *map(str, flags)])
        try:
            runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
        finally:
            signal.signal(signal.SIGTERM, handler)
