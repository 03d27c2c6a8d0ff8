"""JSON files, read so that damage of any kind is one kind of error."""

import json
from pathlib import Path


def read_json(path: Path) -> object:
    """The content of a JSON file.

    Raises:
        OSError: missing, or not readable.
        ValueError: no JSON, or nested too deeply.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
