"""Steps are the optimiser's, progress stays in [0, 1], and what a term trains beside the student is apart from it."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from stable_baselines3.common.env_util import make_vec_env
from torch import Tensor, nn
from torch.nn import functional as F

from common.averaging import WAKD
from common.distillation import Distillation
from common.schedule import LinearSchedule
from common.terms import BetaSmoothing, SDDropout, Term, TermOutput
from common.view import View
from kdrl import DistilledPPO
from kdseg import SegmentationModule

pytestmark = [
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),
    # Lightning 2.6 uses what torch 2.11 and later call deprecated.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    # The teacher is, on purpose.
    pytest.mark.filterwarnings("ignore:Found .* in eval mode at the start of training"),
]


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3, padding=1)
        self.segmentation_head = nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.segmentation_head(F.relu(self.body(images)))
        return logits


class Batches:
    """Real tensors, with or without a length."""

    def __init__(self, count: int, scale: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(1)
        self.batches = [
            {
                "image": torch.randn(2, 3, 16, 16, generator=generator) * scale,
                "mask": torch.randint(0, 2, (2, 16, 16), generator=generator),
            }
            for _ in range(count)
        ]

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return iter(self.batches)


class Sized(Batches):
    def __len__(self) -> int:
        return len(self.batches)


class Told(Term):
    """Keeps the progress that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []
        self.stepped: list[float] = []
        self.passed: list[float] = []

    def after_step(self, network: nn.Module, progress: float) -> None:
        self.stepped.append(progress)

    def after_epoch(self, network: nn.Module, progress: float) -> None:
        self.passed.append(progress)

    def forward(self, view: View) -> TermOutput:
        self.seen.append(view.progress)
        return TermOutput(view.logits.mean() * 0)


class Beside(Told):
    """Trains a network of its own on the student's features, with a huge gradient, and gives the student none."""

    def bind(self, network: nn.Module, view: View) -> None:
        self.own = nn.Linear(view.features.shape[1], 3)

    def forward(self, view: View) -> TermOutput:
        features = view.features.detach()
        rows = features if features.dim() == 2 else features.mean(dim=(2, 3))
        return TermOutput(1e4 * self.own(rows).square().mean())


def sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def trained(
    terms: dict[str, Term] | None = None, batches: Batches | None = None, **options: Any
) -> tuple[SegmentationModule, pl.Trainer]:
    torch.manual_seed(0)
    averaging = options.pop("averaging", None)
    module = SegmentationModule(Small(), 2, Distillation(terms), sgd, averaging=averaging)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", devices=1, enable_model_summary=False, **quiet, **options)
    trainer.fit(module, batches or Sized(4))
    return module, trainer


def policy(terms: dict[str, Term] | None = None, timesteps: int = 128, **options: Any) -> DistilledPPO:
    model = DistilledPPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", 2),
        n_steps=32,
        batch_size=32,
        n_epochs=2,
        seed=3,
        device="cpu",
        distillation=Distillation(terms),
        **options,
    )
    return model.learn(timesteps)


def test_terms_follow_the_optimisers_steps_where_gradients_are_accumulated() -> None:
    told, smoothing = Told(), BetaSmoothing()
    trained({"told": told, "beta": smoothing}, max_steps=3, max_epochs=-1, accumulate_grad_batches=2)
    assert told.stepped == [1 / 3, 2 / 3, 1.0]
    assert told.seen == [0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3]
    assert int(smoothing.steps) == 3


def test_steps_that_the_scaler_skips_are_no_steps() -> None:
    told = Told()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**28, growth_interval=10**6)  # type: ignore[attr-defined]
    precision = pl.plugins.MixedPrecision("16-mixed", "cpu", scaler)
    averaging = WAKD(start=0.0, buffers="average")
    module, trainer = trained({"told": told}, max_steps=8, max_epochs=-1, plugins=[precision], averaging=averaging)
    taken = averaging._current().count
    assert trainer.global_step == 8 and 0 < taken < 8
    assert scaler.get_scale() == 2.0 ** (28 - (8 - taken))
    assert told.stepped == [pytest.approx(step / 8) for step in range(8 - taken + 1, 9)]
    assert all(bool(value.isfinite().all()) for value in module.network.state_dict().values())


@pytest.mark.parametrize("batches", [Sized(4), Batches(4)], ids=["sized", "unsized"])
def test_progress_is_known_wherever_training_ends(batches: Batches) -> None:
    told, averaging = Told(), WAKD(start=0.5, buffers="average")
    _, trainer = trained({"told": told}, batches, max_epochs=2, averaging=averaging)
    assert trainer.global_step == 8
    assert all(0.0 <= progress <= 1.0 for progress in [*told.seen, *told.stepped, *told.passed])
    assert told.seen[0] == 0.0 and told.seen == sorted(told.seen) and told.seen[4] == 0.5
    # Where nobody knows how long a pass is, one counts from its beginning on: the step that ends the first is in it.
    assert averaging._current().count == (5 if isinstance(batches, Sized) else 4)


def test_a_rollout_that_is_longer_than_what_is_left_of_training_ends_at_progress_one() -> None:
    told, averaging = Told(), WAKD(start=0.0)
    weight = LinearSchedule(0.0, 1.0)
    model = policy({"told": told, "sd": SDDropout(weight=weight)}, timesteps=70, averaging=averaging)
    assert model.num_timesteps == 128 and model.progress == 1.0
    assert max(told.seen) == max(told.stepped) == max(told.passed) == 1.0 and min(told.seen) > 0
    model.learn(70, reset_num_timesteps=False)
    assert max(told.seen) == 1.0


def assert_same(first: nn.Module, second: nn.Module) -> None:
    ours, theirs = first.state_dict(), second.state_dict()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_what_a_term_trains_beside_a_policy_changes_nothing_in_it() -> None:
    beside, alone = (policy({"term": term}, max_grad_norm=0.05) for term in (Beside(), Told()))
    assert_same(beside.policy, alone.policy)
    own = next(iter(beside.distillation.trainable_parameters()))  # type: ignore[union-attr]
    assert float(own.grad.norm()) <= 0.05 + 1e-6  # type: ignore[union-attr]


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_what_a_term_trains_beside_a_segmentation_network_changes_nothing_in_it(algorithm: str) -> None:
    clip = {"gradient_clip_val": 0.01, "gradient_clip_algorithm": algorithm}
    beside, alone = (trained({"term": term}, max_steps=4, max_epochs=-1, **clip)[0] for term in (Beside(), Told()))
    assert_same(beside.network, alone.network)


@pytest.mark.parametrize("name", ["ai_kd", "byot", "subclass"])
def test_making_auxiliary_networks_leaves_the_generator_where_it_was(name: str) -> None:
    from common.teacher import Teacher
    from common.terms import AIKD, BYOT, Subclass

    terms: dict[str, Term] = {"ai_kd": AIKD(), "byot": BYOT(), "subclass": Subclass()}
    torch.manual_seed(5)
    method = Distillation({name: terms[name]}, teacher=Teacher([nn.Linear(4, 2)]))
    student = nn.Linear(4, 2)
    logits = student(torch.zeros(2, 4))
    view = View(torch.zeros(2, 4), torch.zeros(2, 4), student, logits, student, stages=[torch.zeros(2, 5, 4, 4)])
    before = torch.get_rng_state()
    method.bind(student, view)
    assert torch.equal(torch.get_rng_state(), before) and method.trainable_parameters()
