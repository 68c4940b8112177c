"""``kdrl-play``: a film of what the policy sees and would do."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from common.procgen import ACTION_COUNT, ACTION_NAMES, LevelSet
from kdrl.episodes import Part
from kdrl.film import HEIGHT, WIDTH, Moment, draw, moments, side_by_side
from kdrl.play import main as play
from kdrl.procgen_game import ProcgenSettings
from kdrl.train import main as train

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def run(call: Call, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("play") / "run"
    assert call(train, *tiny, f"run_dir={path}").status == 0
    return path


class Always(nn.Module):
    """Prefers one action."""

    def __init__(self, action: int, strength: float = 100.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(strength * nn.functional.one_hot(torch.tensor(action), ACTION_COUNT).float())

    def forward(self, observations: Tensor) -> Tensor:
        return self.weight.expand(len(observations), -1)


@pytest.fixture
def env() -> ProcgenSettings:
    return ProcgenSettings(
        game="leaper", difficulty="easy", look="themed", num_envs=1, start_level=0, num_levels=200, threads=0
    )


def test_moments_are_those_of_an_episode(env: ProcgenSettings) -> None:
    """Who stands still in Leaper earns nothing until time is up; who is drawn to two actions takes both."""
    part = Part("themed", LevelSet.seen(7, 1), seen=True)
    found = list(itertools.islice(moments(Always(4), env, part, 1, seed=0), 20))
    assert {moment.action for moment in found} == {4} and ACTION_NAMES[4] == "nothing"
    assert {moment.level for moment in found} == {7}
    assert all(moment.image.shape == (512, 512, 3) and moment.total == 0 for moment in found)
    np.testing.assert_allclose([moment.probabilities.sum() for moment in found], 1, atol=1e-5)
    soft = list(itertools.islice(moments(Always(5, 0.0), env, part, 3, seed=1), 60))
    assert len({moment.action for moment in soft}) > 8
    greedy = list(itertools.islice(moments(Always(5, 0.1), env, part, 3, seed=1, greedy=True), 60))
    assert {moment.action for moment in greedy} == {5}


def test_returns_are_counted_episode_by_episode(env: ProcgenSettings) -> None:
    """Who walks on in Leaper arrives, for 10, or is run over, for nothing."""
    part = Part("plain", LevelSet.unseen(), seen=False)
    found = list(moments(Always(5), env, part, 4, seed=0))
    assert len(found[-1].finished) == 3  # the fourth ends with the last moment
    assert set(found[-1].finished) <= {0.0, 10.0}
    assert found[0].finished == ()


def test_a_panel_shows_the_picture_and_its_bars() -> None:
    probabilities = np.full(ACTION_COUNT, 0.02, np.float32)
    probabilities[3] = 1 - 14 * 0.02
    image = np.full((512, 512, 3), (10, 200, 30), np.uint8)
    panel = draw("coinrun, themed, seen levels", ACTION_NAMES, Moment(image, probabilities, 3, 5, 0.0, (10.0, 0.0)))
    assert panel.shape == (HEIGHT, WIDTH, 3)
    assert (panel == (10, 200, 30)).all(-1).sum() == 256 * 256
    assert (panel == (0xE6, 0x9F, 0x00)).all(-1).sum() > 300  # the chosen bar
    assert not np.array_equal(panel, draw("", ACTION_NAMES, Moment(image, probabilities, 3, 5, 0.0, (10.0, 0.0))))


def test_who_has_ended_stands_still_and_all_end_together() -> None:
    def short(count: int) -> Any:
        image = np.zeros((8, 8, 3), np.uint8)
        for number in range(count):
            yield Moment(image + number, np.full(ACTION_COUNT, 1 / ACTION_COUNT, np.float32), 0, number, 0.0, ())

    frames = list(side_by_side([("a", short(2)), ("b", short(4))], ACTION_NAMES, most=10))
    assert [frame.shape for frame in frames] == [(HEIGHT, 2 * WIDTH, 3)] * 4
    assert np.array_equal(frames[3][:, :WIDTH], frames[1][:, :WIDTH])
    assert not np.array_equal(frames[3][:, WIDTH:], frames[1][:, WIDTH:])
    assert len(list(side_by_side([("a", short(9))], ACTION_NAMES, most=3))) == 3


@pytest.mark.parametrize("kind", ["webp", "gif", "mp4"])
def test_films_can_be_seen(call: Call, run: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / f"film.{kind}"
    done = call(play, f"run={run}", f"out={out}", "looks=[generated]", "most=4", "device=cpu")
    assert done.status == 0 and f"written: {out}" in done.out
    if kind == "mp4":
        av = pytest.importorskip("av")
        with av.open(str(out)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            assert float(container.streams.video[0].average_rate) == 15
        assert [frame.shape for frame in frames] == [(HEIGHT, 3 * WIDTH, 3)] * 4
        return
    with Image.open(out) as film:
        assert (film.n_frames, film.size) == (4, (3 * WIDTH, HEIGHT))
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("out={tmp}/film.avi", "must end in one of: .mp4, .webp, .gif"),
        ("out={tmp}.gif/film", "must end in"),
        ("run=nowhere", "nowhere"),
        ("looks=[blue]", "looks"),
        ("most=0", "most=0 must be in [1, 10000]"),
    ],
)
def test_a_mistake_is_one_line(call: Call, run: Path, tmp_path: Path, more: str, said: str) -> None:
    given = {"run": f"run={run}", "out": f"out={tmp_path / 'film.gif'}"}
    given[more.split("=")[0]] = more.format(tmp=tmp_path)
    done = call(play, *given.values(), "device=cpu")
    assert done.status == 2
    assert done.err.startswith("error: ") and len(done.err.splitlines()) == 1 and said in done.err
    assert not any(tmp_path.iterdir())
