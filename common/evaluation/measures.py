"""What is measured beside the scores, the same for both tasks: settings, and the cells that are left to do."""

import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.progress import track

from common.arguments import Count, NotNegative, Range
from common.errors import InputError, choice
from common.evaluation.attacks import Attack
from common.evaluation.conditions import Condition
from common.evaluation.corruptions import BENCHMARK, CORRUPTIONS, SEVERITIES
from common.runs.folder import Run
from common.runs.records import Record

Measure = Literal["corruptions", "attacks", "unknown", "analysis"]
_STRICT = ConfigDict(extra="forbid")
_Corruption = Annotated[str, AfterValidator(lambda name: choice(name, CORRUPTIONS, "corruptions.names"))]
_SETS = {"all": tuple(CORRUPTIONS), "benchmark": BENCHMARK}


def _named(names: object) -> object:
    return list(_SETS[names]) if isinstance(names, str) and names in _SETS else names


@dataclass(config=_STRICT, kw_only=True)
class CorruptionSettings:
    """Which corruptions, and how severe.

    Attributes:
        names: ``all`` nineteen, the ``benchmark``'s fifteen, or some by name.
        severities: 1 to 5.
    """

    names: Annotated[list[_Corruption], BeforeValidator(_named), Field(min_length=1)] = dataclasses.field(
        default_factory=lambda: list(CORRUPTIONS)
    )
    severities: Annotated[list[Annotated[int, Range(SEVERITIES[0], SEVERITIES[-1])]], Field(min_length=1)] = (
        dataclasses.field(default_factory=lambda: [1, 3, 5])
    )

    def conditions(self) -> list[Condition]:
        """Every corruption at every severity, after none at all: the same items as they are."""
        corrupted = [
            Condition("corruption", name, str(severity)) for name in self.names for severity in self.severities
        ]
        return [Condition("corruption", "none"), *corrupted]


@dataclass(config=_STRICT, kw_only=True)
class AttackSettings:
    """Which attacks, and how strong.

    Attributes:
        names: ``fgsm``, ``pgd``, and of maps ``segpgd``.
        radii: In 255ths of the input's range; 0, no attack, is always measured beside them.
        steps: Of ``pgd`` and ``segpgd``.
        restarts: Random starts of those.
    """

    names: Annotated[list[Attack], Field(min_length=1)] = dataclasses.field(default_factory=lambda: ["fgsm"])
    radii: Annotated[list[NotNegative], Field(min_length=1)] = dataclasses.field(
        default_factory=lambda: [0.5, 1.0, 2.0, 4.0]
    )
    steps: Annotated[int, Range(1, 1000)] = 10
    restarts: Annotated[int, Range(1, 100)] = 1

    def sweep(self) -> list[float]:
        """Radii, ascending, with 0."""
        return sorted({0.0, *map(float, self.radii)})

    def name_of(self, kind: Attack) -> str:
        """As in records: with what its strength rests on beside the radius.

        >>> AttackSettings(restarts=3).name_of("pgd"), AttackSettings().name_of("fgsm")
        ('pgd-10x3', 'fgsm')
        """
        if kind == "fgsm":
            return kind
        return f"{kind}-{self.steps}" + (f"x{self.restarts}" if self.restarts > 1 else "")


@dataclass(config=_STRICT, kw_only=True)
class MeasureSettings:
    """What is measured beside the scores, and on how much.

    Attributes:
        measures: Which.
        corruptions: Strengths.
        attacks: Strengths.
        most: Images of a domain, or episodes, that each cell is measured on.
    """

    measures: list[Measure] = dataclasses.field(default_factory=list)
    corruptions: CorruptionSettings = dataclasses.field(default_factory=CorruptionSettings)
    attacks: AttackSettings = dataclasses.field(default_factory=AttackSettings)
    most: Count = 32


@dataclasses.dataclass(frozen=True)
class Cell:
    """What is measured and recorded at once.

    Attributes:
        conditions: What is done.
        domain: Where.
        seen: Whether training saw it.
        selection: Which weights.
        n: How many images or episodes.
        work: Measures it.
    """

    conditions: Sequence[Condition]
    domain: str
    seen: bool
    selection: str
    n: int
    work: Callable[[], list[Record]]

    def done(self, records: Iterable[Record]) -> bool:
        """Whether rows of all of it are there."""
        here = (self.domain, self.seen, self.selection, self.n)
        found = {row.condition for row in records if (row.domain, row.seen, row.selection, row.n) == here}
        return {str(one) for one in self.conditions} <= found


class Subject(ABC):
    """What is judged, and the cells that its task makes of each measure."""

    def cells(self, wanted: MeasureSettings) -> list[Cell]:
        """Everything that is wanted."""
        kinds: Mapping[str, Callable[[], Iterator[Cell]]] = {
            "corruptions": lambda: self._corruptions(wanted.corruptions.conditions()),
            "attacks": lambda: self._attacks(wanted.attacks),
            "unknown": self._unknown,
            "analysis": self._analysis,
        }
        return [cell for kind in dict.fromkeys(wanted.measures) for cell in kinds[kind]()]

    @abstractmethod
    def _corruptions(self, conditions: Sequence[Condition]) -> Iterator[Cell]: ...

    @abstractmethod
    def _attacks(self, settings: AttackSettings) -> Iterator[Cell]: ...

    @abstractmethod
    def _unknown(self) -> Iterator[Cell]: ...

    @abstractmethod
    def _analysis(self) -> Iterator[Cell]: ...


def place(settings: MeasureSettings, run: Run, out: Run | None, elsewhere: bool) -> Run:
    """The folder that further measures go to.

    Args:
        settings: What is wanted.
        run: What is judged.
        out: The folder that was given, if one was.
        elsewhere: Whether it is judged on other domains than its own.

    Raises:
        InputError: there is something to measure, and the run's folder is not the place for it.
    """
    if settings.measures and out is None:
        if elsewhere:
            raise InputError(f"measures={settings.measures} on other data do not belong into {run.path}; give out=DIR")
        if not os.access(run.path, os.W_OK):
            raise InputError(
                f"measures={settings.measures} go into {run.path}, which cannot be written to; give out=DIR"
            )
    return out or run


def take(run: Run, cells: Sequence[Cell], console: Console) -> int:
    """Measure what is not there yet, and append it to the run's further measures as it comes.

    Args:
        run: A finished run, or an evaluation's folder.
        cells: What is wanted.
        console: Where progress is shown.

    Returns:
        How many cells were there already.

    Raises:
        InputError: the folder cannot be written to.
    """
    with run.lock():
        there = run.measures()
        left = [cell for cell in cells if not cell.done(there)]
        for cell in track(left, "measuring", console=console, transient=True):
            run.append_measures(cell.work())
    return len(cells) - len(left)
