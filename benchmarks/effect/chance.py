"""What a policy earns that draws its actions at random, in every game of the grids of policies.

Run: ``python benchmarks/effect/chance.py``; writes ``results/chance.json``. The same levels, looks and way of counting
episodes as in the grids; a few minutes.
"""

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from benchmarks.effect.committed import RESULTS
from benchmarks.effect.grids import GRIDS
from benchmarks.programs import configured
from benchmarks.speed.machine import describe
from common.configuration import check_settings
from kdrl.episodes import play_part
from kdrl.settings import TrainSettings

EPISODES, LOOKS = 128, ["themed", "generated"]


class Chance(nn.Module):
    """Every action is as likely as any other."""

    def __init__(self, actions: int = 15) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(actions))

    def forward(self, observations: Tensor) -> Tensor:
        return self.logits.expand(len(observations), -1)


def scores(game: str, episodes: int = EPISODES) -> dict[str, dict[str, dict[str, float]]]:
    """``scores[seen | unseen][domain]``: mean return, and that on the game's scales."""
    config = configured("kdrl", f"env={game}", "env.num_envs=32", "env.threads=0")
    settings: TrainSettings = check_settings(OmegaConf.to_container(config, resolve=True), TrainSettings)
    found: dict[str, dict[str, dict[str, float]]] = {"seen": {}, "unseen": {}}
    for part in settings.env.parts(LOOKS):
        if part.split == "test":
            mean = float(play_part(Chance(), settings.env, part, episodes, settings.seed).returns.mean())
            of_part = found["seen" if part.seen else "unseen"]
            of_part[part.domain(game)] = {"return": mean, **settings.env.scores(mean)}
    return found


def main() -> None:
    games = {game: scores(game) for game in GRIDS["pilot"].targets}
    written = {"machine": describe("cpu"), "episodes": EPISODES, "games": games}
    (RESULTS / "chance.json").write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
