"""viz.py from its command line on, with tiny untrained networks."""

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import viz
from configs.flags import parse_viz
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from networks.rendering import project
from networks.run_checkpoints import load_resume_checkpoint
from networks.tracks import TrackingOptions, Tracks
from preprocessing.source_frames import original_frames
from utils.errors import InputError
from utils.ffmpeg import probe_video
from utils.images import read_frame, write_image
from utils.video import read_video, write_video
from visualization import styles
from visualization.camera import translation
from visualization.dense import affordable_side
from visualization.style_names import STYLE_NAMES
from visualization.tracking import track_points
from visualization.view import View

HEIGHT, WIDTH, FRAMES = 20, 32, 3
SIZES: dict[str, Any] = {"code_size": 8, "code_width": 8, "coupling_width": 8, "affine_width": 8, "volume_width": 8}


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    """Flags of a run that consists of frames and a checkpoint without optimizer: no flow, no masks."""
    write_clip(tmp_path / "clip" / "color", HEIGHT, WIDTH)
    save_model(tmp_path / "out" / "test_clip" / "model_000003.pth", FRAMES)
    return ["--data_dir", str(tmp_path / "clip"), "--save_dir", str(tmp_path / "out"), "--expname=test", "--device=cpu"]


@pytest.fixture
def run(flags, tmp_path):
    """Calls viz with extra flags; returns where its pictures are."""

    def call(*extra: str) -> Path:
        viz.main([*flags, *extra])
        return tmp_path / "out" / "test_clip" / "vis"

    return call


@pytest.fixture
def view(flags):
    """The view that viz draws under extra flags."""

    def call(*extra: str) -> View:
        return viz.open_view(parse_viz([*flags, *extra]))[0]

    return call


def write_clip(folder: Path, height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(FRAMES):
        noise = rng.integers(0, 255, (5, 8, 3), np.uint8)
        write_image(folder / f"{i:05d}.png", cv2.resize(noise, (width, height)))


def save_model(path: Path, num_frames: int, **flags: str | int) -> None:
    config = ModelConfig(num_frames, HEIGHT, WIDTH, num_layers=2, num_samples_ray=4, **SIZES)
    model = OmniMotion.initialised(config, seed=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model_config": asdict(model.config), "model": model.state_dict(), "step": 3, "flags": flags}, path)


def write_mask(folder: Path, name: str, value: int = 255) -> Path:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:15, 8:20] = value
    folder.mkdir(exist_ok=True)
    write_image(folder / name, mask)
    return folder / name


def fails(call, capsys, *flags: str) -> str:
    """The message on stderr with which viz exits with status 2."""
    with pytest.raises(SystemExit) as stop:
        call(*flags)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_all_pictures_are_made_of_frames_and_checkpoint_alone(run, tmp_path, capsys):
    before = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert before == {"00000.png", "00001.png", "00002.png", "model_000003.pth"}
    folder = run("--query_frame_id", "1")
    names = ["00001_grid", "00001_trails", "00001_rainbow", "00001_flow", "color", "depth", "canonical"]
    printed = capsys.readouterr().out
    assert "no foreground mask" in printed
    for name in names:
        assert len(list(read_video(folder / f"{name}.mp4"))) == FRAMES
        assert probe_video(folder / f"{name}.mp4").fps == 10
        assert str(folder / f"{name}.mp4") in printed and str(folder / f"{name}.png") in printed
    expected = {f"{n}{s}" for n in names for s in (".mp4", ".png")}
    assert {path.name for path in folder.iterdir()} == {"overview.png", "index.html", *expected}
    assert f"every pixel of {FRAMES} query frames" in printed and str(folder / "index.html") in printed


def test_pictures_of_an_uneven_clip_play_at_its_mean_rate(run, tmp_path, monkeypatch):
    """Frames at 0, 0.1 and 0.4 s."""
    monkeypatch.chdir(tmp_path)
    pages = [Image.open(path) for path in sorted((tmp_path / "clip" / "color").iterdir())]
    pages[0].save("clip.gif", save_all=True, append_images=pages[1:], duration=[100, 300, 100])
    folder = run("--data_dir", "clip.gif", "--style", "trails", "page")
    drawn = probe_video(folder / "00000_trails.mp4")
    assert drawn.fps == pytest.approx(5) and drawn.num_frames == FRAMES
    assert '"fps": 5.0' in (folder / "index.html").read_text(encoding="utf-8")


def test_the_page_alone_can_be_drawn(run, tmp_path):
    folder = run("--style", "page", "--fps", "24")
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    assert '"fps": 24.0' in (folder / "index.html").read_text(encoding="utf-8")


def test_a_run_s_folder_is_enough(tmp_path, capsys):
    write_clip(tmp_path / "clip" / "color", HEIGHT, WIDTH)
    folder = tmp_path / "out" / "test_clip"
    save_model(folder / "model_000003.pth", FRAMES, data_dir=str(tmp_path / "clip"), query_frame_id=2, num_iters=7)
    viz.main(["--run", str(folder), "--style", "trails", "page", "--device", "cpu"])
    assert {path.name for path in (folder / "vis").glob("00002*")} == {"00002_trails.mp4", "00002_trails.png"}
    assert '"name": "test_clip"' in (folder / "vis" / "index.html").read_text(encoding="utf-8")
    assert "step 3 of 7" in capsys.readouterr().out


def test_exports_take_the_place_of_pictures(run, capsys):
    folder = run("--export", "npz,nuke", "--query_frame_id", "1").with_name("export")
    assert {path.name for path in folder.iterdir()} == {"tracks.npz", "tracks.nk"}
    assert not folder.with_name("vis").exists()
    assert str(folder / "tracks.nk") in capsys.readouterr().out
    assert (np.load(folder / "tracks.npz")["queries"][:, 0] == 1).all()


def test_exports_go_to_out(run, tmp_path):
    pictures = run("--export", "csv", "--out", str(tmp_path / "shots"))
    assert [path.name for path in (tmp_path / "shots").iterdir()] == ["tracks.csv"]
    assert not pictures.exists() and not pictures.with_name("export").exists()


def test_training_does_not_start_from_networks_alone(flags):
    view, checkpoint = viz.open_view(parse_viz(flags))
    with pytest.raises(InputError, match="lacks optimizer, scheduler"):
        load_resume_checkpoint(checkpoint, view.clip.video, view.model.config)


def test_every_style_has_a_name_for_the_flags():
    assert (*styles.STYLES, "page") == STYLE_NAMES


def test_only_the_given_styles_frames_and_rate_are_drawn(run, tmp_path):
    run(
        "--style", "trails", "grid", "--points", "2,5,6;0,7,8", "--frames", "1:3", "--fps", "24", "--out", str(tmp_path)
    )
    names = ["00000_grid", "00002_grid", "points_trails"]
    assert {p.name for p in tmp_path.glob("*.[mp][pn][4g]")} == {
        "overview.png",
        *(f"{n}{s}" for n in names for s in (".mp4", ".png")),
    }
    for name in names:
        assert len(list(read_video(tmp_path / f"{name}.mp4"))) == 2
        assert probe_video(tmp_path / f"{name}.mp4").fps == 24


def test_queries_of_any_frames_are_tracked_both_ways_and_returned_exactly(view):
    seen = view("--points", "2,5.5,6;0,7,8;2,30,1;1,9,9")
    tracking, size = seen.options.tracking, (HEIGHT, WIDTH)
    px, occluded = seen.tracks
    for n, (t, *query) in enumerate(seen.queries):
        np.testing.assert_array_equal(px[int(t), n], np.float32(query))
        assert not occluded[int(t), n]
        others = [f for f in range(FRAMES) if f != t]
        alone = seen.model.map_points(int(t), torch.tensor([query]).float(), others, tracking.use_max_loc)
        np.testing.assert_allclose(px[others, n], alone.px[:, 0], atol=1e-4)
    part = track_points(seen.model, seen.queries, range(1, 3), tracking)
    np.testing.assert_allclose(part.px, px[1:], atol=1e-4)
    np.testing.assert_array_equal(part.occluded(tracking.occlusion_th, *size), occluded[1:])


def test_points_outside_the_image_are_not_visible_but_the_query_is(view, monkeypatch):
    model = view().model

    def map_points(src_ids: torch.Tensor, px: torch.Tensor, tgt_ids, *_, **__) -> Tracks:
        gaps = torch.tensor(list(tgt_ids))[:, None] - src_ids
        moved = px + gaps[..., None] * px.new_tensor([20.0, 0.0])
        score = (gaps == 0).float()  # occluded at the query
        return Tracks(moved, score, score)

    monkeypatch.setattr(model, "map_points", map_points)
    queries = np.array([[1, 5, 5], [1, 15, 5], [1, 31, 19]], np.float32)
    tracks = track_points(model, queries, range(FRAMES), TrackingOptions())
    np.testing.assert_array_equal(tracks.px[1], queries[:, 1:])
    occluded = tracks.occluded(0.99, HEIGHT, WIDTH)
    np.testing.assert_array_equal(occluded, [[True, True, False], [False] * 3, [False, True, True]])


@pytest.mark.parametrize("masked", [True, False])
def test_the_camera_is_what_the_background_follows(view, tmp_path, monkeypatch, masked):
    flags = ["--foreground_mask_path", str(write_mask(tmp_path / "masks", "any.png"))] if masked else []
    seen = view("--query_frame_id", "1", "--frames", "1:3", *flags)

    def map_points(src_ids: torch.Tensor, px: torch.Tensor, tgt_ids, *_, **__) -> Tracks:
        in_mask = ((px >= px.new_tensor([8, 5])) & (px < px.new_tensor([20, 15]))).all(-1, keepdim=True)
        step = torch.where(in_mask, px.new_tensor([-3.0, 1.0]), px.new_tensor([0.5, 0.25]))
        moved = torch.stack([px + (t - src_ids)[:, None] * step for t in tgt_ids])
        return Tracks(moved, torch.zeros(moved.shape[:2]), torch.zeros(moved.shape[:2]))

    monkeypatch.setattr(seen.model, "map_points", map_points)
    np.testing.assert_allclose(seen.camera, [np.eye(3), translation([-0.5, -0.25])], atol=1e-3)


def test_flow_is_the_motion_of_all_pixels_in_pixels_of_the_pictures(view, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip" / "color", 15 * HEIGHT, 15 * WIDTH)
    seen = view("--query_frame_id", "1", "--max_side", str(WIDTH))
    drawn = []

    def flow_frames(flow: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        drawn.append(flow)
        return np.zeros((FRAMES, 8, 8, 3), np.uint8)

    monkeypatch.setattr(styles, "flow_frames", flow_frames)
    styles.save_flow(seen)
    (flow,) = drawn
    px = torch.tensor([[3.0, 4.0], [30.0, 18.0]])
    moved = seen.model.map_points(1, px, [0, 2]).px - px
    np.testing.assert_allclose(flow[[0, 2]][:, [4, 18], [3, 30]], 15 * moved, rtol=2e-3, atol=0.02)
    assert (flow[1] == 0).all()


def test_what_is_rendered_is_what_the_model_renders_and_where_its_surface_is(view):
    seen = view("--frames", "1:3")
    px = torch.tensor([[3.0, 4.0], [30.0, 18.0]])
    rgb, depth = seen.model.render(2, px)
    rows, columns = [4, 18], [3, 30]
    rendered = seen.rendered
    np.testing.assert_allclose(rendered.colors[1, rows, columns] / 255, rgb, atol=0.003)
    np.testing.assert_allclose(rendered.depths[1, rows, columns], depth, atol=1e-5)
    surface = torch.from_numpy(rendered.canonical[1, rows, columns].astype(np.float32))
    local = seen.model.warp.at(torch.tensor([2])).to_local(surface[None])[0]
    back = project(local, HEIGHT, WIDTH)  # a surface point lies on its pixel's ray
    np.testing.assert_allclose(back.detach(), px, atol=0.05)


def test_a_mask_of_any_frame_and_a_region_choose_the_points(view, tmp_path):
    mask = write_mask(tmp_path / "masks", "any.png")  # x 8 to 19, y 5 to 14
    queries = view("--foreground_mask_path", str(mask), "--query_frame_id", "2", "--random", "120").queries
    assert set(queries[:, 0]) == {2} and len(np.unique(queries, axis=0)) == 120
    assert queries[:, 1:].min(0).tolist() == [8, 5] and queries[:, 1:].max(0).tolist() == [19, 14]
    queries = view("--foreground_mask_path", str(mask), "--region", "0,0,10,7", "--grid_interval", "1").queries
    assert sorted(map(tuple, queries[:, 1:])) == [(x, y) for x in (8, 9) for y in (5, 6)]
    assert len(view("--grid_interval", "4").queries) == WIDTH * HEIGHT / 16


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--points", "0,5,5;3,5,5"], "t from 0 to 2"),
        (["--points", "0,32,5"], "x from 0 to 31"),
        (["--points", "0,5,5", "--random", "3"], "--points gives all query points"),
        (["--region", "0,0,33,20"], "x up to 32 and y up to 20"),
        (["--random", "641"], "there are 640 pixels"),
        (["--frames", "1:4"], "expected at most 3, as many as the clip has"),
        (["--frames", "2:1"], "holds no frame"),
        (["--export", "npz,ae"], "ae needs the frame rate"),
        (["--export", "blender", "--first_frame", "1048573"], "Blender counts to 1048574"),
        (["--fps", "0"], "expected a number of at least 0.001 and at most 1000"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_computed(run, capsys, monkeypatch, extra, message):
    monkeypatch.setattr("networks.run_checkpoints.load_trained", lambda *_: pytest.fail("too late"))
    assert message in fails(run, capsys, *extra)


def test_an_empty_mask_and_region_are_refused(run, tmp_path, capsys):
    mask = write_mask(tmp_path / "masks", "any.png")
    assert "none in common" in fails(run, capsys, "--foreground_mask_path", str(mask), "--region", "0,0,5,5")


def test_pictures_have_the_size_of_the_frames_before_they_were_reduced(run, view, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "clip" / "color"
    write_clip(source, 320, 511)
    flags = ["--max_side", str(WIDTH), "--points", "0,0,0;0,31,19;0,10,10", "--vis_occlusion"]
    folder = run(*flags, "--style", "grid", "canonical")
    for style, size in {"00000_grid": (320, 2 * 511 + 2), "canonical": (320, 512)}.items():
        assert read_frame_of(folder / f"{style}.mp4").shape == (*size, 3)
    seen = view(*flags)
    np.testing.assert_allclose(seen.tracks[0][0], [[7.484, 7.5], [502.516, 311.5], [167.172, 167.5]], atol=0.01)
    np.testing.assert_array_equal(next(seen.originals.read([2])), read_frame(source / "00002.png"))
    write_image(source / "00001.png", np.zeros((320, 511, 3), np.uint8))
    changed = original_frames(seen.clip.paths, seen.clip.video)
    assert changed.size == (HEIGHT, WIDTH) and changed.is_fallback and not seen.originals.is_fallback


def test_a_videos_own_rate_and_frames_are_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    video = np.random.default_rng(0).integers(0, 255, (FRAMES, 4, 6, 3), np.uint8).repeat(75, 1).repeat(80, 2)
    write_video(tmp_path / "film.mp4", video, fps=17)
    save_model(tmp_path / "out" / "_film" / "model_000003.pth", FRAMES)
    flags = ["--data_dir", "film.mp4", "--max_side", str(WIDTH), "--device", "cpu"]
    viz.main([*flags, "--style", "trails", "--frames", "1:3"])
    drawn = tmp_path / "out" / "_film" / "vis" / "00000_trails.mp4"
    assert probe_video(drawn).fps == 17
    assert len(list(read_video(drawn))) == 2 and read_frame_of(drawn).shape == (300, 480, 3)
    viz.main([*flags, "--export", "ae,blender", "--points", "0,31,19"])
    (keyframes,) = (tmp_path / "out" / "_film" / "export" / "after_effects").iterdir()
    header, keys = keyframes.read_text().split("Transform\tPosition\n")
    assert "\tUnits Per Second\t17\n\tSource Width\t480\n\tSource Height\t300\n" in header
    assert keys.splitlines()[1] == "\t0\t472.5000\t292.5000\t0\t"  # 31.5 and 19.5 of 32x20, times 15
    frames = sorted((tmp_path / "out" / "_film" / "export" / "blender" / "frames").iterdir())
    assert len(frames) == FRAMES and read_frame(frames[0]).shape == (300, 480, 3)


def read_frame_of(path: Path) -> np.ndarray:
    return next(read_video(path))


POINTS_FILES: dict[str, str | list[list[float]]] = {
    "array.npy": [[1, 20, 5.5], [0, 9, 6]],
    "lists.json": "[[1, 20, 5.5], [0, 9, 6]]",
    "objects.json": '[{"frame": 1, "x": 20, "y": 5.5}, {"frame": 0, "x": 9, "y": 6}]',
    "commas.txt": "1,20,5.5\n0,9,6\n",
    "semicolons.csv": "1;20;5,5\n0;9;6\n",
    "header.csv": "\ufeffy,x,t\r\n5.5,20,1\r\n6,9,0\r\n",
}


@pytest.mark.parametrize("name", POINTS_FILES)
def test_points_of_every_kind_of_file_are_exported(run, tmp_path, name):
    path, content = tmp_path / name, POINTS_FILES[name]
    if isinstance(content, str):
        path.write_bytes(content.encode())
    else:
        np.save(path, content)
    run("--points", str(path), "--export", "csv", "--out", str(tmp_path / "export"))
    with (tmp_path / "export" / "tracks.csv").open(newline="", encoding="utf-8") as file:
        rows = [[float(row[key]) for key in ("query_frame", "query_x", "query_y")] for row in csv.DictReader(file)]
    assert rows == [[1, 20, 5.5]] * FRAMES + [[0, 9, 6]] * FRAMES


def test_names_in_a_csv_of_points_are_exported(run, tmp_path):
    (tmp_path / "points.csv").write_text("part;y;x;frame\nleft ear;5,5;20;1\nnose;6;9;0\n", encoding="utf-8")
    formats, out = "npz,csv,nuke,ae,blender,napari,dlc", str(tmp_path / "export")
    run("--points", str(tmp_path / "points.csv"), "--export", formats, "--out", out, "--fps", "25")
    for name in ("tracks.nk", "blender/tracks.py", "tracks_napari.csv", "tracks_dlc.csv"):
        text = (tmp_path / "export" / name).read_text(encoding="utf-8")
        assert "left ear" in text and "nose" in text
    keyframes = (tmp_path / "export" / "after_effects").iterdir()
    assert sorted(path.name for path in keyframes) == ["0_left ear.txt", "1_nose.txt"]
    with np.load(tmp_path / "export" / "tracks.npz") as file:
        assert file["names"].tolist() == ["left ear", "nose"]
        assert file["queries"].tolist() == [[1, 20, 5.5], [0, 9, 6]]
    header, first, *_, last = (tmp_path / "export" / "tracks.csv").read_text().splitlines()
    assert header.endswith(",name") and first.endswith(",left ear") and last.endswith(",nose")


def test_the_sequences_own_mask_is_found(run, tmp_path, capsys):
    write_mask(tmp_path / "clip" / "mask", "00000.png")
    run("--style", "grid")
    assert "no foreground mask" not in capsys.readouterr().out
    run("--style", "grid", "--query_frame_id", "2")
    assert "no foreground mask" in capsys.readouterr().out


def test_a_mask_file_can_be_given(run, tmp_path, capsys):
    run("--style", "grid", "--foreground_mask_path", str(write_mask(tmp_path / "masks", "any.png")))
    assert "no foreground mask" not in capsys.readouterr().out


def test_wrong_masks_are_refused(run, tmp_path, capsys):
    assert "nothing.png" in fails(run, capsys, "--foreground_mask_path", str(tmp_path / "nothing.png"))
    empty = write_mask(tmp_path / "masks", "empty.png", 0)
    assert "selects nothing" in fails(run, capsys, "--foreground_mask_path", str(empty))
    small = tmp_path / "masks" / "small.png"
    write_image(small, np.full((4, 4), 255, np.uint8))
    assert "4x4" in fails(run, capsys, "--foreground_mask_path", str(small))


def test_a_mask_without_background_is_drawn_as_no_mask(view, tmp_path):
    everything = tmp_path / "all.png"
    write_image(everything, np.full((HEIGHT, WIDTH), 255, np.uint8))
    np.testing.assert_array_equal(view("--foreground_mask_path", str(everything)).camera, view().camera)


def test_a_query_frame_outside_the_clip_is_refused(run, capsys):
    assert f"0 to {FRAMES - 1}" in fails(run, capsys, "--query_frame_id", str(FRAMES))
    assert "--query_frame_id: found -1" in fails(run, capsys, "--query_frame_id", "-1")


def test_missing_and_foreign_checkpoints_are_refused(run, tmp_path, capsys):
    assert "train first" in fails(run, capsys, "--expname", "never_trained")
    save_model(tmp_path / "longer.pth", FRAMES + 1)
    message = fails(run, capsys, "--ckpt_path", str(tmp_path / "longer.pth"))
    assert "(4, 20, 32)" in message and "(3, 20, 32)" in message


def test_a_slow_model_is_rendered_at_fewer_pixels_on_a_cpu():
    models = (OmniMotion(ModelConfig(FRAMES, HEIGHT, WIDTH, [0, 1], num_samples_ray=k, **SIZES)) for k in (4, 64))
    few_samples, many_samples = (affordable_side(model) or 0 for model in models)
    assert few_samples == pytest.approx(4 * many_samples, rel=0.01) and many_samples > 0
