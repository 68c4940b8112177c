"""Trainings by as many processes as asked: ``python -m tests.kdseg.two_processes COUNT OUT [METHOD ROOT ...]``."""

import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import Tensor, nn

from common.averaging import SWAD
from common.distillation import Distillation
from common.teacher import Teacher
from common.terms import DLB, KD, KDDG, BetaSmoothing, Term
from kdseg import SegmentationModule
from kdseg.domains.folder import FolderData
from kdseg.settings import TrainSettings
from kdseg.trainer import make_trainer, quiet_lightning

METHODS: dict[str, dict[str, Term]] = {
    "erm": {},
    "kd": {"kd": KD(weight=0.7, temperature=2.0)},
    "kddg": {"kddg": KDDG(weight=0.7, threshold=0.4)},
    "dlb": {"dlb": DLB()},
    "beta_smoothing": {"beta_smoothing": BetaSmoothing()},
}


class Small(nn.Module):
    """Without batch statistics, which every process has for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.GELU(), nn.Conv2d(6, 6, 3, padding=1), nn.GELU())
        self.segmentation_head = nn.Conv2d(6, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.segmentation_head(self.body(images))
        return logits


class Settings:
    """What :func:`make_trainer` asks of a configuration."""

    class evaluation:  # noqa: N801
        every = 3


def main(count: str, out: str, *asked: str) -> None:
    torch.set_num_threads(1)
    quiet_lightning()
    for method, root in zip(asked[::2], asked[1::2], strict=True):
        train(int(count), method, root, Path(out) / method)


def train(count: int, method: str, root: str, out: Path) -> None:
    data = FolderData(root, "fluorescence", batch_size=4, crop_size=None, eval_batch_size=2, augmentation=[])
    torch.manual_seed(0)
    teacher = Teacher([Small()])
    module = SegmentationModule(
        Small(),
        2,
        Distillation(METHODS[method], teacher=teacher),
        lambda parameters: torch.optim.SGD(parameters, lr=0.3, momentum=0.9),
        averaging=SWAD(),
    )
    module.make_batches = data.whole_batches
    arguments = {"max_steps": 6, "devices": count, "accelerator": "cpu", "gradient_clip_val": 0.5}
    arguments |= {"enable_progress_bar": False}
    settings: TrainSettings = Settings()  # type: ignore[assignment]
    trainer = make_trainer(Console(quiet=True), settings, None, arguments, [seen := Seen()])
    trainer.fit(module, data.train_dataloader(), data.val_dataloader())
    gathered: list[object] = [None] * count
    if count > 1:
        torch.distributed.all_gather_object(gathered, seen.drawn)
    if trainer.is_global_zero:
        state = {name: value for name, value in module.state_dict().items() if not name.startswith("distillation")}
        confusions = {**module.confusions, **{10 + key: one for key, one in module.averaged_confusions.items()}}
        torch.save((state, confusions, gathered if count > 1 else [seen.drawn]), out)


class Seen(pl.Callback):
    """Which images each batch held."""

    def __init__(self) -> None:
        self.drawn: list[list[int]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: object, batch: dict[str, Tensor], batch_idx: int) -> None:  # type: ignore[override]  # fmt: skip # noqa: E501
        self.drawn.append(batch["index"].tolist())


if __name__ == "__main__":
    main(*sys.argv[1:])
