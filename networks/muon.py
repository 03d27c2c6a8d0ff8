"""Muon in float32 and in batches: torch's own takes matrix by matrix, in bfloat16, which many processors emulate."""

import math
from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor, nn

RMS_OF_ADAM = 0.2  # typical size of an entry of Adam's update, which `match_rms_adamw` scales to (Liu et al., 2025)


def orthogonalise(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Bring the singular values of matrices near 1 by Newton-Schulz iterations X ← aX + (bG + cG²)X, G = XXᵀ.

    Args:
        matrices: [B,M,N], orthogonalised each by itself in their own precision.
        coefficients: (a, b, c) of the quintic polynomial of the singular values (Jordan et al., 2024).
        steps: Number of iterations.
        eps: Lower bound of the Frobenius norms by which the matrices are divided first.

    Returns:
        [B,M,N].
    """
    a, b, c = coefficients
    transposed = matrices.shape[-2] > matrices.shape[-1]  # G is then smaller
    x = matrices.mT if transposed else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if transposed else x


class BatchedMuon(torch.optim.Muon):
    """`torch.optim.Muon` in the precision of the parameters; all matrices of one shape go through one batched product.

    Its options are `match_rms_adamw` and no weight decay. A learning rate may be a tensor [] on the parameters' device.
    """

    found_inf: Tensor | None = None  # 1.0 on the parameters' device: the next steps change nothing, as those of Adam

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]  # untyped
        """Update the parameters that have a gradient; see `torch.optim.Muon`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: defaultdict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[nn.Parameter], group: dict) -> None:
        """Update parameters of one shape."""
        for parameter in parameters:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        gradients = torch.stack([parameter.grad for parameter in parameters if parameter.grad is not None])
        before = torch.stack(buffers)
        averages = before.lerp(gradients, 1 - group["momentum"])
        updates = gradients.lerp(averages, group["momentum"]) if group["nesterov"] else averages
        updates = orthogonalise(updates, group["ns_coefficients"], group["ns_steps"], group["eps"])
        updates = updates * (group["lr"] * (RMS_OF_ADAM * math.sqrt(max(parameters[0].shape))))
        if self.found_inf is not None:
            skipped = self.found_inf.bool()
            averages, updates = torch.where(skipped, before, averages), updates.masked_fill(skipped, 0)
        for parameter, buffer, average, update in zip(parameters, buffers, averages, updates, strict=True):
            buffer.copy_(average)
            parameter.sub_(update)
