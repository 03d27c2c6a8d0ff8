"""What a machine can do beside multiplying."""

from argparse import Namespace

import torch

from networks.omnimotion import OmniMotion
from utils.errors import InputError


def require_compiler(device: torch.device) -> None:
    """Build a first kernel for a device, in seconds, so that a missing compiler is known before any work.

    Raises:
        InputError: torch.compile does not work here.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(2, device=device))
    except Exception as error:  # each layer of the compiler has errors of its own
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"--compile: torch.compile makes no kernels for {device.type} here ({reason}); install what it needs (a "
            "C++ compiler for a CPU, Triton for CUDA), or leave --compile out"
        ) from error


def configure_runtime(model: OmniMotion, args: Namespace) -> None:
    """What the flags ask for to train in less memory or time.

    Raises:
        InputError: `--compile`, but there is no compiler.
    """
    if args.compile:
        require_compiler(model.device)
        model.compile_networks()
    if args.checkpoint_activations:
        model.checkpoint_activations()
    model.volume.amp = args.amp
    torch.backends.cuda.matmul.allow_tf32 = args.tf32
