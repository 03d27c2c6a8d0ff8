"""The layer rule: imports point downwards only, and no level-1 folder knows another."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
LEVELS = {
    "utils": 0,
    "criterion": 1,
    "networks": 1,
    "loaders": 1,
    "preprocessing": 1,
    "divergence": 2,
    "losses": 2,
    "exports": 2,
    "scoring": 2,
    "runs": 2,
    "training_data": 2,
    "training_images": 2,
    "evaluation": 3,
    "page": 3,
    "visuals": 3,
    "trainer": 3,
    "train": 4,
    "viz": 4,
    "evaluate": 4,
}
NUMERICS = ["criterion.py", "networks/*.py", "utils/coords.py", "networks/rendering.py", "networks/rendering.py"]
PLAIN = {"utils", "networks"}  # what numerics may import of ours
STANDARD = {"itertools", "functools", "torch", "math", "re", "dataclasses", "collections", "pathlib"}


def files() -> list[Path]:
    folders = [name for name in LEVELS if (REPOSITORY / name).is_dir()]
    inside = [path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]
    return inside + [REPOSITORY / f"{name}.py" for name in LEVELS if (REPOSITORY / f"{name}.py").is_file()]


def imported(path: Path) -> set[str]:
    """First parts of all modules that a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def owner(path: Path) -> str:
    return path.relative_to(REPOSITORY).parts[0].removesuffix(".py")


def test_every_source_file_has_a_level():
    outside = {"tests", "benchmarks"}
    sources = {p.relative_to(REPOSITORY).parts[0].removesuffix(".py") for p in REPOSITORY.glob("*.py")}
    packages = {p.parent.name for p in REPOSITORY.glob("*/__init__.py")}
    assert sources | packages <= set(LEVELS) | outside


def test_imports_point_downwards():
    wrong = [
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in files()
        for name in imported(path) & set(LEVELS)
        if name != owner(path) and LEVELS[name] >= LEVELS[owner(path)]
    ]
    assert wrong == []


def test_numerics_import_torch_only():
    wrong = [
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for pattern in NUMERICS
        for path in REPOSITORY.glob(pattern)
        for name in imported(path) - STANDARD - PLAIN
    ]
    assert wrong == []


def test_the_rule_can_be_broken(tmp_path):
    (tmp_path / "bad.py").write_text("def f():\n    from trainer import Trainer\n")
    assert imported(tmp_path / "bad.py") == {"trainer"}


@pytest.mark.parametrize("command", ["train.py", "viz.py", "evaluate.py", "preprocessing/main_processing.py"])
def test_commands_choose_how_threads_wait_before_torch_is_loaded(command):
    lines = (REPOSITORY / command).read_text(encoding="utf-8").splitlines()
    ours = [k for k, line in enumerate(lines) if re.match(r"(from|import) (?!os\b)", line)]
    (policy,) = [k for k, line in enumerate(lines) if line.startswith('os.environ.setdefault("OMP_WAIT_POLICY"')]
    assert policy < min(ours)
