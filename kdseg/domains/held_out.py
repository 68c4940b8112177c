"""Which images a run was trained on and which it held out: ``images.json``, and what it may be judged on by that."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, NotRequired, TypedDict

import pydantic
from pydantic import Field

from common.errors import InputError
from common.runs.disk import MEBIBYTE, read_text, write_text
from common.runs.folder import Run
from common.runs.identity import digest
from kdseg.domains.digests import Digest
from kdseg.domains.sample import DomainData

_LARGEST_FILE = 64 * MEBIBYTE
_NAMES_SHOWN = 3

_Name = Annotated[str, Field(max_length=1000)]
_Digits = Annotated[str, Field(pattern=r"\A[0-9a-f]{16}\z")]
_Digest = tuple[_Digits, _Digits]


@dataclasses.dataclass(frozen=True)
class DomainImages:
    """What the images of a domain are used for: name and digest of each.

    Attributes:
        train: Trained on.
        validation: Held out, and measured along the way.
        test: Tested at the end; of a source domain, images that were held out.
    """

    train: Mapping[str, Digest]
    validation: Mapping[str, Digest]
    test: Mapping[str, Digest]


Images = Mapping[str, DomainImages]
"""Domain name to its images: the source domains in their order, then the target."""

_SCHEMA = pydantic.TypeAdapter(dict[_Name, dict[str, dict[_Name, _Digest]]])
_PARTS = [field.name for field in dataclasses.fields(DomainImages)]


def write_images(run: Run, images: Images) -> None:
    """Write ``images.json``; a crash keeps the one there was."""
    write_text(run.images_path, json.dumps({name: dataclasses.asdict(part) for name, part in images.items()}) + "\n")


def read_images(run: Run) -> Images | None:
    """What ``images.json`` says, ``None`` where there is none: a run of before there were such lists.

    Raises:
        InputError: the file is damaged or too large.
    """
    if not run.images_path.exists():
        return None
    try:
        domains = _SCHEMA.validate_json(read_text(run.images_path, _LARGEST_FILE), strict=True)
        images = {name: _domain_images(parts) for name, parts in domains.items()}
    except (pydantic.ValidationError, KeyError) as error:
        raise InputError(f"{run.images_path} is not a run's list of images; give a run that training wrote") from error
    if not source_names(images):
        raise InputError(f"{run.images_path} names no image that was trained on; give a run that training wrote")
    return images


def _domain_images(parts: Mapping[str, Mapping[str, _Digest]]) -> DomainImages:
    if len(parts) != len(_PARTS):
        raise KeyError
    return DomainImages(*({name: Digest(*pair) for name, pair in parts[part].items()} for part in _PARTS))


def digests(domain: DomainData) -> dict[str, Digest]:
    """Name and digest of every image."""
    return {item.name: domain.digest(position) for position, item in enumerate(domain.items)}


def fingerprints(images: Images) -> dict[str, str]:
    """Twelve hexadecimal digits a domain, that stand for names, pixels and masks of all images that take part."""
    return {
        domain: digest(sorted({(name, *found) for part in _parts(used) for name, found in part.items()}))
        for domain, used in images.items()
    }


def _parts(images: DomainImages) -> tuple[Mapping[str, Digest], ...]:
    return images.train, images.validation, images.test


def trained_on(images: Images) -> set[str]:
    """Digests of all images trained on, their masks apart."""
    return {found.image for used in images.values() for found in used.train.values()}


def source_names(images: Images) -> list[str]:
    """The domains that were trained on."""
    return [name for name, used in images.items() if used.train]


class Parts(TypedDict):
    """Arguments of :class:`~kdseg.domains.datamodule.SegmentationData`, to train or to judge a finished run."""

    train: Sequence[DomainData]
    validation: Sequence[DomainData]
    target: DomainData
    seen_test: NotRequired[Sequence[DomainData]]
    images: NotRequired[Images]
    notes: NotRequired[Sequence[str]]
    unlabelled: NotRequired[Sequence[DomainData]]


def judged_parts(domains: Mapping[str, DomainData], target: str, images: Images, notes: Sequence[str]) -> Parts:
    """What a finished run is judged on.

    Its source domains on the images that it held out, if they are still the same; another domain on all images but
    those that it was trained on.

    Args:
        domains: The target, and the source domains as far as there are images of them.
        target: Name of the domain to judge on; it may be a source domain.
        images: The run's.
        notes: What was passed over so far, a line each.

    Raises:
        InputError: nothing of the target is left.
    """
    lines = list(notes)
    held_out: dict[str, DomainData] = {}
    for name in source_names(images):
        if name in domains:
            held_out[name] = _held_out(domains[name], images[name].test, lines)
    judged = held_out.pop(target) if target in held_out else _unseen(domains[target], images, lines)
    if not len(judged):
        known = [line for line in lines if line.startswith(f"{target}: ")]
        why = "; ".join(known) or "the run held none of its images out"
        raise InputError(f"target={target!r} leaves nothing to judge on ({why}); give another target or root")
    return {
        "train": [],
        "validation": [],
        "target": judged,
        "seen_test": [domain for domain in held_out.values() if len(domain)],
        "images": images,
        "notes": lines,
    }


def _held_out(domain: DomainData, listed: Mapping[str, Digest], notes: list[str]) -> DomainData:
    """The images of the list that are still what they were; the others are named."""
    positions = [
        position
        for position, item in enumerate(domain.items)
        if item.name in listed and domain.digest(position).image == listed[item.name].image
    ]
    if lost := sorted(listed.keys() - {domain.items[position].name for position in positions}):
        more = f" and {len(lost) - _NAMES_SHOWN} more" if len(lost) > _NAMES_SHOWN else ""
        names = ", ".join(repr(name) for name in lost[:_NAMES_SHOWN]) + more
        notes.append(f"{domain.name}: {len(lost)} of {len(listed)} held-out images are gone or changed: {names}")
    return domain.subset(positions)


def _unseen(domain: DomainData, images: Images, notes: list[str]) -> DomainData:
    """The images that were not trained on, whatever they are called."""
    trained = trained_on(images)
    if domain.name in images:  # the run's own target is what it was, or its scores could not be found again
        trained -= {found.image for found in images[domain.name].test.values()}
    positions = [position for position in range(len(domain)) if domain.digest(position).image not in trained]
    if left_out := len(domain) - len(positions):
        notes.append(
            f"{domain.name}: {left_out} of {len(domain)} images are left out, since the run was trained on them"
        )
    return domain.subset(positions)
