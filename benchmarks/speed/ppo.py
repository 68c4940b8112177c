"""What does distillation cost beside stock Stable-Baselines3 PPO, in time and in peak memory?

Stock: ``stable_baselines3.PPO``. Ours: ``DistilledPPO`` with the method ``kddg_sdd`` and a teacher of the
student's size. Both play CoinRun through the same environment classes with the same policy and the settings
of ``configs/kdrl/train.yaml``, and take turns in one process: a turn is one rollout and its update.

Peak memory is a process's high-water mark, so each has a process of its own: same seed, same steps.
Run: ``python -m benchmarks.speed.ppo [--network impala]``.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticCnnPolicy

from benchmarks.speed.pairing import Times, configured, ratio, summary, take_turns
from common.configuration import check_settings
from common.method import make_distillation
from common.teacher import Teacher
from kdrl.extractors import policy_kwargs
from kdrl.networks import PolicyLogits
from kdrl.settings import TrainSettings
from kdrl.train import make_env, make_model

ROOT = Path(__file__).parents[2]
MIB = 2**20


class _Clock(BaseCallback):
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
        self.model = model
        self.clock = _Clock()
        self.updates: list[float] = []

    def turn(self) -> Times:
        model = self.model
        start, processor_start = time.perf_counter(), time.process_time()
        model.learn(model.n_steps * model.n_envs, callback=self.clock, reset_num_timesteps=False)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        end = time.perf_counter()
        self.updates.append(end - self.clock.rollout_ended)
        return end - start, time.process_time() - processor_start


def settings(network: str, device: str, environments: int, steps: int | None) -> TrainSettings:
    overrides = [f"network={network}", "method=kddg_sdd", f"device={device}", f"env.num_envs={environments}"]
    if steps is not None:
        # As many minibatches a rollout as Procgen's settings have.
        overrides += [f"ppo.n_steps={steps}", f"ppo.batch_size={environments * steps // 8}"]
    config = OmegaConf.to_container(configured("kdrl", *overrides), resolve=True, throw_on_missing=True)
    return check_settings(config, TrainSettings)


def make_stock(chosen: TrainSettings, seed: int) -> PPO:
    network = policy_kwargs(chosen.network.extractor, chosen.network.features_dim)
    venv = make_env(chosen)
    return PPO("CnnPolicy", venv, policy_kwargs=network, seed=seed, device=chosen.device, **chosen.ppo)


def make_distilled(chosen: TrainSettings) -> PPO:
    venv = make_env(chosen)
    network = policy_kwargs(chosen.network.extractor, chosen.network.features_dim)
    # Its weights do not matter to a clock.
    like_student = ActorCriticCnnPolicy(venv.observation_space, venv.action_space, lambda _: 0.0, **network)  # type: ignore[arg-type]
    distillation, _ = make_distillation(chosen.method, Teacher([PolicyLogits(like_student)]), [])
    return make_model(chosen, venv, distillation)


def measure(
    rounds: int = 4, steps: int | None = None, network: str = "small", device: str = "cpu", environments: int = 64
) -> dict[str, Any]:
    """Interleave ``rounds`` iterations of both, of ``steps`` steps an environment (default: as configured).

    ``ratio`` is our time over stock time of rollout and update together, ``update_ratio`` of the update alone.
    """
    chosen = settings(network, device, environments, steps)
    stock, distilled = Player(make_stock(chosen, chosen.seed)), Player(make_distilled(chosen))
    seconds, processor = take_turns({"stock": stock.turn, "distilled": distilled.turn}, rounds)
    updates = {"stock": np.array(stock.updates[-rounds:]), "distilled": np.array(distilled.updates[-rounds:])}
    for player in (stock, distilled):
        player.model.env.close()  # type: ignore[union-attr]
    count = environments * int(chosen.ppo["n_steps"])
    return {
        "network": network,
        "device": str(stock.model.device),
        "environments": environments,
        "steps_per_environment": int(chosen.ppo["n_steps"]),
        "batch_size": int(chosen.ppo["batch_size"]),
        "method": "kddg_sdd",
        "rounds": rounds,
        "stock_steps_per_second": count / summary(seconds)["stock"],
        "distilled_steps_per_second": count / summary(seconds)["distilled"],
        "stock_update_seconds": summary(updates)["stock"],
        "distilled_update_seconds": summary(updates)["distilled"],
        **ratio(seconds["distilled"], seconds["stock"]),
        **ratio(updates["distilled"], updates["stock"], "update_"),
        **ratio(processor["distilled"], processor["stock"], "processor_"),
    }


def measure_memory(
    iterations: int = 1,
    repeats: int = 3,
    steps: int | None = None,
    network: str = "small",
    device: str = "cpu",
    environments: int = 64,
) -> dict[str, Any]:
    """Peak memory of ``iterations`` iterations, each model in ``repeats`` processes of its own.

    ``ratio`` compares whole peaks (what a machine must have); ``added_ratio`` only what came on top of the
    imported libraries, which is the stricter figure. On a GPU both are of the memory torch allocated there.
    """
    peaks: dict[str, list[dict[str, float]]] = {"stock": [], "distilled": []}
    for _ in range(repeats):
        started = {name: _start(name, iterations, steps, network, device, environments) for name in peaks}
        for name, process in started.items():
            out, _ = process.communicate()
            if process.returncode:
                raise RuntimeError(f"the process that measures {name} ended with status {process.returncode}")
            peaks[name].append(json.loads(out.splitlines()[-1]))
    whole = {name: np.array([peak["peak"] for peak in each]) for name, each in peaks.items()}
    added = {name: np.array([peak["peak"] - peak["before"] for peak in each]) for name, each in peaks.items()}
    return {
        "network": network,
        "device": device,
        "environments": environments,
        "iterations": iterations,
        "rounds": repeats,
        "stock_mib": summary(whole)["stock"] / MIB,
        "distilled_mib": summary(whole)["distilled"] / MIB,
        **ratio(whole["distilled"], whole["stock"]),
        **ratio(added["distilled"], added["stock"], "added_"),
    }


def _start(
    name: str, iterations: int, steps: int | None, network: str, device: str, environments: int
) -> subprocess.Popen[str]:
    arguments = [f"--peak={name}", f"--rounds={iterations}", f"--network={network}", f"--device={device}"]
    arguments += [f"--environments={environments}", *([] if steps is None else [f"--steps={steps}"])]
    command = [sys.executable, "-m", "benchmarks.speed.ppo", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def peak(name: str, iterations: int, chosen: TrainSettings) -> dict[str, float]:
    """Run in a process of its own: bytes before anything was made and at most since."""
    before = _memory("VmRSS")
    model = make_stock(chosen, chosen.seed) if name == "stock" else make_distilled(chosen)
    player = Player(model)
    for _ in range(iterations):
        player.turn()
    if model.device.type == "cuda":
        return {"before": 0.0, "peak": float(torch.cuda.max_memory_allocated())}
    return {"before": before, "peak": _memory("VmHWM")}


def _memory(field: str) -> float:
    """Bytes of this process as Linux counts them; getrusage would add what the parent had when it forked."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return float(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="small", choices=["small", "impala"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--environments", type=int, default=64)
    parser.add_argument("--steps", type=int, help="steps an environment in a rollout; default: as configured")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--peak", choices=["stock", "distilled"], help="measure only this one's memory, as JSON")
    options = parser.parse_args()
    if options.peak:
        chosen = settings(options.network, options.device, options.environments, options.steps)
        print(json.dumps(peak(options.peak, options.rounds, chosen)))
        return
    shared = {key: getattr(options, key) for key in ("steps", "network", "device", "environments")}
    print(json.dumps(measure(options.rounds, **shared), indent=2))
    print(json.dumps(measure_memory(**shared), indent=2))


if __name__ == "__main__":
    main()
