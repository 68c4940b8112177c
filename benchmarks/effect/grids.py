"""What the grids are made of: cells, teachers, and every grid by its name.

A cell is a task, a target, a method and a seed; every run is scored live and WAKD-averaged, so averaging costs no
second run. Grids:

- ``core``: segmentation of nuclei (held-out stain) and of CoinRun frames (held-out look), seven methods, five seeds;
- ``policies``: PPO on CoinRun, five methods, three seeds;
- ``settings``, ``buffers``: what ``defaults.py`` chooses the default settings from, beside the core grid's cells;
- ``strength``: the weight and temperature of KD where the teacher is better than its student: it was trained five
  times as long, and is asked with averaged weights. Its teachers and runs want a folder of their own (``--runs``);
- ``nuclei_invert``, ``nuclei_mild``: every way to distil beside a strong plain network, each stain held out in turn,
  with two presets of augmentation: ``plan.md`` says what is asked of them. A folder of their own each;
- ``microcolonies``, ``looks``: its first six methods on images that ``microcolonies.py`` makes and on looks of three
  Procgen games. A folder of their own each;
- ``scarce_5``, ``scarce_25``: with masks for so many per cent of the images, in the folder of ``nuclei_invert``, whose
  teachers they ask;
- ``one_labelled``: with masks for one source domain, there too; ``colonies_one_labelled``: the same of bacteria, in the
  folder of ``microcolonies``;
- ``dropout``: the weight of SD-Dropout, five seeds. A folder of its own;
- ``pilot``: which games plain PPO learns in a quarter of a million steps, with which settings, judged on the levels it
  is trained on;
- ``students_10``, ``students_25``: every way to distil a policy with so many per cent of its teachers' steps, on what
  the pilot found. They share a folder and its teachers;
- ``students_wide``: of a teacher that was trained on fifty times as many levels, and on none of the student's;
- ``students_levels``: its best rows once more with other seeds, on levels alone;
- ``family``: whether defaults of self-distillation methods cost accuracy on images like those of training. A folder of
  its own;
- ``averages``: SWAD and SMA beside WAKD, in the folder of ``nuclei_invert``, whose plain training and KD it has;
- ``recipe``: settings of ``experiment=recipe`` for segmentation, whose teacher is larger and pretrained. Its preset of
  augmentation is declared, not chosen: source validation cannot see what it is for. A folder of its own, too.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from benchmarks.effect.cells import TEACHER_SEED, Grid, TeacherOf
from benchmarks.effect.images import STAINS
from benchmarks.effect.targets import games, looks, microcolonies, stains

AVERAGING = ("averaging=wakd", "averaging.buffers=reestimate")
# Spelt out, so that a grid stays what it was when a default changes.
SEGMENTATION = (
    "trainer.max_steps=300",
    "evaluation.every=0",
    "+trainer.enable_progress_bar=false",
    "strength.kd=0.1",
    "strength.threshold=0.95",
    "strength.sd_dropout.end=0.1",
)
POLICIES = (
    "total_timesteps=98304",
    "env.threads=0",
    "ppo.n_steps=64",
    "ppo.batch_size=1024",
    "evaluation.every=0",
    "evaluation.episodes=128",
    "evaluation.looks=[themed]",
    "device=cpu",
)


def _plain(*names: str) -> dict[str, tuple[str, ...]]:
    return {name: (f"method={name}",) for name in names}


_TWO_STAINS_AND_A_LOOK = stains("purple_on_white", folder="data") | stains("fluorescence") | looks(generated="coinrun")
_SMALL = stains(*STAINS, folder="small")
_LARGE = ("network=unet_lite0", *AVERAGING)
_ENSEMBLE = ("large-0", "large-1", "large-2")
_COMPLEMENTARY = ("without-0", "without-1", "without-2")
_WAKD = ("method=kd", "method.task_weight=0.0", "strength.temperature=1.0")
_CORE = {**_plain("erm", "kd", "kddg", "sd_dropout", "kddg_sdd"), "wakd": _WAKD}
_FAMILY = {
    **_plain("erm", "label_smoothing", "ps_kd", "byot", "ddgsd", "beta_smoothing", "dlb", "tf_kd_reg", "tf_kd_self"),
    **_plain("r_drop", "ai_kd", "subclass", "dps"),
    **{f"cs_kd_w{value}": ("method=cs_kd", f"method.terms.cs_kd.weight={value}") for value in (1.0, 0.1, 0.01)},
}
_ASKED = dict.fromkeys(("kd", "kddg", "kddg_sdd", "wakd"), _ENSEMBLE[:1])
_TEACHERS = {
    "equal": TeacherOf(AVERAGING, 200),
    **{name: TeacherOf(_LARGE, TEACHER_SEED + number) for number, name in enumerate(_ENSEMBLE)},
    **{name: TeacherOf((*_LARGE, f"data.sources={{others[{number}]}}")) for number, name in enumerate(_COMPLEMENTARY)},
}


def _strong(
    targets: Mapping[str, Sequence[str]],
    preset: str,
    methods: Mapping[str, Sequence[str]],
    asked: Mapping[str, Sequence[str]],
) -> Grid:
    """Students of larger, pretrained teachers beside a strong plain network, with the settings that ``recipe`` chose.

    Args:
        targets: As in :class:`Grid`.
        preset: Of augmentation.
        methods: As in :class:`Grid`.
        asked: Which of ``_TEACHERS`` a method asks; those that are not in it have none.
    """
    return Grid(
        "kdseg",
        targets,
        methods,
        5,
        (
            *("trainer.max_steps=400", f"data.augmentation={preset}", "data.crop_size=64", "evaluation.every=0"),
            *("+trainer.enable_progress_bar=false", "learning_rate.shape=one_cycle"),
            *("strength.kd=1.0", "strength.temperature=2.0", "strength.threshold=0.95", "strength.sd_dropout.end=0.01"),
        ),
        {name: one for name, one in _TEACHERS.items() if any(name in names for names in asked.values())},
        asked,
    )


def _scarce(room: str, targets: Mapping[str, Sequence[str]], *few: str) -> Grid:
    """Few masks, all images: what teachers are for that were trained where there were masks."""
    taught = {**_plain("kd", "kddg", "kddg_sdd"), "wakd": _WAKD}
    grid = _strong(
        targets,
        "colour_invert",
        _plain("erm", "sd_dropout") | taught,
        dict.fromkeys(taught, _ENSEMBLE[:1]),
    )
    methods = {name: (*given, *few, "data.unlabelled=true") for name, given in grid.methods.items()}
    return dataclasses.replace(grid, methods=methods, room=room)


_SHORT_ROLLOUTS = (
    *("env.num_envs=32", "env.threads=0", "ppo.n_steps=64", "ppo.batch_size=256"),
    *("evaluation.every=0", "evaluation.episodes=128", "device=cpu"),
)
# What the pilot found: of nine games the one that is learnt, with the discount that it is learnt with.
_STUDIED, _DISCOUNT = ("coinrun",), "ppo.gamma=0.99"
_MASTERS = ("long-0", "long-1", "long-2")
_WAYS = {
    **_plain("erm", "kd", "kddg", "sd_dropout", "kddg_sdd", "ppd"),
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


GRIDS: Mapping[str, Grid] = {
    "core": Grid(
        "kdseg",
        _TWO_STAINS_AND_A_LOOK,
        _plain("erm", "label_smoothing", "kd", "kddg", "kddg_teacher", "sd_dropout", "kddg_sdd"),
        5,
        SEGMENTATION,
    ),
    "policies": Grid(
        "kdrl",
        games("coinrun"),
        _plain("erm", "kd", "kddg", "sd_dropout", "kddg_sdd"),
        3,
        POLICIES,
    ),
    "settings": Grid(
        "kdseg",
        looks(generated="coinrun"),
        {f"kddg_n{value}": ("method=kddg", f"strength.threshold={value}") for value in (0.9, 0.99, 0.999)}
        | {f"kd_w{value}": ("method=kd", f"strength.kd={value}") for value in (0.3, 1.0)}
        | {f"sd_dropout_w{value}": ("method=sd_dropout", f"strength.sd_dropout.end={value}") for value in (0.03, 0.3)},
        2,
        SEGMENTATION,
    ),
    "strength": Grid(
        "kdseg",
        stains("purple_on_white") | looks(generated="coinrun"),
        {"erm": ("method=erm",)}
        | {
            f"kd_w{weight}_t{temperature}": (
                "method=kd",
                f"strength.kd={weight}",
                f"strength.temperature={temperature}",
            )
            for weight in (0.1, 0.3, 1.0, 3.0)
            for temperature in (1.0, 3.0)
        },
        5,
        SEGMENTATION,
        {"teacher": TeacherOf(("trainer.max_steps=1500", *AVERAGING))},
    ),
    "recipe": Grid(
        "kdseg",
        stains("purple_on_white", "purple_on_purple"),
        {
            "erm": ("method=erm",),
            **{f"erm_{shape}": ("method=erm", f"learning_rate.shape={shape}") for shape in ("cosine", "one_cycle")},
            **{
                f"kd_w{weight}_t{temperature}": (
                    "method=kd",
                    f"strength.kd={weight}",
                    f"strength.temperature={temperature}",
                )
                for weight, temperature in ((0.3, 2.0), (1.0, 2.0), (3.0, 2.0), (1.0, 1.0), (1.0, 4.0))
            },
            "kd_clean": ("method=kd", "strength.kd=1.0", "strength.temperature=2.0", "teacher_view=clean"),
        },
        2,
        ("trainer.max_steps=400", "data.augmentation=colour", "data.crop_size=128", *SEGMENTATION[1:]),
        {"teacher": TeacherOf(("network=unet_lite0", *AVERAGING))},
    ),
    "nuclei_invert": _strong(
        _SMALL,
        "colour_invert",
        {
            **_CORE,
            **_plain("label_smoothing", "cs_kd", "kddg_teacher", "kddg_softened"),
            **dict.fromkeys(("kd_equal", "kd_ensemble"), ("method=kd",)),
            "kd_complementary": ("method=kd", "teacher_domains=unseen"),
        },
        {
            **_ASKED,
            **dict.fromkeys(("kddg_teacher", "kddg_softened"), _ENSEMBLE[:1]),
            "kd_equal": ("equal",),
            "kd_ensemble": _ENSEMBLE,
            "kd_complementary": _COMPLEMENTARY,
        },
    ),
    "averages": _strong(
        {"purple_on_white": _SMALL["purple_on_white"]},
        "colour_invert",
        {
            **_plain("erm", "kd"),
            **{
                f"{name}_{rule}": (f"method={name}", f"averaging={rule}", "evaluation.every=20")
                for rule in ("swad", "sma")
                for name in ("erm", "kd")
            },
        },
        dict.fromkeys(("kd", "kd_swad", "kd_sma"), _ENSEMBLE[:1]),
    ),
    "family": dataclasses.replace(
        _strong(
            {
                "purple_on_white": _SMALL["purple_on_white"],
                "generated": (*looks(generated="coinrun")["generated"], "data.augmentation=colour"),
            },
            "colour_invert",
            _FAMILY,
            dict.fromkeys(("tf_kd_self", "ai_kd"), ("equal",)),
        ),
        seeds=3,
    ),
    "nuclei_mild": _strong(_SMALL, "mild", _CORE, _ASKED),
    "microcolonies": _strong(microcolonies(), "colour_invert", _CORE, _ASKED),
    "looks": _strong(looks(coinrun="coinrun", climber="climber", ninja="ninja"), "colour", _CORE, _ASKED),
    "scarce_5": _scarce("scarce_5", _SMALL, "data.labelled_fraction=0.05"),
    "scarce_25": _scarce("scarce_25", _SMALL, "data.labelled_fraction=0.25"),
    "one_labelled": _scarce("one_labelled", _SMALL, "data.root={one_labelled}"),
    "colonies_one_labelled": _scarce("one_labelled", microcolonies(), "data.root={colonies_one_labelled}"),
    "dropout": Grid(
        "kdseg",
        looks(generated="coinrun") | stains("purple_on_white"),
        {"erm": ("method=erm",)}
        | {
            f"sd_dropout_w{value}": ("method=sd_dropout", f"strength.sd_dropout.end={value}")
            for value in (0.01, 0.03, 0.1)
        },
        5,
        SEGMENTATION,
        {},
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
    "buffers": Grid(
        "kdseg",
        _TWO_STAINS_AND_A_LOOK,
        {"erm_buffers_average": ("method=erm", "averaging.buffers=average")},
        2,
        SEGMENTATION,
    ),
}
