"""What a data set of domains holds, before anything is trained on it: kdseg-check."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from common.application import run as run_application
from common.errors import InputError
from common.report.theme import class_colours
from common.runs.disk import write_atomically
from common.text import clipped, visible
from kdseg.configured import DATA_PARTS, make_data
from kdseg.domains.datamodule import SegmentationData
from kdseg.domains.images import to_be_seen
from kdseg.domains.sample import IGNORE, DomainData
from kdseg.overlay import overlay
from kdseg.settings import CheckSettings

SIDE, LINE = 160, 22
"""Of a picture on the contact sheet, and of a line of text, in pixels."""
_MOST = 20


def check(settings: CheckSettings) -> None:
    """Print what there is and what looks wrong, and with ``out`` draw images of every domain with their masks.

    Raises:
        InputError: data that could not be trained on, or an ``out`` that cannot be a picture.
    """
    out = None if settings.out is None else Path(settings.out)
    if out is not None and out.suffix.lower() != ".png":
        raise InputError(f"out={out} must end in .png")
    console = Console()
    data = make_data(settings.data)
    console.print(data.summary(), markup=False, highlight=False, soft_wrap=True)
    domains = whole(data)
    console.print(_shares(domains, data.class_names))
    lines = list(suspicious(domains))
    for line in lines[:_MOST]:
        console.print(f"suspicious: {visible(line)}", markup=False, highlight=False, soft_wrap=True)
    if len(lines) > _MOST:
        console.print(f"suspicious: {len(lines) - _MOST} more")
    if not lines:
        console.print("nothing looks suspicious")
    if out is not None:
        picture = contact_sheet(domains, data.class_names, settings.images)
        write_atomically(out, functools.partial(picture.save, format="PNG"))
        console.print(f"written: {out}", markup=False, highlight=False, soft_wrap=True)


def whole(data: SegmentationData) -> dict[str, list[DomainData]]:
    """Every domain's labelled images, whatever they are used for."""
    parts = [part.dataset.domains[0] for part in (*data.validation_parts, *data.test_parts)]
    found: dict[str, list[DomainData]] = {name: [] for name in data.domain_names}
    for domain in (*data.train_dataset.domains, *parts):
        if domain.labelled and domain not in found[domain.name]:
            found[domain.name].append(domain)
    return found


def _each(parts: Sequence[DomainData]) -> Iterator[tuple[DomainData, int]]:
    named: set[str] = set()
    for domain in parts:
        for position, item in enumerate(domain.items):
            if item.name not in named:
                named.add(item.name)
                yield domain, position


def _shares(domains: dict[str, list[DomainData]], names: Sequence[str]) -> Table:
    table = Table(title="Share of labelled pixels (%)", title_justify="left")
    table.add_column("domain")
    for name in (*names, "images", "groups"):
        table.add_column(visible(name), justify="right")
    for label, parts in domains.items():
        counts, groups, images = np.zeros(256, np.int64), set(), 0
        for domain, position in _each(parts):
            counts += np.bincount(domain.read(position)[1].ravel(), minlength=256)
            groups.add(domain.items[position].group)
            images += 1
        known = counts[: len(names)]
        shares = [f"{100 * count / max(1, known.sum()):.2f}" for count in known]
        table.add_row(visible(label), *shares, str(images), str(len(groups)))
    return table


def suspicious(domains: dict[str, list[DomainData]]) -> Iterator[str]:
    """Images of one colour, masks that say nothing, and the same image twice."""
    seen: dict[str, tuple[str, str]] = {}
    for label, parts in domains.items():
        alone: list[str] = []
        count = 0
        for domain, position in _each(parts):
            place, digest = f"{label}/{domain.items[position].name}", domain.digest(position)
            image, mask = domain.read(position)
            classes = np.setdiff1d(mask, IGNORE)
            count += 1
            if image.min() == image.max():
                yield f"{place}: the image is of one colour"
            if not classes.size:
                yield f"{place}: no pixel of the mask is labelled"
            elif classes.size == 1:
                alone.append(place)
            first, mask_there = seen.setdefault(digest.image, (place, digest.mask))
            if first != place:
                other = "" if mask_there == digest.mask else ", with another mask"
                yield f"{place} is the same image as {first}{other}"
        if 2 * len(alone) >= count:
            yield f"{label}: {len(alone)} of {count} masks hold a single class, such as {alone[0]}"


def contact_sheet(domains: dict[str, list[DomainData]], names: Sequence[str], count: int) -> Image.Image:
    """A row a domain: so many images, evenly spread, and below each its mask over it."""
    colours = class_colours(len(names))
    font = ImageFont.load_default(14)
    height = LINE + 2 * SIDE + 6
    sheet = Image.new("RGB", (max(count * (SIDE + 4), 480), LINE + height * len(domains)), "white")
    pen, left = ImageDraw.Draw(sheet), 4
    for name, colour in zip(names, colours, strict=True):
        shown = clipped(visible(name), 24)
        pen.rectangle((left, 5, left + 12, 17), tuple(colour.tolist()))
        pen.text((left + 16, 2), shown, "black", font)
        left += 28 + int(pen.textlength(shown, font))
    for row, (label, parts) in enumerate(domains.items()):
        top = LINE + row * height
        every = list(_each(parts))
        pen.text((4, top + 2), f"{clipped(visible(label), 40)}, {len(every)} images", "black", font)
        places = sorted({round(one) for one in np.linspace(0, len(every) - 1, min(count, len(every)))})
        for column, place in enumerate(places):
            domain, position = every[place]
            image, mask = domain.read(position)
            over = overlay(image, mask, colours)
            for line, pixels in enumerate((to_be_seen(image), over)):
                small = Image.fromarray(pixels)
                small.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
                sheet.paste(small, (column * (SIDE + 4), top + LINE + line * (SIDE + 2)))
    return sheet


def main() -> None:
    """Entry point of ``kdseg-check``."""
    run_application("kdseg/check", CheckSettings, check, DATA_PARTS)


if __name__ == "__main__":
    main()
