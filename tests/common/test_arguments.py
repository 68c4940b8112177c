"""One schema for every number: what a constructor refuses, a configuration refuses, and nothing odd gets through."""

import inspect
import math
import typing
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from common.arguments import LARGEST, Checked, Count, Fraction, Positive, Range, check_type, checked, hints_of
from common.averaging import AVERAGERS
from common.configuration import build
from common.distillation import Distillation
from common.errors import InputError
from common.schedule import LinearSchedule
from common.teacher import Teacher
from common.terms import KD, TERMS
from kdrl.drivers import Driver
from kdrl.ppo import DistilledPPO
from kdseg.domains.dataset import Loading
from kdseg.domains.folder import FolderData
from kdseg.domains.procgen import ProcgenData

CLASSES: list[Any] = [
    *TERMS.values(),
    *AVERAGERS.values(),
    *(LinearSchedule, Driver, Distillation, Loading, FolderData, ProcgenData, DistilledPPO),
]
ODD: list[Any] = [math.nan, math.inf, -math.inf, -1, -1e-9, 1e30, 2**63, 10**400, True, "x", "", [], {}, object()]


def ranges(hint: Any) -> list[tuple[type, Range]]:
    """The number types in a hint, with their ranges."""
    if typing.get_origin(hint) is typing.Annotated:
        kind, *notes = typing.get_args(hint)
        found = [(kind, note) for note in notes if isinstance(note, Range)]
        return found or [inner for argument in typing.get_args(kind) for inner in ranges(argument)]
    return [inner for argument in typing.get_args(hint) for inner in ranges(argument)]


def bare(hint: Any) -> bool:
    """Whether a number stands in a hint without its range."""
    if hint in (int, float):
        return True
    if typing.get_origin(hint) is typing.Annotated:
        kind, *notes = typing.get_args(hint)
        return bare(kind) and not any(isinstance(note, Range) for note in notes)
    if typing.get_origin(hint) is Callable:
        return False
    return any(bare(argument) for argument in typing.get_args(hint))


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_number_has_a_range(kind: Any) -> None:
    hints = {name: hint for name, hint in hints_of(kind).items() if name in inspect.signature(kind).parameters}
    # The host's own, which nobody has a range for.
    hosts = {"sde_sample_freq", "verbose"} if kind is DistilledPPO else set()
    assert [name for name, hint in hints.items() if bare(hint) and name not in hosts] == []


NUMBERS = [
    (kind, name, hint)
    for kind in CLASSES
    for name, hint in hints_of(kind).items()
    if ranges(hint)
    and name in inspect.signature(kind).parameters
    and not any(container in str(hint) for container in ("Sequence", "Mapping"))
]


@pytest.mark.parametrize(("kind", "name", "hint"), NUMBERS, ids=lambda part: getattr(part, "__name__", str(part))[:24])
def test_an_odd_number_is_refused_in_one_line_or_lies_in_the_range(kind: Any, name: str, hint: Any) -> None:
    kinds = ranges(hint)
    for value in ODD:
        try:
            taken = check_type(value, hint, name)
        except InputError as error:
            said = str(error)
        else:
            said = ""
        if said:
            assert "\n" not in said and said.startswith(f"{name}=")
            continue
        assert not isinstance(value, bool | str)
        assert any(limits.low <= taken <= limits.high for _, limits in kinds), (value, taken)


SIMPLE = [
    (kind, name)
    for kind, name, _ in NUMBERS
    if kind not in (FolderData, ProcgenData, DistilledPPO, Distillation, LinearSchedule)
]


@pytest.mark.parametrize(("kind", "name"), SIMPLE, ids=lambda part: getattr(part, "__name__", str(part)))
@pytest.mark.parametrize("value", [math.nan, math.inf, -1, True], ids=str)
def test_a_constructor_refuses_what_a_configuration_refuses(kind: Any, name: str, value: Any) -> None:
    target = f"x.{kind.__name__}"

    def refusal(make: Callable[[], object]) -> str:
        with pytest.raises(InputError) as caught:
            make()
        return str(caught.value)

    ours = refusal(lambda: kind(**{name: value}))
    theirs = refusal(lambda: build({"_target_": target, name: value}, "place", {target: kind}))
    assert theirs == f"place.{ours}"


def test_whole_numbers_will_do_for_others() -> None:
    term = KD(weight=1, temperature=2)
    assert (type(term.weight), type(term.temperature)) == (float, float)
    method = Distillation({"kd": term}, task_weight=0, teacher=Teacher([nn.Identity()]))
    assert type(method.task_weight) is float


@pytest.mark.parametrize(
    ("limits", "number", "words"),
    [
        (Range(0, above=True), 0.0, "must be positive"),
        (Range(0), -1.0, "must not be negative"),
        (Range(0), math.nan, "must not be negative"),
        (Range(0), math.inf, f"must be at most {LARGEST:g}"),
        (Range(2), 1, "must be at least 2"),
        (Range(2, above=True), 2, "must be above 2"),
        (Range(0, 1), 1.5, "must be in [0, 1]"),
        (Range(0, 1, above=True, below=True), 1.0, "must be in (0, 1)"),
        (Range(), math.nan, "must be a number"),
    ],
)
def test_what_is_wrong_is_said_in_words(limits: Range, number: float, words: str) -> None:
    assert limits.words(number) == words
    with pytest.raises(InputError, match="x="):
        check_type(number, typing.Annotated[float, limits], "x")


def test_only_what_is_given_is_checked_and_names_are_pythons() -> None:
    class Example(Checked):
        def __init__(self, count: Count, share: Fraction = 2.0, *, size: Positive | None = None, **more: int) -> None:
            self.given = (count, share, size, more)

    assert Example(3.0, size=None, extra=-1).given == (3, 2.0, None, {"extra": -1})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"count=1.5"):
        Example(1.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"size=nan must be positive"):
        Example(1, size=math.nan)
    with pytest.raises(TypeError, match="count"):
        Example()  # type: ignore[call-arg]


def test_a_signature_is_left_as_it_was() -> None:
    def constructor(self: Any, weight: Positive = 1.0) -> None:
        """What it says."""

    assert inspect.signature(checked(constructor)) == inspect.signature(constructor)
    assert checked(constructor).__doc__ == "What it says."
