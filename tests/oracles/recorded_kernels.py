"""A recorder of kernels for CPUs, in the place of CUDA graphs: it replays the same operations on the same memory.

Like a CUDA graph it keeps numbers, shapes and the host's decisions as they were when it recorded; unlike one it runs
what it records, so it is told what to put back.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from networks.step_graph import Outputs

READS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "_unique2"}


class HostRead(RuntimeError):
    """A value was read, or a size that depends on values: a GPU's host would have to wait for it."""


class _Record(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple, dict, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func.overloadpacket.__name__ in READS:
            raise HostRead(str(func))
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class CpuRecorder:
    """A `networks.step_graph.Recorder`.

    Args:
        state: Returns the tensors that calls change in place.
    """

    def __init__(self, state: Callable[[], Sequence[Tensor]]):
        self.state, self.num_recorded, self.num_replayed = state, 0, 0

    def warm_up(self, call: Callable[[], Outputs]) -> Outputs:
        """Run a call."""
        return call()

    def record(self, call: Callable[[], Outputs]) -> Callable[[], Outputs]:
        """Record the operations of a call, those of its backward pass included, and undo what they changed."""
        kept = [(tensor, tensor.detach().clone()) for tensor in self.state()]
        with _Record() as record:
            outputs = call()
        with torch.no_grad():
            for tensor, value in kept:
                tensor.copy_(value)
        self.num_recorded += 1
        computed = [each for each in record.calls if not self._is_view(*each[1:])]

        def replay() -> Outputs:
            self.num_replayed += 1
            with torch.no_grad():
                for func, args, kwargs, result in computed:
                    self._repeat(func, args, kwargs, result)
            return outputs

        return replay

    @staticmethod
    def _is_view(args: tuple, kwargs: dict, result: Any) -> bool:
        """Whether nothing was computed: the results share memory with the arguments, and no argument was changed."""
        given = {_memory(tensor) for tensor in _tensors((args, kwargs))}
        results = _tensors(result)
        changed = any(a is b for a in results for b in _tensors((args, kwargs)))
        return bool(results) and not changed and all(_memory(tensor) in given for tensor in results)

    @staticmethod
    def _repeat(func: Any, args: tuple, kwargs: dict, result: Any) -> None:
        again = func(*args, **kwargs)
        for old, new in zip(_tensors(result), _tensors(again), strict=True):
            if _memory(old) != _memory(new):
                old.copy_(new)
