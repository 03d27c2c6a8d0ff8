"""The interactive page as a file: HTML that contains its data as base64 of small binary blocks.

Names and flags are written as JSON in which no character can end a script or start a tag. With its content security
policy, a browser runs only the page's own script and loads nothing else.
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
STEPS_PER_PIXEL = 8  # positions are rounded to 1/STEPS_PER_PIXEL pixels
# JSON.parse reads the escapes as the same characters; in HTML they have no meaning.
ESCAPES = {character: f"\\u{ord(character):04x}" for character in "<>&"}


class PageFile:
    """A page that is being written; `size` is its current size in bytes."""

    def __init__(self, file: BinaryIO):
        self._file, self.size = file, 0

    def write_html(self, text: str) -> None:
        """Append a piece of HTML."""
        data = text.encode("utf-8")
        self._file.write(data)
        self.size += len(data)

    def write_block(self, name: str, data: bytes) -> None:
        """Append a binary block, which the page's script finds by name."""
        text = base64.b64encode(data).decode("ascii")
        self.write_html(f'<script type="text/plain" id="data-{name}">{text}</script>\n')

    def write_json(self, name: str, value: object) -> None:
        """Append plain data with finite numbers; its strings may hold any text."""
        self.write_html(f'<script type="application/json" id="data-{name}">{escape_json(value)}</script>\n')


@contextmanager
def open_page(path: Path) -> Iterator[PageFile]:
    """Write the page `path`, completely or not at all, with the blocks that are appended inside the context."""
    style = (TEMPLATE / "page.css").read_text(encoding="utf-8")
    script = "".join((TEMPLATE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    page = (TEMPLATE / "page.html").read_text(encoding="utf-8")
    for name, content in (("style", style), ("script", script)):
        page = page.replace(f"{{{{{name} digest}}}}", _digest(content)).replace(f"{{{{{name}}}}}", content)
    before, after = page.split("{{data}}\n")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        writer = PageFile(file)
        writer.write_html(before)
        yield writer
        writer.write_html(after)


def escape_json(value: object) -> str:
    """Return JSON in ASCII that is plain text in HTML: no `<`, `>`, `&`, nor a line separator of JavaScript."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return "".join(ESCAPES.get(character, character) for character in text)


def _digest(text: str) -> str:
    """Return the hash with which a content security policy allows this script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def quantize_positions(px: NDArray) -> NDArray[np.int16]:
    """Round pixels to int16 in units of 1/STEPS_PER_PIXEL; positions beyond ±4095.9 pixels are clamped."""
    largest = np.iinfo(np.int16).max
    return np.rint(np.clip(px * STEPS_PER_PIXEL, -largest, largest)).astype(np.int16)


def pack_tracks(positions: NDArray[np.int16], unseen: NDArray[np.bool_]) -> bytes:
    """Pack the tracks of a grid of points, deflated (zlib); the script's `DenseTracks` unpacks them.

    For each frame: the change since the frame before (in frame 0 the position itself), minus that of the neighbour to
    the left, folded to 0, −1, 1, −2, 2 … → 0, 1, 2, 3, 4 …: low bytes of all x, then of all y, then the high bytes;
    then one bit for each point. On the demo this is 0.48 bytes for each position of 4 (0.64 as base64).

    Args:
        positions: [T,2,rows,columns] as `quantize_positions` returns them.
        unseen: [T,rows,columns], occluded or outside the image.

    Returns:
        The packed bytes.
    """
    # As small as level 9 with the default strategy, in a sixth of its time.
    deflate = zlib.compressobj(level=7, strategy=zlib.Z_FILTERED)
    previous = np.zeros_like(positions[0])
    packed = bytearray()
    for current, bits in zip(positions, unseen, strict=True):
        change = current - previous  # integers of 16 bits wrap around, in the browser as well
        change[..., 1:] -= change[..., :-1].copy()
        folded = ((change << 1) ^ (change >> 15)).astype("<u2").reshape(-1)
        for plane in (folded & 255, folded >> 8):
            packed += deflate.compress(plane.astype(np.uint8).tobytes())
        packed += deflate.compress(np.packbits(bits).tobytes())
        previous = current
    return bytes(packed + deflate.flush())


def encode_webp(rgb: NDArray[np.uint8], quality: int) -> bytes:
    """Encode a picture [H,W,3] as WebP."""
    _, data = cv2.imencode(".webp", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, quality])
    return data.tobytes()


def block_size(num_bytes: int) -> int:
    """Return the size in the page, in bytes, of a block of `num_bytes`."""
    return -(-num_bytes // 3) * 4 + 60  # base64, and the element around it
