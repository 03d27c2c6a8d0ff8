"""Query points from text, files, masks and grids."""

import argparse

import numpy as np
import pytest

from configs.flag_table import parse_frames, parse_rectangle
from utils.errors import InputError
from visualization.query_files import read_queries
from visualization.query_points import MAX_POINTS, check_queries, choose_points, grid_points
from visualization.query_records import QueryPoints

EXPECTED = np.array([[0, 1.5, 2], [3, 40, 50]], np.float32)
SIZE = (480, 640)


def test_points_are_read_from_the_flag_itself():
    np.testing.assert_array_equal(read_queries("0,1.5,2;3,40,50").points, EXPECTED)
    np.testing.assert_array_equal(read_queries("0,1.5,2; 3,40,50;").points, EXPECTED)
    np.testing.assert_array_equal(read_queries("3,40,50").points, EXPECTED[1:])


@pytest.mark.parametrize(
    "text",
    [
        "0,1.5,2\n3,40,50\n",
        "t,x,y\n0,1.5,2\n3,40,50",
        "# mine\n0 1.5 2\n\n3\t40 50  # nose\n",
        "0.000e+00 1.500e+00 2.000e+00\n3e0 4e+01 50",
        "\ufefft,x,y\n0,1.5,2\r\n3,40,50",
        "0;1.5;2\n3;40;50",
        "0;1,5;2\n3;40;50",
        "x,y,t\n1.5,2,0\n40,50,3",
        "Frame; Y; X\n0; 2; 1,5\n3; 50; 40\n",
        "# y x t\n2 1.5 0\n50 40 3",
        "t,x,y\n0,1.5,2 # nose\n3 40 50",
    ],
)
def test_points_are_read_from_a_text_file(tmp_path, text):
    (tmp_path / "points.csv").write_bytes(text.encode())
    np.testing.assert_array_equal(read_queries(str(tmp_path / "points.csv")).points, EXPECTED)
    assert read_queries(str(tmp_path / "points.csv")).names == ()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("name,t,x,y\nleft ear,0,1.5,2\nnose,3,40,50", ("left ear", "nose")),
        ('t;x;y;label\n0;1,5;2;"ear; left"\n\n# no point\n3;40;50;point #2\n', ("ear; left", "point #2")),
        ("side\tframe\tx\ty\tpart\nleft\t0\t1.5\t2\tear\n\t3\t40\t50\tnose", ("left ear", "nose")),
        ("t,x,y,name\n0,1.5,2,\n3,40,50,nose", ("", "nose")),
        ("t,frame,x,y\n0.04,0,1.5,2\n0.16,3,40,50", ("0.04", "0.16")),
    ],
)
def test_other_columns_are_the_points_names(tmp_path, text, names):
    (tmp_path / "points.csv").write_text(text, encoding="utf-8")
    queries = read_queries(str(tmp_path / "points.csv"))
    np.testing.assert_array_equal(queries.points, EXPECTED)
    assert queries.names == names


def test_points_are_read_from_json(tmp_path):
    lists, objects = (
        "[[0, 1.5, 2], [3, 40, 50]]",
        '[{"frame": 0, "x": 1.5, "y": 2, "id": 7}, {"y": 50, "x": 40, "t": 3}]',
    )
    np.testing.assert_array_equal(read_queries(lists).points, EXPECTED)
    for text, names in ((lists, ()), (objects, ("7", ""))):
        (tmp_path / "points.json").write_text(text, encoding="utf-8")
        queries = read_queries(str(tmp_path / "points.json"))
        np.testing.assert_array_equal(queries.points, EXPECTED)
        assert queries.names == names


def test_points_are_read_from_arrays(tmp_path):
    np.savez(tmp_path / "q.npz", queries=EXPECTED.astype(np.float64), other=np.zeros(3))
    np.save(tmp_path / "q.npy", EXPECTED.astype(np.float64))
    for name in ("q.npz", "q.npy"):
        np.testing.assert_array_equal(read_queries(str(tmp_path / name)).points, EXPECTED)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("0,1;2,3", "found '0,1', expected t,x,y"),
        ("0,1,2;a,b,c", "line 2: found 'a,b,c'"),
        ("0.5,1,2", r"1 of 1 points cannot be used, point 1 \(0.5,1,2\)"),
        ("0,nan,2", r"point 1 \(0,nan,2\)"),
        (";", "holds no point"),
        ("nowhere.txt", "cannot read --points nowhere.txt"),
        ("nowhere.npz", "cannot read --points nowhere.npz"),
        ("[[0, 1, 2], [3, 4]]", r"--points, point 2: found \[3, 4\], expected a list"),
        ('[{"t": 0, "x": 1}]', "point 1: found .*expected a list of"),
        ("[[0, 1, 2]", "cannot read --points as JSON"),
        ("[]", "holds no point"),
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
    (tmp_path / "other.csv").write_text("time,px,py\n0,1,2\n")
    (tmp_path / "twice.csv").write_text("t,x,y,x\n0,1,2,3\n")
    (tmp_path / "short.csv").write_text("t,x,y,name\n0,1,2,a\n0,1,2\n")
    np.save(tmp_path / "flat.npy", np.zeros(3))
    expected = {
        "bad.npz": "an npz",
        "lines.txt": "line 3: found '0,1', expected t,x,y",
        "first.txt": "line 1",
        "empty.txt": "no point",
        "other.csv": r"line 1: the columns are time, px, py, expected t \(or frame\), x, y",
        "twice.csv": "the columns are t, x, y, x, expected",
        "short.csv": "line 3: found '0,1,2', expected t,x,y,name",
        "flat.npy": r"holds an array \[3\]: expected an npy file with an array \[N,3\]",
    }
    for name, message in expected.items():
        with pytest.raises(InputError, match=message):
            read_queries(str(tmp_path / name))


@pytest.mark.parametrize("corner", [(0, 0, 0), (4, 639, 479)])
def test_the_corners_of_clip_and_image_can_be_asked(corner):
    check_queries(QueryPoints(np.array([corner], np.float32)), 5, *SIZE)


@pytest.mark.parametrize("query", [(-1, 5, 5), (5, 5, 5), (0, -0.1, 5), (0, 639.1, 5), (0, 5, -1), (0, 5, 480)])
def test_queries_outside_clip_or_image_are_refused(query):
    with pytest.raises(InputError, match=r"1 of 2 .* point 2 \(.* t from 0 to 4, x from 0 to 639 and y from 0 to 479"):
        check_queries(QueryPoints(np.array([(0, 1, 1), query], np.float32)), 5, *SIZE)


def test_the_first_five_points_outside_are_listed_by_line(tmp_path):
    lines = ["t,x,y", "0,1,1", "", *(f"0,{x},1" for x in range(636, 648))]  # x is 640 in line 8
    (tmp_path / "points.csv").write_text("\n".join(lines))
    queries = read_queries(str(tmp_path / "points.csv"))
    with pytest.raises(InputError) as refused:
        check_queries(queries, 5, *SIZE)
    listed = "line 8 (0,640,1), line 9 (0,641,1), line 10 (0,642,1), line 11 (0,643,1), line 12 (0,644,1) and 3 more"
    assert f"8 of 13 points (t,x,y) are outside, {listed}: expected t from 0 to 4" in str(refused.value)


def test_too_many_queries_are_refused():
    with pytest.raises(InputError, match=f"at most {MAX_POINTS}"):
        check_queries(QueryPoints(np.zeros((MAX_POINTS + 1, 3), np.float32)), 5, *SIZE)


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
    assert parse_frames("3:9") == (3, 9) and parse_rectangle("1,2,30,40") == (1, 2, 30, 40)
    wrong = {
        parse_frames: ["3", "9:3", "3:3", "-1:4", "a:b", ":"],
        parse_rectangle: ["1,2,3", "5,5,5,9", "-1,0,3,3", "a,b,c,d"],
    }
    for parse, texts in wrong.items():
        for text in texts:
            with pytest.raises(argparse.ArgumentTypeError, match="expected"):
                parse(text)
