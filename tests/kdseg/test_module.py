"""Training steps through Lightning's Trainer.

``tests/golden/kdseg.json`` holds the first three losses of every method. A change that moves them on purpose
rewrites it: ``KDSHIFT_REGENERATE_GOLDEN=1 pytest -n 0 tests/kdseg/test_module.py -k golden``.
"""

import copy
import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_jaccard_index

from common.distillation import Distillation
from common.errors import InputError, NonFiniteLossError
from common.evaluation.segmentation import mean_iou
from common.teacher import Teacher
from common.terms import KD, KDDG, SDDropout, Term, TermOutput
from common.view import View
from kdseg import FolderData, SegmentationModule, create_network
from kdseg.metrics import batch_confusion
from tests.kdseg.lightning import Batch, Loader, make_trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),
    # Lightning 2.6 uses what torch 2.11 and later call deprecated.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    # The teacher is, on purpose.
    pytest.mark.filterwarnings("ignore:Found .* in eval mode at the start of training"),
]

GOLDEN = Path(__file__).parents[1] / "golden" / "kdseg.json"

# The threshold of KDDG is low enough to filter networks that have learnt nothing yet.
METHODS: dict[str, Callable[[], dict[str, Term]]] = {
    "erm": dict,
    "kd": lambda: {"kd": KD(weight=0.5, temperature=3.0)},
    "kddg": lambda: {"kddg": KDDG(weight=0.5, temperature=3.0, threshold=0.4)},
    "kddg_teacher": lambda: {"kddg": KDDG(weight=0.5, temperature=3.0, threshold=0.4, reading="teacher")},
    "sd_dropout": lambda: {"sd_dropout": SDDropout(weight=0.1)},
    "kddg_sdd": lambda: {
        "kddg": KDDG(weight=0.5, temperature=3.0, threshold=0.4),
        "sd_dropout": SDDropout(weight=0.1),
    },
}


def unet(seed: int = 0, classes: int = 2) -> nn.Module:
    torch.manual_seed(seed)
    return create_network("unet", "tu-test_resnet", classes=classes, encoder_depth=3, decoder_channels=(16, 8, 8))


def method(name: str) -> Distillation:
    return Distillation(METHODS[name](), teacher=Teacher([unet(seed=1)]), name=name)


def sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def adamw(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-4)


class Losses(pl.Callback):
    """Keeps what every step returned and logged."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.logged: list[dict[str, Tensor]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(outputs["loss"])
        self.logged.append(dict(trainer.logged_metrics))


def fit(module: SegmentationModule, batches: list[Batch], steps: int = 4, seed: int = 3, **options: Any) -> Losses:
    seen = Losses()
    torch.manual_seed(seed)
    make_trainer(max_steps=steps, callbacks=[seen], **options).fit(module, train_dataloaders=Loader(batches))
    assert len(seen.losses) == steps
    return seen


def assert_same_state(first: nn.Module, second: nn.Module) -> None:
    ours, theirs = first.state_dict(), second.state_dict()
    assert list(ours) == list(theirs)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def plain_loop(model: nn.Module, batches: list[Batch], steps: int, channels_last: bool, seed: int = 3) -> list[Tensor]:
    """What a user of the library writes without us."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model.to(memory_format=layout).train()  # type: ignore[call-overload]
    optimizer = adamw(model.parameters())
    losses = []
    torch.manual_seed(seed)
    for step in range(steps):
        batch = batches[step % len(batches)]
        loss = F.cross_entropy(model(batch["image"].contiguous(memory_format=layout)), batch["mask"], ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


# FPN draws dropout masks: equal only if nothing of ours takes random numbers.
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("arch", ["unet", "fpn"])
def test_without_terms_training_is_the_plain_loop_bit_for_bit(
    batches: list[Batch], arch: str, channels_last: bool
) -> None:
    torch.manual_seed(0)
    small = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)} if arch == "unet" else {"decoder_pyramid_channels": 32}
    model = smp.create_model(arch, "tu-test_resnet", encoder_weights=None, classes=2, **small)
    host = copy.deepcopy(model)
    before = copy.deepcopy(model)
    # Six steps of four batches: into the second epoch.
    expected = plain_loop(host, batches, 6, channels_last)
    seen = fit(SegmentationModule(model, 2, optimizer=adamw, channels_last=channels_last), batches, 6)
    assert torch.equal(torch.stack(seen.losses), torch.stack(expected))
    assert_same_state(model, host)
    assert not torch.equal(model.segmentation_head[0].weight, before.segmentation_head[0].weight)
    assert not torch.equal(next(model.encoder.parameters()), next(before.encoder.parameters()))


def test_a_teacher_that_no_term_asks_changes_nothing(batches: list[Batch]) -> None:
    alone, beside = unet(), unet()
    fit(SegmentationModule(alone, 2), batches)
    fit(SegmentationModule(beside, 2, Distillation(teacher=Teacher([unet(1)]), name="erm")), batches)
    assert_same_state(alone, beside)


def test_terms_of_zero_weight_train_like_none(batches: list[Batch]) -> None:
    plain, weightless = unet(), unet()
    terms = {"kd": KD(weight=0.0), "sd_dropout": SDDropout(weight=0.0)}
    expected = fit(SegmentationModule(plain, 2, optimizer=sgd), batches)
    module = SegmentationModule(weightless, 2, Distillation(terms, teacher=Teacher([unet(1)])), sgd)
    seen = fit(module, batches)
    torch.testing.assert_close(torch.stack(seen.losses), torch.stack(expected.losses))
    for ours, theirs in zip(weightless.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert seen.logged[-1]["distillation/kd"] > 0
    assert seen.logged[-1]["distillation/kd/weight"] == 0


@pytest.mark.parametrize("name", METHODS)
def test_another_seed_is_other_looks_and_nothing_else(batches: list[Batch], name: str) -> None:
    one, two = (fit(SegmentationModule(unet(), 2, method(name)), batches, 2, seed=seed) for seed in (3, 4))
    draws = "sd_dropout" in METHODS[name]()
    assert torch.equal(torch.stack(one.losses), torch.stack(two.losses)) is not draws


def test_the_teacher_is_left_as_it_was(batches: list[Batch]) -> None:
    distillation = method("kddg_sdd")
    teacher = distillation.teacher
    assert teacher is not None
    before = copy.deepcopy(teacher)
    module = SegmentationModule(unet(), 2, distillation, sgd)
    student_before = copy.deepcopy(module.network)
    fit(module, batches)
    module.train()
    assert not any(part.training for part in teacher.modules())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())
    assert_same_state(teacher, before)  # with BatchNorm's running statistics
    name = "encoder.model.bn1.running_mean"
    assert not torch.equal(module.network.state_dict()[name], student_before.state_dict()[name])


def test_the_optimizer_gets_the_students_and_the_terms_parameters_only() -> None:
    distillation = method("kd")
    distillation.terms["kd"].register_parameter("extra", nn.Parameter(torch.zeros(3)))
    module = SegmentationModule(unet(), 2, distillation)
    optimized = [id(parameter) for group in module.configure_optimizers().param_groups for parameter in group["params"]]
    expected = [*module.network.parameters(), *distillation.terms.parameters()]
    assert optimized == [id(parameter) for parameter in expected]


@pytest.mark.parametrize("reading", ["student", "teacher"])
def test_kddg_on_an_image_with_ignored_pixels(batches: list[Batch], reading: Any) -> None:
    weight, temperature, n = 0.7, 2.0, 0.4
    network, teacher = unet(), Teacher([unet(1)])
    student = copy.deepcopy(network).train()
    terms = {"kddg": KDDG(weight, temperature, n, reading)}
    seen = fit(SegmentationModule(network, 2, Distillation(terms, teacher=teacher), sgd), batches, 1)

    batch = batches[0]
    kept = batch["mask"] != 255
    assert 0 < kept.float().mean() < 1
    with torch.no_grad():
        z, z_teacher = (net(batch["image"]).double().movedim(1, -1)[kept] for net in (student, teacher))
    y = batch["mask"][kept][:, None]
    q, log_p = (z_teacher / temperature).softmax(-1), (z / temperature).log_softmax(-1)
    divergence = temperature**2 * (q * (q.log() - log_p)).sum(-1)
    task = -z.log_softmax(-1).gather(1, y)[:, 0]
    p = z.softmax(-1).gather(1, y)[:, 0] if reading == "student" else z_teacher.softmax(-1).amax(-1)
    w = torch.where(p <= n, 1.0, (((n + 1 - 2 * p) / (1 - n)).clamp(min=0)) ** 2)
    assert 0 < w.mean() < 1
    filtered = w * (task + weight * divergence) if reading == "student" else task + w * weight * divergence
    assert seen.losses[0].item() == pytest.approx(filtered.mean().item(), rel=1e-5)
    assert seen.logged[0]["distillation/kddg/fraction_filtered"].item() == pytest.approx((w < 1).double().mean().item())


def test_terms_can_ask_the_teacher_about_other_images(batches: list[Batch]) -> None:
    seen = []

    class Asks(KD):
        def forward(self, view: View) -> TermOutput:
            assert view.teacher is not None and view.teacher_logits is not None
            other = batches[1]["image"][:3] + 1
            seen.append((view, view.teacher(view.inputs), view.teacher(other), teacher(other)))
            return super().forward(view)

    teacher = Teacher([unet(1)])
    fit(SegmentationModule(unet(), 2, Distillation({"asks": Asks()}, teacher=teacher)), batches, 2)
    for view, same, answer, expected in seen:
        assert torch.equal(same, view.teacher_logits) and torch.equal(answer, expected)
        assert answer.shape == (3, 2, 32, 32) and not answer.requires_grad and not same.requires_grad
    assert [view.progress for view, *_ in seen] == [0.0, 0.5]
    assert all(view.log and torch.equal(view.index, torch.arange(4) + 4 * n) for n, (view, *_) in enumerate(seen))


def test_the_teacher_is_shown_clean_images_where_there_are_some(batches: list[Batch]) -> None:
    shown = [{**batch, "clean": batch["image"].flip(1)} for batch in batches]
    student, teacher = unet(), Teacher([unet(seed=1)])
    seen = fit(
        SegmentationModule(copy.deepcopy(student), 2, Distillation({"kd": KD(weight=0.5)}, teacher=teacher)), shown, 1
    )
    kept = batches[0]["mask"] != 255
    z = student(batches[0]["image"]).detach().double().movedim(1, -1)[kept]
    q = teacher(shown[0]["clean"]).double().movedim(1, -1)[kept].softmax(-1)
    task = F.cross_entropy(z, batches[0]["mask"][kept])
    divergence = (q * (q.log() - z.log_softmax(-1))).sum(-1).mean()
    assert seen.losses[0].item() == pytest.approx((task + 0.5 * divergence).item(), rel=1e-5)


def test_where_no_term_needs_a_teacher_there_is_none_to_ask(batches: list[Batch]) -> None:
    class Shows(SDDropout):
        def forward(self, view: View) -> TermOutput:
            assert view.teacher is None and view.teacher_logits is None
            return super().forward(view)

    given = Teacher([unet(1)])
    fit(SegmentationModule(unet(), 2, Distillation({"shows": Shows()}, teacher=given)), batches, 1)


@pytest.mark.parametrize("name", METHODS)
def test_what_lies_under_ignored_pixels_of_the_mask_does_not_matter(batches: list[Batch], name: str) -> None:
    class Shows(KD):
        """The view that the terms get."""

        def forward(self, view: Any) -> Any:
            assert torch.equal(view.valid, view.targets != 255)
            return super().forward(view)

    batch = dict(batches[0])
    hidden = batch["mask"].clone()
    hidden[:, 16:] = 255
    terms = METHODS[name]() | {"shows": Shows(weight=0.0)}
    network, shifted = unet(), unet()
    # The teacher answers differently where pixels are ignored: that must not reach the loss.
    first = fit(
        SegmentationModule(network, 2, Distillation(terms, teacher=Teacher([unet(1)]))), [batch | {"mask": hidden}], 1
    )
    other = Distillation(METHODS[name]() | {"shows": Shows(weight=0.0)}, teacher=Teacher([Below(unet(1), 16)]))
    second = fit(SegmentationModule(shifted, 2, other), [batch | {"mask": hidden}], 1)
    assert torch.equal(first.losses[0], second.losses[0])
    assert_same_state(network, shifted)


class Below(nn.Module):
    """A network whose answer is turned round, and in part not a number, below a row."""

    def __init__(self, network: nn.Module, row: int) -> None:
        super().__init__()
        self.network, self.row = network, row

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).clone()
        logits[:, :, self.row :] *= -1
        logits[:, :, -1] = math.nan
        return logits


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_without_a_labelled_pixel_costs_nothing(batches: list[Batch], name: str) -> None:
    batch = batches[0] | {"mask": torch.full_like(batches[0]["mask"], 255)}
    network = unet()
    before = copy.deepcopy(network)
    seen = fit(SegmentationModule(network, 2, method(name), sgd), [batch], 2)
    assert [loss.item() for loss in seen.losses] == [0.0, 0.0]
    for now, then in zip(network.parameters(), before.parameters(), strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("name", METHODS)
def test_half_precision_computes_losses_in_float32(batches: list[Batch], name: str, precision: Any) -> None:
    full = fit(SegmentationModule(unet(), 2, method(name), sgd), batches, 2)
    half = fit(SegmentationModule(unet(), 2, method(name), sgd), batches, 2, precision=precision)
    assert {loss.dtype for loss in half.losses} == {torch.float32}
    assert {value.dtype for step in half.logged for value in step.values()} == {torch.float32}
    assert not torch.equal(torch.stack(half.losses), torch.stack(full.losses))  # it did run in half precision
    assert half.losses[0].item() == pytest.approx(full.losses[0].item(), rel=0.02)  # of the same parameters
    assert torch.isfinite(torch.stack(half.losses)).all()


def test_a_loss_that_is_not_a_number_stops_training_before_its_step(batches: list[Batch]) -> None:
    broken = batches[2] | {"image": torch.full_like(batches[2]["image"], math.nan)}
    network, host = unet(), unet()
    with pytest.raises(NonFiniteLossError, match="the loss is nan at step 2"):
        fit(SegmentationModule(network, 2, optimizer=adamw), [*batches[:2], broken])
    plain_loop(host, batches, 2, channels_last=False)
    for now, expected in zip(network.parameters(), host.parameters(), strict=True):
        assert torch.equal(now, expected)


@pytest.mark.parametrize("name", ["erm", "kddg_sdd"])
def test_a_step_that_is_far_too_large_stops_training(batches: list[Batch], name: str) -> None:
    def huge(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1e30)

    with pytest.raises(NonFiniteLossError, match="at step 1"):
        fit(SegmentationModule(unet(), 2, method(name), huge), batches)


def test_a_teacher_of_other_classes_is_refused() -> None:
    distillation = Distillation({"kd": KD()}, teacher=Teacher([unet(classes=5)]))
    with pytest.raises(InputError, match="the teacher has 5 classes, the data 2"):
        SegmentationModule(unet(), 2, distillation)


def test_a_teacher_that_shares_weights_is_refused_and_a_copy_of_them_is_not(batches: list[Batch]) -> None:
    network = unet()
    for shared in (network, nn.Sequential(network)):
        method = Distillation({"kd": KD()}, teacher=Teacher([shared]))
        assert network.training and all(parameter.requires_grad for parameter in network.parameters())
        fit(SegmentationModule(copy.deepcopy(network), 2, method), batches, steps=1)
        assert method.teacher is not None
        method.teacher.networks[0] = shared
        with pytest.raises(
            InputError, match=r"the teacher shares weights with the student; give it a copy \(copy.deepc"
        ):
            SegmentationModule(network, 2, method)


@pytest.mark.parametrize("arch", ["pan", "dpt"])
def test_a_teacher_of_an_architecture_that_is_fussy_about_sizes_is_taken(arch: str) -> None:
    teacher = create_network(arch, "tu-vit_tiny_patch16_224" if arch == "dpt" else "resnet18", classes=2)
    SegmentationModule(unet(), 2, Distillation({"kd": KD()}, teacher=Teacher([teacher])))


def test_sizes_that_the_stride_does_not_divide_are_padded_with_ignored_pixels(batches: list[Batch]) -> None:
    batch = batches[0] | {"image": batches[0]["image"][..., :20, :28], "mask": batches[0]["mask"][..., :20, :28]}
    torch.manual_seed(0)
    model = smp.create_model("linknet", "resnet18", encoder_weights=None, classes=2)
    host = copy.deepcopy(model).train()
    logits = host(F.pad(batch["image"], (0, 4, 0, 12), mode="replicate"))[..., :20, :28]
    expected = F.cross_entropy(logits, batch["mask"], ignore_index=255)
    seen = fit(SegmentationModule(model, 2), [batch], 1)
    torch.testing.assert_close(seen.losses[0], expected.detach())


def test_sd_dropout_works_on_the_heads_own_grid(batches: list[Batch]) -> None:
    grids = []

    class Shows(SDDropout):
        def forward(self, view: Any) -> Any:
            grids.append((view.logits.shape[2:], view.head(view.features).shape[2:]))
            return super().forward(view)

    torch.manual_seed(0)
    network = create_network("fpn", "resnet18", encoder_depth=5)
    fit(SegmentationModule(network, 2, Distillation({"shows": Shows()})), batches, 2)
    assert grids == [((32, 32), (8, 8))] * 2


def test_validation_logs_the_pooled_miou_of_each_loader(batches: list[Batch]) -> None:
    module = SegmentationModule(unet(), 2, source_names=["first", "second"])
    module(batches[0]["image"])  # batch statistics that are not the initial ones
    loaders = [batches[:1], batches[1:]]
    logged = make_trainer(max_steps=1).validate(module, [Loader(loader) for loader in loaders], verbose=False)[0]
    module.eval()
    for name, loader in zip(module.source_names, loaders, strict=True):
        with torch.no_grad():
            predictions = torch.cat([module(batch["image"]) for batch in loader]).argmax(dim=1)
        masks = torch.cat([batch["mask"] for batch in loader])
        expected = multiclass_jaccard_index(predictions, masks, 2, average="macro", ignore_index=255)
        assert logged[f"validation/{name}/miou"] == pytest.approx(expected.item(), abs=1e-6)


def first_losses(name: str, batches: list[Batch]) -> list[float]:
    """Plain SGD: Adam's first steps would blow rounding up to the size of the learning rate.

    So would long steps: processors round apart, a unit's sign or a pixel's side of a threshold is another then.
    """
    module = SegmentationModule(unet(), 2, method(name), lambda parameters: torch.optim.SGD(parameters, lr=0.005))
    seen = fit(module, batches, 3)
    return [loss.item() for loss in seen.losses]


@pytest.mark.parametrize("name", METHODS)
def test_the_first_losses_are_the_golden_ones(batches: list[Batch], name: str) -> None:
    losses = first_losses(name, batches)
    if os.environ.get("KDSHIFT_REGENERATE_GOLDEN") == "1":
        known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
        values = known | {name: losses}
        GOLDEN.write_text(json.dumps({key: values[key] for key in METHODS if key in values}, indent=2) + "\n")
    assert losses == pytest.approx(json.loads(GOLDEN.read_text())[name], rel=2e-5)


def test_there_are_golden_losses_of_every_method_and_they_differ() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert list(golden) == list(METHODS)
    assert len({tuple(losses) for losses in golden.values()}) == len(METHODS)


@pytest.mark.filterwarnings("ignore:You are using a custom batch sampler")
def test_the_trainer_tests_and_predicts(nuclei: Path) -> None:
    data = FolderData(nuclei, target="fluorescence", crop_size=32, batch_size=4)
    module = SegmentationModule(unet(), 2)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    scores = {name: value for found in trainer.test(module, data, verbose=False) for name, value in found.items()}
    module.eval()
    for part in data.test_parts:
        confusion = sum(
            batch_confusion(module(batch["image"]), batch["mask"], 2).sum(0)
            for batch in data.eval_dataloader(part.dataset)
        )
        assert scores[f"test/{part.domain}/miou"] == pytest.approx(float(mean_iou(confusion.numpy())), abs=1e-6)
    predicted = trainer.predict(module, data)
    images = [len(part.dataset) for part in data.test_parts]
    assert [sum(len(batch) for batch in loader) for loader in predicted] == images
    first = next(iter(data.eval_dataloader(data.test_parts[0].dataset)))
    assert torch.equal(predicted[0][0], module(first["image"]).argmax(1))
