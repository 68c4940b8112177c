"""A segmentation training in mid-course, as a dictionary, and back: bit for bit what it would have been.

Lightning's own way back is not used: it adds a batch to a pass that had ended, and cannot begin a loader in the middle.
Here the loader begins where it stood (our draws are functions of their position), and Lightning's counters are set.
"""

from typing import Any

import pytorch_lightning as pl

from common.runs.checkpoint import State, load_own_state, own_state
from common.runs.keeper import Keeper
from common.runs.records import AVERAGED, LAST
from kdseg.callbacks import all_finite
from kdseg.module import SegmentationModule

DISTILLATION = "distillation."


class StateKeeping(pl.Callback):
    """Writes the state before a batch, every so many steps; and goes on from one.

    A signal is heeded before the next batch, or during a validation: what is saved then is the state before the step
    that the validation followed.

    Args:
        keeper: Where states go, and where the one to go on from is.
    """

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self._forward = keeper.players is not None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the optimiser and Lightning's counters as they were."""
        self.keeper.interruption.install()  # Lightning has put its own handler before ours
        players = self.keeper.players
        if players is not None:
            trainer.optimizers[0].load_state_dict(players["optimizer"])
            trainer.precision_plugin.load_state_dict(players["precision"])
            set_counters(trainer, players["position"])
        assert isinstance(pl_module, SegmentationModule)
        self.keeper.travel.follow(trainer.optimizers[0], pl_module.network.parameters())

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember and write the state if it is time."""
        assert isinstance(pl_module, SegmentationModule)
        if self._forward:
            self._forward = False
            assert self.keeper.players is not None
            fast_forward(trainer, self.keeper.players["position"])
            if trainer.world_size == 1:
                self.keeper.restore_generators()  # the last thing, so that nothing can draw from them before
            return
        if not trainer.is_global_zero or not _is_safe(trainer):
            return
        due, stopping = self.keeper.is_due(trainer.global_step), self.keeper.interruption.pending
        if (due or stopping or _validates_next(trainer)) and all_finite(pl_module.network):
            self.keeper.remember(capture(trainer, pl_module), trainer.global_step)
        if due:
            self._save(pl_module)
        self.keeper.interruption.check()

    def _save(self, module: SegmentationModule) -> None:
        if not all_finite(module.network):
            return
        self.keeper.save()
        averaging = module.averaging
        averages = averaging is not None and averaging.begun and not averaging.reestimates
        self.keeper.save_weights(
            [(LAST, module.network), *([(AVERAGED, averaging.averaged)] if averaging is not None and averages else [])]
        )

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """A validation may be long."""
        self.keeper.interruption.check()


def capture(trainer: pl.Trainer, module: SegmentationModule) -> State:
    """The state of a training just before a batch: of the module without its teacher, and of Lightning."""
    epoch_loop = trainer.fit_loop.epoch_loop
    return {
        "module": own_state(module, DISTILLATION),
        "tally": module.distillation.tally.state(),
        "optimizer": trainer.optimizers[0].state_dict(),
        "precision": trainer.precision_plugin.state_dict(),
        "position": {
            "steps": trainer.global_step,
            "epoch": trainer.current_epoch,
            # The batch that is about to be trained on counts as ready already.
            "batches": epoch_loop.batch_progress.current.ready - 1,
            "total_batches": epoch_loop.batch_progress.total.ready - 1,
            "stepped": epoch_loop._batches_that_stepped,
        },
    }


def restore_module(module: SegmentationModule, state: State) -> None:
    """Take back the module's part of what :func:`capture` gave."""
    load_own_state(module, state["module"], DISTILLATION)
    module.distillation.tally.load(state.get("tally", {}))


def set_counters(trainer: pl.Trainer, position: State) -> None:
    """Let Lightning believe that it has come so far; between its reset and its first pass."""
    fit_loop = trainer.fit_loop
    _set(fit_loop.epoch_progress.current, position["epoch"])
    _set(fit_loop.epoch_progress.total, position["epoch"])
    epoch_loop = fit_loop.epoch_loop
    _set(epoch_loop.batch_progress.total, position["total_batches"])
    epoch_loop._batches_that_stepped = position["stepped"]
    step = epoch_loop.automatic_optimization.optim_progress.optimizer.step.total
    step.ready = step.completed = position["steps"]


def fast_forward(trainer: pl.Trainer, position: State) -> None:
    """Count the batches of this pass that came before; at its first batch, for each pass begins to count at zero."""
    epoch_loop = trainer.fit_loop.epoch_loop
    current: Any = epoch_loop.batch_progress.current
    done = position["batches"]
    current.ready += done
    current.started = current.processed = current.completed = done
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    fetcher.fetched += done
    fetcher.done = fetcher.length is not None and fetcher.fetched >= fetcher.length
    epoch_loop.batch_progress.is_last_batch = fetcher.done


def _set(progress: Any, count: int) -> None:
    for name in ("ready", "started", "processed", "completed"):
        setattr(progress, name, count)


def _is_safe(trainer: pl.Trainer) -> bool:
    """Whether no gradient is being accumulated."""
    batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready - 1
    return bool(batches % trainer.accumulate_grad_batches == 0)


def _validates_next(trainer: pl.Trainer) -> bool:
    """Whether a validation may follow this batch."""
    every = trainer.val_check_batch
    if not trainer.enable_validation or not isinstance(every, int):
        return False
    ready = trainer.fit_loop.epoch_loop.batch_progress.total.ready
    return any((ready + ahead) % every == 0 for ahead in range(trainer.accumulate_grad_batches))
