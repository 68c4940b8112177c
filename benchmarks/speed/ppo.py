"""What does distillation cost beside stock Stable-Baselines3 PPO, in time and in peak memory?

Contestants, each in a process of its own, take turns at one rollout and its update on CoinRun with the settings of
``configs/kdrl/train.yaml``:

- ``stock``: ``stable_baselines3.PPO`` as users write it (``plain.py``);
- ``exact``: ``DistilledPPO`` of the same environment and network without a method, which trains bit for bit alike;
- ``erm`` and ``kddg_sdd``: as ``kdrl-train`` makes them; the teacher is of the student's size;
- ``ppd``: ``ProximalPolicyDistillation`` of ``sb3_distill``, with the same teacher as stock PPO would have it, where a
  checkout of github.com/spiglerg/sb3_distill is given.

Run: ``python -m benchmarks.speed.ppo [--network impala] [--rival DIR]``.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from omegaconf import OmegaConf
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticCnnPolicy

from benchmarks.programs import configured
from benchmarks.speed.contest import Contestant, Told, serve
from benchmarks.speed.pairing import Result, figure, summary, take_turns
from benchmarks.speed.plain import Pictures, plain_kwargs
from common.configuration import check_settings
from common.device import keep_freed_memory
from common.method import make_distillation
from common.teacher import Teacher
from kdrl.configured import make_env, make_model
from kdrl.networks import PolicyLogits
from kdrl.ppo import DistilledPPO
from kdrl.settings import TrainSettings

CONTESTANTS = ("stock", "exact", "erm", "kddg_sdd")


class Clock(BaseCallback):
    """Notes when a rollout is complete: what is left of the turn is the update."""

    def __init__(self) -> None:
        super().__init__()
        self.rollout_ended = 0.0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.rollout_ended = time.perf_counter()


class Player:
    """A model in its own environment; a turn is one rollout and its update."""

    def __init__(self, model: PPO) -> None:
        self.model, self.clock = model, Clock()

    def turn(self) -> Told:
        model = self.model
        start, processor = time.perf_counter(), time.process_time()
        model.learn(model.n_steps * model.n_envs, callback=self.clock, reset_num_timesteps=False)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        end = time.perf_counter()
        return {
            "seconds": end - start,
            "processor": time.process_time() - processor,
            "update": end - self.clock.rollout_ended,
            "peak": _peak(model.device),
        }


def settings(
    method: str, network: str = "small", device: str = "cpu", environments: int = 64, steps: int | None = None
) -> TrainSettings:
    """Those of ``kdrl-train``; ``steps`` are an environment's in a rollout (default: as configured)."""
    overrides = [f"network={network}", f"method={method}", f"device={device}", f"env.num_envs={environments}"]
    if steps is not None:
        # As many minibatches a rollout as Procgen's settings have.
        overrides += [f"ppo.n_steps={steps}", f"ppo.batch_size={environments * steps // 8}"]
    config = OmegaConf.to_container(configured("kdrl", *overrides), resolve=True, throw_on_missing=True)
    return check_settings(config, TrainSettings)


def make_plain(chosen: TrainSettings, kind: type[PPO] = PPO) -> PPO:
    """PPO of a class as users write it."""
    network = plain_kwargs(chosen.network.extractor, chosen.network.features_dim)
    venv = Pictures(make_env(chosen))
    return kind("CnnPolicy", venv, policy_kwargs=network, seed=chosen.seed, device=chosen.device, **chosen.ppo)


def make_ours(chosen: TrainSettings) -> DistilledPPO:
    """PPO as ``kdrl-train`` makes it."""
    venv, network = make_env(chosen), chosen.network.kwargs
    # Its weights do not matter to a clock.
    like_student = ActorCriticCnnPolicy(venv.observation_space, venv.action_space, lambda _: 0.0, **network)  # type: ignore[arg-type]
    distillation, _ = make_distillation(chosen.method, Teacher([PolicyLogits(like_student)]), [])
    return make_model(chosen, venv, distillation)


def make_rival(chosen: TrainSettings, checkout: Path) -> PPO:
    """``sb3_distill``'s, of a checkout."""
    sys.path.append(str(checkout))
    from sb3_distill import ProximalPolicyDistillation  # type: ignore[import-not-found]

    model = make_plain(chosen, ProximalPolicyDistillation)
    model.set_teacher(make_plain(chosen), distill_lambda=1.0)  # type: ignore[attr-defined]
    return model


def make(name: str, chosen: TrainSettings, rival: Path | None) -> PPO:
    """A contestant's model."""
    if name in ("stock", "exact"):
        return make_plain(chosen, PPO if name == "stock" else DistilledPPO)
    if name == "ppd":
        assert rival is not None
        return make_rival(chosen, rival)
    keep_freed_memory()  # as every program does
    return make_ours(chosen)


def measure(
    rounds: int = 5,
    network: str = "small",
    device: str = "cpu",
    environments: int = 64,
    steps: int | None = None,
    rival: Path | None = None,
    names: tuple[str, ...] = CONTESTANTS,
) -> dict[str, Result]:
    """Every contestant over ``stock``, and over ``ppd`` where it plays; ``memory`` of whole processes at their peak."""
    names = (*names, *(["ppd"] if rival is not None else []))
    options = [f"--network={network}", f"--device={device}", f"--environments={environments}"]
    options += [] if steps is None else [f"--steps={steps}"]
    options += [] if rival is None else [f"--rival={rival}"]
    players = {name: Contestant("benchmarks.speed.ppo", f"--contestant={name}", *options) for name in names}
    seconds, _ = take_turns({name: player.turn for name, player in players.items()}, rounds)
    for player in players.values():
        player.close()
    chosen = settings("kddg_sdd", network, device, environments, steps)
    facts = {
        "network": network,
        "device": device,
        "environments": environments,
        "steps_per_environment": int(chosen.ppo["n_steps"]),
        "batch_size": int(chosen.ppo["batch_size"]),
        "seconds": summary(seconds),
        "update_seconds": {
            name: statistics.median(told["update"] for told in player.told[1:]) for name, player in players.items()
        },
        "peak_mib": {name: player.told[-1]["peak"] / 2**20 for name, player in players.items()},
    }
    found = {name: figure(seconds[name] / seconds["stock"]) for name in names if name != "stock"}
    if rival is not None:
        found["kddg_sdd/ppd"] = figure(seconds["kddg_sdd"] / seconds["ppd"])
    peaks = facts["peak_mib"]
    assert isinstance(peaks, dict)
    found["memory"] = figure([peaks["kddg_sdd"] / peaks["stock"]])
    return {name: {**result, **facts} for name, result in found.items()}


def _peak(device: torch.device) -> float:
    """Bytes at most so far: of this process as Linux counts them, or of a GPU as torch allocated them."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    # Not getrusage: it would add what the parent had when it forked.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="small", choices=["small", "impala"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--environments", type=int, default=64)
    parser.add_argument("--steps", type=int, help="steps an environment in a rollout; default: as configured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rival", type=Path, help="a checkout of sb3_distill")
    parser.add_argument("--contestant", choices=[*CONTESTANTS, "ppd"], help=argparse.SUPPRESS)
    options = vars(parser.parse_args())
    name = options.pop("contestant")
    if name is None:
        print(json.dumps(measure(**options), indent=1))
        return
    options.pop("rounds")
    rival: Path | None = options.pop("rival")
    chosen = settings("erm" if name == "erm" else "kddg_sdd", **options)
    serve(Player(make(name, chosen, rival)).turn)


if __name__ == "__main__":
    main()
