"""Comparison of batches."""

from dataclasses import fields

import torch

from loaders.batches import Batch


def same(a: Batch, b: Batch) -> bool:
    """Whether two batches hold the same bits."""
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Batch))
