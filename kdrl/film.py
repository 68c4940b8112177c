"""A policy at play, as pictures: what it sees, what it would do, and what that earns."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from common.procgen import ACTION_NAMES
from kdrl.env import ProcgenVecEnv
from kdrl.episodes import Part
from kdrl.settings import EnvSettings

WIDTH, PICTURE, BARS = 272, 256, 56
"""Of a panel, its picture and its bars, in pixels."""
_LINE = 20
_GROUND, _INK, _FAINT, _CHOSEN = "#16181d", "#e6e8eb", "#565d66", "#e69f00"
HEIGHT = 2 * _LINE + PICTURE + BARS + 2 * _LINE


@dataclasses.dataclass(frozen=True)
class Moment:
    """One step of one environment.

    Attributes:
        image: ``uint8 [512, 512, 3]``.
        probabilities: ``[15]``, of the actions.
        action: The one that is taken.
        level: That is played.
        total: Return of the episode so far.
        finished: Returns of the episodes that have ended.
    """

    image: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    action: int
    level: int
    total: float
    finished: tuple[float, ...]


@torch.no_grad()
def moments(
    policy: nn.Module, env: EnvSettings, part: Part, episodes: int, seed: int, greedy: bool = False
) -> Iterator[Moment]:
    """Play episodes one after the other in one environment.

    Args:
        policy: From observations ``uint8 [1, 3, 64, 64]`` to action logits.
        env: The game, and how hard it is.
        part: Levels and look.
        episodes: How many.
        seed: Of the levels' order and of the actions.
        greedy: Whether the likeliest action is taken, where it would be drawn.
    """
    device = next(policy.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    venv = ProcgenVecEnv(env.game, 1, part.levels, part.look, env.difficulty, seed, 0, render_mode="rgb_array")
    try:
        observations, total, finished = venv.reset(), 0.0, list[float]()
        level = int(venv.reset_infos[0]["level_seed"])
        while len(finished) < episodes:
            probabilities = policy(torch.as_tensor(observations, device=device)).softmax(dim=1)
            drawn = probabilities.argmax(1) if greedy else torch.multinomial(probabilities, 1, generator=generator)
            action = int(drawn)
            shown = probabilities[0].float().cpu().numpy()
            yield Moment(venv.get_images()[0], shown, action, level, total, tuple(finished))
            step: Any = venv.step(np.array([action]))
            observations, rewards, dones, infos = step
            total += float(rewards[0])
            if dones[0]:
                finished.append(total)
                total = 0.0
            level = int(infos[0]["level_seed"])
    finally:
        venv.close()


def draw(heading: str, moment: Moment) -> NDArray[np.uint8]:
    """A panel ``uint8 [HEIGHT, WIDTH, 3]``: heading, picture, and a bar for each action's probability."""
    canvas = Image.new("RGB", (WIDTH, HEIGHT), _GROUND)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    left = (WIDTH - PICTURE) // 2
    pen.text((left, 3), heading, _INK, font)
    pen.text((left, _LINE), f"level {moment.level}, return {moment.total:g}", _INK, font)
    picture = Image.fromarray(moment.image).resize((PICTURE, PICTURE), Image.Resampling.BOX)
    canvas.paste(picture, (left, 2 * _LINE))
    floor, width = 2 * _LINE + PICTURE + BARS, PICTURE / len(moment.probabilities)
    for number, probability in enumerate(moment.probabilities.tolist()):
        x, height = left + number * width, probability * (BARS - 4)
        colour = _CHOSEN if number == moment.action else _FAINT
        pen.rectangle((x + 1, floor - height, x + width - 2, floor), colour)
    likely = 100 * float(moment.probabilities[moment.action])
    pen.text((left, floor + 3), f"{ACTION_NAMES[moment.action]} ({likely:.0f} %)", _CHOSEN, font)
    if moment.finished:
        earned = f"{len(moment.finished)} episodes, mean return {np.mean(moment.finished):.2f}"
        pen.text((left, floor + 3 + _LINE), earned, _INK, font)
    return np.asarray(canvas)


def side_by_side(films: Sequence[tuple[str, Iterator[Moment]]], most: int) -> Iterator[NDArray[np.uint8]]:
    """Frames ``uint8 [HEIGHT, n · WIDTH, 3]`` of several, at most so many; who has ended stands still."""
    last: list[NDArray[np.uint8] | None] = [None] * len(films)
    for _ in range(most):
        on = False
        for number, (heading, film) in enumerate(films):
            if (moment := next(film, None)) is not None:
                last[number], on = draw(heading, moment), True
        if not on:
            return
        yield np.concatenate([panel for panel in last if panel is not None], axis=1)
