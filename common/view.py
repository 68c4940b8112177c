"""What a task shows the distillation core of one minibatch."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """One minibatch as every term sees it, complete when it is made; ``dataclasses.replace`` makes another one.

    Segmentation shows images, the decoder's output, the segmentation head without its upsampling,
    pixel logits and masks. PPO shows observations, the policy latent, the action head and action
    logits; it has no targets.

    Attributes:
        inputs: ``[B, ...]`` what the network was given.
        features: ``[B, D, *]`` what the head is given.
        head: From features to logits; may give a coarser grid than ``logits``.
        logits: ``[B, C, *]`` the clean prediction, with its graph.
        forward: From inputs to logits, for terms that need another look.
        targets: ``int64 [B, *]`` labels, or ``None``.
        valid: ``bool [B, *]``, ``False`` where a position does not count, or ``None`` for all.
        index: ``int64 [B]`` which sample of the data set (segmentation) or rollout (PPO), or ``None``.
        teacher_logits: ``[B, C, *]`` the teacher's of ``inputs``, without a graph, or ``None`` where no term needs one.
        teacher: Asks the teacher about *other* inputs: from ``[B', ...]``, as the student is given them, to logits
            ``[B', C, *]`` without a graph; ``None`` where no term needs one. Of ``inputs`` it says ``teacher_logits``
            again, unless it is cross-fitted (its networks then answer together, since other inputs have no fold) or
            was shown cleaner ones.
        stages: Feature maps ``[B, D_k, h_k, w_k]`` of the encoder's stages, shallow to deep, or ``None``.
        look: From inputs to features and logits, for terms that need both of another look, or ``None``.
        values: ``[B]`` the critic's estimates of ``inputs``, or ``None`` where there is no critic.
        judge: From inputs to logits and values ``[B]``, or ``None`` where there is no critic.
        teacher_values: ``[B]`` the teacher's estimates of ``inputs`` without a graph, or ``None`` where no term asks.
        ratio: ``[B]`` the policy's probability of the action that was taken over the probability it was taken with,
            with its graph, or ``None`` where no actions are taken.
        encoded: ``[B, D, *]`` what the encoder gave, the deepest it has, with its graph, or ``None``.
        teacher_encodes: From inputs, as the student is given them, to what each of the teacher's encoders makes of them
            ``[B', D_k, *]``, without a graph; ``None`` where no term asks.
        log: Whether the terms' metrics will be read; they need not be computed otherwise.
        progress: Part of training that is done, in [0, 1].
        labelled: ``bool [B, *]``, where of the valid positions ``targets`` says something, or ``None`` for all of them.
    """

    inputs: Tensor
    features: Tensor
    head: Callable[[Tensor], Tensor]
    logits: Tensor
    forward: Callable[[Tensor], Tensor]
    targets: Tensor | None = None
    valid: Tensor | None = None
    index: Tensor | None = None
    teacher_logits: Tensor | None = None
    teacher: Callable[[Tensor], Tensor] | None = None
    stages: list[Tensor] | None = None
    look: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    values: Tensor | None = None
    judge: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    teacher_values: Tensor | None = None
    ratio: Tensor | None = None
    encoded: Tensor | None = None
    teacher_encodes: Callable[[Tensor], list[Tensor]] | None = None
    log: bool = True
    progress: float = 0.0
    labelled: Tensor | None = None

    def valid_on(self, grid: torch.Size) -> Tensor | None:
        """The valid mask on a coarser ``grid`` (spatial sizes), by nearest neighbour.

        A grid of the mask's own size gets the mask itself; no grid at all (one value a sample) counts
        the samples with any valid position.
        """
        if self.valid is None or self.valid.shape[1:] == grid:
            return self.valid
        if len(grid) == 0:
            return self.valid.flatten(1).any(dim=1)
        return F.interpolate(self.valid[:, None].float(), size=tuple(grid), mode="nearest")[:, 0].bool()

    def labels(self) -> Tensor:
        """Targets, else the teacher's most probable class, else 0; invalid positions are 0.

        Raises:
            ValueError: there is neither.
        """
        if self.targets is not None:
            targets = self.targets
            if self.labelled is not None:
                others = torch.zeros_like(targets) if self.teacher_logits is None else self.teacher_logits.argmax(dim=1)
                targets = torch.where(self.labelled, targets, others)
            return targets if self.valid is None else targets.masked_fill(~self.valid, 0)
        if self.teacher_logits is not None:
            return self.teacher_logits.argmax(dim=1)
        raise ValueError("a view without targets and teacher_logits has no labels")

    def only_labelled(self) -> "View":
        """The same minibatch, of which only labelled positions count."""
        return self if self.labelled is None else dataclasses.replace(self, valid=self.labelled, labelled=None)
