"""The LightningModule: a segmentation network trained with a method."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from common.averaging import Averager
from common.distillation import Distillation, DistillationOutput
from common.errors import InputError, NonFiniteLossError
from common.teacher import Teacher
from common.terms import Need
from common.view import View
from kdseg.domains.dataset import labels_of
from kdseg.domains.sample import IGNORE
from kdseg.judged import JudgedModule
from kdseg.learning_rate import LearningRate, Optimizer, adamw
from kdseg.losses import TaskLoss
from kdseg.segmentation_network import Pixels, pad_to_multiple

# Side of the images that shapes are learnt from. Large enough for every architecture: PAN pools 1/16
# or 1/32 of it three times.
PROBE = 256
PROVIDES: frozenset[Need] = frozenset({"teacher", "features", "labels", "index", "image", "stages", "look", "encoded"})


class SegmentationModule(JudgedModule):
    """Pixel-wise cross-entropy plus the terms of a method, for Lightning's Trainer.

    Without terms the parameters after any number of steps equal those of a plain loop over the same
    batches (``cross_entropy(model(images), masks, ignore_index=255)``) bit for bit.

    The network runs once per batch; terms share its features and logits. The teacher, frozen, answers
    the same images, or their ``clean`` form where batches have one. It is saved in Lightning's checkpoints with the
    module.

    Args:
        network: A segmentation-models-pytorch model (or one alike, with a ``segmentation_head``).
        num_classes: Number of classes C. Mask values are 0 .. C − 1, and 255 where ignored.
        distillation: The method; ``None`` for plain training.
        optimizer: Makes the optimiser from the parameters; default AdamW, lr 1e-3, weight decay 1e-4.
        channels_last: Lay images out channel by channel last, which is faster where convolutions are
            many and wide.
        source_names: Names of the validation loaders' domains, for the logs.
        averaging: Averages the network's weights over the optimiser's steps, or ``None``. Checkpoints keep it.
        unseen_names: Names of the domains of further validation loaders, which are judged but select nothing.
        loss: The task's own loss; default the mean cross-entropy over labelled pixels.
        learning_rate: How the optimiser's rate changes; default not at all.

    Raises:
        InputError: a teacher with other classes or with the network's own weights, a term that needs what segmentation
            or the loss cannot show, or class weights of other classes; when training starts, averaging without the
            validation or the training batches that it needs.
        NonFiniteLossError: in training, before the step that a non-finite loss would take.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        distillation: Distillation | None = None,
        optimizer: Optimizer = adamw,
        channels_last: bool = False,
        source_names: Iterable[str] = (),
        averaging: Averager | None = None,
        unseen_names: Iterable[str] = (),
        loss: TaskLoss | None = None,
        learning_rate: LearningRate | None = None,
    ) -> None:
        super().__init__(network, num_classes, channels_last, source_names, unseen_names, averaging)
        self.distillation = distillation if distillation is not None else Distillation(name="erm")
        self.distillation.check_needs(PROVIDES, "segmentation")
        self.optimizer = optimizer
        self.loss, self.learning_rate = loss or TaskLoss(), learning_rate or LearningRate()
        self.loss.check_classes(num_classes)
        if not self.loss.is_per_position:
            self.distillation.check_per_position(f"loss.name={self.loss.name}")
        self.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        if self.distillation.teacher is not None:
            self._check_teacher(self.distillation.teacher)
        if not self.distillation.is_plain:
            self._bind()

    @torch.no_grad()
    def _bind(self) -> None:
        """Let the terms make what depends on the student, before the optimiser or a checkpoint asks for it."""
        if self.distillation.needs("stages") or self.distillation.needs("encoded"):
            self.network.keep_stages()
        training = self.network.training
        self.network.eval()
        images = torch.zeros(2, self.network.in_channels, PROBE, PROBE)
        masks = torch.zeros(2, PROBE, PROBE, dtype=torch.long)
        pixels = self.network.pixels(images)
        self.distillation.bind(self.network, self._view(images, masks, pixels, pixels.logits, {}))
        self.network.train(training)

    def _check_teacher(self, teacher: Teacher) -> None:
        teacher.check_apart(self.network)
        like = next(teacher.parameters(), torch.zeros(()))
        probe = torch.zeros(1, self.network.in_channels, PROBE, PROBE, device=like.device, dtype=like.dtype)
        classes = teacher(probe).shape[1]
        if classes != self.num_classes:
            raise InputError(
                f"the teacher has {classes} classes, the data {self.num_classes}; give a teacher of the same classes"
            )

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Loss of one batch with ``image`` and ``mask``.

        See :class:`kdseg.domains.dataset.Entry` for what else it may have; a term may ask for ``index``.
        """
        stride = self.network.stride
        images = pad_to_multiple(batch["image"], stride).contiguous(memory_format=self.memory_format)
        masks = pad_to_multiple(labels_of(batch), stride, value=IGNORE)
        if not self.distillation.is_plain:
            self.distillation.before_step(self.network, self._progress())
        pixels = self.network.pixels(images)
        logits = pixels.logits.float()
        if self.distillation.is_plain:
            loss = self.loss.mean(logits, masks)
            if self._logs():
                self.log("train/task", loss.detach())
        else:
            loss = self._distilled_loss(images, masks, pixels, logits, batch)
        is_finite = torch.isfinite(loss)
        if self.trainer.world_size > 1:
            loss, is_finite = self._of_all_processes(loss, masks)
        if not is_finite:
            raise NonFiniteLossError(f"the loss is {loss.item()} at step {self.global_step}")
        if self._logs():
            self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def _of_all_processes(self, loss: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """The loss scaled so that the mean over processes is that over all labelled pixels; whether all are finite.

        Exact for what is a mean over this batch's labelled pixels; for what is a mean over samples, or over the batch
        before (DLB), where processes have equally many labelled pixels.
        """
        mine = torch.stack([(masks != IGNORE).sum().double(), (~torch.isfinite(loss)).double()])
        pixels, infinite = self._summed(mine.clone())
        return loss * (mine[0] * self.trainer.world_size / pixels.clamp(min=1)).to(loss.dtype), infinite == 0

    def _logs(self) -> bool:
        """Whether Lightning will log this step: metrics of the others would be computed to be thrown away."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return (self.global_step + 1) % every == 0

    def _distilled_loss(
        self, images: Tensor, masks: Tensor, pixels: Pixels, logits: Tensor, batch: Mapping[str, Tensor]
    ) -> Tensor:
        teacher, shown = self.distillation.teacher, images
        if "clean" in batch:
            shown = pad_to_multiple(batch["clean"], self.network.stride).contiguous(memory_format=self.memory_format)
        answer = None if teacher is None else teacher(shown, batch.get("index"))
        view = self._view(images, masks, pixels, logits, batch, answer, self._logs(), self._progress())
        task = self.loss.positions(logits, masks)
        output: DistillationOutput = self.distillation(view, task)
        for name, value in output.metrics.items():
            self.log("train/task" if name == "task" else f"distillation/{name}", value)
        return output.loss

    def _view(
        self,
        images: Tensor,
        masks: Tensor,
        pixels: Pixels,
        logits: Tensor,
        batch: Mapping[str, Tensor],
        teacher_logits: Tensor | None = None,
        log: bool = True,
        progress: float = 0.0,
    ) -> View:
        valid, labelled = masks != IGNORE, None
        if "labelled" in batch:
            labelled, valid = valid, pad_to_multiple(batch["mask"], self.network.stride, value=IGNORE) != IGNORE
        return View(
            inputs=images,
            features=pixels.features,
            head=self.network.head(),
            logits=logits,
            forward=self.network,
            targets=masks,
            valid=valid,
            labelled=labelled,
            index=batch.get("index"),
            teacher_logits=teacher_logits,
            teacher=self.distillation.teacher,
            stages=pixels.stages,
            encoded=pixels.stages[-1] if pixels.stages else None,
            teacher_encodes=None if self.distillation.teacher is None else self.distillation.teacher.encodes,
            look=self._look,
            log=log,
            progress=progress,
        )

    def _look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = self.network.pixels(images)
        return pixels.features, pixels.logits

    def on_fit_start(self) -> None:
        """Refuse averaging without what it needs, and memories that processes cannot share, before the first step."""
        if self.trainer.world_size > 1:
            self.distillation.check_shared()
        if self.averaging is not None:
            self.averaging.check(self.trainer.enable_validation, "this Trainer")
            if self.averaging.reestimates:
                self._batches()

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take the step, and the weights after it into their average; let the terms follow the student."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        scale = scaler.get_scale() if scaler else 0.0
        if not self.learning_rate.is_plain:
            self.learning_rate.apply(optimizer, self._progress())
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if scaler and scaler.get_scale() < scale:
            return  # gradients were not finite: the scaler has left the weights as they were
        progress = self._progress(self.global_step + 1)  # Lightning counts the step after this hook
        if self.averaging is not None:
            self.averaging.after_step(self.network, progress)
        self.distillation.after_step(self.network, progress)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the network's gradients as without terms, and the terms' own parameters apart from them."""
        for parameters in (list(self.network.parameters()), self.distillation.trainable_parameters()):
            if gradient_clip_val and parameters:
                if gradient_clip_algorithm == "value":
                    nn.utils.clip_grad_value_(parameters, gradient_clip_val)
                else:
                    nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def on_train_epoch_end(self) -> None:
        """Let the terms follow the student."""
        self.distillation.after_epoch(self.network, self._progress())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The student's parameters and the terms' own; never the teacher's."""
        own = self.distillation.trainable_parameters()
        if self.learning_rate.encoder == 1.0:
            optimizer = self.optimizer([*self.network.parameters(), *own])
        else:
            optimizer = self.optimizer(self.learning_rate.groups(self.network, own))
        self.learning_rate.begin(optimizer)
        return optimizer
