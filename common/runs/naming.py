"""What the default folder of a run says of it: what differs from the defaults, readable."""

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from common.runs.identity import digest

CHANGES = "{changes}"
LONGEST = 80
# Groups that stand elsewhere in the folder's name.
_IN_PATH = ("env", "data", "method")
# What says most of a run comes first: the name has an end.
_ORDER = ("strength", "method", "averaging", "driver", "data", "env", "network")
# Keys that change no result, have a place of their own in the name, or are in its hash alone.
_LEFT_OUT_KEYS = (
    *("seed", "run_dir", "resume", "unfinished", "teacher", "device", "checkpoint_every", "classes", "hydra", "plan"),
    *("env.game", "env.threads", "evaluation"),
    *("data.root", "data.target", "data.seed", "data.num_workers", "data.cache_mib", "data.eval_batch_size"),
    *("trainer.accelerator", "trainer.enable_progress_bar", "trainer.log_every_n_steps"),
    *("method.name", "averaging.name", "network.name"),
)
_LEFT_OUT = {tuple(key.split(".")) for key in _LEFT_OUT_KEYS}

_Path = tuple[str, ...]


def changes(config: DictConfig) -> str:
    """What differs from the defaults, as ``-impala-kd0.1-look-plain``; empty where nothing does.

    First the choices of config groups that are not the default, then values that differ from what those choices give
    by themselves. How it was asked for does not matter: neither the order of overrides nor those that repeat a
    default. Only while Hydra is initialised.

    Args:
        config: The job's configuration.
    """
    name = str(HydraConfig.get().job.config_name)
    chosen = _groups(HydraConfig.get())
    experiment = {group: choice for group, choice in chosen.items() if group == "experiment"}
    # An experiment chooses of other groups what need not be said again.
    same = _compose(name, experiment)
    implied = _groups(same.hydra)
    others = {group: choice for group, choice in chosen.items() if choice != implied.get(group)}
    if others:
        same = _compose(name, {**experiment, **others})
    told = [choice for group, choice in others.items() if group not in _IN_PATH]
    text = ""
    for part in [*experiment.values(), *told, *_changed_values(config, same)]:
        longer = f"{text}-{re.sub(r'[^A-Za-z0-9._-]+', '_', part)}"
        if len(longer) > LONGEST:
            break  # the rest is in the hash
        text = longer
    return text


def _compose(name: str, choices: Mapping[str, str]) -> DictConfig:
    sources = tuple(source.path for source in HydraConfig.get().runtime.config_sources)
    return _composed(name, tuple(choices.items()), sources)


@functools.lru_cache(maxsize=16)  # the jobs of a sweep ask for the same again and again
def _composed(name: str, choices: tuple[tuple[str, str], ...], sources: tuple[str, ...]) -> DictConfig:
    return compose(name, [f"{group}={choice}" for group, choice in choices], return_hydra_config=True)


def _groups(hydra: Any) -> dict[str, str]:
    chosen = hydra.runtime.choices.items()
    return {str(group): choice for group, choice in chosen if choice and not str(group).startswith("hydra/")}


def _changed_values(config: DictConfig, same: DictConfig) -> list[str]:
    ours, theirs = (_leaves(OmegaConf.to_container(each, resolve=False)) for each in (config, same))
    # A key that only repeats another's value is not what a user would call by that name.
    own = [path for path in {**ours, **theirs} if not _refers(ours.get(path, theirs.get(path)))]
    parts = []
    for path in sorted({**ours, **theirs}, key=_place):
        if any(path[:length] in _LEFT_OUT for length in (1, 2)):
            continue
        if path not in ours:
            if not any(path[: len(other)] == other or other[: len(path)] == path for other in ours):
                parts.append(f"no-{_label(path, own)}")
        # Another way to say the same value is no difference.
        elif path not in theirs or (ours[path] != theirs[path] and _resolved(config, path) != _resolved(same, path)):
            parts.append(_part(_label(path, own), _resolved(config, path)))
    return parts


def _place(path: _Path) -> tuple[int, _Path]:
    return (_ORDER.index(path[0]) if path[0] in _ORDER else len(_ORDER), path)


def _leaves(value: Any, path: _Path = ()) -> dict[_Path, Any]:
    if isinstance(value, Mapping):
        pairs = value.items()
        return {leaf: found for key, inner in pairs for leaf, found in _leaves(inner, (*path, str(key))).items()}
    return {path: value}


def _refers(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("${")


def _resolved(config: DictConfig, path: _Path) -> Any:
    value: Any = config
    try:
        for key in path:
            value = value[key]
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except (OmegaConfBaseException, KeyError):  # it is missing, or stands for something that is
        return None


def _label(path: _Path, own: Iterable[_Path]) -> str:
    """The key's last component, with those before it as far as another key ends alike."""
    for length in range(1, len(path)):
        if not any(other != path and other[-length:] == path[-length:] for other in own):
            return ".".join(path[-length:])
    return ".".join(path)


def _part(label: str, value: Any) -> str:
    if label.split(".")[-1] == "_target_" and isinstance(value, str):
        return value.split(".")[-1]
    if isinstance(value, int | float) and not isinstance(value, bool):
        whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
        return f"{label}{int(value) if whole else value}"
    return f"{label}-{_text(value)}"


def _text(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, list):
        plain = not any(isinstance(item, list | dict) for item in value)
        return "_".join(str(item) for item in value) if plain else digest(value)[:4]
    return str(value).lower() if isinstance(value, bool) else str(value)
