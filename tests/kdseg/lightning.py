"""Batches as a loader, and Lightning as quiet as it can be."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

Batch = dict[str, Tensor]


class Loader:
    """Batches in order, epoch after epoch.

    Unlike torch's DataLoader it draws no random number for itself; a list would be taken for a list of loaders.
    """

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def make_trainer(**options: Any) -> pl.Trainer:
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    fixed = {"accelerator": "cpu", "devices": 1, "max_epochs": -1, "num_sanity_val_steps": 0, "log_every_n_steps": 1}
    return pl.Trainer(**(dict.fromkeys(quiet, False) | fixed | options))
