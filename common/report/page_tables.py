"""The tables of the page, as HTML."""

from collections.abc import Mapping, Sequence

from common.report import table as text
from common.report.escape import on_page
from common.report.extras import Extra
from common.report.html import domain_name, table, with_interval
from common.report.pictures import Cell, Pictures
from common.report.rows import Row, SettingTable
from common.report.settings import Setting
from common.report.theme import picture
from common.runs.metrics import Metric, metric


def extras_table(rows: Mapping[str, Sequence[Extra]], setting: Setting, caption: str) -> str:
    """Numbers beside the headline, each with its difference to the reference."""
    if not rows:
        return ""
    first = next(iter(rows.values()))
    header = ["method", *(on_page(extra.name) for extra in first)]
    lines = [[on_page(label), *(_extra_cell(extra) for extra in extras)] for label, extras in rows.items()]
    note = f"{caption} Small: difference to {setting.reference} of the same seeds, with Student's 95 % interval."
    return table(header, lines, note)


def _extra_cell(extra: Extra) -> str:
    if extra.difference is None:
        return extra.shown(extra.mean)
    bounds = extra.interval
    interval = "" if bounds is None else f" [{extra.shown(bounds.low, True)}, {extra.shown(bounds.high, True)}]"
    return with_interval(extra.shown(extra.mean), extra.shown(extra.difference, True) + interval)


def main_table(rows: Sequence[Row], measure: Metric, reference: str, caption: str) -> str:
    """A row a method: seen, unseen, gap, difference, cost and verdict."""
    against = f"difference to {on_page(reference)}"
    header = ["method", "seeds", "seen", "unseen", "gap", against, "P(better)", "cost", "verdict"]
    if any(row.targets != rows[0].targets for row in rows):
        header.insert(1, "targets")
    lines, name = [], measure.name
    for row in rows:
        verdict = text.verdict(row)
        cells = [
            on_page(row.label),
            *([str(row.targets)] if "targets" in header else []),
            str(row.seeds),
            text.number(row.seen, name),
            with_interval(text.number(row.unseen, name), text.interval(row.unseen_interval, name)),
            text.number(row.gap, name, signed=True),
            _difference(row, name),
            _probability(row),
            text.cost(row),
            f'<span class="{verdict.split()[0]}">{verdict}</span>',
        ]
        lines.append(cells)
    note = (
        f"{measure.heading}. {caption} Small numbers are 95 % intervals. Gap: seen minus unseen. P(better): "
        f"probability that a run beats a run of {reference}. Cost: training time over {reference}'s. "
        "Verdicts: p ≤ 0.05 after Holm's correction over methods and targets."
    )
    return table(header, lines, note)


def _difference(row: Row, metric: str) -> str:
    if row.difference is None:
        return text.NOTHING
    value = text.number(row.difference.value, metric, signed=True)
    return with_interval(value, text.interval(row.difference.interval, metric, signed=True))


def _probability(row: Row) -> str:
    if row.difference is None:
        return text.NOTHING
    bounds = row.difference.probability_interval
    return with_interval(text.probability(row), "" if bounds is None else f"[{bounds.low:.2f}, {bounds.high:.2f}]")


def domain_table(one: SettingTable) -> str:
    """A row a method, a column a domain."""
    setting = one.setting
    header = ["method", *(on_page(domain_name(domain)) for domain in setting.domains)]
    lines = []
    for label, scores in one.domains.items():
        cells = [on_page(label)]
        for domain in setting.domains:
            value, interval = scores[domain]
            cells.append(with_interval(text.number(value, setting.metric), text.interval(interval, setting.metric)))
        lines.append(cells)
    return table(header, lines, f"{setting.measure.heading} per domain.")


def extra_table(rows: Sequence[Row]) -> str:
    """Every other metric of the test, on unseen domains."""
    names = text.shown_extra(rows)
    header = ["method", *(on_page(metric(name).heading) for name in names)]
    lines = [[on_page(row.label), *(text.number(row.extra.get(name), name) for name in names)] for row in rows]
    return table(header, lines, "Aggregated over seeds.")


def pictures_table(pictures: Pictures | None, caption: str) -> str:
    """Pictures in rows and columns, and the colours in them; empty where there are none."""
    if pictures is None:
        return ""
    names = [on_page(name) for name in pictures.columns]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    lines = []
    for heading, cells in pictures.rows:
        row = on_page(heading)
        first = f'<th scope="row">{row}</th>' if row else ""
        places = names or [""] * len(cells)
        lines.append(f"<tr>{first}{''.join(map(_picture_cell, cells, places, [row] * len(cells)))}</tr>")
    swatches = "".join(
        f'<li><svg viewBox="0 0 1 1" aria-hidden="true"><path d="M0 0h1v1H0z" fill="rgb({red},{green},{blue})"/></svg>'
        f"{on_page(name)}</li>"
        for name, (red, green, blue) in pictures.colours.items()
    )
    legend = f'<ul class="swatches">{swatches}</ul>' if swatches else ""
    heads = f"<thead><tr>{head}</tr></thead>" if head else ""
    grid = f'<table class="pictures">{heads}<tbody>{"".join(lines)}</tbody></table>'
    below = f"<figcaption>{on_page(caption)}</figcaption>"
    return f'<figure><div class="scroll" tabindex="0">{grid}</div>{legend}{below}</figure>'


def _picture_cell(cell: Cell | None, column: str, row: str) -> str:
    if cell is None:
        return "<td></td>"
    words = on_page(cell.words)
    shown = ", ".join(part for part in (row, column, words) if part)
    return f"<td>{picture(cell.image, shown)}<small>{words}</small></td>"
