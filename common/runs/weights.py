"""Weights on disk: safetensors under a temporary name, flushed, then renamed."""

import functools
import hashlib
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from common.errors import InputError
from common.runs.disk import MEBIBYTE, check_size, write_atomically
from common.runs.folder import Run
from common.runs.records import AVERAGED, LAST, Weights
from common.text import shown


def _first_names(state: dict[str, Tensor]) -> dict[str, str]:
    """For each name the first name of the same tensor: policies list shared modules several times."""
    owners: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {}
    # Empty tensors have no address of their own.
    return {
        name: owners.setdefault((tensor.data_ptr(), tuple(tensor.shape), tensor.stride()), name)
        if tensor.numel()
        else name
        for name, tensor in state.items()
    }


def weights_path(run: Run, name: str) -> Path:
    """Where a run keeps the weights of that name."""
    return run.checkpoints / f"{name}.safetensors"


def save_weights(module: nn.Module, run: Run, name: str = LAST) -> Path:
    """Write a module's weights to ``checkpoints/<name>.safetensors``; a crash keeps the file there was.

    Raises:
        OSError: the disk is full, or not to be written to.
    """
    path = weights_path(run, name)
    state = module.state_dict()
    firsts = _first_names(state)
    tensors = {key: tensor.cpu().contiguous() for key, tensor in state.items() if firsts[key] == key}
    # Not save_file: it hides a full disk behind an error of its own.
    content = save(tensors)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
    return path


def load_weights(module: nn.Module, run: Run, name: str = LAST) -> None:
    """Load ``checkpoints/<name>.safetensors`` into ``module``.

    Raises:
        InputError: no such file, a damaged one, weights of another network, or such that are not finite.
    """
    path = weights_path(run, name)
    if not path.exists():
        raise InputError(f"{run.path} has no checkpoint {name}; train it to its end first")
    state = module.state_dict()
    expected = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    check_size(path, expected + MEBIBYTE)
    try:
        tensors = load_file(path)
        for key, first in _first_names(state).items():
            if first in tensors:
                tensors.setdefault(key, tensors[first])
        module.load_state_dict(tensors)
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} does not fit the network in {run.config_path} ({reason})") from error
    check_finite(tensors, path)


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise if weights that were read from ``path`` hold an infinite value or NaN.

    Raises:
        InputError: naming the first that does.
    """
    if spoilt := [key for key, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]:
        raise InputError(f"{path}: {shown(spoilt[0])} has values that are not finite; train the run anew")


def choose_weights(run: Run, weights: Weights = "auto") -> str:
    """The name of the checkpoint that ``weights`` means in this run.

    Raises:
        InputError: weights of which the run has none.
    """
    if weights == "auto":
        return AVERAGED if weights_path(run, AVERAGED).exists() else LAST
    if weights != LAST and not weights_path(run, weights).exists():
        how = "averaging=wakd" if weights == AVERAGED else f"selection=[{weights}]"
        raise InputError(f"{run.path} has no {weights} weights; use last, or train it with {how}")
    return weights


def weights_digest(run: Run, name: str) -> str:
    """SHA-256 of the file of the weights of that name.

    Raises:
        InputError: there is no such file.
    """
    path = weights_path(run, name)
    if not path.is_file():
        raise InputError(f"{run.path} has no checkpoint {name}; train it to its end first")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keep_teachers(run: Run, teachers: Iterable[Run], weights: Weights = "last") -> None:
    """Copy what it takes to load each teacher again, with these weights, into ``teachers/<number>/`` of the run."""
    for number, teacher in enumerate(teachers):
        kept = Run(run.path / "teachers" / str(number))
        needed = (teacher.config_path, teacher.identity_path, teacher.status_path)
        for source in (*needed, weights_path(teacher, choose_weights(teacher, weights))):
            if source.exists():
                copy = functools.partial(shutil.copyfile, source)
                write_atomically(kept.path / source.relative_to(teacher.path), copy)
