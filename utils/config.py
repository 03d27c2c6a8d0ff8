"""Flags from the command line and from config files, independent of their meaning.

A config file holds `name = value` lines. `base = other.txt` names a config file in the same folder whose settings it
extends. The command line overrides a config file, and a config file overrides its base.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from configargparse import ConfigFileParserException, DefaultConfigFileParser

from utils.atomic import write_atomic
from utils.errors import InputError, OneLineErrorParser

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

TRUE, FALSE = {"true", "yes", "1", "on"}, {"false", "no", "0", "off"}


def boolean(text: str) -> bool:
    """Parse true or false from a text; raise ArgumentTypeError for any other text."""
    if text.lower() in TRUE | FALSE:
        return text.lower() in TRUE
    raise argparse.ArgumentTypeError(f"found {text!r}, expected true or false")


# Options of a switch: `--x` and `--x true` turn it on, `--x false` turns it off; `x = true` in a config file.
SWITCH: dict[str, Any] = {"type": boolean, "nargs": "?", "const": True, "metavar": "true|false"}

MAX_INT = 10**9  # a larger whole number is a mistake, and may overflow in C


@dataclass(frozen=True)
class Flag:
    """Declaration of a flag."""

    name: str  # without dashes
    default: Any
    help: str  # without the default, which is added
    least: float = -(10**9)
    most: float | None = None  # None: MAX_INT for a whole number, otherwise any finite number
    above: float = -math.inf  # exclusive lower bound
    choices: Collection[str] | None = None
    parse: Callable[[str], Any] | None = None  # type or parser of a value; None: the type of the default
    several: bool = False  # takes a list of values

    def add_to(self, add_argument: Callable[..., object], shown: bool, with_default: bool) -> None:
        """Declare the flag; the help lists it if `shown`, with its default if `with_default`."""
        kind = self.parse or type(self.default)
        options: dict[str, Any] = {"type": kind, "choices": self.choices}
        if self.several:
            options |= {"nargs": "+", "metavar": self.name.upper()}
        if kind is bool:
            options = SWITCH
        elif kind in (int, float):
            options |= {"type": lambda text: self._number(text, kind), "metavar": "N"}
        default = " ".join(map(str, self.default)) if self.several else self.default
        suffix = f" (default: {default})" if with_default and default not in (None, "", []) else ""
        add_argument(f"--{self.name}", help=self.help + suffix if shown else argparse.SUPPRESS, **options)

    def _number(self, text: str, kind: Callable[[str], float]) -> float:
        most = self.most or (MAX_INT if kind is int else sys.float_info.max)
        with suppress(ValueError):
            value = kind(text)
            if self.least <= value <= most and value > self.above:
                return value
        name = "a whole number" if kind is int else "a number"
        low = f"above {self.above}" if self.above >= self.least else f"of at least {self.least}"
        high = "" if most == sys.float_info.max else f" and at most {most}"
        raise argparse.ArgumentTypeError(f"found {text}, expected {name} {low}{high}")


def flags_of(kind: type[DataclassInstance]) -> list[Flag]:
    """Return a flag for each field of a dataclass whose metadata has `help`; the metadata are options of `Flag`."""
    return [Flag(field.name, field.default, **field.metadata) for field in fields(kind) if "help" in field.metadata]


class FlagParser(OneLineErrorParser):
    """Parser that separates given flags from defaults, reads config files, and raises InputError.

    Config files may also set flags of other commands, named in `foreign`; these are skipped.
    """

    def __init__(self, description: str, examples: str, foreign: Collection[str] = ()):
        super().__init__(
            usage="%(prog)s [--flag value …]",
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
        )
        self.defaults: dict[str, Any] = {}
        self._foreign, self._source = set(foreign), ""
        self.add_argument("--config", help="file of `name = value` lines; `base = other.txt` names one to extend")

    def add(self, title: str, flags: Iterable[Flag], shown: bool = True, defaults: bool = True) -> None:
        """Declare a group of flags; `shown` and `defaults` say whether the help lists it and names the defaults."""
        group = self.add_argument_group(title)
        for flag in flags:
            flag.add_to(group.add_argument, shown, defaults)
            self.defaults[flag.name] = flag.default

    def error(self, message: str) -> NoReturn:
        """Raise InputError."""
        raise InputError(f"{self._source}{' '.join(message.split())}; see --help for what can be given")

    def parse_given(self, argv: list[str] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the flags on the command line (None: that of the process), and those that config files set.

        Raises:
            InputError: An unknown flag, a value that a flag does not accept, or an unusable config file.
        """
        command_line = vars(self.parse_args(argv))
        config: dict[str, Any] = {}
        if command_line.setdefault("config", ""):
            for path, settings in config_chain(Path(command_line["config"])):
                config |= self._parse_settings(settings, path)
        return command_line, config

    def _parse_settings(self, settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
        if unknown := sorted(settings.keys() - self.defaults.keys() - self._foreign):
            raise InputError(f"{path} sets {unknown[0]!r}, which is no flag: correct the name or delete the line")
        self._source = f"{path}: "
        try:
            return self._parse_own(settings)
        finally:
            self._source = ""

    def _parse_own(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: value for name, value in settings.items() if name in self.defaults}
        lists = {name: list(map(str, value)) for name, value in own.items() if isinstance(value, list | tuple)}
        single = [f"--{name}={value}" for name, value in own.items() if name not in lists]
        given = vars(self.parse_args([*single, *(text for name in lists for text in (f"--{name}", *lists[name]))]))
        return {name: value for name, value in given.items() if name in own}

    def accepted(self, flags: Mapping[str, Any]) -> dict[str, Any]:
        """Return the flags that this parser accepts, from the resolved flags of another version."""
        found: dict[str, Any] = {}
        for name, value in flags.items():
            try:
                found |= {} if value is None else self._parse_own({name: value})
            except InputError:
                continue
        return found


def config_chain(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return a config file and its bases with their settings, the farthest base first.

    Raises:
        InputError: A file cannot be read, names no base after `base =`, or is its own base.
    """
    chain: list[tuple[Path, dict[str, Any]]] = []
    named_by = "--config"
    while True:
        if any(path.resolve() == earlier.resolve() for earlier, _ in chain):
            raise InputError(f"{path} builds on itself: delete the line `base = {path.name}` of {named_by}")
        try:
            with path.open(encoding="utf-8") as stream:
                settings = DefaultConfigFileParser().parse(stream)
        except (OSError, ValueError, ConfigFileParserException) as error:
            reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
            raise InputError(
                f"cannot read the config file {path} of {named_by} ({reason}): give a text file of `name = value` lines"
            ) from error
        base = settings.pop("base", None)
        chain.insert(0, (path, {name.removeprefix("--"): value for name, value in settings.items()}))
        if base is None:
            return chain
        if not base:
            raise InputError(f"base is empty in {path}: name a config file, or delete the line")
        path, named_by = path.parent / str(base), str(path)


def select(kind: type[T], source: argparse.Namespace, **given: Any) -> T:
    """Build a dataclass from the flags that are named like its fields; `given` sets or replaces some."""
    names = {field.name for field in fields(kind) if field.init}
    return kind(**{name: value for name, value in vars(source).items() if name in names} | given)


def write_config(args: argparse.Namespace, folder: Path, **added: str) -> None:
    """Write all flags as `args.txt`; the settings of the config file and its bases, and `added`, as `config.txt`."""
    lines = "".join(f"{name} = {value}\n" for name, value in sorted(vars(args).items()))
    write_atomic(folder / "args.txt", lines.encode())  # a path may hold any letter
    if args.config:
        settings: dict[str, Any] = {}
        for _, each in config_chain(Path(args.config)):
            settings |= each
        write_atomic(folder / "config.txt", DefaultConfigFileParser().serialize(settings | added).encode())
