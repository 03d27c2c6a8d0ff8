"""DINO ViT-S/16 (Caron et al., ICCV 2021) on torchvision's VisionTransformer."""

import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.vision_transformer import VisionTransformer

from preprocessing.weights import StateDict, check_remembered, download, load_strictly, read_state_dict

DINO_URL = "https://dl.fbaipublicfiles.com/dino/dino_deitsmall16_pretrain/dino_deitsmall16_pretrain.pth"
PATCH = 16  # pixels
GRID = 14  # patches a side of the 224-pixel training images

# The release's names (regular expressions) → torchvision's, applied one after the other.
_DINO_NAMES = [
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "encoder.pos_embedding"),
    (r"^patch_embed\.proj\.", "conv_proj."),
    (r"^norm\.", "encoder.ln."),
    (r"^blocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1."),
    (r"\.norm(\d)\.", r".ln_\1."),
    (r"\.attn\.qkv\.(weight|bias)$", r".self_attention.in_proj_\1"),
    (r"\.attn\.proj\.", ".self_attention.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
]


def from_release(state: StateDict) -> StateDict:
    """The release's state dict under torchvision's names; a projection head of pretraining is left out."""
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in _DINO_NAMES:
            name = re.sub(pattern, replacement, name)
        if not name.startswith("head."):
            renamed[name] = value
    return renamed


def build_dino() -> VisionTransformer:
    """ViT-S/16 without a classifier: patch 16, width 384, 12 blocks of 6 heads."""
    network = VisionTransformer(
        image_size=GRID * PATCH, patch_size=PATCH, num_layers=12, num_heads=6, hidden_dim=384, mlp_dim=1536
    )
    network.heads = torch.nn.Identity()
    return network


def load_dino(weights: Path | None, device: torch.device | str) -> VisionTransformer:
    """DINO in evaluation mode with the release's weights, from a file or downloaded.

    The release states no checksum: a download is checked for every name and shape, and from then on by the SHA-256 that
    it had (`weights.check_remembered`).

    Raises:
        InputError: unusable file, no way to download, or a download that has changed since.
    """
    if weights is not None:
        state, origin = read_state_dict(weights), str(weights)
    else:
        advice = "download it elsewhere and give it with --dino_weights FILE, or choose --features sift"
        origin = DINO_URL
        state = download(
            lambda: torch.hub.load_state_dict_from_url(DINO_URL, map_location="cpu", weights_only=True),
            DINO_URL,
            advice,
        )
    network = build_dino()
    load_strictly(network, from_release(state), origin)
    if weights is None:
        check_remembered(Path(torch.hub.get_dir()) / "checkpoints" / Path(DINO_URL).name)
    return network.to(device).eval().requires_grad_(False)


def resize_positions(positions: Tensor, rows: int, columns: int) -> Tensor:
    """Position embeddings [1,1+196,C] for a grid of patches → [1,1+rows·columns,C].

    The release asks for a scale of (n + 0.1)/14, so that rounding cannot lose a row; the 0.1 moves the
    sampling points, hence it belongs to the trained behaviour.
    """
    if rows == columns == GRID:
        return positions
    grid = positions[:, 1:].reshape(1, GRID, GRID, -1).permute(0, 3, 1, 2)
    scale = ((rows + 0.1) / GRID, (columns + 0.1) / GRID)
    grid = F.interpolate(grid, scale_factor=scale, mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], grid.permute(0, 2, 3, 1).reshape(1, rows * columns, -1)], 1)


@torch.inference_mode()
def dino_tokens(network: VisionTransformer, image: Tensor) -> Tensor:
    """Patch tokens of the last block after the final norm.

    Args:
        network: from `load_dino`.
        image: [B,3,H,W], normalised, sides multiples of 16.

    Returns:
        [B,H/16,W/16,384].
    """
    patches = network.conv_proj(image)
    rows, columns = patches.shape[-2:]
    tokens = torch.cat([network.class_token.expand(len(image), -1, -1), patches.flatten(2).transpose(1, 2)], 1)
    tokens = tokens + resize_positions(network.encoder.pos_embedding, rows, columns)
    tokens = network.encoder.ln(network.encoder.layers(tokens))
    return tokens[:, 1:].unflatten(1, (rows, columns))
