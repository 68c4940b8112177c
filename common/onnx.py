"""Networks as ONNX files, checked against what they were made of before they are kept."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.errors import InputError
from common.extras import from_extra
from common.runs.disk import write_atomically

OPSET = 18
"""Version of ONNX's operators."""
EXTRA = "export"
# Of the largest logit: kernels of other libraries add in another order.
_TOLERANCE = 1e-3


def check_installed() -> None:
    """Raise unless what this takes is there.

    Raises:
        InputError: naming the extra that brings it.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        from_extra(name, EXTRA, "ONNX needs", ", or onnx=false to export without it")


def write_onnx(
    module: nn.Module, inputs: Sequence[Tensor], path: Path, names: tuple[str, Sequence[str]], free: Sequence[int]
) -> float:
    """Write a module, and let ONNX Runtime answer ``inputs`` as torch does before the file is there.

    Args:
        module: In eval mode, on the CPU; its first output is logits ``[B, C, *]``.
        inputs: Real ones, of different sizes where sizes are free; the first is traced with.
        path: The file, which is replaced.
        names: Of the input and of the outputs.
        free: Dimensions of the input that are not fixed; the first is the batch.

    Returns:
        The largest difference of a logit.

    Raises:
        InputError: torch cannot export the module, or the file does not do the same.
    """
    check_installed()
    name, outputs = names
    found = 0.0

    def write(temporary: Path) -> None:
        nonlocal found
        with _quiet():
            try:
                torch.onnx.export(
                    module,
                    (inputs[0],),
                    str(temporary),
                    dynamo=True,
                    dynamic_shapes=(dict.fromkeys(free, torch.export.Dim.DYNAMIC),),
                    input_names=[name],
                    output_names=list(outputs),
                    opset_version=OPSET,
                    external_data=False,
                    verbose=False,
                )
            except Exception as error:  # of torch's own many kinds
                reason = " ".join(str(error).split())[:300]
                raise InputError(f"torch cannot write this network as ONNX ({reason})") from error
        found = difference(module, Session(temporary), inputs)

    write_atomically(path, write)
    return found


class Session:
    """An ONNX file that answers tensors, on the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.name: str = self._session.get_inputs()[0].name

    def __call__(self, inputs: Tensor) -> list[NDArray[Any]]:
        """Every output."""
        answers: list[NDArray[Any]] = self._session.run(None, {self.name: inputs.numpy()})
        return answers


@torch.no_grad()
def difference(module: nn.Module, session: Session, inputs: Iterable[Tensor]) -> float:
    """The largest difference of a logit.

    Raises:
        InputError: it is not a matter of rounding.
    """
    largest = 0.0
    for one in inputs:
        answer = module(one)
        expected = (answer[0] if isinstance(answer, tuple) else answer).numpy()
        found = session(one)[0]
        if found.shape != expected.shape:
            raise InputError(f"the ONNX file answers with {found.shape} where the network does with {expected.shape}")
        away = float(np.abs(found - expected).max())
        if not away <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise InputError(f"the ONNX file's logits are {away:g} away from the network's; it was not kept")
        largest = max(largest, away)
    return largest


def write_int8(source: Path, path: Path, inputs: Sequence[Tensor]) -> None:
    """The file with weights and activations of 8 bits, for CPUs.

    Args:
        source: What :func:`write_onnx` wrote.
        path: The file, which is replaced.
        inputs: What ranges of activations are taken from.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = Session(source).name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(inputs)

        def get_next(self) -> dict[str, Any] | None:
            one = next(self._left, None)
            return None if one is None else {name: one.numpy()}

    def write(temporary: Path) -> None:
        prepared = temporary.with_suffix(".prepared.onnx")
        try:
            with _quiet():
                quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
                quantize_static(str(prepared), str(temporary), Reader(), per_channel=True, weight_type=QuantType.QInt8)
        finally:
            prepared.unlink(missing_ok=True)

    write_atomically(path, write)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what libraries print of their progress."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
