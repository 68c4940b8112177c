"""Grids of policies: games, the teachers, the ways to distil and their settings."""

import dataclasses
from collections.abc import Mapping, Sequence

from benchmarks.effect.cells import TEACHER_SEED, Grid, TeacherOf, plain
from benchmarks.effect.targets import games

_PUBLISHED = (
    "total_timesteps=98304",
    "env.threads=0",
    "ppo.n_steps=64",
    "ppo.batch_size=1024",
    "evaluation.every=0",
    "evaluation.episodes=128",
    "evaluation.looks=[themed]",
    "device=cpu",
)


_SHORT_ROLLOUTS = (
    *("env.num_envs=32", "env.threads=0", "ppo.n_steps=64", "ppo.batch_size=256"),
    *("evaluation.every=0", "evaluation.episodes=128", "device=cpu"),
)
# What the pilot found: of nine games the one that is learnt, with the discount that it is learnt with.
_STUDIED, _DISCOUNT = ("coinrun",), "ppo.gamma=0.99"
_MASTERS = ("long-0", "long-1", "long-2")
_WAYS = {
    **plain("erm", "kd", "kddg", "sd_dropout", "kddg_sdd", "ppd"),
    "iter": ("experiment=iter",),
    "own_states": ("method=policy_distillation",),
    "mixed_states": ("method=policy_distillation", "driver=mixed"),
    "kd_ensemble": ("method=kd",),
}
_FROM_WIDE = ("kd", "kddg", "own_states", "mixed_states")
# Judged in both looks wherever it is trained.
_WIDE = TeacherOf(
    (
        *("total_timesteps=2000000", "env.start_level=400", "env.num_levels=10000"),
        *("evaluation.looks=[themed,generated]", "evaluation.episodes=128"),
    )
)


def _students(steps: int, methods: Mapping[str, Sequence[str]]) -> Grid:
    """Policies of so many steps, taught by those of two million; ``kd_ensemble`` by three of them."""
    taught = [name for name in methods if name not in ("erm", "sd_dropout")]
    return Grid(
        "kdrl",
        games(*_STUDIED),
        methods,
        5,
        (f"total_timesteps={steps}", "evaluation.looks=[themed,generated]", *_SHORT_ROLLOUTS, _DISCOUNT),
        {name: TeacherOf(("total_timesteps=2000000",), TEACHER_SEED + number) for number, name in enumerate(_MASTERS)},
        {name: _MASTERS if name == "kd_ensemble" else _MASTERS[:1] for name in taught},
        room=f"students_{steps // 20_000}",
    )


def _of_wide(*ways: str) -> Grid:
    """Policies of the teacher that was trained elsewhere."""
    methods = {"erm": _WAYS["erm"]} | {f"{name}_wide": _WAYS[name] for name in ways}
    asked = {f"{name}_wide": ("wide",) for name in ways}
    return dataclasses.replace(_students(200_000, methods), teachers={"wide": _WIDE}, asked=asked)


def _on_levels(grid: Grid) -> Grid:
    """The same with seeds of its own, on levels in the look of training alone, with twice as many episodes."""
    settings = (*grid.settings, "evaluation.looks=[themed]", "evaluation.episodes=256")
    return dataclasses.replace(grid, seeds=10, first_seed=10, settings=settings, room="students_levels")


POLICY_GRIDS: Mapping[str, Grid] = {
    "policies": Grid(
        "kdrl",
        games("coinrun"),
        plain("erm", "kd", "kddg", "sd_dropout", "kddg_sdd"),
        3,
        _PUBLISHED,
    ),
    "pilot": Grid(
        "kdrl",
        games("miner", "starpilot", "chaser", "coinrun", "fruitbot", "leaper", "jumper", "bigfish", "maze"),
        {"published": ("method=erm",)}
        | {
            name: ("method=erm", _DISCOUNT, *given)
            for name, given in {
                "discount_99": (),
                "pooled": ("network.pooled=true",),
                "one_epoch": ("ppo.n_epochs=1",),
                "fast": ("ppo.learning_rate=0.001", "ppo.batch_size=1024"),
            }.items()
        },
        1,
        ("total_timesteps=250000", "evaluation.looks=[themed]", *_SHORT_ROLLOUTS),
        {},
    ),
    "students_10": _students(200_000, _WAYS),
    "students_25": _students(500_000, {name: _WAYS[name] for name in ("erm", "kd", "kd_ensemble", "ppd")}),
    # In the folder of students_10, whose plain training it is compared with: other rows have other names.
    "students_wide": _of_wide(*_FROM_WIDE),
    "students_levels": _on_levels(_of_wide("own_states", "mixed_states", "kd")),
}
