"""Lightning's Trainer as configured."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from common.configuration import check_arguments
from common.errors import InputError
from common.text import shown
from common.watch import Watch
from kdseg.callbacks import ProgressBar
from kdseg.settings import TrainSettings

# Set by the program, not by configuration.
RESERVED = (
    *("callbacks", "logger", "enable_checkpointing", "default_root_dir", "val_check_interval", "max_epochs"),
    *("fast_dev_run", "barebones", "min_epochs", "min_steps", "use_distributed_sampler"),
)
SHARED_STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")


class WatchLogger(Logger):
    """Lightning's numbers, as a training shows them.

    Args:
        watch: Where.
    """

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    @property
    def name(self) -> str:
        """Lightning names folders by it; there are none."""
        return "kdshift"

    @property
    def version(self) -> str:
        """As above."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """They are the run's configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Show all but what the run's own records tell."""
        own = {name: value for name, value in metrics.items() if name != "epoch" and not _is_score(name)}
        self._watch.scalars(own, step or 0)


def _is_score(name: str) -> bool:
    return name.startswith("validation/") and name.count("/") == 2


def quiet_lightning() -> None:
    """Keep Lightning's notes on hardware and loaders off the screen; its errors stay."""
    names = ("pytorch_lightning", "lightning.pytorch", "pytorch_lightning.utilities.rank_zero", "lightning_fabric")
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")


def trainer_arguments(settings: TrainSettings) -> dict[str, Any]:
    """The Trainer's arguments as configured.

    Raises:
        InputError: an unknown argument, a wrong type, or one that cannot be set.
    """
    return check_arguments(pl.Trainer, settings.trainer.model_dump(), "trainer", RESERVED)


def make_trainer(
    console: Console,
    settings: TrainSettings,
    watch: Watch | None,
    arguments: dict[str, Any],
    callbacks: Sequence[pl.Callback],
) -> pl.Trainer:
    """The Trainer, with its callbacks and a progress bar; it writes nothing itself.

    Raises:
        InputError: an argument that Lightning refuses.
    """
    every = settings.evaluation.every
    validation: dict[str, Any] = {"limit_val_batches": 0}  # without a curve there is no validation at all
    if 0 < every <= arguments["max_steps"]:
        # Lightning counts batches there, and steps elsewhere.
        batches = every * arguments.get("accumulate_grad_batches", 1)
        validation = {"val_check_interval": batches, "check_val_every_n_epoch": None}
    bars = [ProgressBar(console, arguments["max_steps"])] if arguments.get("enable_progress_bar", True) else []
    defaults = {"num_sanity_val_steps": 0, "enable_model_summary": False}
    options = {**defaults, **validation, **arguments, "enable_progress_bar": False}
    fixed: dict[str, Any] = {
        "max_epochs": -1,
        "callbacks": [*callbacks, *bars],
        "logger": False if watch is None else WatchLogger(watch),
        "enable_checkpointing": False,
        "use_distributed_sampler": False,  # our loaders share batches out themselves
    }
    try:
        trainer = pl.Trainer(**options, **fixed)
        if trainer.world_size == 1:
            return trainer
        return pl.Trainer(**{**options, "strategy": _shared(options.get("strategy", "auto"))}, **fixed)
    except InputError:
        raise
    except Exception as error:  # Lightning has several kinds of its own
        raise InputError(f"trainer: {' '.join(str(error).split())}") from error


def _shared(name: str) -> DDPStrategy:
    """How several devices train: each keeps its own buffers, among which are the memories of terms."""
    if name not in SHARED_STRATEGIES:
        raise InputError(
            f"trainer.strategy={shown(name)} cannot be used for several devices; use one of:"
            f" {', '.join(SHARED_STRATEGIES)}"
        )
    return DDPStrategy(broadcast_buffers=False, find_unused_parameters=name == SHARED_STRATEGIES[2])
