"""Checkpoints in the layout of the released code, for inference and for resuming.

Their keys: `feature_mlp` (code net), `deform_mlp` (couplings, affine), `color_mlp` (volume), `optimizer`, `scheduler`,
`num_imgs`. They do not hold the image's size, which must come from the clip, nor the settings of the rays.
"""

import re
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from networks.checkpoint_validation import validate_checkpoint
from networks.checkpoints import read_checkpoint
from networks.gabor import GaborNet
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from networks.warp import CODE_ALPHA, random_axes
from utils.errors import InputError

NETS = ("feature_mlp", "deform_mlp", "color_mlp")
RENAMES = [
    (r"^color_mlp\.", "volume.net."),
    (r"^feature_mlp\.", "warp.code_net."),
    (r"^deform_mlp\.layers1\.(\d+)\.map_st\.0\.mlp\.", r"warp.layers.\1.scale_shift."),
    (r"^deform_mlp\.layers1\.(\d+)\.projection\.proj\.0\.", r"warp.layers.\1.encode."),
    (r"^deform_mlp\.code_projectors\.(\d+)\.mlp\.", r"warp.layers.\1.code_mlp."),
    (r"(net\.)linear\.(\d+)\.", r"\1linears.\2."),
    (r"(net\.)output_linear\.", r"\1output."),
]
AFFINE_LAYER = re.compile(r"^deform_mlp\.affine_mlp\.hidden\.(\d+)(?:\.0)?\.(?=weight|bias)")
# Seed from which the released code drew the coupling order of checkpoints without masks.
MASK_SEED = 1234


def is_released(checkpoint: dict) -> bool:
    """Return whether a loaded checkpoint has the released layout."""
    return all(net in checkpoint for net in NETS)


def our_name(released: str) -> str:
    """Return our name of a parameter: `deform_mlp.code_projectors.0.mlp.0.bias` → `warp.layers.0.code_mlp.0.bias`."""
    # Our perceptrons number their activations, too.
    name = AFFINE_LAYER.sub(lambda match: f"warp.affine.theta.{2 * int(match[1])}.", released)
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def read_sizes(checkpoint: dict, config: ModelConfig) -> ModelConfig:
    """Return the network sizes of a released checkpoint, read off its tensors.

    Args:
        checkpoint: As loaded from the file.
        config: Source of what the file lacks: height and width of the clip, and the settings of the rays.

    Raises:
        InputError: The coupling order is not stored and cannot be rebuilt.
        KeyError: An entry is missing.
    """
    deform, code, volume = (checkpoint[net] for net in ("deform_mlp", "feature_mlp", "color_mlp"))
    first, encode = deform["layers1.0.map_st.0.mlp.0.weight"], deform["layers1.0.projection.proj.0.weight"]
    code_out, volume_out = code["output_linear.weight"], volume["output_linear.weight"]
    affine = deform.get("affine_mlp.hidden.0.0.weight")
    sizes = ModelConfig(
        num_frames=int(checkpoint["num_imgs"]),
        height=config.height,
        width=config.width,
        code_size=len(code_out),
        code_width=code_out.shape[1],
        code_depth=_count(code, r"linear\.\d+\.weight"),
        coupling_width=len(first),
        coupling_depth=_count(deform, r"layers1\.0\.map_st\.0\.mlp\.\d+\.weight") - 1,
        use_affine=affine is not None,
        volume_width=volume_out.shape[1],
        volume_depth=_count(volume, r"linear\.\d+\.weight"),
        pe_freq=(encode.shape[1] - 2) // 4,
        num_samples_ray=config.num_samples_ray,
        min_depth=config.min_depth,
        max_depth=config.max_depth,
    )
    if affine is not None:
        depth = _count(deform, r"affine_mlp\.hidden\.\d+\.(0\.)?weight") - 1
        sizes = replace(sizes, affine_width=len(affine), affine_depth=depth)
    return replace(sizes, axes=_coupling_axes(checkpoint, sizes))


def convert(checkpoint: dict, config: ModelConfig) -> dict:
    """Convert a released checkpoint to our layout: `model_config`, `model`, `optimizer`, `scheduler`, `step`.

    Both number the optimizer's parameters in the order of the three networks, but the networks list theirs in
    different orders: moments are assigned by name. Arguments and errors as in `read_sizes`.
    """
    sizes = read_sizes(checkpoint, config)
    released = [f"{net}.{key}" for net in NETS for key in checkpoint[net] if not key.endswith(".mask")]
    model = {our_name(name): checkpoint[name.split(".")[0]][name.split(".", 1)[1]] for name in released}
    groups = OmniMotion(sizes).named_parameter_groups()
    index_of = {name: i for i, name in enumerate(name for group in groups.values() for name in group)}
    state = checkpoint["optimizer"]["state"]
    param_groups = [
        {**group, "params": [index_of[name] for name in names]}
        for group, names in zip(checkpoint["optimizer"]["param_groups"], groups.values(), strict=True)
    ]
    return {
        "model_config": asdict(sizes),
        "model": model,
        "optimizer": {
            "state": {index_of[our_name(name)]: state[i] for i, name in enumerate(released) if i in state},
            "param_groups": param_groups,
        },
        "scheduler": checkpoint["scheduler"],
        "step": int(checkpoint["scheduler"]["last_epoch"]),
    }


def load_released_checkpoint(path: Path, config: ModelConfig) -> dict:
    """Load a checkpoint file of our or the released layout, converted to ours.

    Args:
        path: The file.
        config: As in `read_sizes`.

    Raises:
        InputError: It is not readable, lacks entries, is damaged, or has a coupling order that cannot be rebuilt.
    """
    checkpoint = read_checkpoint(path)
    if is_released(checkpoint):
        try:
            checkpoint = convert(checkpoint, config)
        except KeyError as entry:
            raise InputError(
                f"{path} lacks {entry}, which checkpoints of the released code hold: give a complete one"
            ) from None
        except (TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise InputError(
                f"{path} is a damaged checkpoint of the released code ({error}): give another file"
            ) from error
    missing = [key for key in ("model_config", "model") if key not in checkpoint]
    if missing:
        raise InputError(
            f"{path} lacks {', '.join(missing)}, expected a checkpoint of this or the released code: give another file"
        )
    if problem := validate_checkpoint(checkpoint):
        raise InputError(
            f"{path} is a checkpoint that is damaged or of another version ({problem}): give another file, or delete "
            "this one and train again"
        )
    return checkpoint


def _count(state: dict[str, Tensor], pattern: str) -> int:
    return sum(re.fullmatch(pattern, key) is not None for key in state)


def _coupling_axes(checkpoint: dict, sizes: ModelConfig) -> list[int]:
    """Return the coordinate that each coupling layer changes."""
    deform = checkpoint["deform_mlp"]
    num_layers = _count(deform, r"layers1\.\d+\.projection\.proj\.0\.weight")
    masks = [deform.get(f"layers1.{i}.mask") for i in range(num_layers)]
    if all(mask is not None for mask in masks):
        return [int(mask.flatten().argmin()) for mask in masks]
    return _rebuilt_axes(checkpoint["feature_mlp"], sizes, num_layers)


def _rebuilt_axes(code_state: dict[str, Tensor], sizes: ModelConfig, num_layers: int) -> list[int]:
    """Redraw the coupling order of a checkpoint without masks from the released seed.

    The code net was drawn just before it from the same generator. Training hardly moves its input weights (their
    std is about 100), so their correlation with newly drawn ones shows whether the checkpoint started from that seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(MASK_SEED)
        code_net = GaborNet(1, sizes.code_width, sizes.code_size, sizes.code_depth, CODE_ALPHA)
        axes = random_axes(num_layers, torch.default_generator)
    drawn = torch.cat([gabor.linear.weight.flatten() for gabor in code_net.filters]).detach()
    stored = torch.cat([code_state[f"filters.{i}.linear.weight"].flatten() for i in range(len(code_net.filters))])
    correlation = torch.corrcoef(torch.stack([drawn, stored]))[0, 1]
    if not correlation > 0.9:
        raise InputError(
            "the released checkpoint lacks its coupling masks (`layers1.*.mask`), and their order cannot be rebuilt: "
            f"its code net was not drawn from seed {MASK_SEED} (correlation {correlation:.2f}); "
            "load a checkpoint that holds them"
        )
    return axes
