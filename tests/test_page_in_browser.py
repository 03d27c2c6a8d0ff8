"""The interactive page as somebody uses it: in a headless Chromium, from a file, by mouse, touch and keyboard."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from networks.omnimotion import OmniMotion
from tests.browser import Page, browser, find_chromium
from tests.test_page import FRAMES, HEIGHT, HOSTILE, WIDTH, make_page
from visualization import page_tracks
from visualization.colors import flow_to_color

SPACING = 3
QUERIES = (0, 2, 4)
SHIFT, ROUNDING = 8, 1 / 16 + 1e-3

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium found: `apt-get install chromium` (or Google Chrome) lets this run"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, OmniMotion, np.ndarray]:
    """A page with hostile names, its model, its frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_tracks, "plan_grids", lambda *_: (SPACING, len(QUERIES)))
        return make_page(tmp_path_factory.mktemp("page"), HOSTILE)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    assert CHROMIUM is not None
    with browser(CHROMIUM, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def shown(chromium: Page, made):
    """The page, freshly opened; an error that it reports fails the test."""
    chromium.open(made[0], 1200, 900)
    chromium.wait("view.tracks !== null")
    chromium.errors.clear()
    yield chromium
    assert chromium.errors == []


def to_window(shown: Page, x: float, y: float) -> tuple[float, float]:
    """Where pixel (x, y) of the video is in the window."""
    left, top, width = shown.run("(r => [r.left, r.top, r.width])(picture.getBoundingClientRect())")
    return left + (float(x) + 0.5) * width / WIDTH, top + (float(y) + 0.5) * width / WIDTH


def go_to(shown: Page, frame: int) -> None:
    shown.run(f"show({frame})")
    shown.wait(f"view.frame === {frame}")


def kept_csv(shown: Page) -> list[dict[str, float]]:
    rows = csv.DictReader(io.StringIO(shown.run("tracksCsv(view.kept)")))
    return [{name: float(value) for name, value in row.items()} for row in rows]


def grid_tracks(model: OmniMotion, query: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The grid's points [N,2] of a query frame, and the model's tracks of them: pixels [T,N,2], visible [T,N]."""
    queries = page_tracks.Grid.centered(query, SPACING, HEIGHT, WIDTH).queries()
    tracks = model.track(queries)
    return queries[:, 1:].numpy(), tracks.px.numpy(), ~tracks.occluded(0.3, HEIGHT, WIDTH).numpy()


def same_as_model(rows: list[dict], px: np.ndarray, visible: np.ndarray) -> None:
    assert [row["frame"] for row in rows] == list(range(FRAMES))
    assert np.abs([[row["x"], row["y"]] for row in rows] - px).max() <= ROUNDING
    assert [bool(row["visible"]) for row in rows] == visible.tolist()


def test_a_clicked_pixel_gives_the_models_track(shown, made):
    points, px, visible = grid_tracks(made[1], 2)
    assert shown.run("view.frame") == 2  # it opens at the query frame
    for k in (0, 40, len(points) - 1):
        shown.click(*to_window(shown, *points[k]))
    rows = kept_csv(shown)
    for number, k in enumerate((0, 40, len(points) - 1)):
        mine = [row for row in rows if row["track"] == number]
        assert {(row["query_frame"], row["query_x"], row["query_y"]) for row in mine} == {(2, *points[k])}
        same_as_model(mine, px[:, k], visible[:, k])
    assert shown.run("document.querySelectorAll('#tracks li').length") == 3


@pytest.mark.parametrize("query", QUERIES)
def test_the_nearest_visible_point_is_followed_in_any_frame_from_any_query_frame(shown, made, query):
    points, px, visible = grid_tracks(made[1], query)
    shown.run(f"chooseQuery({QUERIES.index(query)})")
    shown.wait("view.tracks !== null")
    frame = 3
    go_to(shown, frame)
    compared = 0
    for x, y in np.random.default_rng(query).uniform((0, 0), (WIDTH - 1, HEIGHT - 1), (12, 2)):
        away = np.where(visible[frame], np.hypot(*(px[frame] - (x, y)).T), np.inf)
        nearest, second = np.argsort(away)[:2]
        # Where two are as near, or one as far as is still taken, rounding decides.
        if away[second] - away[nearest] < 0.2 or abs(away[nearest] - 3 * SPACING) < 0.2:
            continue
        shown.mouse("mouseMoved", *to_window(shown, x, y))
        text = shown.run("document.getElementById('readout').textContent")
        if away[nearest] > 3 * SPACING:
            assert text == f"Nothing of frame {query} is visible here."
            continue
        compared += 1
        assert shown.run("view.hovered.point") == nearest
        start, position = points[nearest], np.round(px[frame, nearest] * 8) / 8
        assert text.startswith(f"Pixel ({start[0]:.0f}, {start[1]:.0f}) of frame {query} is in frame {frame} at (")
        found = [float(part) for part in text.split(" at (")[1].split(")")[0].split(", ")]
        assert np.abs(found - position).max() <= 1 / 8 + 0.01
        assert f"visible in {visible[:, nearest].sum()} of {FRAMES} frames" in text
    assert compared >= 4


def test_frames_are_shown_in_order_and_the_right_way_up(shown, made):
    for t in (0, 4):
        go_to(shown, t)
        shown.run("picture.getContext('2d').drawImage(base, 0, 0)")
        mean = shown.run(
            "(d => [0, 1, 2].map(c => d.filter((_, k) => k % 4 === c).reduce((a, b) => a + b) / d.length * 4))"
            "([...picture.getContext('2d').getImageData(0, 0, picture.width, picture.height).data])"
        )
        np.testing.assert_allclose(mean, made[2][t].mean((0, 1)), atol=4)


def test_a_frame_that_is_decoded_late_does_not_replace_a_later_request(shown):
    go_to(shown, 0)
    go_to(shown, 1)
    shown.run("images.get('frame-0').decode = () => new Promise(done => setTimeout(done, 100))")
    shown.run("Promise.all([show(0), show(4)])")
    assert shown.run("[view.frame, Number(byId('time').value), byId('clock').textContent]") == [4, 4, "4 / 4"]


def test_keys_step_play_follow_keep_and_remove(shown):
    shown.key("Home")
    shown.wait("view.frame === 0")
    shown.key("ArrowRight")
    shown.wait("view.frame === 1")
    shown.key("End")
    shown.wait(f"view.frame === {FRAMES - 1}")
    shown.key(" ")
    shown.wait("view.frame === 2")  # after the end it starts again
    shown.key(" ")
    assert shown.run("view.playing") is None
    shown.key("]")
    shown.wait("view.query === 2 && view.tracks !== null")
    shown.key("q")
    shown.wait(f"view.frame === {QUERIES[2]}")
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        shown.key(key, SHIFT)
    shown.key("Enter")
    (x, y), *_ = [(row["query_x"], row["query_y"]) for row in kept_csv(shown)]
    assert abs(x - (WIDTH / 2 + 2 * SPACING)) <= SPACING and abs(y - (HEIGHT / 2 - SPACING)) <= SPACING
    shown.key("d")
    shown.wait("view.overlay === 'depth'")
    shown.key("f")
    shown.wait("view.overlay === 'flow'")
    shown.key("Backspace")
    assert shown.run("view.kept.length") == 0 and shown.run("document.getElementById('csv').disabled")


def test_a_tap_keeps_the_track_below_it(shown, made):
    points, px, visible = grid_tracks(made[1], 2)
    shown.send("Emulation.setTouchEmulationEnabled", enabled=True)
    x, y = to_window(shown, *points[50])
    shown.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    shown.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    shown.wait("view.kept.length === 1")
    shown.send("Emulation.setTouchEmulationEnabled", enabled=False)
    same_as_model(kept_csv(shown), px[:, 50], visible[:, 50])


def test_kept_tracks_are_saved_as_csv(shown, tmp_path):
    shown.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    shown.click(*to_window(shown, 20, 20))
    shown.key("s")
    shown.run("new Promise(done => setTimeout(done, 500))")
    (file,) = tmp_path.glob("*.csv")
    assert not set(file.name) & set("<>/\\'\"& ")
    assert file.read_text() == shown.run("tracksCsv(view.kept)")
    assert len(file.read_text().splitlines()) == 1 + FRAMES


def test_names_are_shown_and_never_run(shown):
    name = f"{HOSTILE}_seq"
    assert shown.run("document.getElementById('title').textContent") == name
    shown.wait(f"document.title.includes({HOSTILE[:20]!r})")
    assert HOSTILE in shown.run("document.getElementById('settings').textContent")
    assert shown.run("document.images.length") == 0 and shown.run("typeof hacked") == "undefined"


def test_the_browser_runs_nothing_else(shown):
    """The second defence, should text ever be put into HTML."""
    shown.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"hacked = 1\">')")
    shown.run("fetch('https://example.com').catch(() => 0)")
    shown.run("new Promise(done => setTimeout(done, 200))")
    assert shown.run("typeof hacked") == "undefined"
    assert sum("Content Security Policy" in error for error in shown.errors) >= 2
    shown.errors.clear()


def test_flow_has_the_colours_of_the_videos(shown):
    motions = np.random.default_rng(0).normal(size=(30, 2)) * 8
    found = [shown.run(f"motionColor({dx}, {dy}, 10)") for dx, dy in motions]
    expected = flow_to_color(motions[None], 10.0)[0]
    assert np.abs(np.array(found) - expected.astype(int)).max() <= 4  # of 512 directions


def test_on_a_phone_it_is_as_wide_as_the_screen(shown, made):
    shown.open(made[0], 390, 844, mobile=True, deviceScaleFactor=2)
    shown.wait("view.tracks !== null")
    assert shown.run("document.documentElement.scrollWidth") == 390
    assert 350 < shown.run("picture.clientWidth") <= 390 and shown.run("picture.width") > 700
    assert shown.run("getComputedStyle(document.querySelector('main')).gridTemplateColumns.split(' ').length") == 1
