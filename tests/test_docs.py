"""The documents refer to files, benchmarks and flags that exist."""

import re

import pytest

from tests.conftest import REPOSITORY
from visualization.export_formats import EXPORT_FORMATS

DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
ALL_DOCUMENTS = sorted({*REPOSITORY.glob("*.md"), *REPOSITORY.glob("*/*.md")})
NAMES = {"args.txt", "config.txt", "tracks.py", "other.txt"}  # files of a run and an export, the name in an example
OTHER_FLAGS = {"help", "check", "logdir", "nproc_per_node"}  # of argparse, ruff, TensorBoard and torchrun
# Where flags are declared: as "--x" or Flag("x", and as the fields of dataclasses.
PARSERS = ["*.py", "configs/*.py", "utils/config.py", "preprocessing/*.py", "benchmarks/*.py"]
DATACLASSES = ["networks/model_config.py", "preprocessing/settings.py"]

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def missing_files(text: str) -> list[str]:
    """Return the files named in backticks that the repository lacks; names with placeholders are left out."""
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    words = [word.split("::")[0] for span in spans for word in span.split()]
    named = [word for word in words if re.fullmatch(r"[\w./-]+\.(py|md|txt)", word)]
    return [name for name in named if name.split("/")[-1] not in NAMES and not is_ours(name)]


def is_ours(name: str) -> bool:
    return any(path.is_file() for folder in ("", "*/", "*/*/") for path in REPOSITORY.glob(folder + name))


def missing_benchmarks(text: str) -> list[str]:
    names = re.findall(r"\bbenchmarks\.(\w+)", text)
    return [name for name in names if not (REPOSITORY / "benchmarks" / f"{name}.py").is_file()]


def missing_flags(text: str) -> list[str]:
    """Return the flags `--x` that no command declares."""
    named = set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", text))
    return sorted(named - OTHER_FLAGS - declared_flags())


def declared_flags() -> set[str]:
    parsers, dataclasses = (
        "\n".join(path.read_text(encoding="utf-8") for pattern in patterns for path in REPOSITORY.glob(pattern))
        for patterns in (PARSERS, DATACLASSES)
    )
    declared = re.findall(r'(?:"--|\bFlag\(\s*")(\w+)"', parsers)
    return {*declared, *re.findall(r"^    (\w+): ", dataclasses, re.MULTILINE)}


@pytest.mark.parametrize("document", ALL_DOCUMENTS, ids=lambda path: path.name)
def test_no_number_is_left_to_fill_in(document):
    assert "@@" not in document.read_text(encoding="utf-8")


@documents
def test_named_files_exist(document):
    assert missing_files(document.read_text(encoding="utf-8")) == []


@documents
def test_named_benchmarks_exist(document):
    assert missing_benchmarks(document.read_text(encoding="utf-8")) == []


@documents
def test_named_flags_exist(document):
    assert missing_flags(document.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("document", ["visualization.md", "formats.md"])
def test_every_export_has_a_row(document):
    rows = re.findall(r"^\| (.*?) \|", (REPOSITORY / "docs" / document).read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name in EXPORT_FORMATS if not any(f"`{name}`" in row for row in rows)] == []


def test_wrong_references_are_found():
    assert missing_files("`train.py --x`, `fast.txt`, `a/nowhere.py` and `out/<name>/args.txt`") == ["a/nowhere.py"]
    assert missing_files("`metrics.py`, `evaluation/nowhere.md`") == ["evaluation/nowhere.md"]
    assert missing_benchmarks("`python -m benchmarks.accuracy`, `python -m benchmarks.nothing --x`") == ["nothing"]
    assert missing_flags("`--config a --num_iters 3 --features sift --code_size 4 --nothing --num-iters`") == [
        "nothing",
        "num-iters",
    ]
