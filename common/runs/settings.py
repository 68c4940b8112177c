"""Settings that mean the same in both training programs, and in both programs of evaluation."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from common.arguments import Count, NotNegative, Seed, check_type, numbers_in
from common.averaging import NO_AVERAGING
from common.evaluation.measures import MeasureSettings
from common.plan import Plan
from common.runs.records import Weights
from common.runs.selection import Rule
from common.runs.teachers import Shares
from common.teacher import Combination
from common.watch import LoggerName

STRICT = ConfigDict(extra="forbid")


def _named(node: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(node.get("name"), str):
        raise PydanticCustomError("name", "it needs a name in words, such as name=mine")
    return node


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else [] if value is None else value


def _not_negative(node: dict[str, Any]) -> dict[str, Any]:
    for name, number in numbers_in(node, "strength"):
        check_type(number, NotNegative, name)
    return node


# The rest of it is checked against the constructor when it is built.
NamedNode = Annotated[dict[str, Any], AfterValidator(_named)]


@dataclass(config=STRICT, kw_only=True)
class RunSettings:
    """What every training has.

    Attributes:
        seed: Of everything that is drawn.
        run_dir: The run's folder; ``{changes}`` and ``{hash}`` stand for what differs from the defaults and for what
            the run is, ``{data}`` for the choice of data.
        resume: ``auto`` goes on with an interrupted run, ``never`` moves it aside.
        unfinished: Whether teachers may be runs that are not finished.
        teacher: A run's folder, or several.
        teacher_weights: Which of their weights.
        teacher_combine: What of several is averaged.
        teacher_shares: What each of several weighs: the same, or by its score on its own source validation.
        teacher_domains: Which of several label an image or a state: all, or those that have not seen its domain
            (segmentation) or level (policies); DomED's complementary teachers.
        anchor: A run of AuG-KD whose artefact is taken, for not preparing one.
        strength: Weights, temperatures and thresholds, for the methods' configurations to refer to.
        method: The method, a node for :func:`common.method.make_distillation`.
        averaging: The averager, a node for :func:`common.averaging.make_averager`.
        selection: Which weights are kept beside the last: of the best source validation, or the oracle's.
        checkpoint_every: Steps between two checkpoints.
        logger: Where numbers and pictures of the training are shown, any of ``tensorboard``, ``csv`` and ``wandb``.
        plan: Runs that this configuration stands for instead of one.
    """

    seed: Seed
    run_dir: str
    teacher: str | list[str] | None
    # A method that refers to one of them says more about it; others are not to be wrong either.
    strength: Annotated[dict[str, Any], AfterValidator(_not_negative)]
    method: NamedNode
    checkpoint_every: Count
    # With defaults, because runs from before there were such settings lack them.
    averaging: NamedNode = Field(default_factory=lambda: dict(NO_AVERAGING))
    teacher_weights: Weights = "auto"
    teacher_combine: Combination = "probability"
    teacher_shares: Shares = "equal"
    teacher_domains: Literal["all", "unseen"] = "all"
    resume: Literal["auto", "never"] = "auto"
    unfinished: bool = False
    anchor: str | None = None
    selection: list[Rule] = Field(default_factory=list)
    logger: Annotated[list[LoggerName], BeforeValidator(_listed)] = Field(
        default_factory=lambda: list[LoggerName](["tensorboard"])
    )
    plan: Plan | None = None


@dataclass(config=STRICT, kw_only=True)
class JudgeSettings(MeasureSettings):
    """What every evaluation has.

    Attributes:
        weights: Which of the run's weights.
        unfinished: Whether the run may be one that is not finished.
        out: A new folder for records and items, or ``None``.
        device: Where to compute.
    """

    weights: Weights
    out: str | None
    device: str
    unfinished: bool = False


@dataclass(config=STRICT, kw_only=True)
class ExportSettings:
    """What every export has.

    Attributes:
        run: A finished run's folder.
        weights: Which of its weights.
        unfinished: Whether the run may be one that is not finished.
        out: A new folder.
        onnx: Whether an ONNX file is written.
        int8: Whether another of 8 bits is.
        license: Of the weights, for the card.
        push: ``USER/NAME`` to upload the folder to, or ``None``.
    """

    run: str
    weights: Weights
    unfinished: bool
    out: str
    onnx: bool
    int8: bool
    license: str | None
    push: str | None
