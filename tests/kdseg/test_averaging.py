"""Averaged weights beside the live ones: in the module, in Lightning's checkpoints, in a run's folder."""

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.averaging import SMA, SWAD, WAKD, Averager, reestimate_batch_norm
from common.errors import InputError
from common.evaluation.segmentation import mean_iou
from common.runs.folder import Run
from common.runs.items import item_key
from kdseg import SegmentationModule, create_network
from kdseg.train import main as train
from tests.kdseg.lightning import Batch, Loader, make_trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Found .* in eval mode at the start of training"),
    pytest.mark.filterwarnings("ignore:The '.*dataloader' does not have many workers"),
]

State = dict[str, Tensor]
Call = Callable[..., Any]
SOURCES = ["grey_brightfield", "purple_on_purple", "purple_on_white"]


def module(averaging: Averager | None = None, **options: Any) -> SegmentationModule:
    torch.manual_seed(0)
    network = create_network("unet", "tu-test_resnet", encoder_depth=3, decoder_channels=(16, 8, 8))
    return SegmentationModule(network, 2, averaging=averaging, **options)


class Weights(pl.Callback):
    """The network's state after every batch."""

    def __init__(self) -> None:
        self.states: list[State] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.states.append(copy.deepcopy(pl_module.network.state_dict()))


def fit(
    student: SegmentationModule, batches: list[Batch], steps: int = 4, resume: Path | None = None, **options: Any
) -> tuple[pl.Trainer, list[State]]:
    """Train on the batches in order; validation, if asked for, is on two loaders of one batch each."""
    watch = Weights()
    trainer = make_trainer(max_steps=steps, callbacks=[watch], **options)
    loaders = [Loader(batches[:1]), Loader(batches[1:2])] if "val_check_interval" in options else None
    torch.manual_seed(3)
    trainer.fit(student, Loader(batches), loaders, ckpt_path=resume, weights_only=resume is not None or None)
    return trainer, watch.states


def assert_mean(network: nn.Module, states: Iterable[State]) -> None:
    """Every floating-point tensor is the mean of those of ``states``, the others are the last."""
    kept = list(states)
    for name, value in network.state_dict().items():
        each = torch.stack([state[name] for state in kept])
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), each.double().mean(dim=0), rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(value, each[-1])


def assert_equal(first: nn.Module, second: nn.Module) -> None:
    ours, theirs = first.state_dict(), second.state_dict()
    assert list(ours) == list(theirs)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


# --- the module ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_average_is_the_mean_of_the_weights_after_each_step(batches: list[Batch], channels_last: bool) -> None:
    plain, averaging = (
        module(channels_last=channels_last),
        module(WAKD(start=0.5, buffers="average"), channels_last=channels_last),
    )
    fit(plain, batches)
    _, states = fit(averaging, batches)
    assert_equal(averaging.network, plain.network)  # averaging only reads
    assert len(states) == 4
    averaged = averaging.averaged_network()
    assert_mean(averaged, states[1:])  # progress 0.5, 0.75, 1
    assert not averaged.training and not any(parameter.requires_grad for parameter in averaged.parameters())
    with torch.no_grad():
        ours, theirs = averaged(batches[0]["image"]), plain.eval()(batches[0]["image"])
    assert ours.shape == theirs.shape and not torch.equal(ours, theirs)


def test_a_step_is_one_of_the_optimiser_not_a_batch(batches: list[Batch]) -> None:
    student = module(WAKD(start=0.0, buffers="average"))
    _, states = fit(student, batches, steps=2, accumulate_grad_batches=2)
    assert len(states) == 4
    assert student.averaging is not None and student.averaging._current().count == 2
    parameters = {name for name, _ in student.network.model.named_parameters()}
    averaged = student.averaged_network().state_dict()
    for name in parameters:
        torch.testing.assert_close(averaged[name], (states[1][name] + states[3][name]) / 2)


class Watched:
    """Keeps what an averager is told, and of which weights."""

    told: list[float]

    def after_validation(self, model: nn.Module, loss: float, progress: float) -> None:
        self.told = [*getattr(self, "told", []), loss]
        super().after_validation(model, loss, progress)  # type: ignore[misc]


class WatchedSWAD(Watched, SWAD):
    pass


class WatchedSMA(Watched, SMA):
    pass


@pytest.mark.parametrize("averager", [WatchedSWAD, WatchedSMA])
@pytest.mark.parametrize("unseen", [False, True])
def test_the_validation_loss_is_the_cross_entropy_of_source_domains(
    batches: list[Batch], averager: Any, unseen: bool
) -> None:
    averaging = averager(start=0.0, buffers="average")
    names = {"source_names": ["a"], "unseen_names": ["target"]} if unseen else {}
    student = module(averaging, **names)
    trainer, states = fit(student, batches, val_check_interval=2, check_val_every_n_epoch=None)
    judge, expected = module().eval(), []
    for steps in (2, 4):
        if averager is WatchedSMA:
            judged = {name: torch.stack([state[name] for state in states[:steps]]) for name in states[0]}
            state = {name: v.double().mean(0) if v.is_floating_point() else v[-1] for name, v in judged.items()}
        else:
            state = states[steps - 1]
        judge.network.load_state_dict(state)
        losses = [F.cross_entropy(judge(one["image"]), one["mask"], ignore_index=255).item() for one in batches[:2]]
        expected.append(losses[0] if unseen else sum(losses) / 2)
    assert averaging.told == pytest.approx(expected, rel=1e-4)
    assert trainer.callback_metrics["validation/averaging_loss"].item() == pytest.approx(expected[-1], rel=1e-4)
    # The curve of the average: the target is judged, only it selects nothing.
    if averager is WatchedSWAD:
        return  # its average has moved on with the loss
    averaged = student.averaging.averaged  # type: ignore[union-attr]
    for number, one in enumerate(batches[:2]):
        with torch.no_grad():
            hits = averaged(one["image"]).argmax(1)[one["mask"] != 255] == one["mask"][one["mask"] != 255]
        assert int(student.averaged_confusions[number].diagonal().sum()) == int(hits.sum())


def test_what_averaging_needs_is_asked_for_before_the_first_step(batches: list[Batch]) -> None:
    swad = module(SWAD(buffers="average"))
    with pytest.raises(InputError, match="averaging=swad needs a validation loss on source domains, which this Train"):
        fit(swad, batches)
    with pytest.raises(InputError, match="buffers=reestimate needs training batches; fit with a data module"):
        fit(module(WAKD()), batches)
    with pytest.raises(InputError, match="nothing is averaged"):
        module().averaged_network()


@pytest.mark.parametrize("averager", [WAKD, SMA])
def test_batch_statistics_are_reestimated_from_training_batches(batches: list[Batch], averager: Any) -> None:
    student = module(averager(start=0.0, buffers="reestimate"))
    student.make_batches = lambda: batches
    fit(student, batches, val_check_interval=4, check_val_every_n_epoch=None)
    assert student.averaging is not None
    expected = student.averaging.finish()
    reestimate_batch_norm(expected, [batch["image"] for batch in batches])
    assert_equal(student.averaged_network(), expected)


@pytest.mark.parametrize(
    "averager",
    [
        lambda: WAKD(0.3, "average"),
        lambda: SMA(0.0, "average"),
        lambda: SWAD(n_s=1, n_e=1, r=1.0, buffers="average"),
    ],
)
def test_lightnings_checkpoints_keep_the_average(batches: list[Batch], averager: Any, tmp_path: Path) -> None:
    options = {"val_check_interval": 1, "check_val_every_n_epoch": None}
    whole = module(averager())
    fit(whole, batches[:3], steps=6, **options)

    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            trainer.should_stop = trainer.global_step == 3

    first = module(averager())
    torch.manual_seed(3)
    trainer = make_trainer(max_steps=6, callbacks=[Stop()], **options)
    trainer.fit(first, Loader(batches[:3]), [Loader(batches[:1]), Loader(batches[1:2])])
    assert trainer.global_step == 3
    trainer.save_checkpoint(tmp_path / "half.ckpt")

    second = module(averager())
    fit(second, batches[:3], steps=6, resume=tmp_path / "half.ckpt", **options)
    assert_equal(second.network, whole.network)
    assert_equal(second.averaged_network(), whole.averaged_network())


# --- the programs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def short(tiny: list[str]) -> list[str]:
    return [*tiny, "trainer.max_steps=4", "evaluation.every=2", "data.crop_size=16"]


def test_a_run_has_the_counts_of_both_choices_of_weights(call: Call, short: list[str], tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    assert call(train, *short, "averaging=wakd", f"run_dir={run.path}").status == 0
    items = run.items()
    averaged = [record for record in run.records() if (record.selection, record.metric) == ("averaged", "miou")]
    tests = {record.domain: record.value for record in averaged if record.split == "test"}
    for domain, seen in [("fluorescence", False), *((name, True) for name in SOURCES)]:
        found = items[item_key("confusion", domain, seen, "averaged")]
        assert tests[domain] == float(mean_iou(found.sum(axis=0)))
        assert item_key("prediction", domain, seen, "averaged") in items
        assert item_key("item", domain, seen, "averaged") not in items  # the images are the same
    # The curve ends where the test begins.
    curve = {record.domain: record.value for record in averaged if record.split == "progress" and record.steps == 4}
    assert tests == pytest.approx(curve)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["averaging=swad", "data.validation_fraction=0"], "a run without validation images"),
        (["averaging=sma", "+trainer.limit_val_batches=0"], "a run with trainer.limit_val_batches=0"),
    ],
)
def test_averagers_that_validate_want_validation_images(
    call: Call, short: list[str], arguments: list[str], expected: str, tmp_path: Path
) -> None:
    outcome = call(train, *short, *arguments, f"run_dir={tmp_path / 'run'}")
    assert outcome.status == 2
    assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1 and expected in outcome.err
    assert not (tmp_path / "run").exists()


def test_training_that_ends_before_the_average_starts_is_tested_all_the_same(
    call: Call, short: list[str], tmp_path: Path
) -> None:
    arguments = ["averaging=wakd", "averaging.start=0.99", "trainer.max_steps=100000", "+trainer.max_time=00:00:00:01"]
    outcome = call(train, *short, *arguments, f"run_dir={tmp_path / 'run'}")
    assert (outcome.status, outcome.err) == (0, "")
    assert "training ended before averaging.start=0.99; nothing is averaged" in " ".join(outcome.out.split())
    run = Run(tmp_path / "run")
    assert run.finished and {record.selection for record in run.records()} == {"last"}
    status = run.status()
    assert status is not None and status.idle == ("training ended before averaging.start=0.99; nothing is averaged",)
