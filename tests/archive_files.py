"""Small archives as DAVIS and TAP-Vid publish theirs, and what the commands that read them leave."""

import io
import pickle
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image  # writes palettes, which OpenCV does not

REPOSITORY = Path(__file__).resolve().parent.parent
RANDOM = np.random.default_rng(0)
IDS = np.array([[0, 1, 2], [0, 0, 5]], np.uint8)


def encoded(suffix: str, rgb: np.ndarray) -> bytes:
    return cv2.imencode(suffix, rgb[..., ::-1])[1].tobytes()


def png(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def palette_png(**options) -> bytes:
    image = Image.fromarray(IDS).convert("P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 1, 0, 0])
    image.putdata(IDS.ravel().tolist())
    return png(image, **options)


def jpeg(value: int) -> bytes:
    return encoded(".jpg", np.full((2, 3, 3), value, np.uint8))


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def davis_members(*names: str) -> dict[str, bytes]:
    members = {"DAVIS/README.md": b"-", "__MACOSX/DAVIS/JPEGImages/480p/bear/._00000.jpg": b"-"}
    for name in names:
        for t in range(2):
            members[f"DAVIS/JPEGImages/480p/{name}/{t:05d}.jpg"] = jpeg(50 * t)
            members[f"DAVIS/Annotations/480p/{name}/{t:05d}.png"] = palette_png()
    return members


def tapvid_sequence(height: int = 6, width: int = 8, num_frames: int = 3) -> dict:
    return {
        "video": RANDOM.integers(0, 256, (num_frames, height, width, 3), np.uint8),
        "points": RANDOM.random((4, num_frames, 2)),
        "occluded": RANDOM.random((4, num_frames)) > 0.5,
    }


def pickled(path: Path, data: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(data, protocol))
    return path


def tracks(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(folder / "gt_tracks.npz") as stored:
        return stored["points"], stored["occluded"]


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def refused(main, capsys, *arguments: object) -> str:
    """The one sentence with which a command ends with status 2."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert stopped.value.code == 2 and len(lines) == 1
    return lines[0]


# DAVIS
