"""How much of the bare engine's speed does ProcgenVecEnv keep?

Bare loop: ``act`` and ``observe`` of ProcgenGym3Env itself, which copies each batch of frames once.
Both play CoinRun with 64 environments in one process, taking turns round by round, so that whatever
else the machine does falls on both. Run: ``python -m benchmarks.speed.vec_env``.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.speed.pairing import Result, Times, Turn, figure, take_turns
from common.procgen.engine import default_threads, import_engine
from kdrl.env import ProcgenVecEnv

ENVIRONMENTS = 64


def _turns(step: Callable[[np.ndarray], Any], actions: np.ndarray) -> Turn:
    """A turn is as many steps as the next of ``actions`` has."""
    rounds = iter(actions)

    def turn() -> Times:
        start, processor = time.perf_counter(), time.process_time()
        for action in next(rounds):
            step(action)
        return time.perf_counter() - start, time.process_time() - processor

    return turn


def measure(rounds: int = 20, steps: int = 100, game: str = "coinrun") -> Result:
    """Interleave ``rounds`` rounds of ``steps`` steps each and return speeds in environment steps a second.

    The figure is bare time over our time.
    """
    threads = default_threads(ENVIRONMENTS)
    bare = import_engine().ProcgenGym3Env(
        num=ENVIRONMENTS,
        env_name=game,
        num_levels=200,
        start_level=0,
        distribution_mode="easy",
        rand_seed=0,
        num_threads=threads,
    )
    ours = ProcgenVecEnv(game, ENVIRONMENTS, seed=0, threads=threads)
    ours.reset()
    bare.observe()

    def bare_step(action: np.ndarray) -> Any:
        bare.act(action)
        return bare.observe()

    actions = np.random.default_rng(0).integers(0, 15, (rounds + 1, steps, ENVIRONMENTS)).astype(np.int32)
    wall, _ = take_turns({"bare": _turns(bare_step, actions), "ours": _turns(ours.step, actions)}, rounds)
    count = ENVIRONMENTS * steps
    return {
        "game": game,
        "environments": ENVIRONMENTS,
        "threads": threads,
        "steps_per_round": steps,
        "bare_steps_per_second": float(count / np.median(wall["bare"])),
        "our_steps_per_second": float(count / np.median(wall["ours"])),
        **figure(wall["bare"] / wall["ours"]),
    }


def main() -> None:
    print(json.dumps(measure(), indent=1))


if __name__ == "__main__":
    main()
