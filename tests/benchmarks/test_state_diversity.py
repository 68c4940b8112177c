"""The four rooms and the comparison on them: levels can be solved, successes are counted, tables add up."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.effect import state_diversity as benchmark
from benchmarks.effect.four_rooms import MOVES, SIDE, TIME_LIMIT, FourRooms, ShortestPath, draw, make_levels


def distances(walls: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Steps to the goal from every cell, by breadth."""
    found = np.full(walls.shape, -1)
    found[tuple(goal)] = 0
    frontier = [tuple(goal)]
    for cell in frontier:
        for move in MOVES:
            near = (cell[0] + move[0], cell[1] + move[1])
            if not walls[near] and found[near] < 0:
                found[near] = found[cell] + 1
                frontier.append(near)
    return found


def test_levels_can_be_solved_in_time_and_differ() -> None:
    walls, goals, starts = make_levels(200, 0)
    for wall, goal, start in zip(walls, goals, starts, strict=True):
        assert 0 < distances(wall, goal)[tuple(start)] < TIME_LIMIT
    assert len({(wall.tobytes(), *goal, *start) for wall, goal, start in zip(walls, goals, starts, strict=True)}) > 190
    for first, second in zip(make_levels(200, 0), (walls, goals, starts), strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_teacher_walks_shortest_paths() -> None:
    levels = make_levels(20, 4)
    states = benchmark.everywhere(levels)
    probabilities = ShortestPath()(states).softmax(1)
    row = 0
    for wall, goal in zip(*levels[:2], strict=True):
        found = distances(wall, goal)
        for cell in np.argwhere(~wall):
            around = np.array([found[tuple(cell + move)] for move in MOVES])
            nearest = np.where(around < 0, 1000, around) == around[around >= 0].min()
            expected = torch.as_tensor(nearest / nearest.sum(), dtype=torch.float32)
            torch.testing.assert_close(probabilities[row], expected, atol=1e-4, rtol=0)
            row += 1
    assert row == len(states)


def test_success_is_counted_level_by_level() -> None:
    levels = make_levels(20, 1)
    assert benchmark.success(ShortestPath(), levels) == 1.0
    still = nn.Linear(3 * SIDE**2, 4)
    with torch.no_grad():
        still.weight.zero_()
        still.bias.copy_(torch.tensor([50.0, 0.0, 0.0, 0.0]))  # always up
    above = [start[1] == goal[1] and start[0] > goal[0] for goal, start in zip(levels[1], levels[2], strict=True)]
    assert benchmark.success(still, levels) <= np.mean(above) < 1


def test_an_episode_ends_at_the_goal_with_a_reward_and_in_time_without() -> None:
    levels = make_levels(30, 2)
    env = FourRooms(8, levels)
    observations, rewards, ends = env.reset(), 0, 0
    for _ in range(60):
        actions = ShortestPath()(torch.as_tensor(observations)).argmax(1).numpy()
        observations, reward, done, _ = env.step(actions)
        assert ((reward == 1) == done).all()
        rewards, ends = rewards + reward.sum(), ends + done.sum()
    assert rewards == ends > 20
    env.reset()
    env.walls = np.ones_like(env.walls)  # nowhere to go
    dones = [env.step(np.zeros(8, dtype=np.int64))[2].all() for _ in range(TIME_LIMIT)]
    assert dones == [False] * (TIME_LIMIT - 1) + [True]


def test_every_free_cell_is_looked_at() -> None:
    walls, goals, starts = make_levels(3, 3)
    states = benchmark.everywhere((walls, goals, starts))
    assert len(states) == (~walls).sum()
    first = draw(walls[:1], np.argwhere(~walls[0])[:1], goals[:1])
    np.testing.assert_array_equal(states[:1].numpy(), first)


def test_a_seed_is_trained_once_and_summed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"STUDENT_STEPS": 1024, "STUDENTS": 2, "UNSEEN_LEVELS": 10}.items():
        monkeypatch.setattr(benchmark, name, value)
    path = tmp_path / "rows.jsonl"
    for seed in (0, 1):
        benchmark.run_seed(seed, path)
    text = path.read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) == 2 * 2 * 3 and {row["seed"] for row in rows} == {0, 1}
    benchmark.run_seed(1, path)
    assert path.read_text() == text
    table = benchmark.summary(path)
    assert "| mixed three | 2 |" in table and "unseen, mixed one less teacher one: " in table
