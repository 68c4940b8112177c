"""What happens beside PPO's updates: progress on the screen, learning curves, validation."""

import dataclasses
from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter
from torch import nn

from common.progress import TrainingBar
from common.runs.keeper import Keeper, MakeRow
from common.runs.records import AVERAGED, LAST, ORACLE, VALIDATED
from common.watch import Watch
from kdrl.episodes import play_part
from kdrl.game import Part
from kdrl.networks import PolicyLogits
from kdrl.ppo import DistilledPPO
from kdrl.records import rows
from kdrl.settings import TrainSettings


class WatchWriter(KVWriter):
    """PPO's numbers, as a training shows them.

    Args:
        watch: Where.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """See Stable-Baselines3."""
        kinds = (int, float, np.number)
        self._watch.scalars(
            {name: float(value) for name, value in key_values.items() if isinstance(value, kinds)}, step
        )

    def close(self) -> None:
        """The run closes it, which shows its scores there when PPO is done."""


class ProgressBar(BaseCallback):
    """The training bar, with the mean return of recent training episodes."""

    def __init__(self, console: Console, total_timesteps: int) -> None:
        super().__init__()
        self.bar = TrainingBar(console, total_timesteps)

    def _on_training_start(self) -> None:
        self.bar.start(self.num_timesteps)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        episodes = self.model.ep_info_buffer
        note = f"return {np.mean([episode['r'] for episode in episodes]):.2f}" if episodes else ""
        self.bar.update(self.num_timesteps, note)


class Evaluation(BaseCallback):
    """Something that is played every so many steps, off the training clock, at the end of a rollout.

    Args:
        settings: The run's settings.
        keeper: Keeps the clock and the records.
    """

    model: DistilledPPO

    def __init__(self, settings: TrainSettings, keeper: Keeper) -> None:
        super().__init__()
        self.settings = settings
        self.keeper = keeper
        self.next_point = settings.evaluation.every

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.settings.evaluation.every and self.num_timesteps >= self.next_point:
            self.next_point += self.settings.evaluation.every
            with self.keeper.clock.paused():
                self._point()

    @abstractmethod
    def _point(self) -> None: ...

    def _play(self, policy: nn.Module, part: Part) -> NDArray[np.float64]:
        count = self.settings.evaluation.progress_episodes
        logits = PolicyLogits(policy)  # type: ignore[arg-type]
        return play_part(logits, self.settings.env, part, count, self.settings.seed).returns


class LearningCurve(Evaluation):
    """Records returns on training levels and on unseen ones every so many steps.

    The seen point is the mean of the latest (up to 100) training episodes, which costs nothing; the
    unseen one plays a few episodes, and a few more with the averaged policy once there is one. The unseen one is what
    an oracle chooses weights by, where it was asked for.
    """

    def __init__(self, settings: TrainSettings, seen: Part, unseen: Part, keeper: Keeper, row: MakeRow) -> None:
        super().__init__(settings, keeper)
        self.row = row
        self.seen, self.unseen = (dataclasses.replace(part, split="progress") for part in (seen, unseen))

    def _point(self) -> None:
        episodes = [episode["r"] for episode in self.model.ep_info_buffer or []]
        points = [(self.seen, np.array(episodes), LAST)] if episodes else []
        unseen = self._play(self.model.policy, self.unseen)
        points.append((self.unseen, unseen, LAST))
        self.keeper.selection.offer(ORACLE, self.model.policy, float(unseen.mean()))
        averaging = self.model.averaging
        if averaging is not None and averaging.begun:
            averaged = averaging.averaged
            self.model.reestimate(averaged)
            points.append((self.unseen, self._play(averaged, self.unseen), AVERAGED))
        for part, returns, selection in points:
            judged = self.keeper.judged(selection, self.num_timesteps)
            self.keeper.record(rows(self.settings, part, returns, judged))
        if self.model.distillation is not None:
            self.keeper.record_shares(self.model.distillation.tally, self.row, self.num_timesteps)


class LevelValidation(Evaluation):
    """Tells an averager how good the policy that it asks for is on the validation levels, and chooses weights by them.

    The loss is ``max(0, 1 - normalized return)``: for Procgen 0 at the highest return that its authors publish for the
    game, 1 at that of a trivial policy. Those levels are neither trained nor tested on.

    Args:
        settings: The run's settings.
        validation: The levels; the look is the training's.
        keeper: Keeps the clock.
    """

    def __init__(self, settings: TrainSettings, validation: Part, keeper: Keeper) -> None:
        super().__init__(settings, keeper)
        self.validation = validation

    def finish(self) -> None:
        """A validation after training, so that the updates since the latest one compete."""
        with self.keeper.clock.paused():
            self._point()

    def _point(self) -> None:
        live, averaging, env = self.model.policy, self.model.averaging, self.settings.env
        policy = None if averaging is None else averaging.to_validate(live)
        means: dict[nn.Module, float] = {}
        if VALIDATED in self.keeper.selection.rules:
            means[live] = float(self._play(live, self.validation).mean())
            self.keeper.selection.offer(VALIDATED, live, means[live])
        if policy is None:
            return
        if policy not in means:
            if policy is not live:
                self.model.reestimate(policy)
            means[policy] = float(self._play(policy, self.validation).mean())
        loss = max(0.0, 1.0 - env.scores(means[policy])["normalized_return"])
        self.model.after_validation(loss)
        self.logger.record("averaging/validation_loss", loss)
