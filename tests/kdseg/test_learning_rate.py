import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from common.errors import InputError
from common.runs.folder import Run
from kdseg import SegmentationModule, create_network
from kdseg.learning_rate import LearningRate
from kdseg.segmentation_network import SegmentationNetwork
from kdseg.train import main as train
from tests.kdseg import test_module
from tests.kdseg.test_module import fit

pytestmark = test_module.pytestmark

STEPS = 20


def of_torch(make: Callable[[torch.optim.Optimizer], Any], steps: int = STEPS) -> list[float]:
    """Rates of each step of one of torch's own schedulers, over that of the optimiser."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def ours(rate: LearningRate, steps: int = STEPS) -> list[float]:
    return [rate.factor(step / steps) for step in range(steps)]


def test_shapes_are_those_of_torch() -> None:
    assert ours(LearningRate()) == [1.0] * STEPS
    cosine = of_torch(lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, STEPS))
    assert ours(LearningRate("cosine")) == pytest.approx(cosine)
    poly = of_torch(lambda optimizer: lr_scheduler.PolynomialLR(optimizer, STEPS, power=0.9))
    assert ours(LearningRate("poly")) == pytest.approx(poly)


@pytest.mark.parametrize("rise", [None, 0.5])
def test_one_cycle_is_that_of_torch_in_the_limit(rise: float | None) -> None:
    # Torch's wave ends one step earlier, since its last step is at the end and not one before it.
    steps = 20_000
    host = of_torch(
        lambda optimizer: lr_scheduler.OneCycleLR(
            optimizer, 1.0, total_steps=steps, pct_start=rise or 0.3, cycle_momentum=False
        ),
        steps,
    )
    assert ours(LearningRate("one_cycle", warmup=rise), steps) == pytest.approx(host, abs=2e-4)


def test_a_warmup_rises_in_a_line_and_then_the_shape_begins() -> None:
    rates = ours(LearningRate("cosine", warmup=0.25))
    assert rates[:6] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:] == pytest.approx([(1 + math.cos(math.pi * step / 15)) / 2 for step in range(15)])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"shape": "step"}, "shape='step'"),
        ({"warmup": 1.0}, "warmup=1.0 must be in"),
        ({"encoder": -1.0}, "encoder=-1.0 must not be negative"),
    ],
)
def test_what_is_out_of_range_is_named(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        LearningRate(**arguments)


def unet() -> SegmentationNetwork:
    torch.manual_seed(0)
    small = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
    return SegmentationNetwork(create_network("unet", "tu-test_resnet", classes=2, **small))


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def test_every_step_has_its_rate_and_the_encoder_its_factor(batches: list[dict[str, torch.Tensor]]) -> None:
    module = SegmentationModule(unet(), 2, optimizer=sgd, learning_rate=LearningRate("cosine", encoder=0.5))
    rates = []

    class Watched(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            result = super().step(closure)
            rates.append([group["lr"] for group in self.param_groups])
            return result

    module.optimizer = lambda parameters: Watched(parameters, lr=0.1)
    fit(module, batches, 4)
    factors = [(1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    assert rates == [pytest.approx([0.1 * factor, 0.05 * factor]) for factor in factors]


def test_an_encoder_of_factor_0_stays_and_the_rest_learns(batches: list[dict[str, torch.Tensor]]) -> None:
    network = unet()
    before = copy.deepcopy(network)
    module = SegmentationModule(network, 2, optimizer=sgd, learning_rate=LearningRate(encoder=0.0))
    fit(module, batches, 2)
    old = dict(before.named_parameters())
    moved = {name for name, parameter in network.named_parameters() if not torch.equal(parameter, old[name])}
    assert moved and not any(name.startswith("model.encoder") for name in moved)


def test_a_network_without_an_encoder_has_no_factor_for_it() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.segmentation_head = nn.Conv2d(3, 2, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = self.segmentation_head(images)
            return answer

    module = SegmentationModule(Bare(), 2, learning_rate=LearningRate(encoder=0.5))
    with pytest.raises(InputError, match=r"learning_rate.encoder=0.5: Bare has no encoder; use 1"):
        module.configure_optimizers()


def test_runs_of_another_rate_are_another_setting(tmp_path: Any, call: Callable[..., Any], tiny: list[str]) -> None:
    found = {}
    for shape in ("constant", "poly"):
        outcome = call(
            train, *tiny, f"learning_rate.shape={shape}", "evaluation.every=0", f"run_dir={tmp_path / shape}"
        )
        assert (outcome.status, outcome.err) == (0, "")
        identity = Run(tmp_path / shape).identity()
        assert identity is not None
        found[shape] = identity.setting["host"]
    assert found["poly"].pop("learning_rate") == {"shape": "poly", "warmup": None, "encoder": 1.0}
    assert found["poly"] == found["constant"]
