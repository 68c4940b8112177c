"""Several runs by one command: teachers, the student that they teach, what it is compared with, and the report.

A plan is part of a configuration, such as ``experiment=recipe``. The program that reads it trains none of the runs
itself: each is a run of the same program, in a process of its own, with the same overrides and with its own. Started
again, a plan goes on where it was interrupted, since every run does.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from common.arguments import Seed
from common.chain import Chain, run_program, train_chain
from common.errors import InputError

_OWN = ("seed", "run_dir", "teacher")
"""Keys that a plan sets for each of its runs."""

Overrides = list[str]


@dataclass(config=ConfigDict(extra="forbid"), kw_only=True)
class Plan:
    """The runs beside the student that the configuration describes.

    Attributes:
        out: Folder of all of them: ``teachers/<name>``, ``runs/<name>-<seed>`` and ``report``.
        teachers: Name → overrides that hold for this teacher alone. Each has a seed of its own, from 100 on.
        without_each: Overrides of one teacher more for each source domain, trained on all others; ``None`` for none.
        beside: Name → overrides of what the student is compared with.
        student: The student's name in the folder.
        seeds: Of the student and of what stands beside it.
    """

    out: str
    teachers: dict[str, Overrides] = Field(default_factory=dict)
    without_each: Overrides | None = None
    beside: dict[str, Overrides] = Field(default_factory=dict)
    student: str = "student"
    seeds: list[Seed] = Field(min_length=1)


def chain_of(plan: Plan, program: str, given: Sequence[str], sources: Sequence[str]) -> Chain:
    """The runs of a plan and their commands, teachers first, then seed by seed.

    Args:
        plan: The plan.
        program: Name of the program.
        given: Overrides on its command line.
        sources: The source domains, where the plan asks for teachers that have not seen one.

    Raises:
        InputError: an override that the plan sets itself, no teacher, two runs of one name, or fewer than two sources
            for teachers of all but one.
    """
    for override in given:
        if _key(override) in _OWN:
            raise InputError(f"{override} is set by the plan for each of its runs; give plan.out or plan.seeds instead")
    shared = [override for override in given if _key(override).partition(".")[0] != "plan"]
    out = Path(plan.out)

    def command(path: Path, own: Sequence[str], seed: int) -> tuple[Path, list[str]]:
        replaced = {_key(override) for override in own}  # Hydra takes no group twice
        kept = [override for override in shared if _key(override) not in replaced]
        return path, [program, *kept, *own, "plan=null", f"seed={seed}", f"run_dir={path}"]

    own = {**plan.teachers, **_complementary(plan, sources)}
    if not own:
        raise InputError("plan.teachers is empty, so there is nobody to learn from; give a teacher, or plan=null")
    if plan.student in plan.beside:
        raise InputError(f"plan.beside has a run named {plan.student}, which is the student's name; use another")
    teachers = [
        command(out / "teachers" / name, [*overrides, "teacher=null"], 100 + number)
        for number, (name, overrides) in enumerate(own.items())
    ]
    taught = f"teacher=[{','.join(str(path) for path, _ in teachers)}]"
    runs = {plan.student: [taught], **plan.beside}
    return [
        *teachers,
        *(
            command(out / "runs" / f"{name}-{seed}", overrides, seed)
            for seed in plan.seeds
            for name, overrides in runs.items()
        ),
    ]


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _complementary(plan: Plan, sources: Sequence[str]) -> Mapping[str, Overrides]:
    if plan.without_each is None:
        return {}
    if len(sources) < 2:
        said = ", ".join(sources) or "none"
        raise InputError(f"plan.without_each needs two source domains or more, there is: {said}; set it to null")
    return {
        f"without-{name}": [
            *plan.without_each,
            f"data.sources=[{','.join(other for other in sources if other != name)}]",
        ]
        for name in sources
    }


def carry_out(plan: Plan, program: str, given: Sequence[str], sources: Sequence[str]) -> int:
    """Train the runs of a plan that are not finished, then report on them.

    Returns:
        The exit status of the first that failed, or 0.

    Raises:
        InputError: as :func:`chain_of`.
    """
    chain = chain_of(plan, program, given, sources)
    print(f"{len(chain)} runs into {plan.out}, then the report", flush=True)
    if status := train_chain(chain, run_program):
        return status
    return run_program(["kd-report", f"{plan.out}/runs", "--out", f"{plan.out}/report"])
