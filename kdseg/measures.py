"""A segmentation network under corruptions and attacks, before unknown images, and why it does what it does."""

import copy
import dataclasses
import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from common.errors import InputError
from common.evaluation.attacks import Attacker
from common.evaluation.conditions import Condition
from common.evaluation.corruptions import corrupt
from common.evaluation.flatness import flatness
from common.evaluation.measures import AttackSettings, Cell, Subject
from common.evaluation.segmentation import mean_iou, pixel_accuracy
from common.evaluation.unknown import SCORES, detection, odin
from common.runs.records import Judged, Record
from kdseg.analysis import agreement, mean_loss, probed
from kdseg.domains.datamodule import Part, SegmentationData
from kdseg.domains.dataset import Entry
from kdseg.domains.sample import IGNORE
from kdseg.measure import evenly, measure
from kdseg.metrics import batch_confusion
from kdseg.records import score_row
from kdseg.segmentation_network import Renormalized, SegmentationNetwork
from kdseg.settings import TrainSettings

SIDE = 256
"""Of the middle of an image that is attacked, or compared with others; what is smaller is taken whole."""
CORRUPTED_SIDE = 512
"""Of the middle of an image that is corrupted: strengths are made for images of about 224 pixels."""
PIXELS = 2048
"""Of an image and kind, that are pooled for detection."""


@dataclasses.dataclass(frozen=True)
class Corrupting:
    """A pipeline of the middle and one corruption at one severity, or none.

    What is drawn depends on the image's number alone.
    """

    condition: Condition

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], seed: Sequence[int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """As :class:`kdseg.domains.augmentation.Pipeline`; the run's seed and the pass do not count."""
        cut = _middle(mask, CORRUPTED_SIDE)
        image, mask = image[cut], mask[cut]
        if not self.condition.strength:
            return image, mask
        changed, moved = corrupt(image, self.condition.name, int(self.condition.strength), seed[2:], mask)
        assert moved is not None
        return changed, moved


@dataclasses.dataclass
class SegmentationSubject(Subject):
    """A network, and the images that it is judged on.

    Args:
        network: On ``device``; a copy is used.
        teacher: Its teacher, on ``device``, where it had one and that can be had.
        data: The data.
        settings: The run's.
        judged: What the records share.
        device: Where to compute.
        most: Images of a domain for what takes long.
    """

    network: SegmentationNetwork
    teacher: nn.Module | None
    data: SegmentationData
    settings: TrainSettings
    judged: Judged
    device: torch.device
    most: int

    def __post_init__(self) -> None:
        # The faster layout; nothing here is compared with the test to the last bit.
        self.network = copy.deepcopy(self.network).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        bands = self.data.in_channels
        own_range = (0.0,) * bands, (1.0,) * bands
        self.of_pixels = Renormalized(self.network, own_range, (self.data.mean, self.data.std)).to(self.device)

    def _cell(
        self, conditions: Sequence[Condition], part: Part, n: int, work: Callable[[], dict[Condition, dict[str, float]]]
    ) -> Cell:
        def records() -> list[Record]:
            return [
                dataclasses.replace(self._row(part, metric, value), n=n, condition=str(condition))
                for condition, values in work().items()
                for metric, value in values.items()
                if np.isfinite(value)
            ]

        return Cell(conditions, part.domain, part.seen, self.judged.selection, n, records)

    def _row(self, part: Part, metric: str, value: float) -> Record:
        return score_row(self.settings, self.data, part, "test", metric, value, self.judged)

    def _corruptions(self, conditions: Sequence[Condition]) -> Iterator[Cell]:
        if self.data.in_channels != 3:
            raise InputError(
                f"corruptions are of red, green and blue, and these images have {self.data.in_channels} bands; leave"
                " them out of measures"
            )
        parts = [Part(one.domain, one.seen, one.dataset.some(self._some(one))) for one in self.data.test_parts]
        for condition in conditions:
            for part in parts:

                def work(condition: Condition = condition, part: Part = part) -> dict[Condition, dict[str, float]]:
                    changed = Part(part.domain, part.seen, part.dataset.changed(Corrupting(condition)))
                    found = measure(self.network, self.data, changed, self.device, Console(quiet=True))
                    scores = found.calibration[0].scores()
                    return {condition: {"miou": float(mean_iou(found.confusions.sum(axis=0))), "ece": scores["ece"]}}

                yield self._cell([condition], part, len(part.dataset), work)

    def _attacks(self, settings: AttackSettings) -> Iterator[Cell]:
        radii = settings.sweep()
        for kind in settings.names:
            name = settings.name_of(kind)
            conditions = [Condition("attack", name, f"{radius:g}") for radius in radii]
            attacker = Attacker(kind, settings.steps, settings.restarts)
            for part in self.data.test_parts:

                def work(
                    part: Part = part, conditions: Sequence[Condition] = conditions, attacker: Attacker = attacker
                ) -> dict[Condition, dict[str, float]]:
                    return dict(zip(conditions, self._attacked(part, attacker, radii), strict=True))

                yield self._cell(conditions, part, len(self._some(part)), work)

    def _attacked(self, part: Part, attacker: Attacker, radii: Sequence[float]) -> list[dict[str, float]]:
        classes = self.data.num_classes
        confusions = np.zeros((len(radii), classes, classes), dtype=np.int64)
        for position in self._some(part):
            image, mask = self._image(part, position)
            steps = attacker.sweep(self.of_pixels, image, mask, mask != IGNORE, [radius / 255 for radius in radii])
            for number, (_, changed) in enumerate(steps):
                with torch.no_grad():
                    logits = self.of_pixels(changed)
                confusions[number] += batch_confusion(logits, mask, classes)[0].cpu().numpy()
        return [{"miou": float(mean_iou(one)), "pixel_accuracy": float(pixel_accuracy(one))} for one in confusions]

    def _unknown(self) -> Iterator[Cell]:
        """Pixels of the class that was kept from training, or else the target's images against those of the sources."""
        if self.data.unknown_class is not None:
            for part in self.data.test_parts:
                condition = Condition("unknown", "pixels")
                yield self._cell(
                    [condition], part, len(self._some(part)), functools.partial(self._strange_pixels, part)
                )
            return
        target, *others = self.data.test_parts
        seen = [part for part in others if part.seen]
        if target.seen or not seen:
            return
        condition = Condition("unknown", "images")

        def work() -> dict[Condition, dict[str, float]]:
            scores = {part.domain: self._strangeness(part) for part in (target, *seen)}
            values: dict[str, float] = {}
            for name in (*SCORES, "odin"):
                known = np.concatenate([scores[part.domain][name] for part in seen])
                found = detection(known, scores[target.domain][name])
                values |= {f"{metric}/{name}": value for metric, value in found.items()}
            return {condition: values}

        yield self._cell([condition], target, len(self._some(target)), work)

    def _strange_pixels(self, part: Part) -> dict[Condition, dict[str, float]]:
        """Detection over pixels: pooled over some of each image, and the mean over images that show both kinds."""
        pooled: dict[str, tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]] = defaultdict(lambda: ([], []))
        alone: dict[str, list[float]] = defaultdict(list)
        for position in self._some(part):
            image, mask = self._image(part, position)
            strange = part.dataset.unknown(position)
            kinds = [(mask != IGNORE)[0].cpu().numpy(), strange[_middle(strange)]]
            with torch.no_grad():
                logits = self.of_pixels(image)
                maps = {name: score(logits)[0].double().cpu().numpy() for name, score in SCORES.items()}
            maps["odin"] = odin(self.of_pixels, image)[0].double().cpu().numpy()
            rng = np.random.default_rng(position)
            for name, scores in maps.items():
                own = [scores[kind] for kind in kinds]
                for found, values in zip(pooled[name], own, strict=True):
                    found.append(values if len(values) <= PIXELS else rng.choice(values, PIXELS, replace=False))
                for metric, value in detection(*own).items():
                    alone[f"{metric}_per_image/{name}"].append(value)
        told = {name: float(np.mean(each)) for name, each in alone.items()}
        for name, parts in pooled.items():
            together = detection(*(np.concatenate(one) for one in parts))
            told |= {f"{metric}/{name}": value for metric, value in together.items()}
        return {Condition("unknown", "pixels"): told}

    def _strangeness(self, part: Part) -> dict[str, NDArray[np.float64]]:
        """Score's name → the mean over the pixels of each image."""
        found: dict[str, list[float]] = defaultdict(list)
        for position in self._some(part):
            image, _ = self._image(part, position)
            with torch.no_grad():
                logits = self.of_pixels(image)
                for name, score in SCORES.items():
                    found[name].append(float(score(logits).mean()))
            found["odin"].append(float(odin(self.of_pixels, image).mean()))
        return {name: np.array(values) for name, values in found.items()}

    def _analysis(self) -> Iterator[Cell]:
        condition = Condition("analysis")
        for part in self.data.test_parts:

            def agreed(part: Part = part) -> dict[Condition, dict[str, float]]:
                values = {"flatness": flatness(self.network, lambda network: mean_loss(network, self._entries(part)))}
                if self.teacher is not None:
                    values["teacher_agreement"] = agreement(self.network, self.teacher, self._entries(part))
                return {condition: values}

            yield self._cell([condition], part, len(self._some(part)), agreed)
        target = self.data.test_parts[0]
        yield self._cell(
            [Condition("analysis", "features")],
            target,
            len(self._some(target)),
            lambda: {Condition("analysis", "features"): probed(self.network, map(self._entries, self.data.test_parts))},
        )

    def _entries(self, part: Part) -> Iterator[Entry]:
        for position in self._some(part):
            yield part.dataset[position]

    def _some(self, part: Part) -> Sequence[int]:
        return evenly(len(part.dataset), self.most)

    def _image(self, part: Part, position: int) -> tuple[Tensor, Tensor]:
        """The middle of an image in its own range ``[1, bands, H, W]`` and of its mask ``[1, H, W]``."""
        sample = part.dataset.sample(position)
        cut = _middle(sample.mask)
        pixels = np.ascontiguousarray(sample.image[cut].transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
        mask = torch.from_numpy(sample.mask[cut].astype(np.int64))
        return torch.from_numpy(pixels)[None].to(self.device), mask[None].to(self.device)


def _middle(mask: NDArray[Any], side: int = SIDE) -> tuple[slice, slice]:
    top, left = (max(0, (size - side) // 2) for size in mask.shape)
    return np.s_[top : top + side, left : left + side]
