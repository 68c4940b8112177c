"""A LightningModule whose network, and the average beside it, are judged: scores by domain, over all devices."""

from collections.abc import Iterable, Iterator, Mapping

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

from common.averaging import Averager, reestimate_batch_norm
from common.errors import InputError
from common.evaluation.segmentation import mean_iou
from kdseg.averaging import MakeBatches, SourceValidation, training_images
from kdseg.metrics import batch_confusion, no_confusion
from kdseg.segmentation_network import SegmentationNetwork


class JudgedModule(pl.LightningModule):
    """What :class:`kdseg.SegmentationModule` is built on: all but training.

    Attributes:
        network: The network in training.
        averaging: Averages its weights, or ``None``.
        confusions: Its matrices of the latest validation or test, by loader.
        make_batches: Makes a pass over training batches, for averages whose BatchNorm statistics are to be
            re-estimated. Left ``None``, it is ``train_dataloader`` of the data module that the Trainer was given.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        channels_last: bool,
        source_names: Iterable[str],
        unseen_names: Iterable[str],
        averaging: Averager | None,
    ) -> None:
        super().__init__()
        # A process may have no batch of some domain's validation.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.network = network if isinstance(network, SegmentationNetwork) else SegmentationNetwork(network)
        self.num_classes = num_classes
        self.source_names, self.unseen_names = list(source_names), list(unseen_names)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.confusions: dict[int, Tensor] = {}
        self.make_batches: MakeBatches | None = None
        self.averaging = averaging
        self._beside: SourceValidation | None = None
        if averaging is not None:
            averaging.bind(self.network)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B, C, H, W]`` of normalised images ``[B, bands, H, W]`` of any size."""
        logits: Tensor = self.network(images.contiguous(memory_format=self.memory_format))
        return logits

    def validation_step(self, batch: dict[str, Tensor], batch_index: int, dataloader_idx: int = 0) -> None:
        """Add a batch's pixels to its loader's confusion matrix."""
        logits = self(batch["image"])
        self._count(batch, logits, dataloader_idx)
        if self._beside is not None:
            images = batch["image"].contiguous(memory_format=self.memory_format)
            is_source = not self.unseen_names or dataloader_idx < len(self.source_names)
            self._beside.add(images, batch["mask"], logits, dataloader_idx, is_source)

    def on_validation_epoch_start(self) -> None:
        """Forget the matrices of the validation before; every process judges the first one's network."""
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():  # each has its own batch statistics
                torch.distributed.broadcast(buffer, 0)
        loaders = len(self.trainer.num_val_batches)
        self.confusions = {number: no_confusion(self.num_classes, self.device) for number in range(loaders)}
        self._beside = None
        if self.averaging is not None and self.trainer.state.fn == TrainerFn.FITTING:
            self._beside = SourceValidation(self.averaging, self.network, self.num_classes, self._batches, loaders)

    def on_validation_epoch_end(self) -> None:
        """Log mIoU per loader, each from one matrix pooled over images and devices, and tell the averager its loss."""
        self.confusions = {number: self._summed(confusion) for number, confusion in self.confusions.items()}
        loss = None if self._beside is None else self._beside.finish(self._progress(), self._summed)
        if loss is not None:
            self.log("validation/averaging_loss", loss, rank_zero_only=True)
        names = dict(enumerate([*self.source_names, *self.unseen_names]))
        for metric, confusions in (("miou", self.confusions), ("miou_averaged", self.averaged_confusions)):
            self._log_scores("validation", metric, confusions, names)

    def on_test_epoch_start(self) -> None:
        """Forget the matrices of before."""
        loaders = len(self.trainer.num_test_batches)
        self.confusions = {number: no_confusion(self.num_classes, self.device) for number in range(loaders)}

    def test_step(self, batch: dict[str, Tensor], batch_index: int, dataloader_idx: int = 0) -> None:
        """Add a batch's pixels to its loader's confusion matrix."""
        self._count(batch, self(batch["image"]), dataloader_idx)

    def on_test_epoch_end(self) -> None:
        """Log mIoU per loader, by the names of the data module's ``test_parts`` where the Trainer has one."""
        parts = getattr(getattr(self.trainer, "datamodule", None), "test_parts", ())
        self._log_scores(
            "test",
            "miou",
            {number: self._summed(one) for number, one in self.confusions.items()},
            dict(enumerate(part.domain for part in parts)),
        )

    def predict_step(self, batch: dict[str, Tensor], batch_index: int, dataloader_idx: int = 0) -> Tensor:
        """Predicted classes ``int64 [B, H, W]``."""
        return self(batch["image"]).argmax(dim=1)  # type: ignore[no-any-return]

    def _count(self, batch: dict[str, Tensor], logits: Tensor, loader: int) -> None:
        confusion = batch_confusion(logits, batch["mask"], self.num_classes).sum(dim=0)
        self.confusions[loader] = self.confusions[loader] + confusion

    def _log_scores(self, stage: str, metric: str, confusions: Mapping[int, Tensor], names: Mapping[int, str]) -> None:
        for number, confusion in confusions.items():
            score = float(mean_iou(confusion.cpu().numpy()))
            self.log(f"{stage}/{names.get(number, number)}/{metric}", score, rank_zero_only=True)

    @property
    def averaged_confusions(self) -> dict[int, Tensor]:
        """The averaged network's matrices of the latest validation by loader; empty while nothing was averaged."""
        return {} if self._beside is None else self._beside.confusions

    def _summed(self, tensor: Tensor) -> Tensor:
        total: Tensor = self.trainer.strategy.reduce(tensor, reduce_op="sum")  # type: ignore[assignment]
        return total

    def averaged_network(self) -> nn.Module:
        """A copy of the network with averaged weights, frozen and in eval mode, to be used like ``network``.

        Raises:
            InputError: there is no averaging, or training ended before it started.
        """
        if self.averaging is None:
            raise InputError("nothing is averaged; give SegmentationModule(..., averaging=WAKD())")
        network = self.averaging.finish()
        if self.averaging.reestimates:
            reestimate_batch_norm(network, self._batches())
        return network

    def _batches(self) -> Iterator[Tensor]:
        return training_images(self.trainer, self.make_batches)

    def _progress(self, steps: int | None = None) -> float:
        """The part of training that is done: of its steps, or of its epochs where nobody knows how long one is."""
        total, epochs = self.trainer.estimated_stepping_batches, self.trainer.max_epochs or 0
        if 0 < total < float("inf"):
            return min((self.global_step if steps is None else steps) / total, 1.0)
        return min(self.current_epoch / epochs, 1.0) if epochs > 0 else 0.0
