"""A run's policy to look at, on levels it has seen and on others: kdrl-play."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path

import gymnasium
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import nn

from common.application import run as run_application
from common.errors import InputError
from common.extras import from_extra
from common.runs.disk import write_atomically
from common.runs.folder import Run
from kdrl.film import moments, side_by_side
from kdrl.networks import PolicyLogits
from kdrl.restore import import_named, load_network
from kdrl.settings import PlaySettings

Frames = Iterable[NDArray[np.uint8]]


def film(settings: PlaySettings) -> None:
    """Write a film of a finished run's policy: seen and unseen levels side by side, and other looks.

    Raises:
        InputError: no finished RL run there, an unknown look, or a file that cannot be a film.
    """
    out = Path(settings.out)
    write = _writer(out)
    import_named(settings.modules)
    source = Run(settings.run)
    policy, trained = load_network(source, settings.weights, settings.device)
    source.check_finished(f"run={settings.run}", settings.unfinished)
    network: nn.Module = PolicyLogits(policy)
    films = []
    for part in trained.env.parts(settings.looks):
        if part.split == "test":
            levels = "" if part.levels is None else f", {'seen' if part.seen else 'unseen'} levels"
            heading = f"{trained.env.game}, {part.variant}{levels}"
            played = moments(network, trained.env, part, settings.episodes, settings.seed, settings.greedy)
            films.append((heading, played))
    console = Console()
    frames = side_by_side(films, trained.env.action_names(), settings.most)
    try:
        first = next(frames)
    except gymnasium.error.Error as error:  # a library that draws it may be missing
        raise InputError(f"{trained.env.game} cannot be drawn ({' '.join(str(error).split())})") from error
    shown = track(chain([first], frames), "playing", total=settings.most, console=console, transient=True)
    write_atomically(out, partial(write, frames=shown, rate=settings.rate))
    console.print(f"written: {out}", markup=False, highlight=False, soft_wrap=True)


def _writer(out: Path) -> Callable[..., None]:
    kind = out.suffix.lower()
    if kind not in _WRITERS:
        raise InputError(f"out={out} must end in one of: {', '.join(_WRITERS)}")
    if out.exists() and not out.is_file():
        raise InputError(f"out={out} is there and is no file; choose another name")
    if kind == ".mp4":
        from_extra("av", "video", f"out={out} needs", "; .webp and .gif do not")
    return _WRITERS[kind]


def _animation(path: Path, frames: Frames, rate: int) -> None:
    """GIF or WebP."""
    first, *rest = [Image.fromarray(frame) for frame in frames]
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / rate), loop=0)


def _mp4(path: Path, frames: Frames, rate: int) -> None:
    """A frame is written when it is played: a long film takes no memory."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=rate)
        for number, frame in enumerate(frames):
            if number == 0:
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


_WRITERS: Mapping[str, Callable[..., None]] = {".mp4": _mp4, ".webp": _animation, ".gif": _animation}


def main() -> None:
    """Entry point of ``kdrl-play``."""
    run_application("kdrl/play", PlaySettings, film)


if __name__ == "__main__":
    main()
