"""Videos, their contact sheets and the overview of these."""

import numpy as np
import pytest

from utils.ffmpeg import probe_video
from utils.images import read_frame, write_image
from utils.video import read_video
from visualization.contact_sheet import save_overview, save_with_sheet
from visualization.marks import title_plate


@pytest.mark.parametrize("size", [(480, 640), (27, 35)])
def test_a_video_has_the_frames_and_the_rate_asked_for_and_even_sides(tmp_path, size):
    frames = (np.full((*size, 3), 10 * k, np.uint8) for k in range(7))
    mp4, png = save_with_sheet(tmp_path, "v", frames, range(3, 10), 12.5)
    back = list(read_video(mp4))
    assert len(back) == 7 and back[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    assert probe_video(mp4).fps == 12.5
    assert png.exists()


def test_a_contact_sheet_shows_first_and_last_frame_and_fits_a_screen(tmp_path):
    def sheet(*shape: int) -> np.ndarray:
        frames = np.arange(11, dtype=np.uint8)[:, None, None, None] * np.full((1, *shape, 3), 20, np.uint8)
        return read_frame(save_with_sheet(tmp_path, "v", frames, range(11), 10)[1])

    picture = sheet(480, 640)
    band = title_plate("frame 0", 0.5).shape[0]
    assert picture.shape == (2 * (480 + band), 1920, 3)
    assert (picture[band:480, :640] == 0).all() and (picture[-480:, -640:] == 200).all()
    wide, tall = sheet(480, 1282), sheet(480, 500)
    assert wide.shape[1] == 1920 and wide.shape[0] > 3 * 350  # two in a row, three rows
    assert tall.shape[1] == 1500


def test_the_overview_holds_every_sheet_under_its_name(tmp_path):
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    sheets = [tmp_path / f"{i}.png" for i in range(3)]
    for path, color in zip(sheets, colors, strict=True):
        write_image(path, np.full((50, 100, 3), color, np.uint8))
    picture = read_frame(save_overview(tmp_path / "overview.png", sheets))
    assert picture.shape[1] == 1920
    for color in colors:
        assert (picture == color).all(-1).sum() == 480 * 960
