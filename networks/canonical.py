"""The canonical volume: colour and density, a NeRF without view direction (paper, section 4.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.gabor import GaborNet
from networks.mlp import MLP, ExactLinear
from networks.network_module import NetworkModule
from networks.planes import TriPlane

VOLUME_ALPHA = 3.0  # shape of the Gamma prior of the volume net's envelopes, released value


def contract(u: Tensor) -> Tensor:
    """Contract space [*,3] into the ball of radius 2 (mip-NeRF 360): u where ‖u‖ ≤ 1, else (2 − 1/‖u‖)·u/‖u‖.

    Finite with finite gradient everywhere, the origin and the unit sphere included.
    """
    # Clamped at 1 before the root: inside, the factor is exactly 1 and √ is never differentiated at 0.
    norm = u.square().sum(-1, keepdim=True).clamp(min=1).sqrt()
    return (2 - 1 / norm) * u / norm


class CanonicalVolume(NetworkModule):
    """Colour and density at canonical points; with `amp` set, hidden layers are multiplied in bfloat16.

    Args:
        width: Hidden width of the network.
        depth: Hidden layers of the network.
        plane_size: Cells along each side of feature planes that a small perceptron reads; 0: a GaborNet instead.
        plane_channels: Features of each plane.
    """

    amp = False

    def __init__(self, width: int, depth: int, plane_size: int = 0, plane_channels: int = 8):
        super().__init__()
        self.planes: TriPlane | None = None
        self.net: GaborNet | MLP
        if plane_size:
            self.planes = TriPlane(plane_channels, plane_size)
            self.net = MLP([3 * plane_channels] + [width] * depth + [4], nn.LeakyReLU, ExactLinear)
        else:
            self.net = GaborNet(3, width, 4, depth, VOLUME_ALPHA)

    def forward(self, x_canonical: Tensor) -> tuple[Tensor, Tensor]:
        """Return colours [*,3] in (0, 1) and densities σ [*] ≥ 0 at canonical points [*,3]."""
        with torch.autocast(x_canonical.device.type, torch.bfloat16, enabled=self.amp):
            out = self.run_network(contract(x_canonical))
        # −1 makes the initial volume thin, so that gradients reach all samples of a ray (released constant).
        return torch.sigmoid(out[..., :3]), F.softplus(out[..., 3] - 1)

    def network(self, x: Tensor) -> Tensor:
        """Return raw colours and density [*,4] at contracted points [*,3]."""
        rows = x.flatten(0, -2)
        # Contracted space is the ball of radius 2; the planes cover [−1, 1].
        features = rows if self.planes is None else self.planes(rows / 2)
        return self.net(features).unflatten(0, x.shape[:-1])

    def compile_network(self) -> None:
        """Compile only the network behind the planes: its input always has two axes, so fewer kernels are built."""
        self.net.compile(dynamic=True, mode=self.compile_mode)
