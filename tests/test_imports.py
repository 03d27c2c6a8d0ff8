"""The direction of imports: utils < {networks, preprocessing} < loaders < criterion < … < the commands."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
COMMANDS = ["train.py", "viz.py", "evaluate.py"]
PREPROCESSING_COMMAND = "preprocessing/main_processing.py"
LEVELS = {
    "utils": 0,
    "networks": 1,
    "preprocessing": 1,
    "loaders": 2,
    "criterion": 3,
    "trainer": 4,
    "visualization": 4,
    "evaluation": 5,
    "train": 6,
    "viz": 6,
    "evaluate": 6,
}
# Flags are made from what these declare; none of them imports torch.
DECLARATIONS = {
    "networks.model_config",
    "preprocessing.settings",
    "visualization.export_formats",
    "visualization.style_names",
}
NO_NUMERICS = re.compile("checkpoint")  # modules of networks/ that read and write files


def product() -> list[Path]:
    """Every file of the product, relative to the repository."""
    inside = [path for room in [*LEVELS, "configs"] for path in (REPOSITORY / room).rglob("*.py")]
    return [path.relative_to(REPOSITORY) for path in [*REPOSITORY.glob("*.py"), *inside]]


def parsed(path: Path) -> ast.Module:
    return ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> set[str]:
    """Names of all modules imported anywhere in a file; `from a import b` gives a and a.b."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def rooms_of(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def room_of(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def test_the_top_level_is_commands_trainer_and_criterion():
    assert {path.name for path in REPOSITORY.glob("*.py")} == {*COMMANDS, "trainer.py", "criterion.py"}
    packages = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")}
    assert packages <= {*LEVELS, "configs", "benchmarks", "tests"}


def test_imports_point_downwards():
    """Rooms of one level do not see each other either."""
    wrong = [
        f"{path} imports {room}"
        for path in product()
        if room_of(path) != "configs"
        for room in rooms_of(imported(parsed(path))) & set(LEVELS)
        if room != room_of(path) and LEVELS[room] >= LEVELS[room_of(path)]
    ]
    assert wrong == []


def test_flags_are_imported_by_commands_alone():
    users = {str(path) for path in product() if "configs" in rooms_of(imported(parsed(path)))}
    assert users - {"configs/flags.py"} == set(COMMANDS)
    # At their top; inside functions, after parsing, a run's checkpoint is read.
    tops = [node for path in product() if room_of(path) == "configs" for node in parsed(path).body]
    names = imported(ast.Module([node for node in tops if isinstance(node, ast.Import | ast.ImportFrom)], []))
    modules = {name for name in names if module_file(name) and name.split(".")[0] not in ("configs", "utils")}
    assert modules <= DECLARATIONS


def module_file(name: str) -> Path | None:
    path = Path(*name.split(".")).with_suffix(".py")
    return path if (REPOSITORY / path).is_file() else None


@pytest.mark.parametrize("module", ["configs.flags", "train", "viz", "evaluate"])
def test_flags_are_parsed_without_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


@pytest.mark.parametrize("command", ["viz.py", "evaluate.py"])
def test_what_shows_a_model_does_not_import_the_trainer(command):
    assert not {Path("trainer.py"), Path("train.py")} & set(reachable(Path(command)))


def reachable(path: Path) -> set[Path]:
    """The file and all of ours that it imports, directly or through others."""
    found, waiting = set(), [path]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += filter(None, map(module_file, imported(parsed(current))))
    return found


def test_namespaces_stay_in_commands():
    """Only `utils.config`, which turns a namespace into dataclasses, refers to it below the commands."""
    allowed = {*COMMANDS, PREPROCESSING_COMMAND, "configs/flags.py", "utils/config.py"}
    users = {str(path) for path in product() if uses_namespace((REPOSITORY / path).read_text(encoding="utf-8"))}
    assert users - allowed - {"utils/errors.py"} == set()
    # An override of argparse's method must have its parameters.
    assert list(args_parameters(parsed(Path("utils/errors.py")))) == ["parse_args"]


def uses_namespace(source: str) -> bool:
    return "Namespace" in source or any(args_parameters(ast.parse(source)))


def args_parameters(tree: ast.Module) -> Iterator[str]:
    """Functions with a parameter named `args`; `*args` is none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            if any(parameter.arg == "args" for parameter in named):
                yield getattr(node, "name", "lambda")


def test_networks_parse_no_flags():
    wrong = {"argparse", "configargparse", "configs", "utils.config"}
    assert [path for path in product() if room_of(path) == "networks" and imported(parsed(path)) & wrong] == []


def test_general_modules_have_several_users():
    used = [(path, imported(parsed(path))) for path in product()]
    modules = {path.stem for path in product() if room_of(path) == "utils"} - {"__init__"}
    users = {name: [path for path, names in used if f"utils.{name}" in names] for name in modules}
    assert [name for name, paths in users.items() if len(paths) < 2] == []


def test_numerics_import_torch_only():
    numerics = [path for path in product() if room_of(path) == "networks" and not NO_NUMERICS.search(path.stem)]
    plain = {*sys.stdlib_module_names, "torch", "utils", "networks"}
    wrong = [
        f"{path} imports {sorted(found)}"
        for path in [*numerics, Path("criterion.py"), Path("utils/coords.py")]
        if (found := rooms_of(imported(parsed(path))) - plain)
    ]
    assert wrong == []


def test_tests_and_benchmarks_are_imported_by_nothing_else():
    """Benchmarks may compare with the tests' oracles; tests run benchmarks as commands."""
    wrong = [path for path in product() if rooms_of(imported(parsed(path))) & {"tests", "benchmarks"}]
    tests, benchmarks = ((REPOSITORY / folder).rglob("*.py") for folder in ("tests", "benchmarks"))
    wrong += [path for path in tests if "benchmarks" in rooms_of(imported(parsed(path)))]
    for path in benchmarks:
        borrowed = {name for name in imported(parsed(path)) if name.split(".")[0] == "tests"}
        wrong += [path] if any(not f"{name}.".startswith("tests.oracles.") for name in borrowed) else []
    assert wrong == []


# Type checkers' stubs, and the codec that pickles of arrays name.
PRIVATE_MODULES = {"_typeshed", "_codecs"}


def private_uses(tree: ast.Module) -> Iterator[str]:
    """Private names that are imported or read from another object than self, and torch.ops; dunder names are public."""
    for name in imported(tree):
        is_private = any(re.match(r"_(?!_)", part) for part in name.split("."))
        if (is_private and name.split(".")[0] not in PRIVATE_MODULES) or name.startswith("torch.ops"):
            yield name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner, text = ast.unparse(node.value), ast.unparse(node)
            if text == "torch.ops" or (re.match(r"_(?!_)", node.attr) and owner not in ("self", "cls", "super()")):
                yield text


def test_private_names_are_not_used():
    found = [f"{path}: {name}" for path in product() for name in private_uses(parsed(path))]
    assert found == []


def test_the_rules_can_be_broken():
    tree = ast.parse(
        "def f():\n    from trainer import Trainer\n    return torch._dynamo.config, torch.ops.aten, x._workers"
    )
    assert imported(tree) == {"trainer", "trainer.Trainer"}
    assert set(private_uses(tree)) == {"torch._dynamo", "torch.ops", "x._workers"}


@pytest.mark.parametrize(
    "source",
    [
        "from torch._subclasses import fake_tensor",
        "import torchvision.models._api",
        "from torchvision.models import _api",
        "from trainer import _all_gather",
        "from torch import ops",
        "self.model._modules",
        "loader()._iterator",
    ],
)
def test_each_use_of_a_private_name_is_found(source):
    assert list(private_uses(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "from __future__ import annotations\ntorch.__version__",
        "from _typeshed import DataclassInstance",
        "self._a, cls._b, super()._c",
        "x.__class__",
    ],
)
def test_other_names_are_no_private_ones(source):
    assert list(private_uses(ast.parse(source))) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def run(args): ...", True),
        ("def run(path, *, args=None): ...", True),
        ("run = lambda args: args.device", True),
        ("def run(flags: argparse.Namespace): ...", True),
        ("def run(*args, **options): ...", False),
        ("def run(argv): ...", False),
    ],
)
def test_each_use_of_a_namespace_is_found(source, found):
    assert uses_namespace(source) == found


@pytest.mark.parametrize("command", [*COMMANDS, PREPROCESSING_COMMAND])
def test_commands_choose_how_threads_wait_before_torch_is_loaded(command):
    lines = (REPOSITORY / command).read_text(encoding="utf-8").splitlines()
    ours = [k for k, line in enumerate(lines) if re.match(r"(from|import) (?!os\b)", line)]
    (policy,) = [k for k, line in enumerate(lines) if line.startswith('os.environ.setdefault("OMP_WAIT_POLICY"')]
    assert policy < min(ours)
