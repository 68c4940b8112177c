"""PPO's own objective on one minibatch, transition by transition, as Stable-Baselines3 computes it."""

import dataclasses

import torch
from stable_baselines3 import PPO
from torch import Tensor
from torch.nn import functional as F

from kdrl.buffers import Samples
from kdrl.minibatch import Minibatch


@dataclasses.dataclass(frozen=True)
class Objective:
    """What PPO minimises, before means are taken and the parts are weighed.

    Attributes:
        surrogate: ``[B]`` the clipped policy loss.
        bonus: ``[B]`` the entropy's, negative: it is minimised too.
        value_loss: Scalar.
        approx_kl: Scalar without a graph, how far the policy has moved.
        clip_fraction: Scalar without a graph, how many ratios are clipped.
    """

    surrogate: Tensor
    bonus: Tensor
    value_loss: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor


def objective(model: PPO, samples: Samples, batch: Minibatch) -> Objective:
    """The parts of PPO's objective.

    Args:
        model: For its settings.
        samples: The minibatch.
        batch: What the policy says of it now.
    """
    clip_range = model.clip_range(model._current_progress_remaining)  # type: ignore[operator]
    advantages = samples.advantages
    if model.normalize_advantage and len(advantages) > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    ratio = batch.ratio
    surrogate = -torch.min(advantages * ratio, advantages * ratio.clamp(1 - clip_range, 1 + clip_range))
    values = batch.values.flatten()
    if model.clip_range_vf is not None:
        value_range = model.clip_range_vf(model._current_progress_remaining)  # type: ignore[operator]
        values = samples.old_values + (values - samples.old_values).clamp(-value_range, value_range)
    with torch.no_grad():
        log_ratio = batch.log_prob - samples.old_log_prob
        approx_kl = ((log_ratio.exp() - 1) - log_ratio).mean()
        clip_fraction = ((ratio - 1).abs() > clip_range).float().mean()
    bonus = batch.log_prob if batch.entropy is None else -batch.entropy
    return Objective(surrogate, bonus, F.mse_loss(samples.returns, values), approx_kl, clip_fraction)
