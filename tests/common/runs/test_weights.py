"""Weights on disk, there and back."""

import copy
import pickle
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from gymnasium import spaces
from safetensors.torch import load_file
from stable_baselines3.common.policies import ActorCriticCnnPolicy
from torch import Tensor, nn

from common.errors import InputError
from common.runs.folder import Run
from common.runs.identity import Identity
from common.runs.weights import keep_teachers, load_weights, save_weights
from kdrl.extractors import policy_kwargs


def policy(seed: int) -> nn.Module:
    """Its extractor stands in the state three times, and is channels-last."""
    torch.manual_seed(seed)
    frames: gymnasium.Space[Any] = spaces.Box(0, 255, (3, 64, 64), np.uint8)
    return ActorCriticCnnPolicy(frames, spaces.Discrete(15), lambda _: 0.0, **policy_kwargs("small", 32))


def unet(seed: int) -> nn.Module:
    """With batch statistics and their integer counters."""
    torch.manual_seed(seed)
    network = smp.Unet("resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(8, 8, 8))
    network.train()(torch.rand(2, 3, 32, 32))
    return network.to(memory_format=torch.channels_last)  # type: ignore[no-any-return,call-overload]


class Tied(nn.Module):
    """One weight under two names, one transposed, and an empty one."""

    def __init__(self, seed: int, tied: bool = True) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        if tied:
            self.second.weight = self.first.weight
        self.register_buffer("turned", self.first.weight.detach().t() if tied else torch.randn(4, 4))
        self.register_buffer("nothing", torch.zeros(0, 3))
        self.register_buffer("nothing_else", torch.zeros(3, 0))


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert list(first) == list(second)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        assert value.dtype == second[name].dtype


@pytest.mark.parametrize("make", [policy, unet, Tied])
def test_weights_come_back_as_they_were(tmp_path: Path, make: Any) -> None:
    run, saved, loaded = Run(tmp_path), make(0), make(1)
    before = copy.deepcopy(saved.state_dict())
    strides = {name: value.stride() for name, value in loaded.state_dict().items()}
    path = save_weights(saved, run)
    assert path == tmp_path / "checkpoints" / "last.safetensors"
    assert [entry.name for entry in path.parent.iterdir()] == ["last.safetensors"]
    assert_same(saved.state_dict(), before)
    assert any(not torch.equal(value, before[name]) for name, value in loaded.state_dict().items())
    load_weights(loaded, run)
    assert_same(loaded.state_dict(), before)
    assert {name: value.stride() for name, value in loaded.state_dict().items()} == strides


def test_shared_modules_are_stored_once(tmp_path: Path) -> None:
    network = policy(0)
    stored = load_file(save_weights(network, Run(tmp_path)))
    state = network.state_dict()
    assert len(stored) < len(state)
    assert sum(value.numel() for value in stored.values()) == sum(value.numel() for value in network.parameters())


def test_what_was_shared_loads_into_what_is_not(tmp_path: Path) -> None:
    run, saved = Run(tmp_path), Tied(0)
    stored = load_file(save_weights(saved, run))
    assert set(stored) == {"first.weight", "first.bias", "second.bias", "turned", "nothing", "nothing_else"}
    with pytest.raises(InputError, match=r"does not fit .*second.weight"):
        load_weights(Tied(1, tied=False), run)
    save_weights(Tied(2, tied=False), run)
    apart = Tied(1, tied=False)
    load_weights(apart, run)
    assert_same(apart.state_dict(), Tied(2, tied=False).state_dict())


def test_checkpoints_have_names(tmp_path: Path) -> None:
    run, first, second = Run(tmp_path), nn.Linear(2, 2), nn.Linear(2, 2)
    save_weights(first, run, "averaged")
    save_weights(second, run)
    loaded = nn.Linear(2, 2)
    load_weights(loaded, run, "averaged")
    assert_same(loaded.state_dict(), first.state_dict())
    load_weights(loaded, run)
    assert_same(loaded.state_dict(), second.state_dict())


def test_a_failed_write_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    run, network = Run(tmp_path), nn.Linear(2, 2)
    path = save_weights(network, run)
    before = path.read_bytes()
    overlapping = torch.arange(10.0)
    network.register_buffer("head", overlapping[:6])
    network.register_buffer("tail", overlapping[3:])
    with pytest.raises(RuntimeError, match="share memory"):
        save_weights(network, run)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["last.safetensors"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-7],
        lambda data: data[:20],
        lambda data: b"",
        lambda data: b"\xff" * len(data),
        lambda data: pickle.dumps({"weight": 1}),
    ],
    ids=["cut", "cut-in-header", "empty", "noise", "pickle"],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Any) -> None:
    run, network = Run(tmp_path), nn.Linear(2, 2)
    path = save_weights(network, run)
    path.write_bytes(damage(path.read_bytes()))
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(InputError) as caught:
        load_weights(network, run)
    message = str(caught.value)
    assert message.startswith(f"{path} does not fit the network in {run.config_path} (") and "\n" not in message
    assert_same(network.state_dict(), before)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (nn.Linear(2, 3), "size mismatch"),
        (nn.Linear(2, 2, bias=False), "Unexpected key"),
        (nn.PReLU(), "Missing key|Unexpected key|size mismatch"),
        (nn.Sequential(nn.Linear(2, 2)), "Missing key"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path: Path, other: nn.Module, reason: str) -> None:
    run = Run(tmp_path)
    save_weights(nn.Linear(2, 2), run)
    with pytest.raises(InputError, match=reason) as caught:
        load_weights(other, run)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    network.state_dict()["1.running_mean"][0] = value
    save_weights(network, run := Run(tmp_path))
    with pytest.raises(InputError, match=r"last.safetensors: '1.running_mean' has values that are not finite; train"):
        load_weights(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), run)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_weights(nn.Linear(2, 2), Run(tmp_path))
    assert str(caught.value) == f"{tmp_path} has no checkpoint last; train it to its end first"


def test_teachers_are_kept_as_runs_of_their_own(tmp_path: Path) -> None:
    teachers = []
    for number in range(2):
        teacher = Run(tmp_path / f"teacher{number}")
        teacher.begin(f"number: {number}\n", Identity("rl", {}, {}, {}, number), 1)
        save_weights(nn.Linear(2, 2), teacher)
        save_weights(nn.Linear(2, 2), teacher, "averaged")
        teachers.append(teacher)
    run = Run(tmp_path / "run")
    keep_teachers(run, teachers)
    for number, teacher in enumerate(teachers):
        kept = Run(run.path / "teachers" / str(number))
        files = sorted(str(path.relative_to(kept.path)) for path in kept.path.rglob("*") if path.is_file())
        assert files == ["checkpoints/last.safetensors", "config.yaml", "identity.json", "status.json"]
        for name in files:
            assert (kept.path / name).read_bytes() == (teacher.path / name).read_bytes()
    assert teachers[0].config_path.read_text() != teachers[1].config_path.read_text()
    keep_teachers(Run(tmp_path / "other"), [])
    assert not (tmp_path / "other").exists()
