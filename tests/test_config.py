"""Config files and flags: released names and defaults, bases, switches, bounds; unknown names and values refused."""

import pytest

from configs.flags import parse_evaluate, parse_train, parse_viz, run_name
from preprocessing.archives import archive_parser
from preprocessing.main_processing import parse_flags
from tests.conftest import REPOSITORY
from utils.config import Flag, FlagParser, config_chain, write_config
from utils.errors import InputError, exit_on_input_error

CONFIGS = REPOSITORY / "configs"
# The 42 flags of the released code with their defaults. `config` has none, and `data_dir`, whose released default is a
# path of its authors, has none here.
RELEASED = {
    "config": "", "data_dir": "", "expname": "", "save_dir": "out/", "ckpt_path": "", "num_iters": 100000,
    "num_workers": 4, "load_opt": 1, "load_scheduler": 1, "loader_seed": 12, "dataset_types": "flow",
    "dataset_weights": [1.0], "num_imgs": 250, "num_pairs": 8, "num_pts": 256, "lr_feature": 1e-3, "lr_deform": 1e-4,
    "lr_color": 3e-4, "lrate_decay_steps": 20000, "lrate_decay_factor": 0.5, "grad_clip": 0.0, "num_samples_ray": 32,
    "pe_freq": 4, "min_depth": 0.0, "max_depth": 2.0, "start_interval": 20, "max_padding": 0.0, "chunk_size": 10000,
    "query_frame_id": 0, "occlusion_th": 0.99, "foreground_mask_path": "", "i_print": 100, "i_img": 500,
    "i_weight": 20000, "i_cache": 20000,
    "use_error_map": False, "use_count_map": False, "use_affine": False, "mask_near": False, "use_max_loc": False,
    "vis_occlusion": False, "no_reload": False,
}  # fmt: skip
# The values of fast.txt that differ from the defaults.
FAST = {
    "expname": "fast", "flow": "auto", "flow_scale": "auto", "raft_iters": 8, "chain": False, "num_iters": 3000,
    "schedule_scale": 0.03, "num_pairs": 16, "num_pts": 32, "num_workers": 1, "num_threads": 1,
    "num_samples_ray": 12, "pe_freq": 2, "coupling_width": 48,
    "coupling_depth": 1, "plane_size": 24, "plane_interval": 4, "soft_bound": 1.0, "code_size": 64, "code_width": 64,
    "volume_width": 64, "volume_depth": 2, "volume_plane_size": 96, "lr_feature": 0.002, "lr_deform": 0.0025,
    "lr_muon": 0.00175, "lr_color": 0.005, "lr_schedule": "square", "lr_warmup": 180, "grad_clip": 1.0,
    "start_interval": 14, "depth_prior": 5.0, "motion_share": 0.7,
    "use_count_map": True, "mask_near": True, "use_max_loc": True, "vis_occlusion": True, "i_img": 1500,
    "i_weight": 500,
}  # fmt: skip
DEMO = FAST | {
    "expname": "demo", "flow": "dis", "data_dir": "data/demo_scene", "synthetic": True, "num_iters": 2300,
    "schedule_scale": 0.023, "lr_warmup": 138, "i_print": 50, "i_img": 1150,
}  # fmt: skip
FAST_GPU = FAST | {
    "expname": "fast_gpu", "num_iters": 12000, "schedule_scale": 0.12, "lr_warmup": 720, "num_pairs": 32,
    "num_pts": 128, "num_samples_ray": 16, "num_workers": 6, "coupling_width": 64, "plane_size": 64,
    "volume_plane_size": 192, "i_print": 200, "i_img": 6000, "i_weight": 2000,
}  # fmt: skip
MAPS = {"use_error_map": True, "use_count_map": True, "use_max_loc": True, "vis_occlusion": True}


def parsed(name: str, *flags: str) -> dict:
    return vars(parse_train(["--config", str(CONFIGS / name), *flags]))


def test_released_flags_have_their_names_types_and_defaults():
    args = vars(parse_train(["--data_dir", "x"])) | {"data_dir": ""}
    assert len(RELEASED) == 42
    for name, value in RELEASED.items():
        assert args[name] == value and type(args[name]) is type(value), name


@pytest.mark.parametrize(
    ("name", "differs"),
    [
        ("default.txt", {"expname": "default", "use_affine": True, **MAPS}),
        ("paper.txt", {"expname": "paper", "num_iters": 200000, **MAPS}),
        ("fast.txt", FAST),
        ("demo.txt", DEMO),
        ("fast_gpu.txt", FAST_GPU),
    ],
)
def test_configs_differ_from_the_defaults_in_these_values_alone(name, differs):
    defaults = vars(parse_train(["--data_dir", "x"])) | {"config": str(CONFIGS / name)}
    given = [] if "data_dir" in differs else ["--data_dir", "x"]
    resolved = parsed(name, *given)
    assert resolved == defaults | differs
    assert all(type(resolved[key]) is type(value) for key, value in differs.items())


def test_the_released_config_sets_what_the_released_one_does():
    ((_, settings),) = config_chain(CONFIGS / "default.txt")
    switches = ("use_affine", "use_error_map", "use_count_map", "use_max_loc", "vis_occlusion")
    assert settings == {"num_pairs": "8", "num_pts": "256"} | dict.fromkeys(switches, "true")


def test_configs_repeat_nothing_of_their_base():
    for path in CONFIGS.glob("*.txt"):
        *bases, (_, own) = config_chain(path)
        for _, base in bases:
            assert not base.items() & own.items(), path


@pytest.mark.parametrize(
    ("flags", "steps", "scale"),
    [
        ("", 0, 1.0),
        ("--num_iters 4000 --lr_warmup 0.06", 240, 0.04),
        ("--num_iters 5500 --lr_warmup 0.06", 330, 0.055),
        ("--num_iters 11000 --lr_warmup 0.06", 660, 0.11),
        ("--num_iters 4000 --lr_warmup 330", 330, 0.04),
        ("--num_iters 4000 --lr_warmup 1 --schedule_scale 1", 1, 1.0),
    ],
)
def test_warm_up_and_loss_schedules_follow_the_length_of_the_run(flags, steps, scale):
    args = parse_train(["--data_dir", "x", *flags.split()])
    assert (args.lr_warmup, args.schedule_scale) == (steps, scale) and type(args.lr_warmup) is int


@pytest.mark.parametrize(
    ("text", "value"),
    [("--chain", True), ("--chain true", True), ("--chain=on", True), ("--chain false", False), ("--chain=No", False)],
)
def test_a_switch_is_written_alike_in_all_commands(text, value):
    for parse in (parse_train, parse_flags):
        assert parse(["--data_dir", "x", *text.split()]).chain is value


@pytest.mark.parametrize(
    "words", ["--download", "--download true", "--download=on", "--archive a.zip --download false", "--archive a.zip"]
)
def test_a_benchmark_is_downloaded_or_given(words):
    args = archive_parser("", "").parse_args(words.split())
    assert args.download is (args.archive is None)


@pytest.mark.parametrize("words", ["", "--download false", "--download --archive a.zip", "--download perhaps"])
def test_a_benchmark_is_from_one_source(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        archive_parser("", "").parse_args(words.split())
    assert stopped.value.code == 2 and "--download" in capsys.readouterr().err


@pytest.mark.parametrize("flags", ["--max_side 0", "--num_frames 1", "--raft_batch 0"])
def test_preprocessing_has_the_bounds_of_training(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_flags(["--data_dir", "x", *flags.split()])
    name, value = flags.split()
    error = capsys.readouterr().err
    assert (
        stopped.value.code == 2
        and f"{name}: found {value}, expected a whole number" in error
        and error.count("\n") == 1
    )


@pytest.fixture
def write(tmp_path):
    def file(name: str, *lines: str) -> list[str]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("\n".join(lines))
        return ["--config", str(tmp_path / name), "--data_dir", "x"]

    return file


def test_the_command_line_wins_over_a_file_and_a_file_over_its_base(write):
    write("bases/far.txt", "num_pts = 1", "num_pairs = 1", "use_affine = true", "flow = dis")
    write("bases/near.txt", "base = far.txt", "num_pts = 2", "num_pairs = 2")
    flags = write("own.txt", "num_pts = 3  # here", "base = bases/near.txt")
    args = parse_train([*flags, "--use_affine", "false"])
    assert (args.num_pts, args.num_pairs, args.use_affine, args.flow) == (3, 2, False, "dis")


def test_a_file_may_set_flags_of_the_other_commands(write):
    assert parse_train(write("a.txt", "style = grid", "gt = x.npz", "num_pts = 3")).num_pts == 3


def test_the_copy_in_the_run_needs_no_base(write, tmp_path):
    write("base.txt", "num_pts = 2", "dataset_types = flow+tracks", "tracks = a b.npz", "use_affine = true")
    args = parse_train(write("own.txt", "base = base.txt", "num_pts = 3", "dataset_weights = [0.25, 0.75]"))
    write_config(args, tmp_path / "run", expname=args.expname)
    copy = tmp_path / "run" / "config.txt"
    assert vars(parse_train(["--config", str(copy), "--data_dir", "x"])) == vars(args) | {"config": str(copy)}
    assert "base" not in copy.read_text()
    lines = (tmp_path / "run" / "args.txt").read_text().splitlines()
    assert {"num_pts = 3", "dataset_weights = [0.25, 0.75]", "num_layers = 6"} <= set(lines)


@pytest.mark.parametrize("weights", ["[0.25, 0.75]", "[0.25,0.75]"])
def test_a_file_can_hold_a_list(write, weights):
    flags = write("a.txt", "dataset_types = flow+tracks", f"dataset_weights = {weights}", "tracks = t.npz")
    assert parse_train(flags).dataset_weights == [0.25, 0.75]
    assert parse_train([*flags, "--dataset_weights", "2", "1"]).dataset_weights == [2, 1]


def test_mistakes_name_their_file(write):
    write("base.txt", "num_pair = 4")
    with pytest.raises(InputError, match=r"base\.txt sets 'num_pair', which is no flag"):
        parse_train(write("own.txt", "base = base.txt"))
    write("base.txt", "num_pairs = 0")
    with pytest.raises(InputError, match=r"base\.txt: argument --num_pairs: found 0, expected a whole number of"):
        parse_train(write("own.txt", "base = base.txt", "num_pairs = 1"))
    write("base.txt", "base = own.txt")
    with pytest.raises(InputError, match=r"own\.txt builds on itself: delete the line `base = own.txt` of .*base\.txt"):
        parse_train(write("own.txt", "base = base.txt"))
    with pytest.raises(InputError, match=r"base is empty in .*own\.txt: name a config file, or delete the line"):
        parse_train(write("own.txt", "base =", "num_pairs = 1"))
    with pytest.raises(InputError, match="unrecognized arguments: --num_pair 4"):
        parse_train(["--data_dir", "x", "--num_pair", "4"])


@pytest.mark.parametrize(
    "flags",
    [
        "--num_pairs 0",
        "--num_samples_ray 1",
        "--min_depth 2",
        "--num_imgs 1",
        "--start_interval 0",
        "--lrate_decay_steps 0",
        "--lr_warmup nan",
        "--schedule_scale 0",
        "--max_side 0",
        "--coupling_width 0",
        "--dataset_types tracks",
        "--tracks t.npz",
        "--dataset_types flow+tracks --tracks t.npz",
        "--dataset_types flow+tracks --tracks t.npz --dataset_weights 1 0",
        "--dataset_types tracks --tracks t.npz --dataset_weights 1 1",
        "--dataset_types tracks --tracks t.npz --dataset_weights nan",
        "--dataset_types tracks --tracks t.npz --use_error_map",
        "--dataset_types tracks --tracks t.npz --depth_prior 5",
        "--dataset_types tracks --tracks t.npz --motion_share 0.5",
        "--dataset_types tracks --tracks t.npz --draw_on_device",
    ],
)
def test_impossible_values_are_refused(flags):
    with pytest.raises(InputError):
        parse_train(["--data_dir", "x", *flags.split()])


def test_training_needs_a_video():
    with pytest.raises(InputError, match="--data_dir is missing"):
        parse_train([])


def test_a_number_is_between_its_bounds():
    assert parse_train(["--data_dir", "x", "--grad_clip", "1e30"]).grad_clip == 1e30  # any finite one
    parser = FlagParser("", "")
    parser.add("", [Flag("count", 1, "", 1, 3), Flag("rate", None, "", above=0, most=2, parse=float)])
    given, _ = parser.parse_given(["--count", "3", "--rate", "2"])
    assert given == {"count": 3, "rate": 2.0, "config": ""} and parser.defaults == {"count": 1, "rate": None}
    for flags, expected in (
        ("--count 0", "found 0, expected a whole number of at least 1 and at most 3"),
        ("--count 4", "and at most 3"),
        ("--count 1.0", "found 1.0, expected a whole number"),
        ("--rate 0", "found 0, expected a number above 0 and at most 2"),
        ("--rate nan", "found nan, expected a number"),
        ("--rate inf", "found inf"),
    ):
        with pytest.raises(InputError, match=expected):
            parser.parse_given(flags.split())


def test_the_run_is_named_after_the_sequence(tmp_path):
    (tmp_path / "my clip.mp4").write_bytes(b"")
    assert run_name(parse_train(["--data_dir", str(tmp_path / "my clip.mp4"), "--expname", "a"])) == "a_my clip"
    assert run_name(parse_train(["--data_dir", f"{tmp_path}/", "--expname", "a"])) == f"a_{tmp_path.name}"


@pytest.mark.parametrize("parse", [parse_train, parse_viz, parse_evaluate])
def test_the_run_is_named_after_its_config_file_unless_expname_is_given(write, parse):
    for path in CONFIGS.glob("*.txt"):
        assert run_name(parse(["--config", str(path), "--data_dir", "clip"])) == f"{path.stem}_clip"
    write("base.txt", "num_pts = 2")
    assert run_name(parse(write("own.txt", "base = base.txt"))) == "own_x"
    assert run_name(parse([*write("own.txt"), "--expname", "a"])) == "a_x"
    assert run_name(parse(write("own.txt", "expname = b"))) == "b_x"
    write("base.txt", "expname = c")
    assert run_name(parse(write("own.txt", "base = base.txt"))) == "c_x"
    assert run_name(parse(["--data_dir", "x"])) == "_x"


def test_the_demo_scene_is_made_in_the_folder_of_its_config_alone(write):
    assert parsed("demo.txt")["synthetic"] and parsed("demo.txt", "--data_dir", "data/../data/demo_scene")["synthetic"]
    assert not parsed("demo.txt", "--data_dir", "data/demo_scen")["synthetic"]
    assert parsed("demo.txt", "--data_dir", "data/demo_scen", "--synthetic")["synthetic"]
    assert parse_train(["--data_dir", "x", "--synthetic"]).synthetic
    assert not parsed("demo.txt", "--synthetic", "false")["synthetic"]
    assert not parse_train(write("a.txt", "synthetic = true")).synthetic


def test_input_errors_become_one_sentence_and_status_2(capsys):
    @exit_on_input_error
    def main():
        raise InputError("found 1, expected 2; do 3")

    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: found 1, expected 2; do 3\n"
