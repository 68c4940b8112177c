"""The core alone: plain classification with any method and any averager, in one page.

An adapter's duties are all here: say what it can show (``PROVIDES``), let terms and averager make what depends on the
network (``bind``), show every minibatch as a ``View``, hand over the task's loss *per position*, and tell terms and
averager of every step and epoch.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.averaging import Averager
from common.distillation import Distillation, DistillationOutput
from common.errors import NonFiniteLossError
from common.terms import Need
from common.view import View

NAME = "plain classification"
PROVIDES: frozenset[Need] = frozenset({"teacher", "features", "labels", "index", "image", "stages", "look"})


class DigitNetwork(nn.Module):
    """Three stages of convolution, BatchNorm and pooling, and a linear head on the last one's mean.

    Args:
        classes: C.
        widths: Channels of the stages.
    """

    def __init__(self, classes: int = 10, widths: tuple[int, ...] = (12, 24, 48)) -> None:
        super().__init__()
        channels = (1, *widths)
        self.encoder = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)
            )
            for before, after in zip(channels, widths, strict=False)
        )
        self.head = nn.Linear(widths[-1], classes)

    def stages(self, images: Tensor) -> list[Tensor]:
        """Feature maps ``[B, D_k, h_k, w_k]``, shallow to deep."""
        maps = []
        for stage in self.encoder:
            images = stage(images)
            maps.append(images)
        return maps

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``[B, D]``, which the head is given, and logits ``[B, C]``."""
        features = self.stages(images)[-1].mean(dim=(2, 3))
        return features, self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B, C]`` of images ``[B, 1, H, W]``."""
        return self.look(images)[1]


class Classification:
    """Trains a network with cross-entropy, a method's terms, and an averager beside it.

    Args:
        network: The student.
        distillation: The method.
        total_steps: Steps of the whole training, from which schedules take their progress.
        sample: One minibatch (images, labels), for shapes.
        averager: Averages the weights, or ``None``.
        learning_rate: Of AdamW.

    Raises:
        InputError: a term that needs what plain classification cannot show.
    """

    def __init__(
        self,
        network: DigitNetwork,
        distillation: Distillation,
        total_steps: int,
        sample: tuple[Tensor, Tensor],
        averager: Averager | None = None,
        learning_rate: float = 3e-3,
    ) -> None:
        distillation.check_needs(PROVIDES, NAME)
        self.network, self.distillation, self.averager = network, distillation, averager
        self.total_steps, self.done = total_steps, 0
        network.eval()  # a look for shapes must not move BatchNorm's statistics
        with torch.no_grad():
            distillation.bind(network, self._view(*sample))
        if averager is not None:
            averager.check(validation_available=True, adapter=NAME)
            averager.bind(network)
        # The terms' own parameters too; never the teacher's.
        parameters = [*network.parameters(), *distillation.trainable_parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=1e-4)

    @property
    def progress(self) -> float:
        """The part of training that is done."""
        return min(self.done / self.total_steps, 1.0)

    def _view(
        self,
        images: Tensor,
        labels: Tensor,
        index: Tensor | None = None,
        teacher_logits: Tensor | None = None,
        log: bool = True,
    ) -> View:
        stages = self.network.stages(images)
        features = stages[-1].mean(dim=(2, 3))
        return View(
            inputs=images,
            features=features,
            head=self.network.head,
            logits=self.network.head(features),
            forward=self.network,
            targets=labels,
            index=index,
            teacher_logits=teacher_logits,
            teacher=self.distillation.teacher,
            stages=stages,
            look=self.network.look,
            log=log,
            progress=self.progress,
        )

    def step(self, images: Tensor, labels: Tensor, index: Tensor, log: bool = False) -> DistillationOutput:
        """One step of the optimiser.

        Args:
            images: ``[B, 1, H, W]``.
            labels: ``int64 [B]``.
            index: ``int64 [B]``, which samples of the data set these are.
            log: Whether the terms' metrics will be read.

        Returns:
            The loss of the minibatch and what there is to log.

        Raises:
            NonFiniteLossError: before the step that the loss would take.
        """
        self.network.train()
        self.distillation.train()
        teacher = self.distillation.teacher
        view = self._view(images, labels, index, None if teacher is None else teacher(images, index), log)
        output: DistillationOutput = self.distillation(view, F.cross_entropy(view.logits, labels, reduction="none"))
        if not torch.isfinite(output.loss):
            raise NonFiniteLossError(f"the loss is {output.loss.item()} at step {self.done}")
        self.optimizer.zero_grad()
        output.loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.done += 1
        self.distillation.after_step(self.network, self.progress)
        if self.averager is not None:
            self.averager.after_step(self.network, self.progress)
        return output

    def end_epoch(self) -> None:
        """Tell the terms that a pass over the data is over."""
        self.distillation.after_epoch(self.network, self.progress)

    def validate(self, images: Tensor, labels: Tensor) -> None:
        """Give the averager the source-validation loss it asks for, if it does."""
        if self.averager is None or (network := self.averager.to_validate(self.network)) is None:
            return
        network.eval()
        with torch.no_grad():
            loss = F.cross_entropy(network(images), labels)
        self.averager.after_validation(self.network, loss.item(), self.progress)

    def state_dict(self) -> dict[str, Any]:
        """Everything that continues the training bit for bit, random numbers aside."""
        parts = {"network": self.network, "distillation": self.distillation, "optimizer": self.optimizer}
        state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
        averager = None if self.averager is None else self.averager.state_dict()
        return state | {"averager": averager, "done": self.done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken."""
        self.network.load_state_dict(state["network"])
        self.distillation.load_state_dict(state["distillation"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averager is not None:
            self.averager.load_state_dict(state["averager"])
        self.done = state["done"]
