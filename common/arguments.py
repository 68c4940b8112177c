"""What arguments may be: a constructor's signature is the schema, for a configuration and for a caller in Python alike.

Numbers are annotated with their range, such as ``temperature: Positive``; NaN is in no range, and ``True`` is no
number. :class:`Checked` constructors refuse what does not fit, in the words that a configuration gets.
"""

import contextlib
import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from common.errors import InputError
from common.text import shown

K = TypeVar("K")
T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., None])
_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
# Far above anything that is meant, and far below where arithmetic overflows.
LARGEST = 1e12
# No memory holds more of anything that is counted; also what Procgen takes for seeds and levels.
LARGEST_COUNT = 2**31 - 1
_UNBOUNDED = LARGEST_COUNT


@dataclasses.dataclass(frozen=True)
class Range:
    """Which numbers will do, as an annotation: ``Annotated[float, Range(0, 1)]``.

    Attributes:
        low: The lowest.
        high: The highest.
        above: Whether ``low`` itself is too low.
        below: Whether ``high`` itself is too high.
    """

    low: float = -LARGEST
    high: float = LARGEST
    above: bool = False
    below: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: pydantic.GetCoreSchemaHandler) -> CoreSchema:
        """For pydantic: the number's own type first."""
        return core_schema.no_info_wrap_validator_function(self._check, handler(source))

    def _check(self, value: Any, number_of: Callable[[Any], Any]) -> Any:
        if isinstance(value, bool):
            raise PydanticCustomError("range", "must be a number")
        number = number_of(value)
        high_enough = number > self.low if self.above else number >= self.low
        low_enough = number < self.high if self.below else number <= self.high
        if not (high_enough and low_enough):  # NaN is neither
            raise PydanticCustomError("range", self.words(number))  # type: ignore[arg-type]
        return number

    def words(self, number: float) -> str:
        """What a number must be that is not in the range."""
        if self.high >= _UNBOUNDED and number > self.high:
            return f"must be at most {self.high:.10g}"
        if self.high >= _UNBOUNDED and self.low <= -_UNBOUNDED:
            return "must be a number"
        if self.high >= _UNBOUNDED and self.low == 0:
            return "must be positive" if self.above else "must not be negative"
        if self.high >= _UNBOUNDED:
            return f"must be {'above' if self.above else 'at least'} {self.low:g}"
        return f"must be in {'(' if self.above else '['}{self.low:g}, {self.high:g}{')' if self.below else ']'}"


Number = Annotated[float, Range()]
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
"""In [0, 1]."""
Share = Annotated[float, Range(0, 1, below=True)]
"""In [0, 1)."""
Inside = Annotated[float, Range(0, 1, above=True, below=True)]
"""In (0, 1)."""
UpToOne = Annotated[float, Range(0, 1, above=True)]
"""In (0, 1]."""
Count = Annotated[int, Range(1, LARGEST_COUNT)]
CountFromZero = Annotated[int, Range(0, LARGEST_COUNT)]
Seed = CountFromZero
"""Torch, numpy and Lightning take more; Procgen does not."""


def each_once(values: Sequence[T]) -> Sequence[T]:
    """A validator of lists in which nothing may stand twice."""
    doubled = [value for number, value in enumerate(values) if value in values[:number]]
    if doubled:
        raise PydanticCustomError("range", f"has {shown(doubled[0])} twice")  # type: ignore[arg-type]
    return values


class Checked:
    """Base of classes whose constructors, and those of their subclasses, check arguments against their signatures.

    What can be converted without loss is, as from a configuration: ``KD(weight=1)`` weighs 1.0.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Once for each class that has a constructor of its own."""
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            setattr(cls, "__init__", checked(vars(cls)["__init__"]))  # noqa: B010 - mypy refuses the plain form


def checked_fields(kind: type[K]) -> type[K]:
    """The same for a dataclass, whose constructor is made when it is decorated."""
    setattr(kind, "__init__", checked(vars(kind)["__init__"]))  # noqa: B010
    return kind


def checked(constructor: C) -> C:
    """A constructor that checks its arguments against its signature; which names there are is Python's to check.

    Raises:
        InputError: at the call, naming the argument, its value and what would do.
    """
    signature = inspect.signature(constructor)
    known = functools.cache(lambda: hints_of(constructor))

    @functools.wraps(constructor)
    def checking(*positional: Any, **named: Any) -> None:
        given = signature.bind(*positional, **named)
        for name, value in given.arguments.items():
            if name in known() and signature.parameters[name].kind not in _OPEN:
                given.arguments[name] = check_type(value, known()[name], name)
        constructor(*given.args, **given.kwargs)

    return typing.cast(C, checking)


def hints_of(target: Any) -> dict[str, Any]:
    """The types of a callable's arguments, as far as they can be told."""
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    names = getattr(function, "__globals__", {})
    hints: dict[str, Any] = {}
    for key, hint in getattr(function, "__annotations__", {}).items():
        # One by one: a hint that only exists while type checking must not spoil the others.
        with contextlib.suppress(Exception):
            one = types.SimpleNamespace(__annotations__={key: hint})
            hints |= typing.get_type_hints(one, names, include_extras=True)
    hints.pop("return", None)
    return hints


def check_type(value: Any, hint: Any, where: str) -> Any:
    """Return ``value`` as ``hint`` demands, converted where nothing is lost.

    Raises:
        InputError: naming the place, the value and what would be accepted.
    """
    if isinstance(value, bool) and hint in (int, float):
        raise InputError(f"{where}={shown(value)} must be a number")
    adapter = _adapter(hint)
    if adapter is None:
        return value  # a hint pydantic has no schema for
    try:
        return adapter.validate_python(value)
    except pydantic.ValidationError as error:
        raise InputError(said(error.errors()[0], where)) from error


def numbers_in(value: Any, where: str) -> Iterator[tuple[str, float]]:
    """Every number in nested mappings and lists, and its place; also those that are written as a text."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from numbers_in(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from numbers_in(item, f"{where}[{number}]")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield where, value
    elif isinstance(value, str):
        with contextlib.suppress(ValueError):
            yield where, float(value)


def said(error: Any, where: str) -> str:
    """What is wrong at a place, from one of pydantic's errors."""
    value = shown(error["input"])
    if error["type"] == "literal_error":
        return f"{where}={value} is not known; use one of: {options(error)}"
    if error["type"] in ("range", "name"):
        return f"{where}={value} {error['msg']}"
    return f"{where}={value}: {error['msg']}"


def options(error: Any) -> str:
    """The values that a literal can have."""
    expected: str = error["ctx"]["expected"]
    return expected.replace("'", "").replace(" or ", ", ")


@functools.lru_cache(maxsize=4096)
def _cached(hint: Any) -> pydantic.TypeAdapter[Any] | None:
    try:
        return pydantic.TypeAdapter(hint, config=pydantic.ConfigDict(arbitrary_types_allowed=True))
    except pydantic.errors.PydanticUserError:
        # Dataclasses bring their own configuration.
        return pydantic.TypeAdapter(hint)
    except Exception:
        return None


def _adapter(hint: Any) -> pydantic.TypeAdapter[Any] | None:
    try:
        return _cached(hint)
    except TypeError:  # a hint that cannot be hashed
        return _cached.__wrapped__(hint)
