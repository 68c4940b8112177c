"""Grids of segmentation: what is held out, the teachers, the methods and their settings."""

import dataclasses
from collections.abc import Mapping, Sequence

from benchmarks.effect.cells import AVERAGING, TEACHER_SEED, Grid, TeacherOf, plain
from benchmarks.effect.images import STAINS
from benchmarks.effect.targets import looks, microcolonies, stains

# Spelt out, so that a grid stays what it was when a default changes.
_WEAK = (
    "trainer.max_steps=300",
    "evaluation.every=0",
    "+trainer.enable_progress_bar=false",
    "strength.kd=0.1",
    "strength.threshold=0.95",
    "strength.sd_dropout.end=0.1",
)
_TWO_STAINS_AND_A_LOOK = stains("purple_on_white", folder="data") | stains("fluorescence") | looks(generated="coinrun")
_SMALL = stains(*STAINS, folder="small")
_LARGE = ("network=unet_lite0", *AVERAGING)
_ENSEMBLE = ("large-0", "large-1", "large-2")
_COMPLEMENTARY = ("without-0", "without-1", "without-2")
_WAKD = ("method=kd", "method.task_weight=0.0", "strength.temperature=1.0")
_CORE = {**plain("erm", "kd", "kddg", "sd_dropout", "kddg_sdd"), "wakd": _WAKD}


def _tried(method: str, key: str, *values: float) -> dict[str, tuple[str, ...]]:
    """A method with each of some values of a setting of its term."""
    return {
        f"{method}_{key[0]}{value}": (f"method={method}", f"method.terms.{method}.{key}={value}") for value in values
    }


# Without a value: what is its paper's, or was the default before others were tried.
_FAMILY = {
    **plain("erm", "label_smoothing", "byot", "ddgsd", "dlb", "tf_kd_reg", "tf_kd_self", "r_drop", "ai_kd", "subclass"),
    "ps_kd": ("method=ps_kd", "method.terms.ps_kd.alpha=0.8"),
    "beta_smoothing": ("method=beta_smoothing", "method.terms.beta_smoothing.alpha=0.6"),
    "dps": ("method=dps", "method.terms.dps.concentration=10.0"),
    **_tried("cs_kd", "weight", 1.0, 0.1, 0.01),
    **_tried("ps_kd", "alpha", 0.3, 0.1),
    **_tried("beta_smoothing", "alpha", 0.2, 0.06),
    **_tried("dps", "concentration", 100.0, 1000.0),
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
    taught = {**plain("kd", "kddg", "kddg_sdd"), "wakd": _WAKD}
    grid = _strong(
        targets,
        "colour_invert",
        plain("erm", "sd_dropout") | taught,
        dict.fromkeys(taught, _ENSEMBLE[:1]),
    )
    methods = {name: (*given, *few, "data.unlabelled=true") for name, given in grid.methods.items()}
    return dataclasses.replace(grid, methods=methods, room=room)


def _longer(grid: Grid, room: str, *methods: str) -> Grid:
    """Some rows on two of the targets with four times the steps; teachers are those of ``grid``."""
    own, *others = grid.settings
    return dataclasses.replace(
        grid,
        targets={name: grid.targets[name] for name in ("purple_on_purple", "purple_on_white")},
        methods={name: grid.methods[name] for name in methods},
        settings=("trainer.max_steps=1600", *others),
        teachers={name: one._replace(overrides=(own, *one.overrides)) for name, one in grid.teachers.items()},
        asked={name: grid.asked[name] for name in methods if name in grid.asked},
        room=room,
    )


_ALL_MASKS = _strong(
    _SMALL,
    "colour_invert",
    {
        **_CORE,
        **plain("label_smoothing", "kddg_teacher", "kddg_softened"),
        "cs_kd": _FAMILY["cs_kd_w1.0"],
        "cs_kd_w0.01": _FAMILY["cs_kd_w0.01"],
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
)
_ONE_LABELLED = _scarce("one_labelled", _SMALL, "data.root={one_labelled}")

SEGMENTATION_GRIDS: Mapping[str, Grid] = {
    "core": Grid(
        "kdseg",
        _TWO_STAINS_AND_A_LOOK,
        plain("erm", "label_smoothing", "kd", "kddg", "kddg_teacher", "sd_dropout", "kddg_sdd"),
        5,
        _WEAK,
    ),
    "settings": Grid(
        "kdseg",
        looks(generated="coinrun"),
        {f"kddg_n{value}": ("method=kddg", f"strength.threshold={value}") for value in (0.9, 0.99, 0.999)}
        | {f"kd_w{value}": ("method=kd", f"strength.kd={value}") for value in (0.3, 1.0)}
        | {f"sd_dropout_w{value}": ("method=sd_dropout", f"strength.sd_dropout.end={value}") for value in (0.03, 0.3)},
        2,
        _WEAK,
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
        _WEAK,
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
        ("trainer.max_steps=400", "data.augmentation=colour", "data.crop_size=128", *_WEAK[1:]),
        {"teacher": TeacherOf(("network=unet_lite0", *AVERAGING))},
    ),
    "nuclei_invert": _ALL_MASKS,
    "averages": _strong(
        {"purple_on_white": _SMALL["purple_on_white"]},
        "colour_invert",
        {
            **plain("erm", "kd"),
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
    "one_labelled": _ONE_LABELLED,
    "one_labelled_longer": _longer(_ONE_LABELLED, "one_labelled_longer", "erm", "kd", "wakd"),
    "nuclei_longer": _longer(_ALL_MASKS, "nuclei_longer", "erm", "kd"),
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
        _WEAK,
        {},
    ),
    "buffers": Grid(
        "kdseg",
        _TWO_STAINS_AND_A_LOOK,
        {"erm_buffers_average": ("method=erm", "averaging.buffers=average")},
        2,
        _WEAK,
    ),
}
