"""What a grid is: cells, each a run of a training program, and the teachers that they ask."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

TEACHER_SEED = 100
AVERAGING = ("averaging=wakd", "averaging.buffers=reestimate")
"""Of every student, beside its last weights."""


class TeacherOf(NamedTuple):
    """A teacher of every target.

    Attributes:
        overrides: Beside those of all cells; ``{others[0]}`` stands for the sources but the first.
        seed: Its seed.
    """

    overrides: Sequence[str] = ()
    seed: int = TEACHER_SEED


class Cell(NamedTuple):
    """One run; the teachers of a target are some too."""

    target: str
    method: str
    seed: int


@dataclasses.dataclass(frozen=True)
class Grid:
    """What is compared.

    Attributes:
        program: Which training program runs the cells.
        targets: What is held out, or the game, by name → overrides, with names of folders as :mod:`.images` has them.
        methods: Name in the results → overrides.
        seeds: Number of seeds.
        settings: Overrides of all cells, teachers included.
        teachers: Name → a teacher, which may know more than its students.
        asked: Method → names of the teachers it asks; by default the one called ``teacher``, if there is one.
        first_seed: The smallest of them.
        room: Folder of the students below that of the runs, for grids that share teachers.
    """

    program: Literal["kdseg", "kdrl"]
    targets: Mapping[str, Sequence[str]]
    methods: Mapping[str, Sequence[str]]
    seeds: int
    settings: Sequence[str]
    teachers: Mapping[str, TeacherOf] = dataclasses.field(default_factory=lambda: {"teacher": TeacherOf()})
    asked: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    first_seed: int = 0
    room: str = ""

    def given(self, target: str, method: str | None = None) -> list[str]:
        """What is given to a method on a target, or, without one, to all on it: folders are yet to be named."""
        return [*self.settings, *self.targets[target], *self.methods.get(method or "", ())]

    def cells(self) -> list[Cell]:
        """Seeds outermost, so that a grid that is cut short has every method at fewer seeds."""
        return [
            Cell(target, method, seed)
            for seed in range(self.first_seed, self.first_seed + self.seeds)
            for target in self.targets
            for method in self.methods
        ]

    def teachers_of(self, method: str) -> Sequence[str]:
        """Names of the teachers a method asks."""
        return self.asked.get(method, [name for name in self.teachers if name == "teacher"])

    def teacher_cells(self) -> list[Cell]:
        """What is trained before them."""
        return [Cell(target, name, one.seed) for target in self.targets for name, one in self.teachers.items()]


def plain(*names: str) -> dict[str, tuple[str, ...]]:
    """Methods as they are."""
    return {name: (f"method={name}",) for name in names}
