"""One minibatch of a rollout as PPO and the terms see it: one pass of the trunk for both."""

import dataclasses
import functools

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from common.distillation import Distillation
from common.teacher import Teacher
from common.view import View
from kdrl.averaging import AveragedPPO

# Where archives of version 0.1 look for it.
from kdrl.buffers import IndexedRolloutBuffer as IndexedRolloutBuffer
from kdrl.buffers import IndexedSamples, Samples
from kdrl.teaching import Answers


@dataclasses.dataclass(frozen=True)
class Minibatch:
    """What one pass of the network over a minibatch gives.

    Attributes:
        values: The critic's estimates, as the host's own pass shapes them.
        log_prob: ``[B]`` of the actions that were taken.
        entropy: ``[B]``, or ``None`` where it has no closed form.
        ratio: ``[B]`` the policy's probability of each action over the behaviour's.
        view: What terms see, only where there are terms.
    """

    values: Tensor
    log_prob: Tensor
    entropy: Tensor | None
    ratio: Tensor
    view: View | None = None


def one_pass(
    model: AveragedPPO,
    samples: Samples,
    distillation: Distillation | None = None,
    answers: Answers | None = None,
    teacher: Teacher | None = None,
) -> Minibatch:
    """One pass of the policy over a minibatch.

    Args:
        model: PPO.
        samples: The minibatch; with a method, that of an :class:`IndexedRolloutBuffer`.
        distillation: The method whose terms are to see it, or ``None`` for the host's own pass.
        answers: What the method's teacher said of the whole rollout.
        teacher: The method's, for what the student sees.
    """
    actions = samples.actions
    if isinstance(model.action_space, spaces.Discrete):
        actions = actions.long().flatten()
    if distillation is not None:
        assert isinstance(samples, IndexedSamples)
        said = None if answers is None else answers.at(samples.indices)
        return _shown(model.policy, samples, actions, teacher, said, model.progress)
    values, log_prob, entropy = model.policy.evaluate_actions(samples.observations, actions)
    return Minibatch(values, log_prob, entropy, torch.exp(log_prob - samples.old_log_prob))


def _shown(
    policy: ActorCriticPolicy,
    samples: IndexedSamples,
    actions: Tensor,
    teacher: Teacher | None,
    said: Answers | None,
    progress: float,
) -> Minibatch:
    """The host's pass step by step, to show terms the latent and the logits it passes through."""
    extracted = policy.extract_features(samples.observations)
    latent_pi, latent_vf = _latents(policy, extracted)
    logits, values = policy.action_net(latent_pi), policy.value_net(latent_vf)
    distribution = policy.action_dist.proba_distribution(action_logits=logits)  # type: ignore[call-arg]
    log_prob = distribution.log_prob(actions)
    ratio = torch.exp(log_prob - samples.old_log_prob)
    view = View(
        inputs=samples.observations,
        features=latent_pi,
        head=policy.action_net,
        logits=logits,
        forward=functools.partial(_logits, policy),
        index=samples.indices,
        teacher_logits=None if said is None else said.logits,
        teacher=teacher,
        look=functools.partial(_look, policy),
        values=values.flatten(),
        judge=functools.partial(_judge, policy),
        teacher_values=None if said is None else said.values,
        ratio=ratio,
        encoded=extracted if isinstance(extracted, Tensor) else extracted[0],
        teacher_encodes=None if teacher is None else teacher.encodes,
        log=True,  # the update's means are of every minibatch
        progress=progress,
    )
    return Minibatch(values, log_prob, distribution.entropy(), ratio, view)


def _latents(policy: ActorCriticPolicy, features: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """What the action head and the value head are given, ``[B, D]`` each, by the host's own steps."""
    if policy.share_features_extractor:
        both: tuple[Tensor, Tensor] = policy.mlp_extractor(features)
        return both
    return policy.mlp_extractor.forward_actor(features[0]), policy.mlp_extractor.forward_critic(features[1])


def _look(policy: ActorCriticPolicy, observations: Tensor) -> tuple[Tensor, Tensor]:
    features = _latents(policy, policy.extract_features(observations))[0]
    return features, policy.action_net(features)


def _logits(policy: ActorCriticPolicy, observations: Tensor) -> Tensor:
    return _look(policy, observations)[1]


def _judge(policy: ActorCriticPolicy, observations: Tensor) -> tuple[Tensor, Tensor]:
    for_action, for_value = _latents(policy, policy.extract_features(observations))
    return policy.action_net(for_action), policy.value_net(for_value).flatten()


@torch.no_grad()
def sample_view(policy: ActorCriticPolicy, teacher: Teacher | None) -> View:
    """A view of two made-up transitions, from which terms learn shapes; the teacher has not been asked about them."""
    made_up = np.stack([policy.observation_space.sample() for _ in range(2)])
    observations, nothing = torch.as_tensor(made_up, device=policy.device), torch.zeros(2, device=policy.device)
    indices = torch.arange(2, device=policy.device)
    samples = IndexedSamples(observations, nothing, nothing, nothing, nothing, nothing, indices)
    view = _shown(policy, samples, nothing, teacher, said=None, progress=0.0).view
    assert view is not None
    return view
