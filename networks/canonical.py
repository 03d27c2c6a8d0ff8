"""The canonical volume: colour and density, a NeRF without view direction (paper, section 4.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.activation_checkpointing import ActivationCheckpointing
from networks.gabor import GaborNet
from networks.linear import ExactLinear
from networks.mlp import mlp
from networks.planes import TriPlane

VOLUME_ALPHA = 3.0  # shape of the Gamma prior of the volume net's envelopes, released value


def contract(u: Tensor) -> Tensor:
    """mip-NeRF 360's contraction of space into the ball of radius 2: u inside the unit ball, (2 − 1/‖u‖)·u/‖u‖ outside.

    [*,3] → [*,3]; finite with finite gradient everywhere, the origin and the unit sphere included.
    """
    # Clamped at 1 before the root: inside, the factor is exactly 1 and √ is never differentiated at 0.
    norm = u.square().sum(-1, keepdim=True).clamp(min=1).sqrt()
    return (2 - 1 / norm) * u / norm


class CanonicalVolume(ActivationCheckpointing):
    """Colour and density at canonical points; where `amp` is set, products between hidden layers are bfloat16's.

    A GaborNet, or with `plane_size` a small network of features in three planes of so many cells a side.
    """

    amp = False

    def __init__(self, width: int, depth: int, plane_size: int = 0, plane_channels: int = 8):
        super().__init__()
        if plane_size:
            # Contracted space is the ball of radius 2; the planes cover [−1, 1].
            self.planes = TriPlane(plane_channels, plane_size)
            self.net = mlp([3 * plane_channels] + [width] * depth + [4], nn.LeakyReLU, ExactLinear)
        else:
            self.planes = None
            self.net = GaborNet(3, width, 4, depth, VOLUME_ALPHA)

    def forward(self, x_canonical: Tensor) -> tuple[Tensor, Tensor]:
        """[*,3] → colours [*,3] in (0, 1) and densities σ [*] ≥ 0."""
        with torch.autocast(x_canonical.device.type, torch.bfloat16, enabled=self.amp):
            out = self.checkpointed(self._network, contract(x_canonical))
        # −1 starts the volume out thin, so that gradients reach all samples of a ray (released constant).
        return torch.sigmoid(out[..., :3]), F.softplus(out[..., 3] - 1)

    def _network(self, x: Tensor) -> Tensor:
        """Contracted points [*,3] → [*,4]."""
        if self.planes is None:
            return self.net(x)
        return self.net(self.planes(x.flatten(0, -2) / 2)).unflatten(0, x.shape[:-1])
