import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from common.errors import InputError
from common.procgen import DIFFICULTIES, GAMES, LOOKS, LevelSet, ProcgenEngine
from common.procgen.constants import CONSTANTS, normalized_return, return_range


def play(engine: ProcgenEngine, steps: int, seed: int = 0) -> list[np.ndarray]:
    """Copies of all that ``steps`` random steps show."""
    random = np.random.default_rng(seed)
    shown = []
    for _ in range(steps):
        engine.act(random.integers(0, 15, engine.num))
        shown += [array.copy() for array in engine.observe()]
        shown += [array.copy() for array in engine.info().values()]
    return shown


def assert_same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(our, their)


BAD = {
    "game": lambda: ProcgenEngine("pong", 1),
    "num": lambda: ProcgenEngine("coinrun", 0),
    "look": lambda: ProcgenEngine("coinrun", 1, look="shiny"),
    "difficulty": lambda: ProcgenEngine("coinrun", 1, difficulty="extreme"),
    "seed": lambda: ProcgenEngine("coinrun", 1, seed=-1),
    "threads": lambda: ProcgenEngine("coinrun", 1, threads=-1),
    "levels": lambda: ProcgenEngine("coinrun", 1, levels=200),  # type: ignore[arg-type]
    "levels.start": lambda: LevelSet.seen(start=-1),
    "levels.count": lambda: LevelSet.seen(count=0),
    "levels.count beyond the last": lambda: LevelSet.seen(start=2**31 - 5, count=10),
    "levels.count type": lambda: LevelSet.seen(count=True),
    "levels overlap": lambda: LevelSet.validation(LevelSet.seen(0, 200), start=100),
    "levels of all": lambda: LevelSet.validation(LevelSet.unseen()),
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD.keys())
def test_bad_option_is_one_line(make: Callable[[], object], request: pytest.FixtureRequest) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert "\n" not in str(caught.value)
    assert request.node.callspec.id.split(" ")[0] in str(caught.value)


def test_message_names_what_is_accepted() -> None:
    with pytest.raises(InputError, match=r"game='pong' is not known; use one of: bigfish, .*starpilot"):
        ProcgenEngine("pong", 1)


def test_level_sets() -> None:
    seen = LevelSet.seen(10, 5)
    assert 10 in seen and 14 in seen and 15 not in seen
    assert LevelSet.validation(seen) == LevelSet(15, 200)
    assert not LevelSet.validation(seen, start=0, count=10).overlaps(seen)
    assert LevelSet.unseen().overlaps(seen) and 2**31 - 3 in LevelSet.unseen()


@pytest.mark.parametrize("game", GAMES)
def test_games_start_and_draw_their_levels(game: str) -> None:
    engine = ProcgenEngine(game, 4, LevelSet.seen(30, 3))
    reward, frames, first = engine.observe()
    assert reward.shape == (4,) and reward.dtype == np.float32
    assert frames.shape == (4, 64, 64, 3) and frames.dtype == np.uint8 and frames.any()
    assert first.all() and first.dtype == np.bool_
    engine.act(np.zeros(4, dtype=np.int64))
    assert set(engine.info()["level_seed"].tolist()) <= {30, 31, 32}
    engine.close()
    engine.close()


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_same_seed_twice_and_threads_do_not_matter(look: str, difficulty: str) -> None:
    runs = [
        play(ProcgenEngine("jumper", 6, look=look, difficulty=difficulty, seed=5, threads=threads), 20)
        for threads in (0, 3)
    ]
    assert_same(*runs)
    other = play(ProcgenEngine("jumper", 6, look=look, difficulty=difficulty, seed=6), 20)
    assert any((one != two).any() for one, two in zip(runs[0], other, strict=True))


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("look", ["themed", "plain"])
def test_state_is_exact_in_an_engine_of_another_seed(game: str, look: str) -> None:
    source = ProcgenEngine(game, 3, LevelSet.seen(), look, seed=1)
    play(source, 15)
    states = source.get_state()
    now = [array.copy() for array in source.observe()]
    target = ProcgenEngine(game, 3, LevelSet.seen(), look, seed=2)
    play(target, 4)
    target.set_state(states)
    assert_same([array.copy() for array in target.observe()], now)
    assert_same(play(target, 40), play(source, 40))


def test_state_that_does_not_fit_is_refused() -> None:
    engine = ProcgenEngine("coinrun", 2)
    states = engine.get_state()
    refused = [
        states[:1],
        [b"", b""],
        [states[0][:-10], states[1]],
        [states[0], states[1][:-1] + b"x"],
        ProcgenEngine("maze", 2).get_state(),
        ProcgenEngine("coinrun", 2, look="plain").get_state(),
        ProcgenEngine("coinrun", 2, difficulty="hard").get_state(),
        ProcgenEngine("coinrun", 2, LevelSet.unseen()).get_state(),
    ]
    for wrong in refused:
        with pytest.raises(InputError) as caught:
            engine.set_state(wrong)
        assert "\n" not in str(caught.value)
    engine.set_state(states)


def test_generated_state_is_refused() -> None:
    engine = ProcgenEngine("coinrun", 1, look="generated")
    with pytest.raises(InputError, match="generated"):
        engine.get_state()
    with pytest.raises(InputError, match="generated"):
        engine.set_state([b""])


@pytest.mark.parametrize(
    "actions", [np.zeros(3, int), np.zeros(2), np.array([0, 15]), np.array([-2, 0]), np.zeros((2, 1), int)]
)
def test_bad_actions_are_refused(actions: np.ndarray) -> None:
    with pytest.raises(InputError, match="actions"):
        ProcgenEngine("coinrun", 2).act(actions)


def test_new_episodes_in_mid_episode() -> None:
    engine = ProcgenEngine("maze", 8, LevelSet.unseen())
    play(engine, 3)
    before = engine.info()["level_seed"].copy()
    engine.new_episodes()
    _, _, first = engine.observe()
    assert first.all()
    assert (engine.info()["level_seed"] != before).all()


def test_render_gives_large_frames() -> None:
    assert ProcgenEngine("coinrun", 2, render=True).info()["rgb"].shape == (2, 512, 512, 3)


def test_nothing_is_printed_and_importing_is_cheap() -> None:
    program = (
        "import sys, common.procgen as p\n"
        "assert not {'procgen', 'gym', 'gym3', 'torch'} & set(sys.modules)\n"
        "p.ProcgenEngine('coinrun', 1).observe()\n"
        "assert 'procgen' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_engine_collected_while_another_is_made_does_not_hang() -> None:
    program = (
        "import gc, common.procgen as p\n"
        "for _ in range(3):\n"
        "    engine = p.ProcgenEngine('coinrun', 1)\n"
        "    engine.cycle = engine\n"
        "    gc.set_threshold(1)\n"
        "    del engine\n"
        "    p.ProcgenEngine('coinrun', 1).close()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_constants_cover_every_game() -> None:
    assert tuple(sorted(CONSTANTS)) == GAMES
    for game in GAMES:
        for difficulty in DIFFICULTIES:
            low, high = return_range(game, difficulty)
            assert normalized_return(game, difficulty, low) == 0.0
            assert normalized_return(game, difficulty, high) == 1.0
            changed = return_range(game, difficulty, "paper") != (low, high)
            assert changed == ((game, difficulty) in {("jumper", "easy"), ("leaper", "easy")})


def test_normalized_return_by_hand() -> None:
    assert normalized_return("leaper", "easy", 10.0, "paper") == 1.0
    assert normalized_return("jumper", "easy", 3.0, "paper") == 0.0
    np.testing.assert_allclose(normalized_return("bigfish", "hard", np.array([10.0, 40.0])), [0.25, 1.0])
    with pytest.raises(InputError, match="constants"):
        normalized_return("maze", "easy", 1.0, "thesis")
