"""A policy at play, as pictures: what it sees, what it would do, and what that earns."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import nn

from kdrl.game import Game, Part

WIDTH, PICTURE, BARS = 272, 256, 56
"""Of a panel, its picture and its bars, in pixels."""
THUMBNAIL, THUMBNAIL_STEPS = 128, 100
"""Largest side in pixels of a film for the log, and how many steps it shows, every other one."""
_LINE = 20
_GROUND, _INK, _FAINT, _CHOSEN = "#16181d", "#e6e8eb", "#565d66", "#e69f00"
HEIGHT = 2 * _LINE + PICTURE + BARS + 2 * _LINE


@dataclasses.dataclass(frozen=True)
class Moment:
    """One step of one environment.

    Attributes:
        image: ``uint8 [H, W, 3]``.
        probabilities: ``[A]``, of the actions.
        action: The one that is taken.
        level: That is played, where the game has levels.
        total: Return of the episode so far.
        finished: Returns of the episodes that have ended.
    """

    image: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    action: int
    level: int | None
    total: float
    finished: tuple[float, ...]


@torch.no_grad()
def moments(
    policy: nn.Module, env: Game, part: Part, episodes: int, seed: int, greedy: bool = False
) -> Iterator[Moment]:
    """Play episodes one after the other in one environment.

    Args:
        policy: From observations ``[1, *]`` to action logits.
        env: The game, and how hard it is.
        part: Levels and look.
        episodes: How many.
        seed: Of the levels' order and of the actions.
        greedy: Whether the likeliest action is taken, where it would be drawn.
    """
    device = next(policy.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    venv = env.venv(part, 1, seed, render=True)
    try:
        observations: Any = venv.reset()
        total, finished = 0.0, list[float]()
        level = venv.reset_infos[0].get("level_seed")
        while len(finished) < episodes:
            probabilities = policy(torch.as_tensor(observations, device=device)).softmax(dim=1)
            drawn = probabilities.argmax(1) if greedy else torch.multinomial(probabilities, 1, generator=generator)
            action = int(drawn)
            shown = probabilities[0].float().cpu().numpy()
            image = venv.get_images()[0]
            assert image is not None
            yield Moment(image, shown, action, level, total, tuple(finished))
            step: Any = venv.step(np.array([action]))
            observations, rewards, dones, infos = step
            total += float(rewards[0])
            if dones[0]:
                finished.append(total)
                total = 0.0
            level = infos[0].get("level_seed")
    finally:
        venv.close()


def draw(heading: str, names: Sequence[str], moment: Moment) -> NDArray[np.uint8]:
    """A panel ``uint8 [HEIGHT, WIDTH, 3]``: heading, picture, and a bar for each action's probability."""
    canvas = Image.new("RGB", (WIDTH, HEIGHT), _GROUND)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    left = (WIDTH - PICTURE) // 2
    pen.text((left, 3), heading, _INK, font)
    level = "" if moment.level is None else f"level {moment.level}, "
    pen.text((left, _LINE), f"{level}return {moment.total:g}", _INK, font)
    picture = ImageOps.contain(Image.fromarray(moment.image), (PICTURE, PICTURE), Image.Resampling.BOX)
    canvas.paste(picture, ((WIDTH - picture.width) // 2, 2 * _LINE + (PICTURE - picture.height) // 2))
    floor, width = 2 * _LINE + PICTURE + BARS, PICTURE / len(moment.probabilities)
    for number, probability in enumerate(moment.probabilities.tolist()):
        x, height = left + number * width, probability * (BARS - 4)
        colour = _CHOSEN if number == moment.action else _FAINT
        pen.rectangle((x + 1, floor - height, x + width - 2, floor), colour)
    likely = 100 * float(moment.probabilities[moment.action])
    pen.text((left, floor + 3), f"{names[moment.action]} ({likely:.0f} %)", _CHOSEN, font)
    if moment.finished:
        earned = f"{len(moment.finished)} episodes, mean return {np.mean(moment.finished):.2f}"
        pen.text((left, floor + 3 + _LINE), earned, _INK, font)
    return np.asarray(canvas)


def side_by_side(
    films: Sequence[tuple[str, Iterator[Moment]]], names: Sequence[str], most: int
) -> Iterator[NDArray[np.uint8]]:
    """Frames ``uint8 [HEIGHT, n · WIDTH, 3]`` of several, at most so many; who has ended stands still.

    ``names`` are the actions'.
    """
    last: list[NDArray[np.uint8] | None] = [None] * len(films)
    for _ in range(most):
        on = False
        for number, (heading, film) in enumerate(films):
            if (moment := next(film, None)) is not None:
                last[number], on = draw(heading, names, moment), True
        if not on:
            return
        yield np.concatenate([panel for panel in last if panel is not None], axis=1)


def thumbnails(film: Iterable[Moment]) -> Iterator[NDArray[np.uint8]]:
    """The game alone, small and short enough for a log."""
    for moment in islice(film, 0, THUMBNAIL_STEPS, 2):
        small = ImageOps.contain(Image.fromarray(moment.image), (THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
        yield np.asarray(small.convert("RGB"))
