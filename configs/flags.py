"""The flags of train.py, viz.py and evaluate.py."""

from argparse import Namespace

from utils.config import parse_config, run_dir, run_name, uses_flow

__all__ = ["parse_evaluate", "parse_train", "parse_viz", "run_dir", "run_name", "uses_flow"]


def parse_train(argv: list[str] | None = None) -> Namespace:
    """Return the flags of a training."""
    return parse_config(argv)


def parse_viz(argv: list[str] | None = None) -> Namespace:
    """Return the flags of a visualization and of the training that made the model."""
    return parse_config(argv)


def parse_evaluate(argv: list[str] | None = None) -> Namespace:
    """Return the flags of an evaluation and of the training that made the model."""
    return parse_config(argv)
