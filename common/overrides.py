"""Overrides on the command line, so that names reach the program as the text that was typed.

Hydra's grammar reads ``data.target=2020_01`` as the number 202001 and stops at ``run_dir=a=b``. Where the schema wants
a text, such a value is quoted for it; what else it cannot read is explained by what would do.
"""

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pydantic
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from common.arguments import hints_of
from common.directories import config_directory
from common.errors import InputError
from common.text import shown

# Of a list, or of a sweep: up to a comma that is not in quotes.
_PART = re.compile(r"""(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,])+""")

Parts = Mapping[str, Collection[Any]]
"""Where in a configuration the arguments of something stand, such as ``data``, and what may stand there."""


@dataclasses.dataclass(frozen=True)
class Texts:
    """The keys whose values are texts.

    Attributes:
        single: Those that take a text.
        several: Those that take a list of texts; they may stand in ``single`` too. ``a.*`` is any key of ``a``.
    """

    single: frozenset[str]
    several: frozenset[str]


def texts_of(settings: type, parts: Parts) -> Texts:
    """The keys of a configuration whose values are texts, by the annotations of what they become."""
    found = [
        *_texts("", settings),
        *(one for place in parts for kind in parts[place] for one in _texts(f"{place}.", kind)),
    ]
    single, several = (frozenset(key for key, listed in found if listed is wanted) for wanted in (False, True))
    return Texts(single, several)


def _texts(prefix: str, target: Any) -> Iterator[tuple[str, bool]]:
    hints = typing.get_type_hints(target, include_extras=True) if _has_fields(target) else hints_of(target)
    for name, hint in hints.items():
        for arm in _arms(hint):
            if arm is str:
                yield prefix + name, False
            elif _lists_texts(arm):
                yield prefix + name, True
            elif typing.get_origin(arm) in (dict, Mapping) and _lists_texts(typing.get_args(arm)[1]):
                yield f"{prefix}{name}.*", True
            elif _has_fields(arm):
                yield from _texts(f"{prefix}{name}.", arm)


def _lists_texts(hint: Any) -> bool:
    inner = typing.get_args(hint)
    return typing.get_origin(hint) in (list, tuple, Sequence) and bool(inner) and str in _arms(inner[0])


def _has_fields(kind: Any) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, pydantic.BaseModel))


def _arms(hint: Any) -> Iterator[Any]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        for arm in typing.get_args(hint):
            yield from _arms(arm)
    elif origin is typing.Annotated:
        yield from _arms(typing.get_args(hint)[0])
    else:
        yield hint


def prepared(arguments: Sequence[str], texts: Texts) -> list[str]:
    """The command line as Hydra will understand it.

    Raises:
        InputError: an override that cannot be read, with how to write it.
    """
    parser = OverridesParser.create()
    sweeps = any(argument in ("-m", "--multirun") for argument in arguments)
    return [
        argument if argument.startswith("-") or "=" not in argument else _prepared(argument, texts, sweeps, parser)
        for argument in arguments
    ]


def _prepared(argument: str, texts: Texts, sweeps: bool, parser: OverridesParser) -> str:
    key, _, value = argument.partition("=")
    name = key.lstrip("+~")
    several = {name, f"{name.rpartition('.')[0]}.*"} & texts.several
    is_list = several and value.startswith("[") and value.endswith("]")
    if is_list and not (sweeps and "],[" in value):
        argument = f"{key}=[{_each(value[1:-1], parser)}]"
    elif (name in texts.single or several) and not is_list:
        split = sweeps and "," in value and _is_plain(value)
        argument = f"{key}={_each(value, parser) if split else _text(value, parser)}"
    try:
        override = parser.parse_override(argument)
    except HydraException as error:
        quoted = value.replace('"', '\\"')
        raise InputError(
            f"{shown(argument)[1:-1]} cannot be read; quote a value that holds such characters: '{key}=\"{quoted}\"'"
        ) from error
    chosen = None if override.is_sweep_override() else override.value()
    if name in _groups() and isinstance(chosen, list) and not all(isinstance(one, str) for one in chosen):
        raise InputError(f"{shown(argument)[1:-1]}: {name} takes the name of one of its configurations, no such list")
    return argument


@functools.cache
def _groups() -> frozenset[str]:
    """Names of the groups of configurations that there are."""
    return frozenset(path.name for path in config_directory().iterdir() if path.is_dir())


def _is_plain(value: str) -> bool:
    """Whether commas, and nothing else, tell the parts of a value apart."""
    return not any(mark in value for mark in "[]{}'\"()")


def _each(value: str, parser: OverridesParser) -> str:
    return ",".join(_text(part.strip(), parser) for part in _PART.findall(value))


def _text(value: str, parser: OverridesParser) -> str:
    """A text as Hydra takes it for one: quoted where it would become something else."""
    if value in ("", "null", "???") or (value[0] in "'\"" and value[-1] == value[0] and len(value) > 1):
        return value
    try:
        read = parser.parse_override(f"x={value}")
        if not read.is_sweep_override() and read.value() == value:
            return value
    except HydraException:
        pass
    # In quotes a backslash means itself, save before a quotation mark.
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"
