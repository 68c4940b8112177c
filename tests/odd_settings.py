"""Command lines with values that nobody should be able to train with, and what may become of each."""

import contextlib
import dataclasses
import io
import math
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from common.directories import config_directory

VALUES = (
    *(
        "nan",
        "inf",
        "-inf",
        "-1",
        "0",
        "1",
        "2",
        "0.5",
        "-0.5",
        "1.5",
        "1e400",
        "1e30",
        "4294967296",
        "2147483647",
        "-0.0",
    ),
    *(
        "null",
        "true",
        "false",
        "abc",
        "''",
        "[]",
        "[1]",
        "[a,b]",
        "{}",
        "{a:1}",
        "???",
        "é",
        "[old]",
        "2020_01",
        "a=b",
        "(x",
    ),
    *("meta", "cuda:9", "1_0", "'[/red]'", "~", "[nan]", "[-1]", "[[1]]", "{_target_:os.system}", "1e-30", "64-true"),
)
# Where a number below zero means something.
SIGNED = ("ent_coef", "sde_sample_freq", "mean", "verbose", "hue", "value_range", "std")
METHODS = (
    *(
        "erm",
        "sd_dropout",
        "label_smoothing",
        "beta_smoothing",
        "cs_kd",
        "ddgsd",
        "dlb",
        "dps",
        "drac",
        "iter",
        "ps_kd",
    ),
    *("r_drop", "byot", "subclass", "ai_kd", "kd", "kddg", "tf_kd_reg", "cross_fitted", "value_distillation"),
)
AVERAGING = ("none", "wakd", "sma", "swad", "ema")


@dataclasses.dataclass(frozen=True)
class Fate:
    """What became of a command line.

    Attributes:
        status: 0 where it would have been trained.
        error: What was printed on standard error.
        settings: What would have been trained.
    """

    status: int
    error: str
    settings: Any = None


def keys_of(config_name: str, arguments: Sequence[str]) -> list[str]:
    """Every key of a program's configuration that has a value and no keys of its own."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        composed = compose(config_name, list(arguments))
    return sorted(_leaves(OmegaConf.to_container(composed), ""))


def _leaves(node: Any, prefix: str) -> Iterator[str]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix


def odd_arguments(keys: Sequence[str], more: Sequence[str], rng: np.random.Generator) -> list[str]:
    """One to three changes of a sound command line.

    Args:
        keys: Of the configuration.
        more: Keys that it may have beside these, which are added.
        rng: Draws them.
    """
    changes = []
    if rng.random() < 0.4:
        changes.append(f"method={METHODS[rng.integers(len(METHODS))]}")
    if rng.random() < 0.2:
        changes.append(f"averaging={AVERAGING[rng.integers(len(AVERAGING))]}")
    for _ in range(int(rng.integers(1, 3))):
        value = VALUES[rng.integers(len(VALUES))]
        if more and rng.random() < 0.2:
            changes.append(f"+{more[rng.integers(len(more))]}={value}")
        else:
            changes.append(f"{keys[rng.integers(len(keys))]}={value}")
    return changes


def tried(main: Callable[[Callable[[Any], object]], None], arguments: Sequence[str]) -> Fate:
    """Run a program up to where it would train.

    Args:
        main: Runs a task with the settings that a command line makes.
        arguments: The command line.

    Raises:
        BaseException: what no program may end in.
    """
    GlobalHydra.instance().clear()
    out, err, kept = io.StringIO(), io.StringIO(), sys.argv
    built: list[Any] = []
    sys.argv = ["program", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(built.append)
    except SystemExit as stop:
        return Fate(int(stop.code or 0), err.getvalue())
    finally:
        sys.argv = kept
    return Fate(0, err.getvalue(), built[0] if built else None)


def ended(main: Callable[[Callable[[Any], object]], None], arguments: Sequence[str]) -> Fate | str:
    """As :func:`tried`; of what no program may end in, the traceback."""
    try:
        return tried(main, arguments)
    except BaseException:
        return traceback.format_exc()


def fault(arguments: Sequence[str], fate: Fate) -> str | None:
    """What is wrong with what became of a command line, if anything."""
    if fate.status:
        return ill_refused(fate)
    if fate.settings is None:
        return "it ended as if it had trained, and nothing was built"
    for argument in arguments:
        key, _, text = argument.lstrip("+~").partition("=")
        number = _number(text)
        if isinstance(number, float) and not math.isfinite(number) and not _as_text(fate.settings, key):
            return f"{argument} is trained with"
        if (
            number is not None
            and number < 0
            and not any(part in key for part in SIGNED)
            and not _as_text(fate.settings, key)
        ):
            return f"{argument} is trained with"
    return None


def ill_refused(fate: Fate) -> str | None:
    """What is wrong with an end of another status than 0, if anything: it is one line that says what was wrong."""
    if fate.status != 2:
        return f"status {fate.status}: {fate.error}"
    lines = [line for line in fate.error.splitlines() if not line.startswith("warning: ")]
    return None if len(lines) == 1 and lines[0].startswith("error: ") else f"not one line: {fate.error!r}"


def odd_number(text: str) -> bool:
    """Whether a value is a number that is not finite, or negative."""
    number = _number(text)
    return number is not None and (number < 0 or not math.isfinite(number))


def _number(text: str) -> float | None:
    try:
        value = OverridesParser.create().parse_override(f"x={text}").value()
    except HydraException:
        return None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _as_text(settings: Any, key: str) -> bool:
    """Whether the setting is a text, in which any character may stand, or is not used."""
    value: Any = settings
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
    return isinstance(value, str) or value is None
