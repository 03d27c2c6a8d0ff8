"""Flags: released names, types and defaults; booleans both ways; unknown names and impossible values refused."""

from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY

from utils.config import parse_config, run_name, write_config
from utils.device import pick_device
from utils.errors import InputError, exit_on_input_error

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
RELEASED = {
    "expname": "", "save_dir": "out/", "ckpt_path": "", "no_reload": False, "num_iters": 200000, "num_workers": 4,
    "load_opt": 1, "load_scheduler": 1, "loader_seed": 12, "num_imgs": 250, "num_pairs": 8, "num_pts": 256,
    "lr_feature": 1e-3, "lr_deform": 1e-4, "lr_color": 3e-4, "lrate_decay_steps": 20000, "lrate_decay_factor": 0.5,
    "grad_clip": 0.0, "use_error_map": False, "use_count_map": False, "use_affine": False, "mask_near": False,
    "num_samples_ray": 32, "pe_freq": 4, "min_depth": 0.0, "max_depth": 2.0, "start_interval": 20, "max_padding": 0.0,
    "chunk_size": 10000, "use_max_loc": False, "query_frame_id": 0, "vis_occlusion": False, "occlusion_th": 0.99,
    "foreground_mask_path": "", "i_print": 100, "i_img": 500, "i_weight": 20000, "i_cache": 20000,
    "dataset_types": "flow", "dataset_weights": [1.0],
}  # fmt: skip


def test_released_flags_have_their_names_types_and_defaults():
    args = vars(parse_config(["--data_dir", "x"]))
    for name, value in RELEASED.items():
        assert args[name] == value and type(args[name]) is type(value), name


@pytest.mark.parametrize("text", [["--use_affine"], ["--use_affine", "true"], ["--use_affine=True"]])
def test_booleans_switch_on(text):
    assert parse_config(["--data_dir", "x", *text]).use_affine is True


def test_booleans_of_a_config_file_switch_off_from_the_command_line():
    config = ["--config", str(CONFIGS / "default.txt"), "--data_dir", "x"]
    assert parse_config(config).use_affine is True
    assert parse_config([*config, "--use_affine", "false"]).use_affine is False


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.txt")), ids=lambda path: path.name)
def test_configs_hold_known_flags_only(config):
    args = parse_config(["--config", str(config), "--data_dir", "x"])
    assert args.num_iters >= 1000


def test_default_config_is_the_released_one():
    args = parse_config(["--config", str(CONFIGS / "default.txt"), "--data_dir", "x"])
    assert args.num_iters == 100000 and args.coupling_width == 256 and args.volume_width == 512 and args.flow == "raft"


def test_paper_config_is_the_papers():
    args = parse_config(["--config", str(CONFIGS / "paper.txt"), "--data_dir", "x"])
    assert args.num_iters == 200000 and not args.use_affine and (args.num_pairs, args.num_pts) == (8, 256)
    assert (args.lr_feature, args.lr_deform, args.lr_color, args.schedule_scale) == (1e-3, 1e-4, 3e-4, 1)


def test_unknown_names_are_refused(tmp_path, capsys):
    (tmp_path / "wrong.txt").write_text("num_pair = 4\n")
    for flags in (["--num_pair", "4"], ["--config", str(tmp_path / "wrong.txt")]):
        with pytest.raises(SystemExit) as stopped:
            parse_config(["--data_dir", "x", *flags])
        assert stopped.value.code == 2 and "num_pair" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--data_dir", "x", "--num_pairs", "0"],
        ["--data_dir", "x", "--num_samples_ray", "1"],
        ["--data_dir", "x", "--min_depth", "2"],
        ["--data_dir", "x", "--num_imgs", "1"],
        ["--data_dir", "x", "--start_interval", "0"],
        ["--data_dir", "x", "--lrate_decay_steps", "0"],
        ["--data_dir", "x", "--schedule_scale", "0"],
        ["--data_dir", "x", "--max_side", "0"],
        ["--data_dir", "x", "--coupling_width", "0"],
        ["--data_dir", "x", "--dataset_types", "tracks"],
        ["--data_dir", "x", "--tracks", "t.npz"],
        ["--data_dir", "x", "--dataset_types", "flow+tracks", "--tracks", "t.npz"],
        ["--data_dir", "x", "--dataset_types", "flow+tracks", "--tracks", "t.npz", "--dataset_weights", "1", "0"],
        ["--data_dir", "x", "--dataset_types", "tracks", "--tracks", "t.npz", "--dataset_weights", "1", "1"],
        ["--data_dir", "x", "--dataset_types", "tracks", "--tracks", "t.npz", "--dataset_weights", "nan"],
        ["--data_dir", "x", "--dataset_types", "tracks", "--tracks", "t.npz", "--use_error_map"],
        ["--data_dir", "x", "--dataset_types", "tracks", "--tracks", "t.npz", "--depth_prior", "5"],
        ["--data_dir", "x", "--dataset_types", "tracks", "--tracks", "t.npz", "--motion_share", "0.5"],
    ],
)
def test_impossible_values_are_refused(flags):
    with pytest.raises(InputError):
        parse_config(flags)


@pytest.mark.parametrize("weights", ["[0.25, 0.75]", "[0.25,0.75]"])
def test_a_config_file_can_mix_flow_and_tracks(tmp_path, weights):
    config = tmp_path / "mix.txt"
    config.write_text(f"dataset_types = flow+tracks\ndataset_weights = {weights}\ntracks = t.npz\n")
    flags = ["--config", str(config), "--data_dir", "x"]
    assert parse_config(flags).dataset_weights == [0.25, 0.75]
    assert parse_config([*flags, "--dataset_weights", "2", "1"]).dataset_weights == [2, 1]
    write_config(parse_config(flags), tmp_path / "run")
    assert "dataset_weights = [0.25, 0.75]" in (tmp_path / "run" / "args.txt").read_text()


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in {"cuda", "mps", "cpu"}
    with pytest.raises(InputError, match="tpu"):
        pick_device("tpu")


def test_run_is_named_after_the_sequence(tmp_path):
    (tmp_path / "my clip.mp4").write_bytes(b"")
    assert run_name(parse_config(["--data_dir", str(tmp_path / "my clip.mp4"), "--expname", "a"])) == "a_my clip"
    assert run_name(parse_config(["--data_dir", f"{tmp_path}/", "--expname", "a"])) == f"a_{tmp_path.name}"


def test_input_errors_become_one_sentence_and_status_2(capsys):
    @exit_on_input_error
    def main():
        raise InputError("found 1, expected 2; do 3")

    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: found 1, expected 2; do 3\n"


def test_picking_a_device_makes_tiny_numbers_zero():
    pick_device("cpu")
    assert (torch.full((8,), 2e-38) * 0.25 == 0).all() and (torch.full((8,), 2e-38) > 0).all()


def test_the_demo_is_fast_txt_on_its_own_clip_and_cpu_large_a_longer_one():
    def settings(name: str) -> set[str]:
        lines = (REPOSITORY / "configs" / name).read_text().splitlines()
        return {line for line in lines if line and not line.startswith("#")}

    length = {"expname", "num_iters", "schedule_scale", "lr_warmup", "i_img"}
    for name, own in (("demo.txt", {"data_dir", "synthetic", "i_print"}), ("cpu_large.txt", set())):
        assert {line.split(" = ")[0] for line in settings(name) ^ settings("fast.txt")} == length | own
    for name in ("fast.txt", "demo.txt", "cpu_large.txt"):
        args = parse_config(["--config", str(REPOSITORY / "configs" / name), "--data_dir", "x"])
        assert args.schedule_scale == args.num_iters / 100_000 and args.lr_warmup == 0.06 * args.num_iters
