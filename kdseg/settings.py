"""The typed form of the segmentation configuration files."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic.dataclasses import dataclass

from common.arguments import Count, CountFromZero, Fraction, NotNegative, Range, Seed, UpToOne
from common.errors import InputError
from common.runs.records import Weights
from common.runs.settings import STRICT, JudgeSettings, RunSettings
from common.text import shown
from kdseg.domains.images import ValueRange


class NetworkSettings(BaseModel):
    """Config group ``network``: arguments of :func:`kdseg.networks.create_network`, further options included."""

    model_config = ConfigDict(extra="allow")

    name: str
    task: Literal["seg"]
    arch: str = "unet"
    encoder_name: str = "resnet18"
    encoder_weights: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_target(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "_target_" not in values:
            return values
        # Earlier configurations named the function that this is for.
        if values["_target_"] != "kdseg.networks.create_network":
            raise InputError(f"network._target_={shown(values['_target_'])} is refused; remove it")
        return {key: value for key, value in values.items() if key != "_target_"}

    @property
    def options(self) -> dict[str, Any]:
        """What the architecture takes beside the arguments above."""
        return dict(self.model_extra or {})


class TrainerSettings(BaseModel):
    """Config group ``trainer``: arguments of Lightning's Trainer, which knows what else there is.

    What is named here, Lightning takes without a look and fails on later, or trains on nothing: no weights or optimiser
    state of half or double precision could be read back for evaluation.
    """

    model_config = ConfigDict(extra="allow")

    max_steps: Count
    accumulate_grad_batches: Count = 1
    gradient_clip_val: NotNegative | None = None
    gradient_clip_algorithm: Literal["norm", "value"] | None = None
    log_every_n_steps: Count | None = None
    limit_train_batches: Count | UpToOne | None = None
    limit_val_batches: CountFromZero | Fraction | None = None
    overfit_batches: CountFromZero | Fraction = 0
    reload_dataloaders_every_n_epochs: CountFromZero = 0
    num_nodes: Literal[1] = 1
    precision: Literal[32, 16, "32", "16", "bf16", "32-true", "16-mixed", "bf16-mixed"] | None = None

    @model_serializer(mode="wrap")
    def _as_given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What the configuration says; the rest is Lightning's to choose."""
        return {key: value for key, value in dump(self).items() if key in self.model_fields_set}


@dataclass(config=STRICT, kw_only=True)
class EvaluationSettings:
    """What is measured along the way."""

    every: CountFromZero


@dataclass(config=STRICT, kw_only=True)
class TrainSettings(RunSettings):
    """``configs/kdseg/train.yaml``; ``classes`` and ``in_channels`` are filled in from the data.

    Attributes:
        teacher_view: Whether the teacher is shown the student's augmented images or the same before their pixels were
            changed (SECANT, https://arxiv.org/abs/2106.09678).
        loss: Arguments of :class:`kdseg.losses.TaskLoss`.
        learning_rate: Arguments of :class:`kdseg.learning_rate.LearningRate`.
    """

    task: Literal["seg"]
    data: dict[str, Any]
    classes: Annotated[list[str], Field(min_length=1, max_length=256)] | None
    in_channels: Annotated[int, Range(1, 256)] = 3
    network: NetworkSettings
    channels_last: bool
    optimizer: dict[str, Any]
    trainer: TrainerSettings
    evaluation: EvaluationSettings
    teacher_view: Literal["same", "clean"] = "same"
    loss: dict[str, Any] = Field(default_factory=dict)
    learning_rate: dict[str, Any] = Field(default_factory=dict)


@dataclass(config=STRICT, kw_only=True)
class EvaluateSettings(JudgeSettings):
    """``configs/kdseg/evaluate.yaml``."""

    run: str
    target: str | None
    root: str | None


@dataclass(config=STRICT, kw_only=True)
class PredictSettings:
    """``configs/kdseg/predict.yaml``; see :class:`kdseg.predictor.Predictor`."""

    run: str | Annotated[list[str], Field(min_length=1)]
    weights: Weights
    unfinished: bool
    images: str
    out: str
    tile: Annotated[int, Range(32, 65536)] | None
    overlap: Annotated[float, Range(0, 0.75)]
    flips: bool
    overlays: bool
    confidence: bool
    value_range: ValueRange | None
    device: str


@dataclass(config=STRICT, kw_only=True)
class CheckSettings:
    """``configs/kdseg/check.yaml``."""

    data: dict[str, Any]
    seed: Seed
    out: str | None
    images: Annotated[int, Range(1, 32)]
