"""The averaged network beside the one in training: its scores, and the loss that an averager asks for."""

import itertools
from collections.abc import Callable, Iterable, Iterator

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.averaging import Averager, reestimate_batch_norm
from common.errors import InputError
from kdseg.domains.sample import IGNORE
from kdseg.metrics import batch_confusion, no_confusion

# Batches that BatchNorm's statistics are re-estimated from: each adds a mean over thousands of pixels.
REESTIMATION_BATCHES = 100


MakeBatches = Callable[[], Iterable[dict[str, Tensor]]]


def training_images(trainer: pl.Trainer, make_batches: MakeBatches | None) -> Iterator[Tensor]:
    """The images of the first training batches, of a pass of their own: that of the training stays where it is.

    Args:
        trainer: Its data module makes the batches where ``make_batches`` is ``None``.
        make_batches: Makes a pass over training batches.

    Raises:
        InputError: there is neither.
    """
    data = getattr(trainer, "datamodule", None)
    make = make_batches or getattr(data, "whole_batches", None) or getattr(data, "train_dataloader", None)
    if make is None:
        raise InputError(
            "buffers=reestimate needs training batches; fit with a data module, set make_batches, or use average"
        )
    return _images(make)


def _images(make: MakeBatches) -> Iterator[Tensor]:
    # Nothing is read, and no worker started, before a network with BatchNorm asks.
    for batch in itertools.islice(make(), REESTIMATION_BATCHES):
        yield batch["image"]


class SourceValidation:
    """One validation of an average, batch by batch, along with that of the network in training.

    The averager's loss is the cross-entropy with the labels: per pixel, the mean over each source domain, then over
    domains. It is so for every method (ours): the authors of WAKD (arXiv 2309.11446), whose students see no labels,
    give SWAD the KL to the teacher instead, which would select for imitation where a method also learns from labels,
    and would compare no two methods by one measure.

    Args:
        averager: The averager, at least bound.
        network: The network in training.
        num_classes: Number of classes.
        batches: Makes training images, for BatchNorm's statistics where the averager wants them re-estimated.
        loaders: How many loaders there are; a process may have no batch of some.

    Attributes:
        confusions: Confusion matrices of the averaged network, as it is before it knows the loss, by loader; empty
            while nothing is averaged.
    """

    def __init__(
        self,
        averager: Averager,
        network: nn.Module,
        num_classes: int,
        batches: Callable[[], Iterable[Tensor]],
        loaders: int,
    ) -> None:
        self.averager, self.network, self.num_classes = averager, network, num_classes
        self.averaged = averager.averaged if averager.begun else None
        self.wanted = averager.to_validate(network)
        if self.averaged is not None and averager.reestimates:
            reestimate_batch_norm(self.averaged, batches())
        device = next(network.parameters()).device
        self.confusions: dict[int, Tensor] = {}
        if self.averaged is not None:
            self.confusions = {loader: no_confusion(num_classes, device) for loader in range(loaders)}
        self._losses = {loader: torch.zeros(2, dtype=torch.float64, device=device) for loader in range(loaders)}

    def add(self, images: Tensor, masks: Tensor, live_logits: Tensor, loader: int, is_source: bool) -> None:
        """Take in a batch; only those of source domains enter the loss."""
        logits = live_logits
        if self.averaged is not None:
            logits = self.averaged(images)
            confusion = batch_confusion(logits, masks, self.num_classes).sum(dim=0)
            self.confusions[loader] = self.confusions[loader] + confusion
        if is_source and self.wanted is not None:
            judged = live_logits if self.wanted is self.network else logits
            total = F.cross_entropy(judged.float(), masks, ignore_index=IGNORE, reduction="sum")
            self._losses[loader] += torch.stack([total.double(), (masks != IGNORE).sum().double()])

    def finish(self, progress: float, reduce: Callable[[Tensor], Tensor]) -> float | None:
        """Tell the averager its loss and give it back, or ``None`` if none was asked for.

        Args:
            progress: Part of training done.
            reduce: Sums over devices.
        """
        self.confusions = {loader: reduce(confusion) for loader, confusion in self.confusions.items()}
        sums = [reduce(part) for part in self._losses.values()]
        means = [float(total / count) for total, count in sums if count > 0]
        if not means:
            return None
        loss = sum(means) / len(means)
        self.averager.after_validation(self.network, loss, progress)
        return loss
