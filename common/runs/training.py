"""What a training program supplies to the lifecycle of its runs."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from common.configuration import to_yaml
from common.distillation import Distillation
from common.runs.folder import Run
from common.runs.identity import Identity
from common.runs.keeper import Keeper
from common.runs.records import Judged, Record
from common.runs.settings import RunSettings


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a test measured."""

    records: Sequence[Record]
    items: Mapping[str, NDArray[Any]]


class Training(ABC):
    """What a training program supplies: made when everything that could be refused has been.

    Args:
        settings: As configured. What only the command line can tell in ``run_dir``, ``{data}`` and ``{changes}``, is
            left out where it has not filled it in; ``{hash}`` stands for what the run is.
        console: Where it tells what it does.

    Attributes:
        steps: How many the run is to take.
        teachers: Runs of the teachers it asks, none where it asks none.
        distillation: The method, as it is in training.
        averaging_from: The part of training after which weights are averaged, ``None`` where they are not.
    """

    steps: int
    teachers: Sequence[Run]
    distillation: Distillation
    averaging_from: float | None

    def __init__(self, settings: RunSettings, console: Console) -> None:
        self.run_settings, self.console = settings, console

    def config_yaml(self) -> str:
        """The resolved configuration."""
        return to_yaml(self.run_settings)

    def folder(self, identity: Identity) -> Run:
        """Where the run goes."""
        path = self.run_settings.run_dir.replace("{data}/", "").replace("{changes}", "")
        return Run(path.replace("{hash}", identity.short))

    @abstractmethod
    def identity(self) -> Identity:
        """What the run is."""

    @abstractmethod
    def describe(self, run: Run) -> None:
        """Write what only this program knows of a run; again, where it goes on, in case it was killed meanwhile."""

    @abstractmethod
    def begin(self) -> None:
        """Tell what a user should see before hours are spent on a run that begins."""

    @abstractmethod
    def row(self, judged: Judged, metric: str, value: float) -> Record:
        """A row about the training itself, on the run's own domain."""

    def prepare(self, keeper: Keeper) -> None:  # noqa: B027 - most methods need nothing
        """Make what the method needs before the first step, or find it where the run was interrupted after it.

        Raises:
            NonFiniteLossError: it diverged.
            Interrupted: a signal came; the same again goes on.
        """

    @abstractmethod
    def fit(self, keeper: Keeper) -> int:
        """Train to the end, from where ``keeper.players`` says; gives the steps that were taken in all.

        Raises:
            NonFiniteLossError: training diverged.
            Interrupted: a signal came.
        """

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """What is to be kept and tested after :meth:`fit`: the last weights, and the averaged ones if there are any."""

    @abstractmethod
    def copied(self) -> nn.Module:
        """A copy of the network that is trained, to be given other weights of it."""

    def show(self, networks: Mapping[str, nn.Module], keeper: Keeper) -> None:  # noqa: B027 - nothing hangs on it
        """Give ``keeper.watch`` pictures of what was trained."""

    @abstractmethod
    def test(self, networks: Mapping[str, nn.Module], keeper: Keeper) -> Outcome:
        """Measure, and show a table; ``keeper.status`` has steps and seconds."""
