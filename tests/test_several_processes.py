"""Training by several processes (torchrun, gloo) equals one process with all their batches."""

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing

from loaders.batches import Batch, PairBatches
from networks.checkpoints import newest_checkpoint, read_checkpoint
from tests.conftest import REPOSITORY
from tests.test_same_computation import gradients, make_batch, make_model, rays_of
from train import main
from trainer import Trainer, batch_losses
from utils.distributed import Context

RUN, LOG = Path("out") / "tiny_scene", Path("logs") / "tiny_scene" / "metrics.jsonl"


def gradients_of_part(rank: int, folder: str) -> None:
    """One of two processes, of one and five pairs; gradients summed, written to a file."""
    torch.set_num_threads(1)
    # Registered first, so run last: by then the process group must be destroyed, and its threads ended.
    atexit.register(lambda: Path(folder, f"{rank}.left").write_text(str(not torch.distributed.is_initialized())))
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    model, batch, context = make_model(torch.float64), make_batch(torch.float64), Context.join()
    part, depths = batch.pairs(*((0, 1), (1, 6))[rank]), rays_of(model, batch).split([1, 5])[rank]
    terms = batch_losses(model, part, depths, context=context, micro_batch=2)
    for parameter, gradient in zip(model.parameters(), gradients(model, terms), strict=True):
        parameter.grad = gradient
    context.sum_gradients(model.parameters())
    torch.save([terms, [parameter.grad for parameter in model.parameters()]], f"{folder}/{rank}.pt")
    assert context.any(rank == 1) and not context.any(False)


def test_two_parts_have_the_terms_and_gradients_of_the_whole(tmp_path):
    model, batch = make_model(torch.float64), make_batch(torch.float64)
    whole = batch_losses(model, batch, rays_of(model, batch))
    expected = gradients(model, whole)
    torch.multiprocessing.spawn(gradients_of_part, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        assert (tmp_path / f"{rank}.left").read_text() == "True"
        terms, summed = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(terms, {name: term.detach() for name, term in whole.items()}, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(summed, expected, rtol=1e-9, atol=1e-11)


class BothRanks(torch.utils.data.Dataset):
    """The batches of two processes as one."""

    def __init__(self, parts: list[PairBatches]):
        self.parts = parts

    def __getitem__(self, step: int) -> Batch:
        batches = [vars(part[step]).values() for part in self.parts]
        return Batch(*(torch.cat(values) for values in zip(*batches, strict=True)))


def torchrun(flags: list[str], *more: str) -> subprocess.Popen:
    """Start a training of two processes, with its output captured."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.Popen(
        [*command, str(REPOSITORY / "train.py"), *flags, *more],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def losses() -> list[float]:
    lines = [json.loads(line) for line in LOG.read_text().splitlines()]
    return [line["loss/Loss"] for line in lines if "loss/Loss" in line]


def test_two_processes_train_as_one_with_both_batches(tiny_flags, monkeypatch, tmp_path):
    # i_cache is 4: the second call starts with error maps, which the first process alone makes.
    tiny_flags += ["--i_print", "1", "--num_pairs", "2", "--motion_share", "0.5"]
    for num_iters in ("3", "6"):
        process = torchrun(tiny_flags, "--num_iters", num_iters)
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 0, output
    assert output.count("resuming from") == 1 and output.count("files to look at") == 1
    ours = losses()
    assert [p.name for p in sorted(RUN.glob("model_*"))] == ["model_000003.pth", "model_000006.pth"]

    one_dataset = Trainer.dataset

    def dataset_of(trainer: Trainer, rank: int) -> PairBatches:
        config = trainer.data.config
        sampling = replace(config.sampling, rank=rank, world_size=2)
        monkeypatch.setattr(trainer.data, "config", replace(config, sampling=sampling))
        return one_dataset(trainer)

    monkeypatch.setattr(Trainer, "dataset", lambda self: BothRanks([dataset_of(self, rank) for rank in range(2)]))
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    main([*tiny_flags, "--num_iters", "6"])
    assert len(ours) == 6 and ours == pytest.approx(losses(), rel=1e-5)


def test_ctrl_c_stops_all_and_saves_once(tiny_flags):
    process = torchrun(tiny_flags, "--num_iters", "100000", "--i_print", "1")
    deadline = time.monotonic() + 60
    while not (LOG.exists() and LOG.read_text()) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)  # torchrun passes it on
    output = process.communicate(timeout=60)[0]
    saved = list(RUN.glob("model_*"))
    assert len(saved) == 1 and read_checkpoint(saved[0])["step"] == len(losses()), output


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_process_ends_the_others_in_a_sentence(tiny_flags, lost):
    process = torchrun([*tiny_flags, "--i_weight", "5"], "--num_iters", "100000", "--i_print", "1")
    deadline = time.monotonic() + 60
    while not (LOG.exists() and len(losses()) > 6) and time.monotonic() < deadline:
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = {pid: Path(f"/proc/{pid}/environ").read_bytes() for pid in children}
    (victim,) = [int(pid) for pid, environment in ranks.items() if f"\0RANK={lost}\0".encode() in environment]
    os.kill(victim, signal.SIGKILL)
    output = process.communicate(timeout=120)[0]
    assert process.returncode != 0 and f"[rank{1 - lost}]" not in output, output  # no traceback of the other one's
    step = read_checkpoint(newest_checkpoint(RUN))["step"]
    if lost == 1:  # rank 0 then saves its last complete step
        assert "another of the 2 processes that train together was lost" in output and step == len(losses())
    assert step >= 5
    again = torchrun(tiny_flags, "--num_iters", str(step + 1), "--i_print", "1")
    assert "resuming from" in again.communicate(timeout=120)[0] and again.returncode == 0


def test_a_divergence_stops_all_and_is_reported_once(tiny_flags):
    process = torchrun([*tiny_flags, "--lr_deform", "1e30"], "--num_iters", "50")
    output = process.communicate(timeout=120)[0]
    assert process.returncode != 0 and output.count("error: training stopped, step") == 1, output
