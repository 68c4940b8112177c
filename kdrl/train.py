"""Train a policy with a method and record how it does on what it has not seen: kdrl-train."""

import copy
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from torch import nn

from common.application import run as run_application
from common.augkd import Domain
from common.augkd.program import augkd_term, prepare_term, sample_items
from common.averaging import make_averager
from common.errors import InputError, NonFiniteLossError
from common.method import METHOD_PARTS
from common.runs import lifecycle
from common.runs.folder import Run
from common.runs.identity import Identity, digest
from common.runs.keeper import Keeper
from common.runs.records import AVERAGED, LAST, Judged, Record
from common.runs.selection import Selection
from common.runs.training import Outcome, Training
from common.runs.weights import save_weights, weights_path
from common.terms import AuGKD
from common.text import clipped, visible
from common.watch import seen_or_not
from kdrl.anchors import student_domain
from kdrl.callbacks import LearningCurve, LevelValidation, ProgressBar, WatchWriter
from kdrl.configured import (
    configured_driver,
    configured_method,
    make_env,
    make_model,
    ppo_arguments,
    without_validation,
)
from kdrl.episodes import measure, play_part
from kdrl.film import moments, thumbnails
from kdrl.identity import identify
from kdrl.levels import UnseenLevels, levels_seen, seen_by_teachers
from kdrl.networks import PolicyLogits
from kdrl.procgen_game import ProcgenSettings
from kdrl.records import items, print_returns, rows, score_row
from kdrl.restore import import_named, modules_of
from kdrl.resume import StateKeeping, restore
from kdrl.settings import TrainSettings


class PolicyTraining(Training):
    """What is particular to training a policy.

    Args:
        settings: As configured.
        console: Where it tells what it does.

    Raises:
        InputError: anything in the settings that cannot be used; nothing has been written.
    """

    def __init__(self, settings: TrainSettings, console: Console) -> None:
        super().__init__(settings, console)
        self.settings, self.steps = settings, settings.total_timesteps
        self.parts = settings.env.parts(settings.evaluation.looks)
        self.ppo = ppo_arguments(settings)
        self.driver = configured_driver(settings)
        lacking = without_validation(settings)
        averaging = make_averager(settings.averaging, lacking)
        Selection(settings.selection).check(lacking)
        self.averaging_from = None if averaging is None else averaging.start
        self.distillation, paths = configured_method(settings)
        self.teachers = [Run(path) for path in paths]
        self.unseen = self._complementary()
        self.venv = make_env(settings)
        try:
            self.model = make_model(settings, self.venv, self.distillation, self.driver, averaging)
            student = PolicyLogits(self.model.policy)
            self.anchored = augkd_term(self.distillation, student, self.own_domain, settings.anchor)
            if self.anchored is not None and not isinstance(settings.env, ProcgenSettings):
                raise InputError(
                    f"method={self.distillation.name} generates Procgen's frames, and this is {settings.env.game};"
                    " choose another method"
                )
        except BaseException:
            self.close()
            raise

    def _complementary(self) -> list[BaseCallback]:
        """What lets only those teachers answer that have not seen a level, where that is asked for."""
        teacher = self.distillation.teacher
        if teacher is None or self.settings.teacher_domains == "all":
            return []
        if not self.driver.is_student:
            raise InputError("teacher_domains=unseen: teachers that act answer together; use driver=student")
        if self.distillation.needs("teacher_values"):
            raise InputError(f"teacher_domains=unseen: method={self.distillation.name} asks for values of all; use all")
        return [UnseenLevels(teacher, levels_seen(self.teachers, self.settings.env))]

    def close(self) -> None:
        """Free the engine."""
        self.venv.close()

    def identity(self) -> Identity:
        """See :class:`common.runs.training.Training`."""
        return identify(self.settings, self.ppo, self.driver, self.model.averaging, self.teachers)

    def describe(self, run: Run) -> None:
        """There is nothing that the configuration does not say."""

    def begin(self) -> None:
        """Show how good the teacher is: a wrong one should be seen before hours are spent on it."""
        settings, teacher = self.settings, self.distillation.teacher
        if settings.teacher and not self.teachers:
            self.console.print(f"method={self.distillation.name} asks no teacher; the one given is not used")
        for line in seen_by_teachers(self.teachers, settings.env, self.parts):
            self.console.print(f"warning: {line}", style="yellow", markup=False, soft_wrap=True)
        if teacher is not None:
            seen = self.parts[0]
            played = play_part(teacher, settings.env, seen, settings.env.num_envs, settings.seed)
            self.console.print(
                f"teacher: return {played.returns.mean():.2f} on the training levels "
                f"({len(played.returns)} episodes, {seen.domain(settings.env.game)})"
            )

    def row(self, judged: Judged, metric: str, value: float) -> Record:
        """See :class:`common.runs.training.Training`."""
        seen = dataclasses.replace(self.parts[0], split="progress")
        return score_row(self.settings, seen, metric, value, 0, judged)

    def own_domain(self, term: AuGKD) -> Domain:
        """The student's, as a term of AuG-KD is shown it."""
        settings, teacher = self.settings, self.distillation.teacher
        assert teacher is not None
        fingerprint = digest([self.identity().setting["data"], settings.env.game, settings.seed])
        batch = term.preparation.batch_size
        return student_domain(lambda: make_env(settings), teacher, self.model.device, batch, settings.seed, fingerprint)

    def prepare(self, keeper: Keeper) -> None:
        """AuG-KD's artefact."""
        if self.anchored is None:
            return
        model, method, domain = self.model, self.distillation, self.own_domain(self.anchored)
        student, row = PolicyLogits(model.policy), functools.partial(self.row, keeper.judged(LAST, 0))
        prepare_term(self.anchored, method, student, domain, self.settings, keeper, self.console, row)
        model.set_distillation(method)  # an archive is to hold what was prepared

    def fit(self, keeper: Keeper) -> int:
        """See :class:`common.runs.training.Training`."""
        settings, model, run = self.settings, self.model, keeper.run
        model.set_logger(Logger(str(run.path), [WatchWriter(keeper.watch)]))
        self.console.print(
            f"training {settings.method['name']} on {settings.env.game} ({model.device}) into {run.path}",
            markup=False,
            soft_wrap=True,
        )
        seen, validation, unseen = self.parts[:3]
        bar = ProgressBar(self.console, settings.total_timesteps)
        judge = LevelValidation(settings, validation, keeper)
        curve = LearningCurve(settings, seen, unseen, keeper, self.row)
        saving = StateKeeping(keeper, [curve, judge])
        if keeper.players is not None:
            keeper.exact = restore(model, saving.evaluations, keeper.players) and keeper.exact
            keeper.restore_generators()
        keeper.travel.follow(model.policy.optimizer, model.policy.parameters())
        try:
            left = settings.total_timesteps - model.num_timesteps
            callbacks = [*self.unseen, curve, judge, saving, bar]
            model.learn(left, callback=callbacks, reset_num_timesteps=keeper.players is None)
            if not self._is_sound():
                raise NonFiniteLossError(f"the policy's logits are not finite at step {model.num_timesteps}")
        except NonFiniteLossError as error:
            # A loss is caught before its step, so that the weights are still good; a step that was too large is not.
            if self._is_sound():
                save_weights(model.policy, run)
            saved = weights_path(run, LAST).exists()
            kept = f"the last good weights are in {run.checkpoints}" if saved else "no weights were saved"
            raise NonFiniteLossError(f"{error}; training stopped, {kept}") from error
        finally:
            bar.bar.stop()
        judge.finish()
        return model.num_timesteps

    @torch.no_grad()
    def _is_sound(self) -> bool:
        observations = torch.as_tensor(self.model._last_obs, device=self.model.device)
        return bool(PolicyLogits(self.model.policy)(observations).isfinite().all())

    def networks(self) -> dict[str, nn.Module]:
        """See :class:`common.runs.training.Training`."""
        found: dict[str, nn.Module] = {LAST: self.model.policy}
        if self.model.averaging is not None and self.model.averaging.begun:
            found[AVERAGED] = self.model.averaged_policy()
        return found

    def copied(self) -> nn.Module:
        """See :class:`common.runs.training.Training`."""
        # That of the latest minibatch has a graph, which cannot be copied.
        self.model.policy.action_dist.distribution = None  # type: ignore[assignment]
        return copy.deepcopy(self.model.policy).eval()

    def show(self, networks: Mapping[str, nn.Module], keeper: Keeper) -> None:
        """An episode on seen and one on unseen levels, where the game can be drawn."""
        logits, env = PolicyLogits(networks[LAST]), self.settings.env  # type: ignore[arg-type]
        seen, _, unseen = self.parts[:3]
        for part in (seen, unseen):
            try:
                frames = list(thumbnails(moments(logits, env, part, 1, self.settings.seed)))
            except Exception as error:  # it draws by a library that may be missing, or by somebody's own code
                reason = clipped(visible(" ".join(str(error).split())), 200)
                self.console.print(f"no film in the log: {reason}", markup=False, soft_wrap=True)
                return
            keeper.watch.film(f"test/{seen_or_not(part.seen)}/{part.domain(env.game)}", frames, keeper.status.steps)

    def test(self, networks: Mapping[str, nn.Module], keeper: Keeper) -> Outcome:
        """See :class:`common.runs.training.Training`."""
        settings = self.settings
        game, evaluation = settings.env.game, settings.evaluation
        arrays: dict[str, Any] = {}
        found: list[Record] = []
        for selection, policy in networks.items():
            logits = PolicyLogits(policy)  # type: ignore[arg-type]
            measured = list(measure(logits, settings, evaluation.looks, evaluation.episodes, settings.seed))
            arrays |= items(game, measured, selection)
            for part, played in measured:
                found += rows(settings, part, played.returns, keeper.judged(selection))
            print_returns(self.console, game, measured, selection)
        arrays |= sample_items(keeper.run, self.parts[0].domain(game))
        return Outcome(found, arrays)


def train(settings: TrainSettings) -> None:
    """Train, test, and leave a run's folder; goes on with the run where it was interrupted.

    Raises:
        InputError: anything in the settings that cannot be used, before something is written.
        AlreadyFinishedError: this very run is there, finished.
        NonFiniteLossError: training diverged; the last good checkpoint is in the run's folder.
        Interrupted: a signal came; the same settings go on.
    """
    lifecycle.check_early(settings.run_dir)
    import_named(modules_of(settings.env), "env.id")
    program = PolicyTraining(settings, Console())
    try:
        lifecycle.train(program)
    finally:
        program.close()


def main() -> None:
    """Entry point of ``kdrl-train``."""
    run_application("kdrl/train", TrainSettings, train, METHOD_PARTS)


if __name__ == "__main__":
    main()
