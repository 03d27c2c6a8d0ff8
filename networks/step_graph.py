"""Run a function of tensors on a GPU as one CUDA graph: all its kernels are launched together.

A training step of small networks is thousands of kernels, which take less time to run than a host takes to launch them.
"""

import sys
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from utils.device import pinned_for, to_device

Outputs = dict[str, Tensor]
WARM_UP = 3  # calls before one is recorded, in which libraries choose kernels and optimizers make their state


class Recorder(Protocol):
    """What records and replays the kernels of a call; tests replace CUDA by a recorder for CPUs."""

    def warm_up(self, call: Callable[[], Outputs]) -> Outputs:
        """Run a call that is to be recorded later."""
        ...

    def record(self, call: Callable[[], Outputs]) -> Callable[[], Outputs]:
        """Return a function that repeats the kernels of a call on the same memory, without having run them yet."""
        ...


class CudaRecorder:
    """Recorder of CUDA graphs, as PyTorch's notes on CUDA describe it: in a stream of its own."""

    def __init__(self, device: torch.device):
        self.device, self.stream = device, torch.cuda.Stream(device)

    def warm_up(self, call: Callable[[], Outputs]) -> Outputs:
        """Run a call in the stream that records later: memory and workspaces belong to streams."""
        with self._own_stream(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")
            return call()

    def record(self, call: Callable[[], Outputs]) -> Callable[[], Outputs]:
        """Record a call; its memory is kept, and its outputs are overwritten at every replay."""
        graph = torch.cuda.CUDAGraph()
        with self._own_stream(), torch.cuda.graph(graph, stream=self.stream):
            outputs = call()

        def replay() -> Outputs:
            with torch.cuda.device(self.device):
                graph.replay()
            return outputs

        return replay

    @contextmanager
    def _own_stream(self) -> Iterator[None]:
        """Work in the recorder's stream, after what the current stream holds and before what follows there."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        try:
            with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
                yield
        finally:
            torch.cuda.set_stream(current)  # a recording that fails leaves its own
            current.wait_stream(self.stream)


class StepGraph:
    """A function of tensors that is recorded after its first calls and then replayed; a call of it never waits.

    Where recording fails, the function itself goes on being called, and one line says so.

    Args:
        function: Function of (inputs, variant). It may change tensors in place. What it does must not depend on values
            of tensors, and on the host's state through `variant` alone.
        device: The device of its tensors.
        recorder: What records it; None: it is never recorded.
    """

    def __init__(
        self,
        function: Callable[[Sequence[Tensor], Any], Outputs],
        device: torch.device,
        recorder: Recorder | None = None,
    ):
        self.function, self.device, self.recorder = function, device, recorder
        self._form: Hashable = None  # the variant and the inputs' shapes that the members below belong to
        self._inputs: list[Tensor] = []
        self._calls = 0
        self._replay: Callable[[], Outputs] | None = None

    def __call__(self, inputs: Sequence[Tensor], variant: Hashable) -> Outputs:
        """Return the function's outputs, which the next call may overwrite.

        Args:
            inputs: Tensors on any device.
            variant: Whatever else decides what the function does; a new one is recorded anew.
        """
        if self.recorder is None:
            return self.function([to_device(value, self.device) for value in inputs], variant)
        form = variant, tuple((value.shape, value.dtype) for value in inputs)
        if form != self._form:
            self._form, self._calls, self._replay = form, 0, None
            self._inputs = [torch.empty_like(value, device=self.device) for value in inputs]
        for kept, value in zip(self._inputs, inputs, strict=True):
            kept.copy_(pinned_for(value, self.device), non_blocking=True)
        self._calls += 1

        def call() -> Outputs:
            return self.function(self._inputs, variant)

        if self._calls <= WARM_UP:
            return self.recorder.warm_up(call)
        if self._replay is None:
            self._record(call)
        return self._replay() if self._replay else call()

    @property
    def is_recorded(self) -> bool:
        """Whether the next call of the same form is a replay, in which no Python of the function runs."""
        return self._replay is not None

    def _record(self, call: Callable[[], Outputs]) -> None:
        """Record a call; if that fails, say so and never try again. Nothing of the failed call stays in memory."""
        try:
            self._replay = self.recorder.record(call) if self.recorder else None
            return
        except RuntimeError as error:
            cause: BaseException = error  # the first one: ending a broken recording raises another
            while cause.__context__ is not None:
                cause = cause.__context__
            reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        self.recorder = None
        print(f"note: a step is not run as one CUDA graph, which is slower ({reason})", file=sys.stderr)
