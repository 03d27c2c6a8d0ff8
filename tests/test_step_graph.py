"""Steps that are replayed are the steps that are computed, and nothing in a step is read by the host."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from criterion import weighted_sum
from networks.muon import BatchedMuon
from networks.step_graph import WARM_UP, CudaRecorder, StepGraph
from tests.conftest import GPU_ALONE
from tests.oracles.recorded_kernels import CpuRecorder
from tests.test_same_computation import FACTORS, KINDS, make_batch, make_model, rays_of
from tests.test_trainer import assert_same_state, interrupt_after, stopped_by, train, without_flags
from train import main
from trainer import Trainer, batch_losses

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
    """Trainings replay their steps, and check them only where they read values anyway, as on a GPU."""
    made: list[CpuRecorder] = []
    initialise = Trainer.__init__

    def with_recorder(self, *args, **kwargs):
        initialise(self, *args, **kwargs)

        def state() -> list[Tensor]:
            optimizers = [each for each in (self.optimizer.adam, self.optimizer.muon) if each is not None]
            moments = [value for each in optimizers for of_one in each.state.values() for value in of_one.values()]
            return [*self.model.parameters(), *moments, self._num_skipped]

        made.append(CpuRecorder(state))
        self.step_graph.recorder = made[-1]

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


ENDS = {
    "the last step": ["--num_iters", "6"],
    "a checkpoint": ["--num_iters", "20", "--i_weight", "5"],
    "error maps": ["--num_iters", "20", "--i_cache", "5"],
    "pictures": ["--num_iters", "20", "--i_img", "5"],
    "Ctrl-C": ["--num_iters", "20"],
}


@pytest.fixture
def spoilt_step_3(monkeypatch) -> None:
    """Trainings lose a term in step 3."""
    losses = Trainer._losses

    def spoilt(self, *args):
        terms = losses(self, *args)
        return terms | ({"flow": terms["flow"] * torch.nan} if self.step == 3 else {})

    monkeypatch.setattr(Trainer, "_losses", spoilt)


@pytest.mark.parametrize("end", ENDS)
def test_a_step_that_is_not_finite_is_reported_before_anything_is_made_of_it(
    tiny_flags, recorders, spoilt_step_3, monkeypatch, end
):
    if end == "Ctrl-C":
        interrupt_after(5, monkeypatch)
    for name in ("loaders.training_data.save_error_maps", "visualization.tensorboard.training_images"):
        monkeypatch.setattr(name, lambda *args, **kwargs: pytest.fail("made of it"))
    found = "training stopped, step 3: the value of loss_flow is not finite"
    with pytest.raises(SystemExit, match=found) as stopped:
        main([*tiny_flags, "--i_print", "1000", "--i_cache", "1000", *ENDS[end]])
    assert "none is saved" in str(stopped.value)
    assert not list(Path("out").rglob("*.pth"))


def test_a_step_that_is_not_finite_is_not_saved_by_another_error(tiny_flags, recorders, spoilt_step_3, monkeypatch):
    def fail(self, terms, bar):
        if self.step == 5:
            raise ZeroDivisionError

    monkeypatch.setattr(Trainer, "_report", fail)
    stopped_by(ZeroDivisionError, [*tiny_flags, "--num_iters", "20", "--i_print", "1000", "--i_cache", "1000"])
    assert not list(Path("out").rglob("*.pth"))


def test_a_replayed_update_that_is_not_counted_yet_is_not_saved(tiny_flags, recorders, monkeypatch):
    call = StepGraph.__call__

    def cut_short(self, inputs, variant):
        terms = call(self, inputs, variant)
        if recorders[0].num_replayed == 2:
            raise KeyboardInterrupt
        return terms

    monkeypatch.setattr(StepGraph, "__call__", cut_short)
    assert stopped_by(SystemExit, [*tiny_flags, "--num_iters", "20", "--i_cache", "1000"]).code == 130
    assert recorders[0].num_replayed == 2 and not list(Path("out").rglob("*.pth"))


@pytest.mark.parametrize(
    ("kind", "size", "micro_batch", "recomputes", "expected"),
    [
        ("cuda", 1, 0, False, True),
        ("cpu", 1, 0, False, False),
        ("cuda", 2, 0, False, False),
        ("cuda", 1, 2, False, False),
        ("cuda", 1, 0, True, False),
    ],
)
def test_steps_that_recompute_or_communicate_are_not_recorded(kind, size, micro_batch, recomputes, expected):
    model = SimpleNamespace(device=torch.device(kind), recomputes=recomputes)
    trainer = SimpleNamespace(
        model=model, config=SimpleNamespace(micro_batch=micro_batch), context=SimpleNamespace(size=size)
    )
    assert Trainer._can_record(trainer) is expected  # type: ignore[arg-type]


def test_the_depth_prior_is_freed_after_its_end(tiny_flags, recorders, monkeypatch):
    trainers, step = [], Trainer.train_step

    def watched(self, batch):
        trainers.append((self.step, self.data._depth_prior is not None))
        return step(self, batch)

    monkeypatch.setattr(Trainer, "train_step", watched)
    train([*tiny_flags, "--num_iters", "20", "--depth_prior", "5", "--i_cache", "1000"])
    assert trainers[1:] == [(k, k <= 4) for k in range(1, 20)]


class NoHost(TorchFunctionMode):
    """Refuses what makes a tensor of the host's values, or reads one: a GPU could not record it."""

    READS = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__", "nonzero")
    MAKES = ("tensor", "as_tensor", "new_tensor", "from_numpy")

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = getattr(func, "__name__", "")
        made = name in self.MAKES and not isinstance(args[0 if name != "new_tensor" else 1], Tensor)
        indexed = name in ("__getitem__", "__setitem__") and any(isinstance(leaf, list) for leaf in _parts(args[1]))
        assert not (made or indexed or name in self.READS), f"{name} of {args}"
        return func(*args, **(kwargs or {}))


def _parts(index: object) -> tuple:
    return index if isinstance(index, tuple) else (index,)


def step_without_adam(kind: str) -> Callable[[], None]:
    """A step down to the gradients and Muon's update; Adam's fused form on a CPU reads its rate."""
    model, batch = make_model(torch.float32, **KINDS[kind]), make_batch(torch.float32)
    depths, prior_depth, weights = rays_of(model, batch), torch.ones(6, 9), torch.ones(len(FACTORS))
    muon = BatchedMuon(model.coupling_matrices(), adjust_lr_fn="match_rms_adamw", weight_decay=0.0)

    def step() -> None:
        terms = batch_losses(model, batch, depths, prior_depth=prior_depth, mask_near=True, max_padding=1.0)
        total = weighted_sum(terms, dict(zip(FACTORS, weights.unbind(), strict=True)) | {"depth_prior": weights[0]})
        total.backward()
        norm = torch.nn.utils.get_total_norm(p.grad for p in model.parameters() if p.grad is not None)
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), 1.0, norm)
        muon.found_inf = (~torch.isfinite(total + norm)).float()
        muon.step()

    return step


@pytest.mark.parametrize("kind", KINDS)
def test_the_host_neither_makes_nor_reads_a_tensor_of_a_step(kind):
    """Neither in Python nor inside torch, as the gradient of its cumprod does."""
    step = step_without_adam(kind)
    with NoHost():
        step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    names = {event.key for event in profile.key_averages()}
    assert "aten::mm" in names
    assert not names & {"aten::item", "aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::equal"}


class CountedRecorder(CudaRecorder):
    num_replayed = 0

    def record(self, call):
        replay = super().record(call)

        def counted():
            CountedRecorder.num_replayed += 1
            return replay()

        return counted


@GPU_ALONE
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_gpu_replays_the_steps_that_it_computes(
    tiny_flags, monkeypatch, tmp_path, recipe, device, record_property, capsys
):
    """Up to rounding: a GPU adds in any order, so that two runs of the same steps differ as well."""
    flags = [*tiny_flags, *RECIPES[recipe].split(), "--i_cache", "12", "--device", str(device)]
    CountedRecorder.num_replayed = 0

    def weights_after(num_iters: int, recorder: Callable[[torch.device], CudaRecorder | None]) -> Tensor:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setattr("trainer.CudaRecorder", recorder)
        return torch.cat(
            [value.flatten().double() for value in train(flags, "--num_iters", str(num_iters))["model"].values()]
        )

    first, computed, again = (weights_after(count, lambda device: None) for count in (1, 31, 31))
    replayed, update = weights_after(31, CountedRecorder), (computed - first).norm()
    spread, difference = ((other - computed).norm().item() / update.item() for other in (again, replayed))
    record_property(f"{recipe}: replayed against computed, of the update", difference)
    record_property(f"{recipe}: computed twice, of the update", spread)
    record_property(f"{recipe}: steps replayed", CountedRecorder.num_replayed)
    assert CountedRecorder.num_replayed > 15 and "not run as one CUDA graph" not in capsys.readouterr().err
    assert difference < max(0.02, 3 * spread)
