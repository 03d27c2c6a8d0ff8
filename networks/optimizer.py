"""What moves the networks' weights: Adam, with `--lr_muon` Muon for the coupling nets' matrices, and their rates."""

from argparse import Namespace

import torch
from torch import nn

from networks.rate_schedule import RateSchedule


class ModelOptimizer:
    """The optimisers of a model and the schedules of their rates, as one.

    Args:
        groups: the model's parameters by name in the groups `feature`, `deform`, `color`.
        matrices: those of them that Muon moves where `--lr_muon` is above 0.
        args: flags of the rates.

    Muon (Jordan et al., 2024, `torch.optim.Muon`) steps along the orthogonal part of a matrix's gradient, so that what
    few points ask for moves as fast as what most do. Adam has the parameters in the three released groups; those that
    Muon moves are among them, that a checkpoint's numbers mean the same with and without it, and get no step from Adam.
    """

    def __init__(self, groups: dict[str, dict[str, nn.Parameter]], matrices: list[nn.Parameter], args: Namespace):
        rates = {"feature": args.lr_feature, "deform": args.lr_deform, "color": args.lr_color}
        adam = [{"params": list(groups[name].values()), "lr": rate} for name, rate in rates.items()]
        self.adam, self.muon = torch.optim.Adam(adam, fused=True), None
        decay = args.lrate_decay_steps, args.lrate_decay_factor
        schedule = *decay, args.lr_warmup, args.lr_schedule, args.num_iters
        self.schedules = [RateSchedule(self.adam, *schedule)]
        if args.lr_muon > 0 and matrices:  # nets two wide may have none
            # The rate is per entry, as Adam's is.
            options = {"lr": args.lr_muon, "weight_decay": 0.0, "adjust_lr_fn": "match_rms_adamw"}
            self.muon = torch.optim.Muon(matrices, **options)
            self.schedules.append(RateSchedule(self.muon, *schedule))

    @property
    def rate(self) -> float:
        """Adam's rate for the couplings in the coming step."""
        return self.adam.param_groups[1]["lr"]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self.adam.zero_grad()

    def step(self) -> None:
        """One update by the gradients at hand, which are used up."""
        if self.muon:
            self.muon.step()
            self.muon.zero_grad()  # Adam passes over what has no gradient
        self.adam.step()
        for schedule in self.schedules:
            schedule.step()

    def state(self) -> dict:
        """Entries of a checkpoint."""
        muon = {"muon": self.muon.state_dict()} if self.muon else {}
        return {"optimizer": self.adam.state_dict(), "scheduler": self.schedules[0].state_dict()} | muon

    def load(self, checkpoint: dict, args: Namespace) -> None:
        """Go on from a checkpoint's state, as far as `--load_opt` and `--load_scheduler` ask for it.

        Changed flags of rates and decay take effect. A released checkpoint holds no flags: its schedule goes on with
        the rates and decay that it was started with.
        """
        if args.load_opt:
            _take_over(self.adam, checkpoint["optimizer"])
            if self.muon and "muon" in checkpoint:
                _take_over(self.muon, checkpoint["muon"])
        for schedule in self.schedules:
            if args.load_scheduler:
                ours = schedule.state_dict()
                asked = {name: ours[name] for name in RateSchedule.ASKED}
                saved = {name: value for name, value in checkpoint["scheduler"].items() if name in ours}
                released = "flags" not in checkpoint and schedule.optimizer is self.adam
                schedule.load_state_dict(saved | ({} if released else asked))
            schedule.apply()


def _take_over(optimizer: torch.optim.Optimizer, saved: dict) -> None:
    """Moments of a saved state; options stay those of this version."""
    optimizer.load_state_dict({"state": saved["state"], "param_groups": optimizer.state_dict()["param_groups"]})
