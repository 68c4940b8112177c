"""What is measured of a policy takes as much memory of any number of episodes."""

from typing import Any

import pytest
from omegaconf import OmegaConf

import kdrl.measures
from benchmarks.programs import configured
from common.configuration import check_settings
from common.runs.records import Judged
from kdrl.measures import PolicySubject
from kdrl.networks import PolicyLogits
from kdrl.settings import TrainSettings
from tests.kdrl.test_extractors import cnn_policy


def subject(most: int) -> PolicySubject:
    config = configured("kdrl", "env=starpilot", "env.num_envs=2", "env.threads=0")
    settings: TrainSettings = check_settings(OmegaConf.to_container(config, resolve=True), TrainSettings)
    return PolicySubject(PolicyLogits(cnn_policy()), None, settings, Judged(0, 0.0), most, 0)


def test_frames_are_drawn_from_so_many_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """And from all of the episodes, evenly: of every other step, once there are too many."""
    asked: list[int] = []

    class Drawn:
        def permutation(self, count: int) -> Any:
            asked.append(count)
            return list(range(count))

    monkeypatch.setattr(kdrl.measures.np.random, "default_rng", lambda seed: Drawn())
    judged = subject(most=6)
    whole = judged._seen(judged.env, judged.parts[0])
    monkeypatch.setattr(kdrl.measures, "KEPT", asked[0] // 2)
    judged = subject(most=6)
    thinned = judged._seen(judged.env, judged.parts[0])
    assert asked[0] // 4 <= asked[1] <= asked[0] // 2 + 2
    known = [frame.numpy().tobytes() for frame in whole]
    positions = [known.index(frame.numpy().tobytes()) for frame in thinned]
    assert positions[0] == 0 and positions[-1] > 0.8 * len(known)
    assert len(set(positions)) > 0.8 * len(positions)


def test_no_more_environments_are_made_than_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []
    play = kdrl.measures.play_part

    def told(policy: Any, env: Any, part: Any, episodes: int, *more: Any) -> Any:
        made.append((env.num_envs, episodes))
        return play(policy, env, part, episodes, *more)

    monkeypatch.setattr(kdrl.measures, "play_part", told)
    monkeypatch.setattr(kdrl.measures, "AT_ONCE", 3)
    for most in (2, 3, 7):
        judged = subject(most)
        judged._watched(judged.parts[0])
    assert made == [(2, 2), (3, 3), (3, 3)]
