"""RAFT-large (Teed and Deng, ECCV 2020) of torchvision, with weights under torchvision's or Princeton's names."""

from pathlib import Path

import torch
from torchvision.models.optical_flow import RAFT, Raft_Large_Weights, raft_large

from preprocessing.weights import StateDict, load_pretrained, rename_entries

# Princeton's names (regular expressions) → torchvision's, applied one after the other.
_PRINCETON_NAMES = [
    (r"^module\.", ""),
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"(encoder\.layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"(encoder\.layer\d\.\d)\.norm(\d)\.", r"\1.convnormrelu\2.1."),
    (r"^(feature_encoder|context_encoder)\.conv1\.", r"\1.convnormrelu.0."),
    (r"^(feature_encoder|context_encoder)\.norm1\.", r"\1.convnormrelu.1."),
    (r"^(feature_encoder|context_encoder)\.conv2\.", r"\1.conv."),
    (r"^update_block\.encoder\.conv([cf])(\d)\.", r"update_block.motion_encoder.conv\1\2.0."),
    (r"\.motion_encoder\.convc", ".motion_encoder.convcorr"),
    (r"\.motion_encoder\.convf", ".motion_encoder.convflow"),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"^update_block\.gru\.conv([zrq])(\d)\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
]


def load_raft(weights: Path | None, device: torch.device | str) -> RAFT:
    """Load RAFT-large in evaluation mode, with weights from a file or downloaded (`weights` None).

    Raises:
        InputError: Unusable weights, or no way to download them.
    """
    alternative = "download it elsewhere and give it with --raft_weights FILE, or choose --flow dis"
    url = Raft_Large_Weights.C_T_V1.url
    return load_pretrained(raft_large(weights=None), weights, url, to_torchvision_names, alternative).to(device)


def to_torchvision_names(state: StateDict) -> StateDict:
    """Rename the entries of Princeton's state dict (with or without `module.`); torchvision's is returned as it is."""
    if not any(name.removeprefix("module.").startswith("fnet.") for name in state):
        return state
    # A block's `norm3` is the same tensor as its `downsample.1`.
    return rename_entries({name: value for name, value in state.items() if ".norm3." not in name}, _PRINCETON_NAMES)
