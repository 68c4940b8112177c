import numpy as np
import pytest

from common.errors import InputError
from common.procgen import DIFFICULTIES, GAMES, LOOKS, NEW_EPISODE, LevelSet, ProcgenEngine
from common.procgen.labels import IGNORED, LABELLED_GAMES, LabelledFrames, class_names
from common.procgen.objects import OBJECTS, color_of, color_table


@pytest.mark.parametrize("game", [game for game in GAMES if game not in LABELLED_GAMES])
def test_game_without_exact_labels_is_refused(game: str) -> None:
    for refused in (lambda: LabelledFrames(game), lambda: class_names(game)):
        with pytest.raises(
            InputError, match=rf"game='{game}' is not known; use one of: caveflyer, .*starpilot"
        ) as caught:
            refused()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [("look", "dark"), ("stride", 0), ("renew", 1.5), ("num", 0), ("seed", -1), ("difficulty", "x")],
)
def test_bad_option_is_one_line(option: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        LabelledFrames(**{"game": "maze", option: value})  # type: ignore[arg-type]
    assert option in str(caught.value) and repr(value) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("game", LABELLED_GAMES)
def test_no_two_classes_share_a_color(game: str) -> None:
    kinds = [kind for kinds in OBJECTS[game].values() for kind in kinds]
    assert len(set(kinds)) == len(kinds)
    table = color_table(game)
    assert set(table.values()) == set(range(len(class_names(game))))
    for number, kinds_of_class in enumerate(OBJECTS[game].values(), start=1):
        assert all(table[color_of(kind)] == number for kind in kinds_of_class)


@pytest.mark.parametrize("game", LABELLED_GAMES)
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_every_color_of_200_levels_is_known(game: str, difficulty: str) -> None:
    engine = ProcgenEngine(game, 50, LevelSet.seen(), difficulty=difficulty, monochrome=True)
    random = np.random.default_rng(0)
    found: set[int] = set()
    levels: set[int] = set()
    for step in range(32):
        actions = random.integers(0, 15, 50)
        if step % 4 == 0:
            actions[:] = NEW_EPISODE
        engine.act(actions)
        codes = engine.observe()[1][:, ::2, ::2] @ np.array([1 << 16, 1 << 8, 1])
        found |= set(np.unique(codes).tolist())
        levels |= set(engine.info()["level_seed"].tolist())
    assert len(levels) > 150
    assert found <= {(red << 16) + (green << 8) + blue for red, green, blue in color_table(game)}


@pytest.mark.parametrize("game", LABELLED_GAMES)
@pytest.mark.parametrize("look", LOOKS)
def test_labels_fit_and_repeat(game: str, look: str) -> None:
    batches = []
    for threads in (0, 2):
        source = LabelledFrames(game, 8, LevelSet.seen(), look, seed=2, threads=threads)
        batches.append([source.batch() for _ in range(3)])
        source.close()
    for one, two in zip(*batches, strict=True):
        for ours, theirs in zip(one, two, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    frames = np.concatenate([batch.frames for batch in batches[0]])
    masks = np.concatenate([batch.masks for batch in batches[0]])
    levels = np.concatenate([batch.levels for batch in batches[0]])
    assert frames.shape == (24, 64, 64, 3) and frames.dtype == np.uint8
    assert masks.shape == (24, 64, 64) and masks.dtype == np.uint8
    assert all(level in LevelSet.seen() for level in levels.tolist()) and len(set(levels.tolist())) > 4
    assert not (masks == IGNORED).any()
    assert masks.max() < len(class_names(game))
    agent = class_names(game).index("agent")
    assert (masks == agent).any(axis=(1, 2)).mean() > 0.9
    if look == "plain" and game != "leaper":
        np.testing.assert_array_equal(masks == 0, ~frames.any(axis=-1))


@pytest.mark.parametrize("game", ["maze", "heist", "chaser", "miner", "dodgeball"])
def test_masks_are_the_same_for_themed_and_plain(game: str) -> None:
    themed, plain = (LabelledFrames(game, 8, look=look, seed=4).batch() for look in ("themed", "plain"))
    np.testing.assert_array_equal(themed.levels, plain.levels)
    assert (themed.masks == plain.masks).mean() > 0.999
    assert (themed.frames != plain.frames).any()


def test_maze_by_hand() -> None:
    # In the plain look, maze's walls are one sand texture; the mask must split the two colors' regions.
    batch = LabelledFrames("maze", 4, LevelSet.seen(0, 1), "plain").batch()
    names = class_names("maze")
    assert names == ("background", "agent", "wall", "cheese")
    walls = batch.frames[batch.masks == names.index("wall")].astype(int)
    assert (walls[:, 0] > walls[:, 2] + 40).all()  # sand is red, not blue
    for name in ("agent", "cheese"):
        rows, columns = np.nonzero(batch.masks[0] == names.index(name))
        assert np.ptp(rows) < 6 and np.ptp(columns) < 6  # one cell of fifteen


def test_leaper_logs_are_round_and_its_finish_whole() -> None:
    batch = LabelledFrames("leaper", 16, seed=5).batch()
    names = class_names("leaper")
    log = batch.masks == names.index("log")
    brown = batch.frames[log].astype(int)
    assert log.sum() > 100 and (brown[:, 0] > brown[:, 2]).mean() > 0.9
    finish = batch.masks == names.index("finish")
    assert (~batch.frames[finish].any(axis=-1)).any()


def test_episodes_are_renewed_on_demand() -> None:
    moving = LabelledFrames("maze", 16, LevelSet.unseen(), renew=1.0)
    staying = LabelledFrames("maze", 16, LevelSet.unseen(), renew=0.0)
    assert (moving.batch().levels != moving.batch().levels).all()
    assert (staying.batch().levels == staying.batch().levels).mean() > 0.7
