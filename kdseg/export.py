"""The way back to segmentation-models-pytorch: folders that it loads without this package; kdseg-export."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from common.application import run as run_application
from common.errors import InputError
from common.runs.folder import Run
from common.runs.records import Weights
from common.runs.settings import ExportSettings
from common.sharing import share
from kdseg import onnx
from kdseg.domains.augmentation import normalization
from kdseg.domains.dataset import IMAGENET_MEAN, IMAGENET_STD
from kdseg.restore import load_network, trained_normalization
from kdseg.segmentation_network import SegmentationNetwork


def save_stock(
    network: nn.Module,
    directory: str | Path,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> None:
    """Write a folder that ``smp.from_pretrained`` takes: the network alone, in the library's own layout.

    It holds the weights, the arguments they were made with, a card, and how images are to be normalised, which
    ``albumentations.Compose.from_pretrained(directory, key="eval")`` reads. The method, the teacher and the averages
    stay out; give ``module.averaged_network()`` to save averaged weights.

    Args:
        network: A network of segmentation-models-pytorch, or a
            :class:`kdseg.segmentation_network.SegmentationNetwork` of it.
        directory: The folder; what it holds of such files is replaced.
        mean: Per channel, subtracted from pixels scaled to [0, 1].
        std: Per channel, divides what is left.

    Raises:
        InputError: a network of another kind, which the library could not make again.
    """
    model: Any = network.model if isinstance(network, SegmentationNetwork) else network
    if not hasattr(model, "save_pretrained"):
        raise InputError(
            f"{type(model).__name__} is not segmentation-models-pytorch's, which could not load it; save its state_dict"
        )
    model.save_pretrained(directory)
    normalization(mean, std).save_pretrained(directory, key="eval")


def save_run(run: str | Path, directory: str | Path, weights: Weights = "auto") -> None:
    """The same of a finished run.

    Args:
        run: The run's folder.
        directory: As in :func:`save_stock`.
        weights: Its last weights, the averaged ones, or with ``auto`` the averaged ones if it has any.

    Raises:
        InputError: not a finished segmentation run's folder, or no such weights in it.
    """
    folder = Run(run)
    folder.check_finished(f"run={run}")
    network, settings = load_network(folder, weights)
    save_stock(network, directory, *trained_normalization(folder, settings))


_FILES = {
    "model.safetensors": "the weights, in segmentation-models-pytorch's names",
    "config.json": "what its network is made with",
    "albumentations_config_eval.json": "how images are normalised",
}
_USE = """\
```python
import albumentations
import segmentation_models_pytorch as smp

network = smp.from_pretrained(".").eval()
normalize = albumentations.Compose.from_pretrained(".", key="eval")
```"""
_USE_ONNX = """\
With ONNX Runtime, from bytes `uint8 [B, bands, H, W]` of any size (RGB, if three) to logits `[B, C, H, W]`:

```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
classes = session.run(None, {"images": images})[0].argmax(1)
```"""


def export(settings: ExportSettings) -> None:
    """Write a finished run's network for others: as segmentation-models-pytorch loads it, as ONNX, with a card.

    Raises:
        InputError: not a finished segmentation run, no such weights, an ``out`` that holds something, a missing extra,
            or an ONNX file that does not do the same.
    """

    def write(folder: Path) -> tuple[dict[str, str], list[str]]:
        run = Run(settings.run)
        network, trained = load_network(run, settings.weights)
        normalization = trained_normalization(run, trained)
        save_stock(network, folder, *normalization)
        uses, files = [_USE], dict(_FILES)
        if settings.onnx or settings.int8:
            tried = onnx.trial(trained)
            files["model.onnx"] = f"ONNX; {onnx.write(network, normalization, folder / 'model.onnx', tried)}"
            uses.append(_USE_ONNX)
        if settings.int8:
            files["model_int8.onnx"] = onnx.write_small(folder / "model.onnx", folder / "model_int8.onnx", tried)
        names = ", ".join(f"{number} {name}" for number, name in enumerate(trained.classes or []))
        return files, [*uses, f"Classes: {names}."]

    share(settings, write)


def main() -> None:
    """Entry point of ``kdseg-export``."""
    run_application("kdseg/export", ExportSettings, export)


if __name__ == "__main__":
    main()
