"""Lightning's Trainer as configured."""

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console

from common.configuration import check_arguments
from common.errors import InputError
from common.runs.folder import Run
from kdseg.callbacks import ProgressBar
from kdseg.settings import TrainSettings

# Set by the program, not by configuration.
RESERVED = ("callbacks", "logger", "enable_checkpointing", "default_root_dir", "val_check_interval", "max_epochs")


def quiet_lightning() -> None:
    """Keep Lightning's notes on hardware and loaders off the screen; its errors stay."""
    for name in ("pytorch_lightning", "lightning.pytorch", "pytorch_lightning.utilities.rank_zero"):
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
    run: Run | None,
    arguments: dict[str, Any],
    callbacks: Sequence[pl.Callback],
) -> pl.Trainer:
    """The Trainer, with its callbacks and a progress bar; it writes nothing but TensorBoard's scalars, into the run.

    Raises:
        InputError: an argument that Lightning refuses.
    """
    every = settings.evaluation.every
    validation: dict[str, Any] = {"limit_val_batches": 0}  # without a curve there is no validation at all
    if 0 < every <= arguments["max_steps"]:
        validation = {"val_check_interval": every, "check_val_every_n_epoch": None}
    bars = [ProgressBar(console, arguments["max_steps"])] if arguments.get("enable_progress_bar", True) else []
    defaults = {"num_sanity_val_steps": 0, "enable_model_summary": False}
    options = {**defaults, **validation, **arguments, "enable_progress_bar": False}
    try:
        return pl.Trainer(
            max_epochs=-1,
            callbacks=[*callbacks, *bars],
            logger=False if run is None else TensorBoardLogger(run.path, name="tensorboard", version=""),
            enable_checkpointing=False,
            **options,
        )
    except Exception as error:  # Lightning has several kinds of its own
        raise InputError(f"trainer: {' '.join(str(error).split())}") from error
