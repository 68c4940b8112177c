"""How much of collecting rollouts, and of evaluating a policy, is neither the engine's nor the network's time?

Run: ``python -m benchmarks.speed.play``. CoinRun, the small network, 64 environments; the same calls are timed whole
and inside.
"""

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.speed.pairing import Result, figure
from benchmarks.speed.ppo import make_ours, settings
from common.device import keep_freed_memory
from common.procgen import ProcgenEngine
from kdrl.env import ProcgenVecEnv
from kdrl.episodes import play
from kdrl.networks import PolicyLogits


class Inside:
    """Seconds spent in some functions of objects."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - start

        return call

    @contextlib.contextmanager
    def of(self, engine: ProcgenEngine, network: nn.Module) -> Iterator[None]:
        """Count the engine's steps and the network's answers."""
        hidden: list[tuple[Any, str]] = [(engine, "act"), (engine, "observe"), (network, "forward")]
        for owner, name in hidden:
            setattr(owner, name, self.timed(getattr(owner, name)))
        try:
            yield
        finally:
            for owner, name in hidden:
                delattr(owner, name)


def measure_rollouts(rounds: int = 5, steps: int = 256, environments: int = 64) -> Result:
    """The share of collecting a rollout that is neither; the network's time includes drawing actions."""
    keep_freed_memory()
    model = make_ours(settings("erm", environments=environments, steps=steps))
    _, callback = model._setup_learn(10**9)
    env: Any = model.env
    shares = []
    for _ in range(1 + rounds):
        inside = Inside()
        with inside.of(env.unwrapped.engine, model.policy):
            start = time.perf_counter()
            model.collect_rollouts(env, callback, model.rollout_buffer, steps)
            shares.append(1 - inside.seconds / (time.perf_counter() - start))
    env.close()
    return {**figure(shares[1:]), "environments": environments, "steps_per_environment": steps}


def measure_evaluation(rounds: int = 5, episodes: int = 1000, environments: int = 64) -> Result:
    """Time to play whole episodes over that of the engine and the network in it."""
    keep_freed_memory()
    model = make_ours(settings("erm", environments=environments, steps=256))
    policy, ratios = PolicyLogits(model.policy), []
    for seed in range(rounds):
        env, inside = ProcgenVecEnv("coinrun", environments, seed=seed), Inside()
        with inside.of(env.engine, policy), torch.no_grad():
            start = time.perf_counter()
            play(policy, env, episodes, seed)
            ratios.append((time.perf_counter() - start) / inside.seconds)
        env.close()
    model.env.close()  # type: ignore[union-attr]
    return {**figure(ratios), "environments": environments, "episodes": episodes}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(json.dumps({"rollouts": measure_rollouts(), "evaluation": measure_evaluation()}, indent=1))


if __name__ == "__main__":
    main()
