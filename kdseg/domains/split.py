"""Which domains are trained on, and which of their images are held out: whole groups, never part of one."""

import logging
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from common.errors import InputError
from kdseg.domains.held_out import Parts
from kdseg.domains.sample import DomainData

_log = logging.getLogger(__name__)

PARTS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "unused": "unused",
}
"""What a published split may call a part, in small letters."""


def choose_domains(known: Sequence[str], target: str, sources: Sequence[str] | None, where: str) -> list[str]:
    """Return the names of the source domains.

    Args:
        known: Names of all domains there are.
        target: The domain left out.
        sources: The domains to train on; ``None`` means all but the target.
        where: Where the domains are, for messages (``"in /data/nuclei"``).

    Raises:
        InputError: if a name is not known or is given twice, the target is among the sources, or no source is left.
    """
    if isinstance(sources, str):
        raise InputError(f"sources={sources!r} is one word; give a list, such as [{sources}]")
    chosen = [name for name in known if name != target] if sources is None else list(sources)
    for option, names in (("target", [target]), ("sources", chosen)):
        for name in names:
            if name not in known:
                raise InputError(f"{option}={name!r} is not a domain {where}; known: {', '.join(known)}")
    if target in chosen:
        raise InputError(
            f"target={target!r} is among the sources {chosen}; the target must not be trained on:"
            " take it out of sources"
        )
    if repeated := [name for name, count in Counter(chosen).items() if count > 1]:
        raise InputError(f"sources={chosen} names {repeated[0]!r} twice; name every domain once")
    if not chosen:
        raise InputError(f"no source domain is left {where} beside target={target!r}; at least one is needed")
    return chosen


def split_by_group(
    groups: Mapping[str, Sequence[str]], fraction: float, seed: int
) -> dict[str, tuple[list[int], list[int]]]:
    """Cut every domain into training and validation positions.

    A domain's cut depends on ``seed``, its name and its own groups only, so it stays the same whichever
    other domains are trained on. The exception is a group that spans several domains: it goes to the side
    that the first of them (by name) gave it, in all of them.

    Args:
        groups: Domain name to the group of each of its images.
        fraction: Wanted share of a domain's images in its validation part, in [0, 1). The part is never
            larger than that (rounded), except that it holds at least one group. 0 keeps everything for training.
        seed: Chooses the groups.

    Returns:
        Domain name to (training positions, validation positions), each ascending.

    Raises:
        InputError: if ``fraction`` is outside [0, 1) or a domain has too few groups to have one on each side.
    """
    if not 0 <= fraction < 1:
        raise InputError(f"validation_fraction={fraction} is outside [0, 1); use a share such as 0.2")
    in_validation: dict[str, bool] = {}
    parts = {}
    for name in sorted(groups):
        if fraction > 0:
            _choose(name, groups[name], fraction, seed, in_validation)
        sides = [in_validation.get(group, False) for group in groups[name]]
        train = [position for position, held_out in enumerate(sides) if not held_out]
        validation = [position for position, held_out in enumerate(sides) if held_out]
        if fraction > 0 and not (train and validation):
            raise InputError(
                f"domain {name!r} has {len(set(groups[name]))} group(s) of images, too few to hold one out for"
                " validation; give more groups, or set validation_fraction=0"
            )
        parts[name] = (train, validation)
    return {name: parts[name] for name in groups}


def _choose(name: str, groups: Sequence[str], fraction: float, seed: int, in_validation: dict[str, bool]) -> None:
    """Enter a side for every group of a domain that has none yet."""
    sizes = Counter(groups)
    # crc32 and not hash(): the latter differs from process to process.
    order = np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(sorted(sizes))
    free = [str(group) for group in order if group not in in_validation]
    held_out = sum(size for group, size in sizes.items() if in_validation.get(group, False))
    train_groups = len(sizes) - sum(in_validation.get(group, False) for group in sizes)
    wanted = round(fraction * len(groups))
    if held_out == 0 and free:
        wanted = max(wanted, min(sizes[group] for group in free))
    for group in free:
        chosen = held_out + sizes[group] <= wanted and train_groups > 1
        in_validation[group] = chosen
        held_out += sizes[group] * chosen
        train_groups -= chosen


def split_domains(
    sources: Mapping[str, DomainData],
    target: DomainData,
    fraction: float,
    seed: int,
    published: Mapping[str, Sequence[str]] | None = None,
) -> Parts:
    """Training and held-out images of the sources, and the target.

    Args:
        sources: The domains to train on. Their images whose group occurs in the target are left out, with a warning.
        target: What is judged on.
        fraction: See :func:`split_by_group`, as for ``seed``.
        seed: As above.
        published: Name of a source → a value of :data:`PARTS` for each of its images, instead of both.

    Raises:
        InputError: a source has nothing left to train on, or a published split has one group on both sides.
    """
    kept = _without_groups_of(target, sources)
    parts: Parts = {"train": [], "validation": [], "target": target}
    if published is None:
        groups = {name: [domain.items[place].group for place in kept[name]] for name, domain in sources.items()}
        for name, (train, validation) in split_by_group(groups, fraction, seed).items():
            parts["train"] = [*parts["train"], sources[name].subset([kept[name][place] for place in train])]
            if validation:
                held_out = sources[name].subset([kept[name][place] for place in validation])
                parts["validation"] = [*parts["validation"], held_out]
        return parts
    found: dict[str, list[DomainData]] = {"train": [], "validation": [], "test": []}
    for name, domain in sources.items():
        for part, domains in found.items():
            places = [place for place in kept[name] if published[name][place] == part]
            if places:
                domains.append(domain.subset(places))
            elif part == "train":
                raise InputError(f"the split leaves domain {name!r} no image to train on; take it out of sources")
    _check_sides(found["train"], [*found["validation"], *found["test"]])
    parts["train"], parts["validation"] = found["train"], found["validation"]
    if found["test"]:
        tested = {domain.name: domain for domain in (*found["validation"], *found["test"])}  # the latter where both are
        parts["seen_test"] = [tested[name] for name in sources if name in tested]
    return parts


def _check_sides(train: Sequence[DomainData], held_out: Sequence[DomainData]) -> None:
    trained = {item.group: domain.name for domain in train for item in domain.items}
    for domain in held_out:
        for item in domain.items:
            if item.group in trained:
                raise InputError(
                    f"the split has group {item.group!r} both in training (domain {trained[item.group]!r}) and held out"
                    f" (image {item.name!r} of {domain.name!r}); keep it on one side, or set group_column=null"
                )


def _without_groups_of(target: DomainData, sources: Mapping[str, DomainData]) -> dict[str, list[int]]:
    """Positions of the source images whose group does not occur in the target: training would see what is judged."""
    judged = {item.group for item in target.items}
    kept = {}
    for name, domain in sources.items():
        positions = [position for position, item in enumerate(domain.items) if item.group not in judged]
        if not positions:
            raise InputError(
                f"every group of domain {name!r} also occurs in target {target.name!r}, so nothing is left to train on;"
                " if equal names are different groups, set groups_span_domains=false"
            )
        if dropped := len(domain) - len(positions):
            _log.warning(
                "left out %d of %d images of %s: target %s has images of the same group",
                dropped,
                len(domain),
                name,
                target.name,
            )
        kept[name] = positions
    return kept
