"""Why a segmentation network does what it does: its loss, its teacher, and what its features tell."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.evaluation.information import probe
from kdseg.domains.dataset import Entry
from kdseg.domains.sample import IGNORE
from kdseg.segmentation_network import SegmentationNetwork, pad_to_multiple

POSITIONS = 100
"""Of an image, that features are taken at."""

Entries = Iterable[Entry]


@torch.no_grad()
def probed(network: SegmentationNetwork, domains: Iterable[Entries]) -> dict[str, float]:
    """What the features before the head tell of the class and of the domain.

    Args:
        network: Which one.
        domains: The images of each domain.

    Returns:
        Of ``labels`` and of ``domains``, ``information/…`` in nats and ``probe/…``, a linear probe's accuracy; without
        those that :func:`common.evaluation.information.probe` cannot tell.
    """
    features, labels, whose, images = [], [], [], []
    for number, entries in enumerate(domains):
        for entry in entries:
            one, label = _features(network, entry["image"], entry["mask"], entry["index"])
            features.append(one)
            labels.append(label)
            whose.append(torch.full_like(label, number))
            images.append(torch.full_like(label, entry["index"]))
    given, groups = torch.cat(features), torch.cat(images)
    values: dict[str, float] = {}
    for name, wanted in (("labels", torch.cat(labels)), ("domains", torch.cat(whose))):
        found = probe(given, wanted, groups)
        if found is not None:
            values |= {f"information/{name}": found.information, f"probe/{name}": found.accuracy}
    return values


def _features(network: SegmentationNetwork, image: Tensor, mask: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """What the head is given at some labelled positions of an image ``[P, D]``, and their classes ``[P]``."""
    padded = pad_to_multiple(image[None].to(_device(network)), network.stride)
    maps = network.pixels(padded).features.float()
    labels = F.interpolate(pad_to_multiple(mask[None, None].float(), network.stride, value=IGNORE), maps.shape[-2:])
    labels = labels.long().flatten()
    kept = (labels != IGNORE).nonzero().squeeze(1)
    kept = kept[torch.randperm(len(kept), generator=torch.Generator().manual_seed(number))[:POSITIONS]]
    return maps[0].flatten(1).T.cpu()[kept], labels[kept]


@torch.no_grad()
def agreement(network: nn.Module, teacher: nn.Module, entries: Entries) -> float:
    """Share of the labelled pixels where network and teacher choose the same class; NaN where none is labelled."""
    same = count = 0
    for entry in entries:
        image, valid = entry["image"][None].to(_device(network)), (entry["mask"] != IGNORE).to(_device(network))
        equal = network(image).argmax(dim=1)[0] == teacher(image).argmax(dim=1)[0]
        same, count = same + int((equal & valid).sum()), count + int(valid.sum())
    return same / count if count else float("nan")


@torch.no_grad()
def mean_loss(network: nn.Module, entries: Entries) -> float:
    """Mean cross-entropy over the labelled pixels."""
    total, count = 0.0, 0
    for entry in entries:
        mask = entry["mask"][None].to(_device(network))
        logits = network(entry["image"][None].to(_device(network))).float()
        total += float(F.cross_entropy(logits, mask, ignore_index=IGNORE, reduction="sum"))
        count += int((mask != IGNORE).sum())
    return total / max(1, count)


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
