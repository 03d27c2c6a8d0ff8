"""Runtime options of a model: compiled networks, activation checkpointing, mixed precision and TF32."""

import torch

from networks.omnimotion import OmniMotion
from utils.errors import InputError


def require_compiler(device: torch.device) -> None:
    """Compile a small function for a device, to find a missing compiler within seconds.

    Raises:
        InputError: torch.compile does not work here.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(2, device=device))
    except Exception as error:  # each layer of the compiler raises its own errors
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"--compile: torch.compile cannot build kernels for {device.type} here ({reason}); install what it "
            "needs (a C++ compiler for a CPU, Triton for CUDA), or leave --compile out"
        ) from error


def configure_runtime(model: OmniMotion, *, compile: bool, checkpoint_activations: bool, amp: bool, tf32: bool) -> None:
    """Set a model's runtime options; they change its results only by rounding.

    Args:
        model: The model to configure, on its device.
        compile: Run the networks as kernels of torch.compile.
        checkpoint_activations: Recompute hidden layers in the backward pass instead of keeping them.
        amp: Multiply the volume's hidden layers in bfloat16.
        tf32: Let CUDA multiply float32 matrices in TF32; a setting of the whole process.

    Raises:
        InputError: `compile` is set, but there is no compiler.
    """
    if compile:
        require_compiler(model.device)
        model.compile_networks()
    if checkpoint_activations:
        model.checkpoint_activations()
    model.volume.amp = amp
    torch.backends.cuda.matmul.allow_tf32 = tf32
