"""Query points from text, files, masks and grids."""

import argparse

import numpy as np
import pytest

from configs.flag_table import frame_range, rectangle
from utils.errors import InputError
from visualization.query_points import MAX_POINTS, check_queries, choose_points, grid_points, read_queries

EXPECTED = np.array([[0, 1.5, 2], [3, 40, 50]], np.float32)
SIZE = (480, 640)


def test_points_are_read_from_the_flag_itself():
    np.testing.assert_array_equal(read_queries("0,1.5,2;3,40,50"), EXPECTED)
    np.testing.assert_array_equal(read_queries("0,1.5,2; 3,40,50;"), EXPECTED)
    np.testing.assert_array_equal(read_queries("3,40,50"), EXPECTED[1:])


@pytest.mark.parametrize(
    "text",
    [
        "0,1.5,2\n3,40,50\n",
        "t,x,y\n0,1.5,2\n3,40,50",
        "# mine\n0 1.5 2\n\n3\t40 50  # nose\n",
        "0.000e+00 1.500e+00 2.000e+00\n3e0 4e+01 50",
        "\ufefft,x,y\n0,1.5,2\r\n3,40,50",
    ],
)
def test_points_are_read_from_a_text_file(tmp_path, text):
    (tmp_path / "points.csv").write_bytes(text.encode())
    np.testing.assert_array_equal(read_queries(str(tmp_path / "points.csv")), EXPECTED)


def test_points_are_read_from_an_npz(tmp_path):
    np.savez(tmp_path / "q.npz", queries=EXPECTED.astype(np.float64), other=np.zeros(3))
    np.testing.assert_array_equal(read_queries(str(tmp_path / "q.npz")), EXPECTED)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("0,1;2,3", "found '0,1', expected t,x,y"),
        ("0,1,2;a,b,c", "line 2: found 'a,b,c'"),
        ("0.5,1,2", "query 1 is 0.5,1,2"),
        ("0,nan,2", "query 1 is 0,nan,2"),
        (";", "holds no point"),
        ("nowhere.txt", "cannot read --points nowhere.txt"),
        ("nowhere.npz", "cannot read --points nowhere.npz"),
    ],
)
def test_what_is_no_list_of_points_is_refused(source, message):
    with pytest.raises(InputError, match=message):
        read_queries(source)


def test_files_of_something_else_are_refused(tmp_path):
    np.savez(tmp_path / "q.npz", tracks=np.zeros((4, 2)))
    with pytest.raises(InputError, match=r"found \['tracks'\], no queries"):
        read_queries(str(tmp_path / "q.npz"))
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    (tmp_path / "lines.txt").write_text("t,x,y\n0,1,2\n0,1\n")
    (tmp_path / "first.txt").write_text("0,x,2\n0,1,2\n")
    (tmp_path / "empty.txt").write_text("t,x,y\n")
    expected = {"bad.npz": "an npz", "lines.txt": "line 3", "first.txt": "line 1", "empty.txt": "no point"}
    for name, message in expected.items():
        with pytest.raises(InputError, match=message):
            read_queries(str(tmp_path / name))


@pytest.mark.parametrize("corner", [(0, 0, 0), (4, 639, 479)])
def test_the_corners_of_clip_and_image_can_be_asked(corner):
    check_queries(np.array([corner], float), 5, *SIZE)


@pytest.mark.parametrize("query", [(-1, 5, 5), (5, 5, 5), (0, -0.1, 5), (0, 639.1, 5), (0, 5, -1), (0, 5, 480)])
def test_queries_outside_clip_or_image_are_refused(query):
    with pytest.raises(InputError, match=r"query point 2 .* t from 0 to 4, x from 0 to 639 and y from 0 to 479"):
        check_queries(np.array([(0, 1, 1), query], float), 5, *SIZE)


def test_too_many_queries_are_refused():
    with pytest.raises(InputError, match=f"at most {MAX_POINTS}"):
        check_queries(np.zeros((MAX_POINTS + 1, 3)), 5, *SIZE)


def test_a_grid_has_its_interval_and_stays_in_the_mask():
    mask = np.zeros((50, 80), bool)
    mask[10:40, 20:70] = True
    px = choose_points(mask, interval=10)
    np.testing.assert_array_equal(np.unique(px[:, 0]), [25, 35, 45, 55, 65])
    np.testing.assert_array_equal(np.unique(px[:, 1]), [15, 25, 35])
    assert len(px) == 15


def test_random_points_are_different_pixels_of_the_mask_drawn_by_the_seed():
    mask = np.zeros((50, 80), bool)
    mask[10:20, 20:30] = True
    px = choose_points(mask, random=100, seed=3)
    assert len(np.unique(px, axis=0)) == 100 and mask[px[:, 1].astype(int), px[:, 0].astype(int)].all()
    few = [choose_points(mask, random=10, seed=seed) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(few[0], few[1])
    assert (few[0] != few[2]).any()


def test_points_that_are_not_there_are_refused():
    mask = np.zeros((50, 80), bool)
    with pytest.raises(InputError, match="no pixel to track"):
        choose_points(mask)
    mask[3:5, 3:5] = True
    with pytest.raises(InputError, match="--random is 5"):
        choose_points(mask, random=5)
    with pytest.raises(InputError, match="give a smaller one"):
        choose_points(mask, interval=30)


def test_grid_points_are_about_as_many_as_asked_and_inside_the_mask():
    assert 240 <= len(grid_points(*SIZE, 300)) <= 360
    mask = np.zeros(SIZE, bool)
    mask[100:180, 300:420] = True
    px = grid_points(*SIZE, 100, mask).astype(int)
    assert 80 <= len(px) <= 120
    assert mask[px[:, 1], px[:, 0]].all()


def test_grid_points_find_even_a_thin_mask():
    mask = np.zeros(SIZE, bool)
    mask[101, 5:600] = True
    px = grid_points(*SIZE, 4, mask).astype(int)
    assert 1 <= len(px) <= 8 and mask[px[:, 1], px[:, 0]].all()
    assert grid_points(*SIZE, 100, np.zeros(SIZE, bool)).shape == (0, 2)


def test_flags_of_frames_and_rectangles():
    assert frame_range("3:9") == (3, 9) and rectangle("1,2,30,40") == (1, 2, 30, 40)
    wrong = {
        frame_range: ["3", "9:3", "3:3", "-1:4", "a:b", ":"],
        rectangle: ["1,2,3", "5,5,5,9", "-1,0,3,3", "a,b,c,d"],
    }
    for parse, texts in wrong.items():
        for text in texts:
            with pytest.raises(argparse.ArgumentTypeError, match="expected"):
                parse(text)
