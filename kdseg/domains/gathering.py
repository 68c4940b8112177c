"""From what domains' folders hold to their images, groups and parts."""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from common.errors import InputError
from kdseg.domains.held_out import Images, source_names
from kdseg.domains.layouts import Found, Layout, Pair, domains_in
from kdseg.domains.pairs import FolderDomain, Reading, check_pairs
from kdseg.domains.split import PARTS
from kdseg.domains.table import ImageTable


def listed_pairs(
    root: Path, target: str, layout: Layout, unlabelled: bool, images: Images, notes: list[str]
) -> dict[str, Found]:
    """All pairs of a target that was not trained on, and of the source domains in ``root`` those held out."""
    sources = source_names(images)
    known = domains_in(root)
    if target not in known:
        raise InputError(f"target={target!r} is not a domain in {root}; known: {', '.join(known)}")
    listed: dict[str, Found] = {}
    for name in sources:
        used = images[name]
        if name not in known:
            notes.append(f"{name}: not in {root}, so its {len(used.test)} held-out images are passed over")
            continue
        found = layout.find(root, name, unlabelled)
        pairs = [pair for pair in found.pairs if pair.name in used.test]
        listed[name] = dataclasses.replace(found, pairs=pairs, unlabelled=())
        if others := sum(pair.name not in used.train and pair.name not in used.test for pair in found.pairs):
            notes.append(f"{name}: {others} images are passed over that the run neither trained on nor held out")
    return listed if target in sources else listed | {target: layout.find(root, target, unlabelled)}


def groups_of(
    found: Mapping[str, Found], table: ImageTable, column: str | None, span_domains: bool
) -> dict[str, tuple[list[str], list[str]]]:
    """Name of a domain → the groups of its pairs, and of its images without masks."""

    def of(name: str, pairs: Sequence[Pair]) -> list[str]:
        stems = [pair.name for pair in pairs]
        given = table.values_of("group_column", column, name, stems) if column else stems
        # Unrelated domains may count their images, or their groups, from 1 each.
        return given if column and span_domains else [f"{name}/{group}" for group in given]

    return {name: (of(name, one.pairs), of(name, one.unlabelled)) for name, one in found.items()}


def published_parts(found: Mapping[str, Found], table: ImageTable, column: str | None) -> dict[str, list[str]] | None:
    """Name of a source → what each of its images is for, where that is given."""
    if column is not None:
        values = {
            name: table.values_of("split_column", column, name, [pair.name for pair in one.pairs])
            for name, one in found.items()
        }
        for value in {value for given in values.values() for value in given}:
            if value.lower() not in PARTS:
                raise InputError(f"{table.path}: {column} {value!r} is no part; write one of: {', '.join(PARTS)}")
        return {name: [PARTS[value.lower()] for value in given] for name, given in values.items()}
    lists = {name: one.parts for name, one in found.items()}
    if not any(one is not None for one in lists.values()):
        return None
    if bare := [name for name, one in lists.items() if one is None]:
        raise InputError(f"domain {bare[0]!r} has no lists train.txt and val.txt, as others have; add or remove them")
    return {name: [(one.parts or {}).get(pair.name, "unused") for pair in one.pairs] for name, one in found.items()}


def read_domains(
    found: Mapping[str, Found], groups: Mapping[str, tuple[list[str], list[str]]], cache: int, reading: Reading
) -> tuple[dict[str, FolderDomain], list[FolderDomain]]:
    """The domains, and those of their images that have no masks."""
    parts = [(name, one.pairs, groups[name][0]) for name, one in found.items()]
    bare = [(name, one.unlabelled, groups[name][1]) for name, one in found.items() if one.unlabelled]
    checked = iter(check_pairs([pair for _, pairs, _ in (*parts, *bare) for pair in pairs], cache, reading))
    domains = [
        FolderDomain(name, list(islice(checked, len(pairs))), own, reading) for name, pairs, own in (*parts, *bare)
    ]
    return {domain.name: domain for domain in domains[: len(parts)]}, domains[len(parts) :]
