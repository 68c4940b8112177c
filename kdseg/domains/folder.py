"""A folder of domains, one of which is left out: ``root/<domain>/{images,masks}/``."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pydantic

from common.arguments import Count, CountFromZero, Range, Seed, Share, UpToOne, checked, each_once
from common.errors import InputError
from kdseg.domains.augmentation import Augmentation
from kdseg.domains.coco import class_names as category_names
from kdseg.domains.datamodule import SegmentationData
from kdseg.domains.dataset import IMAGENET_MEAN, IMAGENET_STD, Batch, Channels, Deviations, Loading, Side, Workers
from kdseg.domains.findings import findings
from kdseg.domains.folds import Fold
from kdseg.domains.gathering import groups_of, listed_pairs, published_parts, read_domains
from kdseg.domains.held_out import Images, judged_parts
from kdseg.domains.images import ValueRange, check_brightness, checked_range
from kdseg.domains.labels import added, check_labels, check_sense, count_classes
from kdseg.domains.layouts import Found, Kind, Layout, domains_in
from kdseg.domains.masks import Digits, MaskValue, make_label_map
from kdseg.domains.pairs import FolderDomain, Reading
from kdseg.domains.sample import IGNORE
from kdseg.domains.split import choose_domains, split_domains
from kdseg.domains.table import ImageTable
from kdseg.domains.unlabelled import apart

Classes = Annotated[int, Range(2, IGNORE)]
Names = Annotated[Sequence[str], pydantic.AfterValidator(each_once)]


class FolderData(SegmentationData):
    """Leave one domain out of a folder of domains.

    Every domain is a folder ``root/<domain>/`` with ``images/`` and ``masks/``, or as ``layout`` says. An image (grey,
    colours or a TIFF of any bands; any depth and size) and its mask have the same name, file type aside. A mask holds
    class indices, and 255 is ignored, unless ``mask_values`` or ``colour_map`` say what its values stand for. All files
    that take part are decoded once at construction, by what they are and not by their names; see
    :func:`~kdseg.domains.images.read_image` and :func:`~kdseg.domains.masks.read_mask`.

    Images of one group stay on one side of the split into training and validation. Where a group of the
    target domain also occurs in a source domain, its images there are left out (with a warning).

    Args:
        root: Folder of domain folders.
        target: Domain to judge on. All of its images are test images; none is trained on or selects a model.
        sources: Domains to train on; ``None`` means all others.
        layout: ``folders``, ``voc`` or ``coco``; see :class:`~kdseg.domains.layouts.Layout`, as for the next five. With
            ``coco``, classes are ``background`` and the categories by name.
        image_folder: As above.
        mask_folder: As above.
        image_suffix: As above.
        mask_suffix: As above.
        nested: As above.
        num_classes: Number of classes; ``None`` counts up to the highest class index in the sources' masks.
        class_names: Their names; ``None`` means those of the mapping below, or ``class_0``, ``class_1``, ...
        mask_values: What the values of masks stand for, value → name: ``{0: background, 255: nucleus}``. The name
            ``ignore`` is for what belongs to no class; a value that occurs and is not named is an error.
        colour_map: The same for masks of colours: ``{"000000": background, "ff0000": nucleus}``, or ``255/0/0``.
        value_range: What is black and what is white in images of more than 8 bits a channel. ``None`` takes [0, 65535]
            for 16 bits and [0, 1] for floating-point numbers, and raises where the images would be nearly black.
        group_column: Column of ``metadata`` that names an image's group; ``None`` makes every image its own.
        name_column: Column of ``metadata`` with the image's file name.
        domain_column: Column of ``metadata`` with the domain; ``None`` if names are unique over all domains.
        split_column: Column of ``metadata`` that says ``train``, ``validation``, ``test`` or ``unused`` of every image
            of a source, instead of a random split. A source is scored on its ``test`` images at the end, on those for
            validation where there are none; the target is scored on all of its images.
        metadata: CSV file, relative to ``root``.
        groups_span_domains: Whether equal group names in different domains mean the same group.
        validation_fraction: Share of every source domain's images held out; 0 holds out none. Not used where
            ``split_column`` or the lists of ``layout=voc`` say which.
        split_seed: Chooses the held-out groups. Apart from ``seed`` so that runs with different seeds
            are judged on the same images.
        cache_mib: Decoded images are kept in memory, as many as fit into this many MiB.
        fold: ``(k, K)`` leaves fold k of K of the training images out, for a teacher of ``method=cross_fitted``; images
            of one group are in one fold.
        unknown_class: A class that is kept from training and scores, to be detected as unknown
            (``kdseg-evaluate measures=[unknown]``).
        unlabelled: Whether source images may lack a mask, all of a domain's too, and those of
            ``root/<domain>/unlabelled`` are taken as well: they are distilled on where the method can, and never
            scored. Those of a group that is held out are left out.
        labelled_fraction: Share of each source's training images that keep their masks, for studies; see
            :func:`~kdseg.domains.unlabelled.hide_labels`. ``split_seed`` chooses them.
        batch_size: See :class:`~kdseg.domains.dataset.Loading`, as for the arguments that follow.
        eval_batch_size: As above.
        crop_size: As above.
        augmentation: As above.
        upright: As above.
        balanced: As above.
        samples_per_epoch: As above.
        num_workers: As above.
        seed: As above.
        mean: As above.
        std: As above.
        images: Judge a finished run with these images instead of training one: on those that it held out, or on a
            target that it did not train on. ``sources`` and the split are the run's.

    Raises:
        InputError: if anything above cannot be had from the folder, naming the file and what would do.
    """

    @checked
    def __init__(
        self,
        root: str | Path,
        target: str,
        sources: Sequence[str] | None = None,
        layout: Kind = "folders",
        image_folder: str = "images",
        mask_folder: str = "masks",
        image_suffix: str = "",
        mask_suffix: str = "",
        nested: bool = False,
        num_classes: Classes | None = None,
        class_names: Names | None = None,
        mask_values: Mapping[MaskValue, str] | None = None,
        colour_map: Mapping[Digits | str, str] | None = None,
        value_range: ValueRange | None = None,
        group_column: str | None = None,
        name_column: str = "name",
        domain_column: str | None = None,
        split_column: str | None = None,
        metadata: str = "metadata.csv",
        groups_span_domains: bool = True,
        validation_fraction: Share = 0.2,
        fold: Fold | None = None,
        unknown_class: str | None = None,
        split_seed: Seed = 0,
        cache_mib: CountFromZero = 1024,
        unlabelled: bool = False,
        labelled_fraction: UpToOne = 1.0,
        batch_size: Batch = 16,
        eval_batch_size: Batch = 8,
        crop_size: Side | None = 96,
        augmentation: Augmentation = "mild",
        upright: bool = False,
        balanced: bool = True,
        samples_per_epoch: Count | None = None,
        num_workers: Workers = 0,
        seed: Seed = 0,
        mean: Channels = IMAGENET_MEAN,
        std: Deviations = IMAGENET_STD,
        images: Images | None = None,
    ) -> None:
        loading = Loading(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            crop_size=crop_size,
            augmentation=augmentation,
            upright=upright,
            balanced=balanced,
            samples_per_epoch=samples_per_epoch,
            num_workers=num_workers,
            seed=seed,
            mean=mean,
            std=std,
        )
        loading.pipeline()  # a mistake in it should be found before hundreds of files are read
        folder, notes = Path(root).expanduser(), list[str]()
        table = ImageTable(folder / metadata, name_column, domain_column)
        where = Layout(layout, image_folder, mask_folder, image_suffix, mask_suffix, nested)
        label_map = make_label_map(mask_values, colour_map, class_names)
        if layout == "coco" and label_map is not None:
            raise InputError(f"{label_map.option} is for masks in files; with layout=coco, classes are the categories")
        class_names = class_names if label_map is None else label_map.names
        if images is None:
            chosen = choose_domains(domains_in(folder), target, sources, f"in {folder}")
            found = {name: where.find(folder, name, unlabelled) for name in [*chosen, target]}
            _check_labelled(found, target)
        else:
            found = listed_pairs(folder, target, where, unlabelled, images, notes)
            if group_column and not table.path.exists():
                group_column = None
                notes.append(f"{metadata} is not in {folder}: every image counts as a group of its own")
        if layout == "coco":
            class_names = category_names(class_names, [name for one in found.values() for name in one.categories])
        reading = Reading(checked_range(value_range), label_map, class_names or ())
        if target in found:
            found[target] = dataclasses.replace(found[target], unlabelled=())  # what is judged on is not learnt from
        groups = groups_of(found, table, group_column, groups_span_domains)
        domains, bare = read_domains(found, groups, cache_mib * 2**20, reading)
        if images is None:
            domains = {name: domain for name, domain in domains.items() if len(domain)}
        named = _check_masks(domains, target, num_classes, class_names, images is None, notes)
        notes += _check_values([*domains.values(), *bare])
        if images is None:
            learnt = {name: domains[name] for name in chosen if name in domains}
            published = published_parts({name: found[name] for name in learnt}, table, split_column)
            parts = split_domains(learnt, domains[target], validation_fraction, split_seed, published)
            parts["notes"] = notes
            parts["unlabelled"] = apart(bare, [*parts["validation"], *parts.get("seen_test", ()), parts["target"]])
        else:
            parts = judged_parts(domains, target, images, notes)
        super().__init__(
            **parts,
            class_names=named,
            loading=loading,
            fold=fold,
            unknown_class=unknown_class,
            labelled_fraction=labelled_fraction,
            label_seed=split_seed,
        )
        self.found = {
            name: findings(domain.checked, named, found[name].passed_over, len(found[name].unlabelled))
            for name, domain in domains.items()
            if domain.checked
        }


def _check_labelled(found: Mapping[str, Found], target: str) -> None:
    """Raise unless what is judged on has masks, and a source has some."""
    if not found[target].pairs:
        raise InputError(f"target={target} has no image with a mask, so that nothing could be judged; give it masks")
    if not any(one.pairs for name, one in found.items() if name != target):
        raise InputError(f"no source beside target={target} has an image with a mask; give one of them masks")


def _check_masks(
    domains: Mapping[str, FolderDomain],
    target: str,
    num_classes: int | None,
    class_names: Sequence[str] | None,
    trains: bool,
    notes: list[str],
) -> list[str]:
    """The names of the classes, if the masks fit them."""
    counts = {name: added([entry.labels for entry in domain.checked]) for name, domain in domains.items()}
    sources = {name: count for name, count in counts.items() if name != target}
    count = count_classes(num_classes, class_names, added(list(sources.values())))
    check_labels([entry for domain in domains.values() for entry in domain.checked], count)
    names = list(class_names or [f"class_{index}" for index in range(count)])
    if trains:
        notes += check_sense(sources, (target, counts[target]), names)
    return names


def _check_values(domains: Sequence[FolderDomain]) -> list[str]:
    lines = []
    for domain in domains:
        entries = domain.checked
        line = check_brightness(
            domain.name, [entry.brightest for entry in entries], [entry.clipped for entry in entries]
        )
        lines += [line] if line else []
    return lines
