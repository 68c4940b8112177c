"""Teachers that have not seen what they label: folds of the training images (cross-fitting), and whole domains."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from common.arguments import CountFromZero, Range
from common.errors import InputError
from common.runs.folder import Run
from kdseg.domains.held_out import Images, read_images, source_names, trained_on
from kdseg.domains.sample import DomainData

Fold = tuple[CountFromZero, Annotated[int, Range(2, 1000)]]
"""Number of a fold, counted from 0, and how many there are."""


def folds_of(domains: Sequence[DomainData], count: int) -> list[list[int]]:
    """The fold of every image, by domain: images of one group are in one fold, over all domains.

    Args:
        domains: The training images.
        count: How many folds.
    """
    groups = sorted({item.group for domain in domains for item in domain.items})
    fold = {group: number % count for number, group in enumerate(groups)}
    return [[fold[item.group] for item in domain.items] for domain in domains]


def leave_out(domains: Sequence[DomainData], fold: Fold) -> list[DomainData]:
    """The training images without those of a fold.

    Raises:
        InputError: there is no such fold, or nothing is left of a domain.
    """
    number, count = fold
    if number >= count:
        raise InputError(f"fold=[{number},{count}]: {count} folds are numbered from 0 to {count - 1}")
    kept = []
    for domain, folds in zip(domains, folds_of(domains, count), strict=True):
        positions = [position for position, own in enumerate(folds) if own != number]
        if not positions:
            raise InputError(
                f"fold=[{number},{count}] leaves nothing of domain {domain.name!r} to train on; use more folds"
            )
        kept.append(domain.subset(positions))
    return kept


def check_folds(paths: Sequence[str], domains: Sequence[DomainData]) -> Tensor:
    """Raise unless each teacher was trained without its fold of the student's training images.

    Args:
        paths: The teachers' folders, in the order of their folds.
        domains: The student's training images.

    Returns:
        The fold of every training image, ``int64 [N]``.

    Raises:
        InputError: naming the teacher, how many images it has seen, and how to train it.
    """
    count = len(paths)
    folds = folds_of(domains, count)
    for number, path in enumerate(paths):
        seen = trained_on(_images_of(path, "fold"))
        own = [
            domain.digest(position).image
            for domain, numbers in zip(domains, folds, strict=True)
            for position, fold in enumerate(numbers)
            if fold == number
        ]
        if known := sum(digest in seen for digest in own):
            raise InputError(
                f"teacher={path} was trained on {known} of the {len(own)} images of fold {number}, which it is to"
                f" label; train it with data.fold=[{number},{count}], and give the teachers in the order of their folds"
            )
    return torch.tensor([fold for numbers in folds for fold in numbers])


def unseen_by(paths: Sequence[str], domains: Sequence[DomainData]) -> Tensor:
    """Which teachers have not seen the domain of which training image: complementary teachers.

    A teacher has seen a domain that it was trained on by name, or any of the images.

    Args:
        paths: The teachers' folders.
        domains: The student's training images.

    Returns:
        ``bool [N, K]``.

    Raises:
        InputError: a domain that all teachers have seen, or a teacher without a list of its images.
    """
    columns = []
    for path in paths:
        images = _images_of(path, "domains")
        seen, names = trained_on(images), source_names(images)
        columns.append(
            [
                domain.name not in names
                and not any(domain.digest(position).image in seen for position in range(len(domain)))
                for domain in domains
            ]
        )
    rows = []
    for domain, answering in zip(domains, zip(*columns, strict=True), strict=True):
        if not any(answering):
            others = [other.name for other in domains if other.name != domain.name]
            raise InputError(
                f"teacher_domains=unseen: every teacher has seen {domain.name}; give one that was trained with"
                f" 'data.sources=[{','.join(dict.fromkeys(others))}]'"
            )
        rows += [answering] * len(domain)
    return torch.tensor(rows)


def _images_of(path: str, what: str) -> Images:
    images = read_images(Run(path))
    if images is None:
        raise InputError(f"teacher={path} has no list of its images, so nobody knows which {what} it has not seen")
    return images
