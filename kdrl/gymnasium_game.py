"""Any task that is registered with Gymnasium, with variants of its physics that training has not seen."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from pydantic import Field
from pydantic.dataclasses import dataclass
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecTransposeImage

from common.arguments import Count, Number, Range
from common.errors import InputError
from common.runs.settings import STRICT
from common.text import shown
from kdrl.game import Game, Part

SEEN = "seen"
_OTHER = "other seeds"
# Their first episodes differ; so many environments nobody has.
_FIRST_SEED = {"train": 0, "validation": 1_000_000, "test": 2_000_000, "progress": 3_000_000}
_UNSEEN = 500_000
_WRAPPERS = ("FrameStackObservation", "GrayscaleObservation", "ResizeObservation", "FlattenObservation", "ClipReward",
             "TimeAwareObservation", "DelayObservation", "StickyAction", "MaxAndSkipObservation")  # fmt: skip
"""Of ``gymnasium.wrappers``."""


@dataclass(config=STRICT, kw_only=True)
class Variant:
    """One form of a task.

    Attributes:
        kwargs: Of ``gymnasium.make``, beside those of all variants.
        attributes: Numbers of the unwrapped environment, set after every reset: as they are, or drawn anew for each
            episode between two bounds.
    """

    kwargs: dict[str, Any] = Field(default_factory=dict)
    attributes: dict[str, Number | tuple[Number, Number]] = Field(default_factory=dict)


@dataclass(config=STRICT, kw_only=True)
class Wrapping:
    """A wrapper of ``gymnasium.wrappers``, and its arguments."""

    name: str
    kwargs: dict[str, Any] = Field(default_factory=dict)


@dataclass(config=STRICT, kw_only=True)
class GymnasiumSettings(Game):
    """``env=gymnasium``.

    Attributes:
        id: A registered id, or ``module:id``, whose module is imported.
        game: Its name in records.
        num_envs: Environments in training.
        kwargs: Of ``gymnasium.make``.
        seen: The form that is trained in.
        unseen: Others that policies are judged in, by name.
        max_episode_steps: After which an episode ends; ``None``: as registered.
        wrappers: Around each environment, the innermost first.
        vector: ``dummy`` steps one after the other, ``subproc`` in processes.
        return_range: Returns that count as 0 and 1, which makes averages that choose by validation possible.
    """

    id: Annotated[str, Field(min_length=1, max_length=200)]
    game: str
    num_envs: Annotated[int, Range(1, 4096)]
    kwargs: dict[str, Any] = Field(default_factory=dict)
    seen: Variant = Field(default_factory=Variant)
    unseen: dict[str, Variant] = Field(default_factory=dict)
    max_episode_steps: Count | None = None
    wrappers: list[Wrapping] = Field(default_factory=list)
    vector: Literal["dummy", "subproc"] = "dummy"
    return_range: tuple[Number, Number] | None = None

    def parts(self, looks: Sequence[str]) -> list[Part]:
        """What is trained in, its validation, and the unseen variants: without any, the same with other seeds."""
        for name in (SEEN, _OTHER):
            if name in self.unseen:
                raise InputError(f"env.unseen: {name!r} is the name of what is trained in; choose another")
        unseen = [Part(name, None, seen=False) for name in self.unseen or [_OTHER]]
        return [Part(SEEN, None, True), Part(SEEN, None, False, "validation"), *unseen]

    def venv(self, part: Part, num_envs: int, seed: int, render: bool = False) -> VecEnv:
        """See :meth:`Game.venv`."""
        first = _FIRST_SEED[part.split] + (0 if part.seen else _UNSEEN)
        return self._venv(part.variant, num_envs, first + seed * num_envs, render)

    def training_venv(self, seed: int) -> VecEnv:
        """See :meth:`Game.training_venv`."""
        return self._venv(SEEN, self.num_envs, _FIRST_SEED["train"] + seed * self.num_envs, False)

    def _venv(self, variant: str, num_envs: int, seed: int, render: bool) -> VecEnv:
        if render:
            self._check_drawn(variant)
        make = functools.partial(self.single, variant, render)
        make().close()  # a mistake is told here, not by a process
        kind: Callable[[list[Any]], VecEnv] = SubprocVecEnv if self.vector == "subproc" else DummyVecEnv
        venv = kind([make] * num_envs)
        venv.seed(seed % 2**31)
        return VecTransposeImage(venv) if _is_channels_last(venv.observation_space) else venv

    def _check_drawn(self, variant: str) -> None:
        """Raise unless it can be drawn, as its metadata say.

        Raises:
            InputError: it cannot.
        """
        env = self.single(variant)
        modes = list(env.unwrapped.metadata.get("render_modes") or [])
        env.close()
        if "rgb_array" not in modes:
            raise InputError(f"env.id={shown(self.id)} cannot be drawn: its render_modes {modes} lack 'rgb_array'")

    def single(self, variant: str = SEEN, render: bool = False) -> gym.Env[Any, Any]:
        """One environment.

        Raises:
            InputError: an id that is not registered, arguments, attributes or wrappers that it does not have, or spaces
                that policies are not distilled on.
        """
        is_unseen = variant in self.unseen
        form, where = (self.unseen[variant], f"env.unseen.{variant}") if is_unseen else (self.seen, "env.seen")
        options = {**self.kwargs, **form.kwargs, **({"render_mode": "rgb_array"} if render else {})}
        try:
            env: gym.Env[Any, Any] = gym.make(self.id, max_episode_steps=self.max_episode_steps, **options)
        except Exception as error:  # of the task's own many kinds
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"env.id={shown(self.id)} cannot be made ({type(error).__name__}: {reason})") from error
        for wrapping in self.wrappers:
            env = _wrapped(env, wrapping)
        if form.attributes:
            env = Shifted(env, form.attributes, f"{where}.attributes")
        _check_spaces(self.id, env)
        return env

    def spaces(self) -> tuple[gym.Space[Any], gym.Space[Any]]:
        """See :meth:`Game.spaces`."""
        env = self.single()
        seen, actions = env.observation_space, env.action_space
        env.close()
        return VecTransposeImage.transpose_space(seen) if _is_channels_last(seen) else seen, actions  # type: ignore[arg-type]

    def scores(self, mean: float) -> Mapping[str, float]:
        """Where a range was given, the place in it."""
        if self.return_range is None:
            return {}
        low, high = self.return_range
        if not low < high:
            raise InputError(f"env.return_range={list(self.return_range)} must be what counts as 0, then as 1")
        return {"normalized_return": (mean - low) / (high - low)}

    def facts(self) -> Mapping[str, Any]:
        """See :meth:`Game.facts`. Processes change nothing, and unseen variants are not trained in."""
        wrappers = [{"name": one.name, "kwargs": one.kwargs} for one in self.wrappers]
        form = {"kwargs": self.seen.kwargs, "attributes": self.seen.attributes}
        facts = {"id": self.id, "kwargs": self.kwargs, "seen": form, "wrappers": wrappers}
        return facts | {"max_episode_steps": self.max_episode_steps}

    def saw(self, part: Part, of: Game) -> str:
        """See :meth:`Game.saw`: the very same form; a range of numbers that has it within is not told."""
        if not isinstance(of, GymnasiumSettings) or (self.id, self.kwargs) != (of.id, of.kwargs):
            return ""
        return f"env.unseen.{part.variant}" if self.seen == of.unseen.get(part.variant) else ""


class Shifted(gym.Wrapper[Any, Any, Any, Any]):
    """Sets numbers of the unwrapped environment after every reset.

    Args:
        env: The environment.
        attributes: Name → number, or two bounds between which it is drawn.
        where: Their place in the configuration.

    Raises:
        InputError: a name that is no number there.
    """

    def __init__(
        self, env: gym.Env[Any, Any], attributes: Mapping[str, float | tuple[float, float]], where: str
    ) -> None:
        super().__init__(env)
        self.attributes = dict(attributes)
        for name in attributes:
            there = getattr(self.unwrapped, name, None)
            if name.startswith("_") or isinstance(there, bool) or not isinstance(there, (int, float, np.number)):
                known = [key for key, value in inspect.getmembers(self.unwrapped) if isinstance(value, float)]
                raise InputError(f"{where}.{name} is no number of this task; it has: {', '.join(known)}")

    def reset(self, **options: Any) -> Any:
        """Begin an episode, in the physics of this variant."""
        found = super().reset(**options)
        task: Any = self.unwrapped
        for name, value in self.attributes.items():
            drawn = float(task.np_random.uniform(*value)) if isinstance(value, (tuple, list)) else value
            setattr(task, name, drawn)
        if hasattr(task, "polemass_length"):  # CartPole derives these when it is made
            task.total_mass = task.masspole + task.masscart
            task.polemass_length = task.masspole * task.length
        return found


def _wrapped(env: gym.Env[Any, Any], wrapping: Wrapping) -> gym.Env[Any, Any]:
    if wrapping.name not in _WRAPPERS:
        raise InputError(f"env.wrappers: {shown(wrapping.name)} is not known; use one of: {', '.join(_WRAPPERS)}")
    try:
        wrapped: gym.Env[Any, Any] = getattr(gym.wrappers, wrapping.name)(env, **wrapping.kwargs)
    except Exception as error:  # of each wrapper's own kinds
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"env.wrappers: {wrapping.name} does not fit this task ({reason})") from error
    return wrapped


def _check_spaces(name: str, env: gym.Env[Any, Any]) -> None:
    seen, actions = env.observation_space, env.action_space
    if not isinstance(actions, spaces.Discrete):
        raise InputError(
            f"env.id={shown(name)} has actions {actions}, and terms are defined on Discrete ones; without a method,"
            " DistilledPPO takes whatever PPO takes"
        )
    if not isinstance(seen, spaces.Box):
        raise InputError(
            f"env.id={shown(name)} shows {seen}, and policies are distilled on arrays; flatten it:"
            " env.wrappers=[{name:FlattenObservation}]"
        )


def _is_channels_last(space: gym.Space[Any] | None) -> bool:
    return space is not None and is_image_space(space) and space.shape is not None and space.shape[-1] in (1, 3, 4)
