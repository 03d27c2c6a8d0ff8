"""The interactive page as a file: HTML with its data inside, as base64 of small binary blocks.

What the page shows of names and flags goes in as JSON in which no character can end a script or start a tag; the
browser is told (by a content security policy) to run the page's own script only and to load nothing.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.atomic import atomic_path

TEMPLATE = Path(__file__).resolve().parent / "page_template"
SCRIPTS = ("tracks.js", "drawing.js", "details.js", "player.js", "app.js")
STEPS = 8  # positions are rounded to 1/STEPS pixels
# As text for JSON.parse these are the same; as part of HTML they are only text.
ESCAPES = {character: f"\\u{ord(character):04x}" for character in "<>&"}


class PageFile:
    """A page that is being written; `size` is what it has now, in bytes."""

    def __init__(self, file: BinaryIO):
        self._file, self.size = file, 0

    def text(self, text: str) -> None:
        """Append a piece of HTML."""
        data = text.encode("utf-8")
        self._file.write(data)
        self.size += len(data)

    def block(self, name: str, data: bytes) -> None:
        """Append a binary block, which the script finds by its name."""
        self.text(f'<script type="text/plain" id="data-{name}">{base64.b64encode(data).decode("ascii")}</script>\n')

    def json(self, name: str, value: object) -> None:
        """Append plain data (no infinite numbers), whatever text it holds."""
        self.text(f'<script type="application/json" id="data-{name}">{escaped_json(value)}</script>\n')


@contextmanager
def open_page(path: Path) -> Iterator[PageFile]:
    """Write the page `path` around the blocks that are appended meanwhile; whole or not at all."""
    style = (TEMPLATE / "page.css").read_text(encoding="utf-8")
    script = "".join((TEMPLATE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    page = (TEMPLATE / "page.html").read_text(encoding="utf-8")
    for name, content in (("style", style), ("script", script)):
        page = page.replace(f"{{{{{name} digest}}}}", _digest(content)).replace(f"{{{{{name}}}}}", content)
    before, after = page.split("{{data}}\n")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        writer = PageFile(file)
        writer.text(before)
        yield writer
        writer.text(after)


def escaped_json(value: object) -> str:
    """JSON in ASCII that HTML takes for plain text: no `<`, `>`, `&`, nor a line separator of JavaScript."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return "".join(ESCAPES.get(character, character) for character in text)


def _digest(text: str) -> str:
    """What a content security policy calls this script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def quantised(px: NDArray) -> NDArray[np.int16]:
    """Pixels → int16 in units of 1/STEPS; what lies farther out than ±4095.9 pixels is put there."""
    largest = np.iinfo(np.int16).max
    return np.rint(np.clip(px * STEPS, -largest, largest)).astype(np.int16)


def pack_tracks(places: NDArray[np.int16], unseen: NDArray[np.bool_]) -> bytes:
    """Tracks of a grid of points, deflated (zlib).

    Of every frame: change since the frame before (frame 0: the place itself), as difference to that of the neighbour
    to the left, folded to 0, −1, 1, −2, 2 … → 0, 1, 2, 3, 4 …: low bytes of all x, then of all y, then the high bytes;
    then one bit a point. On the demo 0.48 bytes for each place, of 4 (0.64 as base64).

    Args:
        places: [T,2,rows,columns] as `quantised`. unseen: [T,rows,columns].
    """
    deflate, before = zlib.compressobj(9), np.zeros_like(places[0])
    packed = bytearray()
    for place, bits in zip(places, unseen, strict=True):
        change = place - before  # integers of 16 bits wrap around, in the browser as well
        change[..., 1:] -= change[..., :-1].copy()
        folded = ((change << 1) ^ (change >> 15)).astype("<u2").reshape(-1)
        for plane in (folded & 255, folded >> 8):
            packed += deflate.compress(plane.astype(np.uint8).tobytes())
        packed += deflate.compress(np.packbits(bits).tobytes())
        before = place
    return bytes(packed + deflate.flush())


def webp(rgb: NDArray[np.uint8], quality: int) -> bytes:
    """A picture [H,W,3] as WebP."""
    _, data = cv2.imencode(".webp", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, quality])
    return data.tobytes()


def text_size(num_bytes: int) -> int:
    """Bytes of the page that a block of so many bytes takes."""
    return -(-num_bytes // 3) * 4 + 60  # base64, and the element around it
