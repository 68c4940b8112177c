"""An artefact on disk: each stage in a file of its own, written when it is over.

::

    data_free.safetensors   generator, encoder, and the student that learnt from the generator alone
    anchor.safetensors      the anchor
    anchor.json             what each stage was, its costs, and what was measured at the end
    samples.npz             a few samples on their way through generator and anchor
    samples.png             the same to look at
    checkpoints/            while a stage runs, the state to go on from
"""

import dataclasses
import hashlib
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from common.errors import InputError
from common.runs.checkpoint import Checkpoints
from common.runs.disk import check_size, read_text, write_atomically, write_text
from common.runs.folder import Run
from common.runs.weights import check_finite

_LARGEST = 2**31
StageName = Literal["data_free", "anchor"]


@dataclasses.dataclass(frozen=True)
class StageFacts:
    """What a finished stage was.

    Attributes:
        key: Stands for all that decides its result, but the seed.
        what: Its settings, to tell two apart in words.
        seconds: How long it took.
        peak_mebibytes: The most memory that the process had taken by its end.
    """

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")

    key: Annotated[str, Field(max_length=100)]
    what: dict[str, Any]
    seconds: Annotated[pydantic.FiniteFloat, Field(ge=0)] = 0.0
    peak_mebibytes: Annotated[pydantic.FiniteFloat, Field(ge=0)] = 0.0


@dataclasses.dataclass(frozen=True)
class _Facts:
    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")

    stages: dict[StageName, StageFacts] = dataclasses.field(default_factory=dict)
    measured: dict[str, pydantic.FiniteFloat] = dataclasses.field(default_factory=dict)


_FACTS = pydantic.TypeAdapter(_Facts)
_SAMPLES = ("images", "confidence")


class ArtefactFolder:
    """The folder.

    Args:
        path: It need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoints(self) -> Checkpoints:
        """States of the stage that runs."""
        return Checkpoints(Run(self.path))

    def _facts(self) -> _Facts:
        path = self.path / "anchor.json"
        if not path.exists():
            return _Facts()
        try:
            return _FACTS.validate_json(read_text(path), strict=True)
        except pydantic.ValidationError as error:
            raise InputError(f"{path} does not say what an anchor is; give a run that training wrote") from error

    def stage(self, name: StageName) -> StageFacts | None:
        """What the finished stage of that name was, ``None`` where it is not finished.

        Raises:
            InputError: a damaged file.
        """
        return self.stages.get(name)

    @property
    def measured(self) -> Mapping[str, float]:
        """What was measured at the end; empty before."""
        return self._facts().measured

    @property
    def stages(self) -> Mapping[StageName, StageFacts]:
        """The finished ones."""
        return self._facts().stages

    def digest(self) -> str:
        """SHA-256 of the weights of all finished stages."""
        hashed = hashlib.sha256()
        for name in sorted(self.stages):
            hashed.update(self._weights(name).read_bytes())
        return hashed.hexdigest()

    def keep(self, name: StageName, facts: StageFacts, modules: Mapping[str, nn.Module]) -> None:
        """Write a finished stage; what was measured before does not hold any more."""
        tensors = {
            f"{owner}.{key}": tensor.detach().cpu().contiguous().clone()
            for owner, module in modules.items()
            for key, tensor in module.state_dict().items()
        }
        content = save(tensors)
        write_atomically(self._weights(name), lambda path: path.write_bytes(content))
        self._write(_Facts({**self._facts().stages, name: facts}))
        self.checkpoints.clear()

    def take(self, name: StageName, other: "ArtefactFolder") -> None:
        """Copy a finished stage of another folder."""
        facts = other.stage(name)
        assert facts is not None
        write_atomically(self._weights(name), lambda path: shutil.copyfile(other._weights(name), path))
        self._write(_Facts({**self._facts().stages, name: facts}))

    def load(self, name: StageName, modules: Mapping[str, nn.Module]) -> None:
        """Fill modules with the weights of a finished stage.

        Raises:
            InputError: the file is missing or damaged, or holds weights of other networks or such that are not finite.
        """
        path = self._weights(name)
        check_size(path, _LARGEST)
        try:
            tensors = load_file(path)
            for owner, module in modules.items():
                prefix = f"{owner}."
                module.load_state_dict(
                    {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
                )
        except (SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path} does not hold the networks that are asked for ({reason})") from error
        check_finite(tensors, path)

    def keep_measured(self, measured: Mapping[str, float], samples: Mapping[str, NDArray[Any]]) -> None:
        """Write what was measured at the end, and the samples with their picture."""
        from common.report.samples import draw  # a second of every program's start, for what few need

        content, picture = io.BytesIO(), io.BytesIO()
        np.savez_compressed(content, **dict(samples))  # type: ignore[arg-type]
        write_atomically(self.path / "samples.npz", lambda path: path.write_bytes(content.getvalue()))
        draw(samples).savefig(picture, format="png", dpi=100)
        write_atomically(self.path / "samples.png", lambda path: path.write_bytes(picture.getvalue()))
        self._write(dataclasses.replace(self._facts(), measured=dict(measured)))

    def samples(self) -> dict[str, NDArray[Any]]:
        """The samples' arrays; see :mod:`common.augkd.measure`."""
        with np.load(self.path / "samples.npz", allow_pickle=False) as archive:
            return {name: archive[name] for name in _SAMPLES}

    def _weights(self, name: StageName) -> Path:
        return self.path / f"{name}.safetensors"

    def _write(self, facts: _Facts) -> None:
        write_text(self.path / "anchor.json", json.dumps(dataclasses.asdict(facts), indent=1) + "\n")
