"""The typed form of the segmentation configuration files."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from common.errors import InputError
from common.runs.settings import STRICT, JudgeSettings, RunSettings
from common.text import shown


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
    """Config group ``trainer``: arguments of Lightning's Trainer, which knows what else there is."""

    model_config = ConfigDict(extra="allow")

    max_steps: int = Field(ge=1)


@dataclass(config=STRICT, kw_only=True)
class EvaluationSettings:
    """What is measured along the way."""

    every: int = Field(ge=0)


@dataclass(config=STRICT, kw_only=True)
class TrainSettings(RunSettings):
    """``configs/kdseg/train.yaml``; ``classes`` is filled in from the data."""

    task: Literal["seg"]
    data: dict[str, Any]
    classes: Annotated[list[str], Field(min_length=1, max_length=256)] | None
    network: NetworkSettings
    channels_last: bool
    optimizer: dict[str, Any]
    trainer: TrainerSettings
    evaluation: EvaluationSettings


@dataclass(config=STRICT, kw_only=True)
class EvaluateSettings(JudgeSettings):
    """``configs/kdseg/evaluate.yaml``."""

    run: str
    target: str | None
    root: str | None
