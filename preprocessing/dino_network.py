"""DINO ViT-S/16 (Caron et al., ICCV 2021) on torchvision's VisionTransformer."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.vision_transformer import VisionTransformer

from preprocessing.weights import StateDict, load_pretrained, rename_entries

DINO_URL = "https://dl.fbaipublicfiles.com/dino/dino_deitsmall16_pretrain/dino_deitsmall16_pretrain.pth"
PATCH = 16  # pixels
GRID = 14  # patches along each side of the 224-pixel training images

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


def build_dino() -> VisionTransformer:
    """Build ViT-S/16 without a classifier: patch 16, width 384, 12 blocks of 6 heads."""
    network = VisionTransformer(
        image_size=GRID * PATCH, patch_size=PATCH, num_layers=12, num_heads=6, hidden_dim=384, mlp_dim=1536
    )
    network.heads = torch.nn.Identity()
    return network


def load_dino(weights: Path | None, device: torch.device | str) -> VisionTransformer:
    """Load DINO in evaluation mode, with weights from a file or downloaded (`weights` None).

    Raises:
        InputError: Unusable weights, no way to download them, or a download that has changed since its first use.
    """
    alternative = "download it elsewhere and give it with --dino_weights FILE, or choose --features sift"
    return load_pretrained(build_dino(), weights, DINO_URL, to_torchvision_names, alternative).to(device)


def to_torchvision_names(state: StateDict) -> StateDict:
    """Rename the entries of the release's state dict, without the projection head of pretraining."""
    return rename_entries({name: value for name, value in state.items() if not name.startswith("head.")}, _DINO_NAMES)


def resize_positions(positions: Tensor, rows: int, columns: int) -> Tensor:
    """Resize position embeddings [1,1+196,C] to a grid of patches: [1,1+rows·columns,C].

    The release scales by (n + 0.1)/14, so that rounding cannot lose a row. The 0.1 moves the sampling points, so it
    belongs to the trained behaviour.
    """
    if rows == columns == GRID:
        return positions
    grid = positions[:, 1:].reshape(1, GRID, GRID, -1).permute(0, 3, 1, 2)
    scale = ((rows + 0.1) / GRID, (columns + 0.1) / GRID)
    grid = F.interpolate(grid, scale_factor=scale, mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], grid.permute(0, 2, 3, 1).reshape(1, rows * columns, -1)], 1)


@torch.inference_mode()
def dino_tokens(network: VisionTransformer, images: Tensor) -> Tensor:
    """Return the patch tokens of the last block, after the final norm.

    Args:
        network: From `load_dino`.
        images: [B,3,H,W], normalised, sides multiples of 16.

    Returns:
        [B,H/16,W/16,384].
    """
    patches = network.conv_proj(images)
    rows, columns = patches.shape[-2:]
    tokens = torch.cat([network.class_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], 1)
    tokens = tokens + resize_positions(network.encoder.pos_embedding, rows, columns)
    tokens = network.encoder.ln(network.encoder.layers(tokens))
    return tokens[:, 1:].unflatten(1, (rows, columns))
