"""The commands' flags: what each lists and accepts, and what viz.py and evaluate.py take from a run."""

import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from configs.flag_table import FLAGS, TRAINING
from configs.flags import parse_evaluate, parse_train, parse_viz, run_dir, run_name
from loaders.batches import SamplingConfig
from loaders.training_data import DataConfig
from networks.checkpoints import save_checkpoint
from networks.model_config import ModelConfig
from networks.optimizer import OptimizerConfig
from preprocessing.settings import Settings
from tests.conftest import REPOSITORY, TINY
from trainer import TrainingConfig
from utils.errors import InputError
from visualization.view import ViewOptions

REMOVED = "code_depth affine_width affine_depth plane_channels volume_plane_channels raft_half dino_half dino_batch"
REMOVED += " map_flow split density_th"
COMMANDS = ["train.py", "viz.py", "evaluate.py", "preprocessing/main_processing.py"]
LOADS_TORCH = "import runpy, sys; sys.argv = sys.argv[1:]\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\n"
LOADS_TORCH += "finally: print('torch' in sys.modules, 'cv2' in sys.modules, file=sys.stderr)"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flags", ["--help", "--no_such_flag 1"])
def test_help_and_mistakes_need_no_torch(command, flags):
    done = subprocess.run(
        [sys.executable, "-c", LOADS_TORCH, command, *flags.split()], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == (0 if flags == "--help" else 2)
    assert done.stderr.splitlines()[-1] == "False False"
    if flags == "--help":
        assert "--data_dir" in done.stdout


def listed(parse, capsys) -> set[str]:
    """The flags in the help of a command."""
    with pytest.raises(SystemExit) as stopped:
        parse(["--help"])
    assert stopped.value.code == 0
    return set(re.findall(r"^ +(?:-h, )?--(\w+)", capsys.readouterr().out, re.MULTILINE))


def test_each_command_lists_what_it_uses(capsys):
    train, viz, evaluate = (listed(parse, capsys) for parse in (parse_train, parse_viz, parse_evaluate))
    assert train | viz | evaluate == {flag.name for flag in FLAGS} | {"help", "config"}
    assert train == vars(parse_train(["--data_dir", "x"])).keys() | {"help"}
    assert {"style", "export", "run", "query_frame_id", "max_side"} <= viz and {"benchmark", "tracks"} <= evaluate
    assert not (viz | evaluate) & {"lr_deform", "num_pairs", "flow", "coupling_width", "no_reload", "i_img"}
    assert not viz & {"benchmark", "gt"} and not evaluate & {"style", "points", "query_frame_id"}
    assert not (train | viz | evaluate) & set(REMOVED.split())


def test_every_flag_has_help_of_one_grammar():
    for flag in FLAGS:
        assert flag.help[0].islower() or not flag.help[1].islower(), flag.name  # TF32, RAFT
        assert not flag.help.endswith(".") and "%" not in flag.help, flag.name


@pytest.mark.parametrize(
    "kind",
    [ModelConfig, OptimizerConfig, TrainingConfig, SamplingConfig, DataConfig, Settings, ViewOptions],
)
def test_dataclasses_have_the_defaults_of_their_flags(kind):
    defaults = {flag.name: flag.default for flag in FLAGS} | vars(parse_train(["--data_dir", "x"]))
    fields = kind.__dataclass_fields__.items()
    own = {name: field.default for name, field in fields if isinstance(field.default, bool | int | float | str)}
    assert {name: defaults[name] for name in own.keys() & defaults.keys()} == {
        name: value for name, value in own.items() if name in defaults
    }


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Leaves a checkpoint of a run as train.py would, with changed flags; returns its folder."""
    monkeypatch.chdir(tmp_path)
    Path("clip/color").mkdir(parents=True)

    def make(flags: str = "", **stored: object) -> Path:
        args = parse_train(["--data_dir", "clip", *TINY.split(), *flags.split()])
        save_checkpoint(run_dir(args) / "model_000001.pth", {"step": 1, "flags": vars(args) | stored})
        return run_dir(args)

    return make


@pytest.mark.parametrize("parse", [parse_viz, parse_evaluate])
def test_a_run_says_how_it_was_trained(trained, parse):
    folder = trained("--max_side 100 --num_layers 2 --lr_warmup 0.5 --dataset_weights 3 --chain false")
    args = parse(["--run", str(folder)])
    assert (args.data_dir, args.max_side, args.num_layers, args.chain) == ("clip", 100, 2, False)
    assert (args.lr_warmup, args.dataset_weights, args.use_max_loc, args.vis_occlusion) == (50000, [3.0], True, True)
    assert run_dir(args) == folder and run_name(args) == "tiny_clip"
    assert args.device == "auto"  # the training had cpu: another machine may look at it
    given = parse(["--run", str(folder), "--max_side", "50", "--use_max_loc", "false"])
    assert (given.max_side, given.use_max_loc, given.num_layers) == (50, False, 2)


@pytest.mark.parametrize("parse", [parse_viz, parse_evaluate])
def test_the_released_form_finds_the_run_and_its_flags(trained, parse, tmp_path):
    folder = trained("--max_side 100 --num_layers 2")
    Path("a.txt").write_text("num_layers = 3\n")
    args = parse(["--config", "a.txt", "--data_dir", str(tmp_path / "clip"), "--expname", "tiny"])
    assert (args.max_side, args.num_layers, args.expname) == (100, 3, "tiny") and run_dir(args) == Path(folder)
    other = parse([*TINY.split(), "--data_dir", "clip", "--expname", "other"])  # not trained
    assert (other.max_side, other.num_layers, other.expname) == (None, 6, "other")
    named = parse(["--data_dir", "clip", "--expname", "other", "--ckpt_path", str(folder / "model_000001.pth")])
    assert (named.max_side, named.expname) == (100, "other")


def test_flags_of_other_versions_are_left_out(trained):
    unknown, unusable, not_of_training = {"density_th": 0.5}, {"lr_schedule": "cosine", "chunk_size": -3}, {"out": "/x"}
    folder = trained(**unknown, **unusable, **not_of_training, ckpt_path="x.pth")
    args = parse_viz(["--run", str(folder)])
    assert (args.lr_schedule, args.chunk_size, args.out, args.ckpt_path) == ("step", 10000, "", "")
    assert not hasattr(args, "density_th")


def test_unusable_runs_are_told(trained):
    with pytest.raises(InputError, match="--run is missing: give the folder of a run"):
        parse_viz([])
    with pytest.raises(InputError, match="no folder out/none"):
        parse_viz(["--run", "out/none"])
    folder = trained()
    with pytest.raises(InputError, match=r"no such file"):
        parse_viz(["--run", str(folder), "--ckpt_path", "none.pth"])
    Path("clip").rename("moved")
    with pytest.raises(InputError, match="trained on clip, which does not exist here: give its --data_dir"):
        parse_viz(["--run", str(folder)])
    assert parse_viz(["--run", str(folder), "--data_dir", "moved"]).num_pts == 16
    Path("released").mkdir()
    torch.save({"step": 1}, "released/model_000001.pth")
    with pytest.raises(InputError, match="give the --config and --data_dir of its training"):
        parse_viz(["--run", "released"])
    assert run_dir(parse_viz(["--run", "released", "--data_dir", "moved"])) == Path("released")


def test_stored_tracks_are_scored_without_a_run(trained):
    trained()
    assert parse_evaluate(["--tracks", "t.npz", "--gt", "g.npz"]).data_dir == ""
    args = parse_evaluate(["--tracks", "t.npz", "--data_dir", "clip", "--expname", "tiny"])
    assert (args.dataset_types, args.num_pts) == ("flow", 256)
    folder = trained("--dataset_types tracks --tracks t.npz --use_error_map false")
    assert parse_evaluate(["--run", str(folder)]).tracks == "t.npz"  # of the training


def test_several_query_points_exclude_each_other(trained):
    with pytest.raises(InputError, match="expected one of them"):
        parse_viz(["--run", str(trained()), "--random", "5", "--grid_interval", "5"])


def test_flags_of_training_are_accepted_by_all(trained):
    trained()
    flags = ["--data_dir", "clip"]
    for group in TRAINING.values():
        for flag in group:
            if isinstance(flag.default, bool | int):
                flags += [f"--{flag.name}", str(flag.default)]
    for parse in (parse_train, parse_viz, parse_evaluate):
        assert isinstance(parse(flags), Namespace)
