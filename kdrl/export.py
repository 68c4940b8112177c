"""The way back to Stable-Baselines3: archives that its own PPO loads without this package; kdrl-export."""

import contextlib
import io
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import cloudpickle
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.save_util import save_to_zip_file

from common.application import run as run_application
from common.configuration import read_settings
from common.runs.folder import Run
from common.runs.records import Weights
from common.sharing import share
from kdrl import onnx
from kdrl.buffers import FrameBuffer, IndexedRolloutBuffer
from kdrl.restore import import_named, load_network
from kdrl.settings import PolicyExportSettings, TrainSettings

# What an archive carries in full, because the machine that loads it need not have it.
_CARRIED = "kdrl.extractors"


def save_stock(
    model: PPO, path: str | pathlib.Path | io.BufferedIOBase, policy: ActorCriticPolicy | None = None
) -> None:
    """Write an archive that ``stable_baselines3.PPO.load`` takes: the student alone, ready to play or to go on.

    It holds PPO's own settings, the policy and its optimiser, and nothing of the method, the teacher, the driver or
    the averages. The code of our feature extractors travels in it, by value, so that it loads where this
    package is not installed; Python's minor version must then be the same. Statistics of a ``VecNormalize`` are saved
    with the environment, as always in Stable-Baselines3.

    Args:
        model: PPO; a :class:`kdrl.DistilledPPO` as well.
        path: The archive, ``.zip`` is added where there is no suffix; it is replaced.
        policy: Weights to save instead of the model's, such as averaged ones. The optimiser's state stays the model's.
    """
    bare: Any = PPO(model.policy_class, None, _init_setup_model=False)  # type: ignore[arg-type]
    # Its attributes, and those that an environment brings, are the host's; what is not among them is ours.
    wanted = (vars(bare).keys() | {"observation_space", "action_space", "n_envs"}) - set(
        PPO._excluded_save_params(model)
    )
    data = {key: value for key, value in vars(model).items() if key in wanted}
    if data["rollout_buffer_class"] in (IndexedRolloutBuffer, FrameBuffer):
        data["rollout_buffer_class"] = RolloutBuffer
    chosen = model.policy if policy is None else policy
    params = {"policy": chosen.state_dict(), "policy.optimizer": _own_group(model.policy.optimizer.state_dict())}
    with _carried():
        save_to_zip_file(path, data=data, params=params, pytorch_variables={})


def stock_ppo(run: str | pathlib.Path, weights: Weights = "auto", unfinished: bool = False) -> PPO:
    """A finished run's policy as plain ``stable_baselines3.PPO``, to play with or to :func:`save_stock`.

    Args:
        run: The run's folder.
        weights: Its last weights, the averaged ones, or with ``auto`` the averaged ones if it has any.
        unfinished: Whether a run that is not finished will do.

    Raises:
        InputError: not a finished RL run's folder, or no such weights in it.
    """
    folder = Run(run)
    folder.check_finished(f"run={run}", unfinished)
    policy, settings = load_network(folder, weights, device="cpu")
    model: Any = PPO(type(policy), None, device="cpu", _init_setup_model=False)  # type: ignore[arg-type]
    model.observation_space, model.action_space, model.n_envs = policy.observation_space, policy.action_space, 1
    model.policy_kwargs = settings.network.kwargs
    model.num_timesteps = settings.total_timesteps
    model._setup_model()
    model.policy.load_state_dict(policy.state_dict())
    model.policy.set_training_mode(False)
    return model  # type: ignore[no-any-return]


def _own_group(state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state without the parameters of terms, which are a group of their own after the policy's."""
    own = set(state["param_groups"][0]["params"])
    kept = {number: values for number, values in state["state"].items() if number in own}
    return {"state": kept, "param_groups": state["param_groups"][:1]}


@contextlib.contextmanager
def _carried() -> Iterator[None]:
    module = sys.modules[_CARRIED]
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


_USE = """\
```python
from stable_baselines3 import PPO

model = PPO.load("{name}.zip")  # a pickle: load none from people you do not trust
action, _ = model.predict(observation)  # frames, uint8 [3, 64, 64]
```"""
_USE_ONNX = """\
With ONNX Runtime, from frames `uint8 [B, 3, 64, 64]` to logits and the likeliest actions:

```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
logits, action = session.run(None, {"observations": frames})
```"""


def export(settings: PolicyExportSettings) -> None:
    """Write a finished run's policy for others: as Stable-Baselines3 loads it, as ONNX, with a card.

    Raises:
        InputError: not a finished RL run, no such weights, an ``out`` that holds something, a missing extra, or an ONNX
            file that does not do the same.
    """
    import_named(settings.modules)

    def write(folder: pathlib.Path) -> tuple[dict[str, str], list[str]]:
        model = stock_ppo(settings.run, settings.weights, settings.unfinished)
        env = read_settings(Run(settings.run).config_path, TrainSettings, task="rl").env
        name = "ppo-" + re.sub(r"[^A-Za-z0-9._-]+", "_", env.game)  # an id may hold a module and a namespace
        save_stock(model, folder / f"{name}.zip")
        files = {f"{name}.zip": "the policy, as `stable_baselines3.PPO.load` takes it"}
        uses = [_USE.replace("{name}", name)]
        if settings.onnx or settings.int8:
            tried = onnx.frames(env)
            files["model.onnx"] = f"ONNX; {onnx.write(model.policy, folder / 'model.onnx', tried)}"
            uses.append(_USE_ONNX)
        if settings.int8:
            files["model_int8.onnx"] = onnx.write_small(folder / "model.onnx", folder / "model_int8.onnx", env, tried)
        return files, uses

    share(settings, write)


def main() -> None:
    """Entry point of ``kdrl-export``."""
    run_application("kdrl/export", PolicyExportSettings, export)


if __name__ == "__main__":
    main()
