"""One page that holds the whole comparison: tables, figures, pictures, conditions. No other file, no network."""

import html
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.resources import files

from common.report import table as text
from common.report.analysis import Analysis, SettingTable, TargetsTable
from common.report.conditions import conditions, headline_sentence
from common.report.figures import Colours, differences, domain_bars, learning_curves
from common.report.pictures import frames, frames_source, overlays
from common.report.results import Domain
from common.report.rows import Row
from common.report.settings import Setting
from common.report.theme import figure_html, method_colours

_CURVES = "Mean over seeds; the band is one standard error. Solid: seen domains, dashed: unseen."


def render(analysis: Analysis) -> str:
    """The page as HTML. Everything that came from a file is escaped."""
    style = files("common.report").joinpath("page.css").read_text(encoding="utf-8")
    labels = {label for table in analysis.tables for label in table.setting.methods}
    colours = method_colours(sorted(labels), analysis.reference)
    body = [
        "<h1>Seen and unseen domains</h1>",
        f'<p class="soft">{html.escape(headline_sentence(analysis))}</p>',
        _notes(analysis),
        *(_over_targets(table, colours) for table in analysis.over_targets),
        *(_setting(table, colours) for table in analysis.tables),
        conditions(analysis),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>kdshift report</title><style>{style}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _notes(analysis: Analysis) -> str:
    lines = [*analysis.notes, *(f"skipped: {line}" for line in analysis.skipped)]
    if not lines:
        return ""
    return '<ul class="notes">' + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def _over_targets(table: TargetsTable, colours: Colours) -> str:
    setting = table.settings[0]
    names = ", ".join(one.target for one in table.settings)
    parts = [f"<h2>{html.escape(table.title)}</h2>", f'<p class="soft">{html.escape(names)}</p>']
    parts.append(_main_table(table.rows, setting, f"Aggregated over {len(table.settings)} targets."))
    parts.append(_differences(table.rows, setting, colours))
    return "\n".join(parts)


def _setting(table: SettingTable, colours: Colours) -> str:
    setting = table.setting
    parts = [
        f"<h2>{html.escape(setting.title)}</h2>",
        f'<p class="soft">{html.escape(text.headline(setting))}</p>',
        _main_table(table.rows, setting, "Scores are aggregated over seeds."),
        _differences(table.rows, setting, colours),
        _section(
            "Scores per domain",
            figure_html(lambda: domain_bars(table, colours), "Bars with 95 % intervals.", "scores per domain"),
            _domain_table(table) if setting.domains else "",
        ),
        _section("Other metrics on unseen domains", _extra_table(table.rows) if text.shown_extra(table.rows) else ""),
        _section("Learning curves", figure_html(lambda: learning_curves(setting, colours), _CURVES, "learning curves")),
        _frames(setting) if setting.task == "rl" else _overlays(setting),
    ]
    return "\n".join(parts)


def _section(title: str, *parts: str) -> str:
    content = "\n".join(part for part in parts if part)
    return f"<h3>{title}</h3>\n{content}" if content else ""


def _differences(rows: Sequence[Row], setting: Setting, colours: Colours) -> str:
    reference = html.escape(setting.reference)
    caption = f"Difference to {reference} on unseen domains with 95 % interval; right of the line is better."
    return figure_html(lambda: differences(rows, setting, colours), caption, f"differences to {reference}")


def _frames(setting: Setting) -> str:
    caption = f"Frames of test episodes ({html.escape(frames_source(setting))})."
    return _section("What the policy sees", figure_html(lambda: frames(setting), caption, "frames"))


def _overlays(setting: Setting) -> str:
    figures = [
        figure_html(
            partial(overlays, setting, domain),
            f"{html.escape(_domain_name(domain))}. Above: classes; below: wrong pixels in red.",
            "predictions",
        )
        for domain in [*setting.unseen, *setting.others]
    ]
    return _section("Predictions", *figures)


def _main_table(rows: Sequence[Row], setting: Setting, caption: str) -> str:
    against = f"difference to {html.escape(setting.reference)}"
    header = ["method", "seeds", "seen", "unseen", "gap", against, "P(better)", "cost", "verdict"]
    if any(row.targets != rows[0].targets for row in rows):
        header.insert(1, "targets")
    lines = []
    for row in rows:
        verdict = text.verdict(row)
        cells = [
            html.escape(row.label),
            *([str(row.targets)] if "targets" in header else []),
            str(row.seeds),
            text.number(row.seen, setting.metric),
            _with_interval(text.number(row.unseen, setting.metric), text.interval(row.unseen_interval, setting.metric)),
            text.number(row.gap, setting.metric, signed=True),
            _difference(row, setting.metric),
            _probability(row),
            text.cost(row),
            f'<span class="{verdict.split()[0]}">{verdict}</span>',
        ]
        lines.append(cells)
    unit = text.metric_name(setting.metric)
    note = (
        f"{unit}. {caption} Small numbers are 95 % intervals. Gap: seen minus unseen. P(better): probability that a "
        f"run beats a run of {setting.reference}. Cost: training time over {setting.reference}'s."
    )
    return _table(header, lines, note)


def _difference(row: Row, metric: str) -> str:
    if row.difference is None:
        return text.NOTHING
    value = text.number(row.difference.value, metric, signed=True)
    return _with_interval(value, text.interval(row.difference.interval, metric, signed=True))


def _probability(row: Row) -> str:
    if row.difference is None:
        return text.NOTHING
    bounds = row.difference.probability_interval
    return _with_interval(text.probability(row), "" if bounds is None else f"[{bounds.low:.2f}, {bounds.high:.2f}]")


def _domain_table(table: SettingTable) -> str:
    setting = table.setting
    header = ["method", *(html.escape(_domain_name(domain)) for domain in setting.domains)]
    lines = []
    for label, scores in table.domains.items():
        cells = [html.escape(label)]
        for domain in setting.domains:
            value, interval = scores[domain]
            cells.append(_with_interval(text.number(value, setting.metric), text.interval(interval, setting.metric)))
        lines.append(cells)
    return _table(header, lines, f"{text.metric_name(setting.metric)} per domain.")


def _extra_table(rows: Sequence[Row]) -> str:
    names = text.shown_extra(rows)
    header = ["method", *(html.escape(text.metric_name(name)) for name in names)]
    lines = [[html.escape(row.label), *(text.number(row.extra.get(name), name) for name in names)] for row in rows]
    return _table(header, lines, "Aggregated over seeds.")


def _domain_name(domain: Domain) -> str:
    return f"{domain.name} ({'seen' if domain.seen else 'unseen'})"


def _with_interval(value: str, interval: str) -> str:
    return f"{value} <small>{interval}</small>" if interval else value


def _table(header: Iterable[str], lines: Iterable[Sequence[str]], caption: str) -> str:
    head = "".join(f"<th>{cell}</th>" for cell in header)
    rows = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" for cells in lines)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="caption">{html.escape(caption)}</p>'
    )
