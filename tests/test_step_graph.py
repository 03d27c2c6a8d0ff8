"""Steps that are replayed are the steps that are computed, and nothing in a step is read by the host."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from networks.step_graph import WARM_UP, StepGraph
from tests.oracles.recorded_kernels import CpuRecorder
from tests.test_trainer import assert_same_state, train, without_flags
from trainer import Trainer

CPU = torch.device("cpu")


def add_to(total: Tensor):
    """A function that adds its input, or twice its input, to a total."""

    def function(inputs, variant):
        total.add_(inputs[0] * variant)
        return {"total": total + 0}

    return function


def test_calls_are_recorded_and_replayed_anew_for_each_variant_and_shape():
    total = torch.zeros(3)
    recorder = CpuRecorder(lambda: [total])
    graph, expected = StepGraph(add_to(total), CPU, recorder), torch.zeros(3)
    for k in range(20):
        value, variant = torch.full((1,) if k < 13 else (3,), float(k)), 1 if k < 7 else 2
        expected = expected + value * variant
        assert torch.equal(graph([value], variant)["total"], expected)
    assert recorder.num_recorded == 3 and recorder.num_replayed == 20 - 3 * WARM_UP


def test_what_cannot_be_recorded_is_called_each_time(capsys):
    total = torch.zeros(1)

    def function(inputs, variant):
        return add_to(total)([inputs[0] if inputs[0].sum() > 0 else -inputs[0]], variant)

    graph = StepGraph(function, CPU, CpuRecorder(lambda: [total]))
    for _ in range(10):
        graph([torch.ones(1)], 1)
    assert total == 10
    note = capsys.readouterr().err
    assert note.count("\n") == 1 and "not run as one CUDA graph" in note


@pytest.fixture
def recorders(monkeypatch) -> list[CpuRecorder]:
    """Trainings replay their steps, and look at them only where they read values anyway, as on a GPU."""
    made: list[CpuRecorder] = []
    initialise = Trainer.__init__

    def with_recorder(self, *args, **kwargs):
        initialise(self, *args, **kwargs)

        def state() -> list[Tensor]:
            optimizers = [each for each in (self.optimizer.adam, self.optimizer.muon) if each is not None]
            moments = [value for each in optimizers for of_one in each.state.values() for value in of_one.values()]
            return [*self.model.parameters(), *moments, self._num_skipped]

        made.append(CpuRecorder(state))
        self._step_graph.recorder = made[-1]

    monkeypatch.setattr(Trainer, "__init__", with_recorder)
    return made


RECIPES = {
    "released": "--use_affine",
    "fast": "--plane_size 6 --volume_plane_size 8 --volume_depth 2 --soft_bound 1 --lr_muon 0.01 --grad_clip 1 "
    "--lr_schedule square --lr_warmup 3 --depth_prior 5 --mask_near",
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_replayed_steps_train_bit_for_bit(tiny_flags, monkeypatch, tmp_path, recipe, request):
    """Schedules, the depth prior's end, error maps and logged steps included."""
    flags = [*tiny_flags, *RECIPES[recipe].split(), "--num_iters", "31", "--i_cache", "12", "--i_print", "5"]
    computed = train(flags)
    recorders = request.getfixturevalue("recorders")
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    replayed = train(flags)
    assert_same_state(without_flags(replayed), without_flags(computed))
    (recorder,) = recorders
    assert 0 < recorder.num_recorded < 5 and recorder.num_replayed > 15
    logs = [Path(folder, "logs/tiny_scene/metrics.jsonl").read_text() for folder in (tmp_path, tmp_path / "again")]
    assert logs[0] == logs[1]
