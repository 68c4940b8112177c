"""What holds for every averager."""

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from common.averaging import AVERAGERS, AVERAGING, Averager, make_averager
from common.configuration import build
from common.directories import config_directory
from common.errors import InputError

CONFIGS = sorted((config_directory() / "averaging").glob("*.yaml"))
# Small windows, so that a short training meets every state.
SETTINGS: dict[str, dict[str, Any]] = {"swad": {"n_s": 2, "n_e": 3, "r": 1.1}, "ema": {"decay": 0.8}}
STEPS = 24


def _averager(name: str, **settings: Any) -> Averager:
    return AVERAGERS[name](**(SETTINGS.get(name, {}) | settings))


def _network(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)).to(dtype)


def _train(network: nn.Module, averager: Averager | None, first: int = 0, last: int = STEPS) -> None:
    """A fixed way through training, validated at every third step with losses that fall and rise."""
    for step in range(first + 1, last + 1):
        generator = torch.Generator().manual_seed(step)
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape, generator=generator).to(tensor.dtype), alpha=0.1)
            else:
                tensor.add_(1)
        if averager is not None:
            averager.after_step(network, step / STEPS)
            if step % 3 == 0:
                averager.to_validate(network)
                averager.after_validation(network, abs(step - 13) / 4 + 1, step / STEPS)


def _equal(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    tensors = [key for key in first if isinstance(first[key], torch.Tensor)]
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in tensors)


@pytest.mark.parametrize("name", AVERAGERS)
@pytest.mark.parametrize("buffers", ["average", "reestimate"])
def test_the_network_in_training_is_never_touched(name: str, buffers: str) -> None:
    with_averager, alone = _network(), _network()
    averager = _averager(name, buffers=buffers)
    averager.bind(with_averager)
    _train(with_averager, averager)
    _train(alone, None)
    assert _equal(with_averager, alone)
    assert all(parameter.requires_grad for parameter in with_averager.parameters())
    assert all(module.training for module in with_averager.modules())


@pytest.mark.parametrize("name", AVERAGERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stop", [1, 3, 8, 9, 14, 20, 24])
def test_a_restored_state_goes_on_bit_for_bit(name: str, dtype: torch.dtype, stop: int) -> None:
    network = _network(dtype)
    uninterrupted = _averager(name)
    uninterrupted.bind(network)
    _train(network, uninterrupted)

    network = _network(dtype)
    before = _averager(name)
    before.bind(network)
    _train(network, before, last=stop)
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    after = _averager(name)
    after.bind(_network(dtype))
    after.load_state_dict(torch.load(file, weights_only=True))
    _train(network, before, first=stop)  # goes on too, which must not reach what was saved
    network = _network(dtype)
    _train(network, None, last=stop)
    _train(network, after, first=stop)

    for other in (before, after):
        assert _equal(uninterrupted, other)
        assert _equal(uninterrupted.finish(), other.finish())


@pytest.mark.parametrize("name", AVERAGERS)
def test_the_result_is_a_frozen_copy_of_the_same_kind(name: str) -> None:
    network = _network()
    averager = _averager(name)
    averager.bind(network)
    _train(network, averager)
    result = averager.finish()
    assert type(result) is type(network) and result.state_dict().keys() == network.state_dict().keys()
    assert not any(module.training for module in result.modules())
    assert not any(parameter.requires_grad for parameter in [*result.parameters(), *averager.parameters()])
    before = copy.deepcopy(result.state_dict())
    _train(result, None)
    assert all(torch.equal(before[key], value) for key, value in averager.finish().state_dict().items())
    addresses = {tensor.data_ptr() for tensor in [*network.state_dict().values(), *averager.averaged.parameters()]}
    assert not any(tensor.data_ptr() in addresses for tensor in result.state_dict().values())


@pytest.mark.parametrize("name", AVERAGERS)
def test_stays_in_eval_mode_inside_a_module_in_training(name: str) -> None:
    averager = _averager(name)
    averager.bind(_network())
    nn.ModuleList([averager]).train()
    assert not any(module.training for module in averager.modules())


@pytest.mark.parametrize("name", AVERAGERS)
def test_keeps_as_many_copies_of_the_weights_as_documented(name: str) -> None:
    network = _network()
    averager = _averager(name)
    averager.bind(network)
    count = {"wakd": 1, "ema": 1, "sma": 2, "swad": 3}[name]
    assert len(list(averager.parameters())) == count * len(list(network.parameters()))


@pytest.mark.parametrize("name", AVERAGERS)
def test_a_copy_averages_on_its_own(name: str) -> None:
    network = _network()
    averager = _averager(name)
    averager.bind(network)
    _train(network, averager, last=9)
    before = copy.deepcopy(averager)
    _train(network, averager, first=9)
    assert not _equal(before.averaged, averager.averaged)


@pytest.mark.parametrize("name", AVERAGERS)
@pytest.mark.parametrize("start", [-0.1, 1.0, 2.5, float("nan")])
def test_a_start_outside_training(name: str, start: float) -> None:
    with pytest.raises(InputError, match=rf"^start={start} must be in \[0, 1\).*$"):
        _averager(name, start=start)


@pytest.mark.parametrize("name", AVERAGERS)
def test_bad_buffers(name: str) -> None:
    with pytest.raises(InputError, match="buffers='live' is not known; use one of: average, reestimate"):
        _averager(name, buffers="live")


@pytest.mark.parametrize("name", AVERAGERS)
def test_validation_is_demanded_where_it_is_needed(name: str) -> None:
    averager = _averager(name)
    averager.check(validation_available=True, adapter="PPO")
    assert averager.needs_validation == (name in ("sma", "swad"))
    if averager.needs_validation:
        with pytest.raises(InputError, match=f"averaging={name} needs a validation loss .* PPO does not have; use"):
            averager.check(validation_available=False, adapter="PPO")
    else:
        averager.check(validation_available=False, adapter="PPO")


@pytest.mark.parametrize("name", AVERAGERS)
def test_unbound(name: str) -> None:
    with pytest.raises(RuntimeError, match=r"call bind\(model\) first"):
        _averager(name).after_step(_network(), 0.5)


@pytest.mark.parametrize("name", AVERAGERS)
def test_before_anything_is_averaged(name: str) -> None:
    network = _network()
    averager = _averager(name, start=0.9)
    averager.bind(network)
    averager.after_step(network, 0.5)
    averager.after_validation(network, 1.0, 0.5)
    assert _equal(averager.averaged, network)
    with pytest.raises(InputError, match=rf"averaging={name}: training ended before start=0\.9"):
        averager.finish()


def test_a_configuration_for_each() -> None:
    assert {path.stem for path in CONFIGS} == {"none", *AVERAGERS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_build_the_default(path: Path) -> None:
    node = yaml.safe_load(path.read_text())
    averager = make_averager(node, None)
    if path.stem == "none":
        assert averager is None
        # As earlier configurations, which runs' folders keep, have it.
        assert make_averager({"_target_": "common.averaging.no_averaging", "name": "none"}, None) is None
        return
    assert averager is not None
    default = AVERAGERS[path.stem]()
    assert type(averager) is type(default) and averager.name == path.stem
    scalars = {key: value for key, value in vars(default).items() if isinstance(value, (str, int, float))}
    assert scalars.keys() >= {"start", "name", "buffers_from"} and scalars.items() <= vars(averager).items()
    assert {"_target_", "name", "start", "buffers"} <= node.keys()


def test_a_wrong_key_or_value_in_a_configuration_is_one_line() -> None:
    for change, message in (
        ({"strat": 0.1}, "averaging.strat is not known; use one of:.*did you mean start"),
        ({"start": 1.5}, r"start=1\.5 must be in \[0, 1\)"),
        ({"start": "early"}, "averaging.start='early'"),
        ({"buffers": "live"}, "averaging.buffers='live'"),
    ):
        with pytest.raises(InputError, match=message):
            build({"_target_": "common.averaging.WAKD"} | change, "averaging", AVERAGING)


@pytest.mark.parametrize("name", AVERAGERS)
def test_only_batch_statistics_are_re_estimated(name: str) -> None:
    for network, reestimates in (
        (nn.Linear(2, 2), False),
        (nn.BatchNorm1d(2, track_running_stats=False), False),
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), True),
    ):
        averager = _averager(name)
        assert averager.reestimates  # unless the network shows that there is nothing to re-estimate
        averager.bind(network)
        assert averager.reestimates == reestimates
