"""What a segmentation run is: which parts of its configuration make a setting, and which a row."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from common.augkd.program import artefact_hashes
from common.averaging import Averager
from common.configuration import to_yaml
from common.runs.folder import Run
from common.runs.identity import Identity
from common.runs.row import describe_row, teacher_hashes
from kdseg.configured import make_learning_rate, make_loss
from kdseg.domains.datamodule import SegmentationData
from kdseg.settings import TrainSettings

# Of the config group data: the domains, which stand apart; the seed; and what changes no result.
_NOT_DATA = ("root", "target", "sources", "seed", "num_workers", "cache_mib", "eval_batch_size", "metadata")
_IDLE = {
    "unknown_class": None,
    "unlabelled": False,
    "labelled_fraction": 1.0,
    "layout": "folders",
    "image_folder": "images",
    "image_suffix": "",
    "mask_suffix": "",
    "nested": False,
    "split_column": None,
}
# Of the Trainer's arguments: what changes no result, or rounding at most, and the budget.
_NOT_TRAINER = (
    "max_steps",
    "accelerator",
    "log_every_n_steps",
    "enable_progress_bar",
    "enable_model_summary",
    "profiler",
    "benchmark",
    "deterministic",
)


def identify(
    settings: TrainSettings, data: SegmentationData, averaging: Averager | None, teachers: Sequence[Run]
) -> Identity:
    """A run's identity.

    Args:
        settings: As configured, with the classes and sources that the data have.
        data: The data.
        averaging: The averager, if any.
        teachers: The runs of the teachers that are asked.
    """
    domains = {"target": data.target_name, "sources": list(data.source_names), "files": data.fingerprints()}
    row = describe_row(settings, averaging, {"every": settings.evaluation.every}, teachers, domains)
    if teachers and settings.teacher_view == "clean":
        row["teacher_view"] = settings.teacher_view
    plain = yaml.safe_load(to_yaml(settings))
    trainer, network = plain["trainer"], plain["network"]
    return Identity(
        task="seg",
        setting={
            "data": _data(plain["data"], data),
            "classes": list(data.class_names),
            "network": {key: value for key, value in network.items() if key not in ("name", "task", "_target_")},
            "budget": {"steps": trainer["max_steps"]},
            "host": {
                "optimizer": plain["optimizer"],
                "channels_last": settings.channels_last,
                **_used(settings),
                "trainer": {key: value for key, value in trainer.items() if key not in _NOT_TRAINER},
            },
        },
        domains=domains,
        row=row,
        seed=settings.seed,
        teachers=(*teacher_hashes(teachers, settings.teacher_weights), *artefact_hashes(settings.anchor)),
    )


def _data(node: Mapping[str, Any], data: SegmentationData) -> dict[str, Any]:
    """The setting's part of the group ``data``; a preset is the transforms that it stands for, so named or not."""
    # What later versions brought, where it is not used: runs of before are of the same setting.
    unused = [name for name, idle in _IDLE.items() if node.get(name, idle) == idle]
    without = (*_NOT_DATA, "upright", *unused)
    told = {key: value for key, value in node.items() if key not in without}
    return told | ({"augmentation": data.loading.transforms()} if isinstance(node.get("augmentation"), str) else {})


def _used(settings: TrainSettings) -> dict[str, Any]:
    """What later versions brought to the host, where it is used; all of a part, so that defaults may change."""
    loss, rate = make_loss(settings.loss), make_learning_rate(settings.learning_rate)
    told = {} if loss.is_plain else {"loss": dataclasses.asdict(loss)}
    return told if rate.is_plain else {**told, "learning_rate": dataclasses.asdict(rate)}
