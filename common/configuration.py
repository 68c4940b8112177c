"""From configuration files to objects: a constructor's signature is the schema.

Hydra composes the configuration; :func:`build` turns a node with a ``_target_`` into an object
after checking the target, every key and every type, so that a mistake is one line before
anything is trained or written.

A run's folder must be safe to evaluate. So a ``_target_`` is looked up and never imported: each place in the
configuration has a table of the classes it can be, and within it :data:`PARTS` is the table of what an argument can be,
if the signature says that it takes such an object.
"""

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from common.arguments import check_type, hints_of, said
from common.augkd import DataFreeWeights, Preparation
from common.errors import InputError
from common.runs.disk import read_text
from common.schedule import LinearSchedule
from common.terms import TERMS
from common.text import shown

S = TypeVar("S")
Choices = Mapping[str, type]
"""What a ``_target_`` can name, and the class that it stands for."""

PARTS: Choices = {
    "common.augkd.DataFreeWeights": DataFreeWeights,
    "common.augkd.Preparation": Preparation,
    "common.schedule.LinearSchedule": LinearSchedule,
    **{f"common.terms.{kind.__name__}": kind for kind in TERMS.values()},
}

# Of places that pydantic names and configurations do not: kinds of arguments, and tags of what may stand in one place.
_INNER = ("list[", "function-", "kind[")
# No configuration of ours is deeper.
_DEEPEST = 50


def build(node: Mapping[str, Any], where: str, choices: Choices, **extra: Any) -> Any:
    """Build the object that a configuration node describes.

    Args:
        node: A mapping with ``_target_`` and keyword arguments.
        where: The node's place in the configuration, for messages.
        choices: What it can be.
        extra: Arguments that code adds to those of the node.

    Raises:
        InputError: a target that is not among the choices, an unknown or missing key, a wrong type, or a value the
            constructor refuses.
    """
    return build_partial(node, where, choices)(**extra)


def build_partial(node: Mapping[str, Any], where: str, choices: Choices) -> Callable[..., Any]:
    """Like :func:`build`, with arguments that only later code knows: call the result with them."""
    target = _choose(node, where, choices)
    arguments = check_arguments(target, {str(key): value for key, value in node.items() if key != "_target_"}, where)

    def complete(*positional: Any, **extra: Any) -> Any:
        try:
            return target(*positional, **arguments, **extra)
        except InputError:
            raise
        except (TypeError, ValueError, KeyError) as error:
            raise InputError(f"{where}: {str(error).strip().split(chr(10))[0]}") from error

    return complete


def _choose(node: Mapping[str, Any], where: str, choices: Choices) -> type:
    if "_target_" not in node:
        raise InputError(f"{where} has no _target_; use one of: {', '.join(choices)}")
    name = node["_target_"]
    if isinstance(name, str) and name in choices:
        return choices[name]
    nearest = _nearest(name, list(choices)) if isinstance(name, str) else ""
    raise InputError(f"{where}._target_={shown(name)} is refused; use one of: {', '.join(choices)}{nearest}")


def check_arguments(
    target: Any, arguments: Mapping[str, Any], where: str, reserved: Collection[str] = ()
) -> dict[str, Any]:
    """Check names and types of ``arguments`` against a callable's signature.

    Args:
        target: What will be called.
        arguments: Its keyword arguments.
        where: Their place in the configuration, for messages.
        reserved: Arguments that code sets and a configuration may not.

    Returns:
        The arguments, converted where nothing is lost (``"3"`` to ``3``, a list to a tuple).

    Raises:
        InputError: naming the key, and what would be accepted.
    """
    parameters = inspect.signature(target).parameters.values()
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    known = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    named = [name for name in known if name not in reserved and not name.startswith("_")]
    for key in arguments:
        if key in reserved:
            raise InputError(f"{where}.{key} cannot be set here; remove it")
        if key not in named and not open_ended:
            raise InputError(f"{where}.{key} is not known; use one of: {', '.join(named)}{_nearest(key, named)}")
    hints = hints_of(target)
    return {key: _fit(value, hints.get(key, Any), f"{where}.{key}") for key, value in arguments.items()}


def _fit(value: Any, hint: Any, where: str) -> Any:
    """The value as the hint demands; nodes in it are built where the hint takes what they are."""
    if isinstance(value, Mapping) and "_target_" in value:
        taken = tuple(arm for arm in _arms(hint) if inspect.isclass(arm))
        choices = {name: kind for name, kind in PARTS.items() if issubclass(kind, taken)}
        if not choices and any(typing.get_origin(arm) in (Mapping, dict) for arm in _arms(hint)):
            return check_type(value, hint, where)  # a mapping is wanted as it is
        if not choices:
            raise InputError(f"{where}._target_={shown(value['_target_'])} is refused; give a plain value there")
        value = build(value, where, choices)
    elif isinstance(value, Mapping):
        inner = _inner(hint, Mapping)
        value = {key: _fit(item, inner, f"{where}.{key}") for key, item in value.items()}
    elif isinstance(value, list):
        inner = _inner(hint, Sequence)
        value = [_fit(item, inner, f"{where}[{number}]") for number, item in enumerate(value)]
    return check_type(value, hint, where)


def _arms(hint: Any) -> Iterator[Any]:
    """The members of a union, or the hint itself."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        for arm in typing.get_args(hint):
            yield from _arms(arm)
    elif typing.get_origin(hint) is typing.Annotated:
        yield from _arms(typing.get_args(hint)[0])
    else:
        yield hint


def _inner(hint: Any, container: type) -> Any:
    """What the values of such a container are to be, by the hint."""
    for arm in _arms(hint):
        origin, arguments = typing.get_origin(arm), typing.get_args(arm)
        if inspect.isclass(origin) and issubclass(origin, container) and arguments:
            return arguments[1] if container is Mapping and len(arguments) > 1 else arguments[0]
    return Any


def _nearest(key: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(key, known, n=1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""


def check_settings(values: Any, settings: type[S]) -> S:
    """Check a composed configuration against the pydantic dataclass ``settings``.

    Raises:
        InputError: naming the first key that does not fit, its value and what would be accepted.
    """
    try:
        return pydantic.TypeAdapter(settings).validate_python(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, InputError):  # a validator of ours has said it all
            raise cause from error
        place = ".".join(str(part) for part in first["loc"] if not str(part).startswith(_INNER))
        if first["type"] == "unexpected_keyword_argument":
            raise InputError(f"{place} is not a key of the configuration; see --cfg job for those there are") from error
        if first["type"] == "literal_error" and place == "network.task":
            # Both tasks choose from one folder of networks.
            name = values["network"].get("name")
            raise InputError(
                f"network={name} is for task {shown(first['input'])}; choose one for task {first['ctx']['expected']}"
            ) from error
        if first["type"] == "missing":
            raise InputError(f"{place} is missing; give {place}=…") from error
        raise InputError(said(first, place)) from error


def to_yaml(settings: Any) -> str:
    """The settings as the text of a ``config.yaml``, from which :func:`read_settings` gives them back."""
    text: str = yaml.safe_dump(pydantic.TypeAdapter(type(settings)).dump_python(settings, mode="json"), sort_keys=False)
    return text


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Without aliases, of which a few lines can stand for gigabytes, and without endless depth."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias, which no such file needs")
        self.depth += 1
        if self.depth > _DEEPEST:
            raise yaml.YAMLError(f"it is more than {_DEEPEST} levels deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read_settings(path: Path, settings: type[S], task: str) -> S:
    """Read the settings a run was trained with.

    Args:
        path: A run's ``config.yaml``.
        settings: The dataclass they must fit.
        task: ``rl`` or ``seg``, which the file must say too.

    Raises:
        InputError: no such file, a large one, not a configuration, or one of another task.
    """
    if not path.exists():
        raise InputError(f"{path.parent} is not a run's folder: there is no {path.name}; give one that training wrote")
    text = read_text(path)
    try:
        values = yaml.load(text, _Loader)
    except Exception as error:  # dates, numbers and tags fail in ways of their own
        reason = str(error).split("\n")[0] or type(error).__name__
        raise InputError(f"{path} is not readable as YAML ({shown(reason)[1:-1]})") from error
    found = values.get("task") if isinstance(values, dict) else None
    if found != task:
        raise InputError(f"{path.parent} is a run of task {shown(found)}; a run of task {task!r} is needed")
    try:
        return check_settings(values, settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
