"""One page that holds the whole comparison: tables, figures, pictures, conditions. No other file, no network."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.resources import files

from common.report import table as text
from common.report.analysis import Analysis
from common.report.conditions import conditions, headline_sentence
from common.report.curves import attack_curves, profiles, reliability_diagrams, seen_and_unseen, severity_curves
from common.report.escape import on_page
from common.report.extras import Extra, calibration, robustness, unknown, why
from common.report.figures import Colours, differences, domain_bars, learning_curves
from common.report.pictures import anchored, clips, frames, frames_source, overlays
from common.report.published import published
from common.report.results import Domain
from common.report.rows import Row, SettingTable, TargetsTable
from common.report.sentences import sentences
from common.report.settings import Setting
from common.report.theme import chart_html, clip_html, method_colours, picture_html
from common.runs.metrics import Metric, Task, metric

_ANCHORED = (
    "What AuG-KD makes of samples of the student's domain: the sample, what is generated of its latent, of its anchored"
    " latent, and of noise. Numbers: the teacher's mean confidence."
)
_SCATTER = "Every run; the dotted line is where nothing is lost on unseen domains."
_PROFILES = "Share of runs that score above a threshold; bands are 95 % of resamples of the seeds."
_SEVERITY = "Mean over corruptions and runs. Solid: seen domains, dashed: unseen."
_ATTACKS = "Mean over runs. Solid: seen domains, dashed: unseen."
_RELIABILITY = "On unseen domains, pooled over runs. Circles: as it is; squares: at the fitted temperature."
_UNKNOWN = "Detection of what the run does not know; AUROC of 50 % is guessing."
_WHY = "Our measures; see the documentation of what they are."
_MOST_CLIPS = 8
_CURVES = "Mean over seeds; the band is one standard error. Solid: seen domains, dashed: unseen."


def render(analysis: Analysis) -> str:
    """The page as HTML. Everything that came from a file is escaped."""
    style, script = (
        files("common.report").joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
    )
    labels = {label for table in analysis.tables for label in table.setting.methods}
    colours = method_colours(labels, {table.setting.reference for table in analysis.tables})
    body = [
        "<h1>Seen and unseen domains</h1>",
        f'<p class="soft">{on_page(headline_sentence(analysis))}</p>',
        _notes(analysis),
        *(_over_targets(table, colours) for table in analysis.over_targets),
        *(_setting(table, colours) for table in analysis.tables),
        conditions(analysis),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>kdshift report</title><style>{style}</style></head>\n<body>\n"
        + "\n".join(body)
        + f"\n<script>{script}</script></body></html>\n"
    )


def _notes(analysis: Analysis) -> str:
    lines = [*analysis.notes, *(f"skipped: {line}" for line in analysis.skipped)]
    if not lines:
        return ""
    return '<ul class="notes">' + "".join(f"<li>{on_page(line)}</li>" for line in lines) + "</ul>"


def _over_targets(table: TargetsTable, colours: Colours) -> str:
    setting = table.settings[0]
    names = ", ".join(one.target for one in table.settings)
    parts = [f"<h2>{on_page(table.title)}</h2>", f'<p class="soft">{on_page(names)}</p>']
    caption = f"Aggregated over {len(table.settings)} targets."
    parts.append(_main_table(table.rows, setting.measure, table.reference, caption))
    parts.append(_differences(table.rows, setting.measure, table.reference, colours))
    parts.append(chart_html(lambda: profiles(table.settings, colours), _PROFILES, "performance profiles"))
    return "\n".join(parts)


def _setting(table: SettingTable, colours: Colours) -> str:
    setting = table.setting
    parts = [
        f"<h2>{on_page(setting.title)}</h2>",
        *(f'<p class="headline">{on_page(sentence)}</p>' for sentence in sentences(table)),
        f'<p class="soft">{on_page(text.headline(setting))}</p>',
        _main_table(table.rows, setting.measure, setting.reference, "Scores are aggregated over seeds."),
        f'<p class="caption">{on_page(sentence)}</p>' if (sentence := published(setting)) else "",
        _differences(table.rows, setting.measure, setting.reference, colours),
        _section(
            "Seen against unseen",
            chart_html(lambda: seen_and_unseen(setting, colours), _SCATTER, "seen against unseen scores"),
            chart_html(lambda: profiles([setting], colours), _PROFILES, "performance profiles"),
        ),
        _section(
            "Where it fails: domains",
            chart_html(lambda: domain_bars(table, colours), "Bars with 95 % intervals.", "scores per domain"),
            _domain_table(table) if setting.domains else "",
        ),
        _section(
            "Where it fails: corruptions and attacks",
            _extras(robustness(setting), setting, "Mean over all corruptions and severities that were measured."),
            chart_html(lambda: severity_curves(setting, colours), _SEVERITY, "scores under corruptions"),
            chart_html(lambda: attack_curves(setting, colours), _ATTACKS, "scores under attack"),
        ),
        _section("Where it fails: unknown inputs", _extras(unknown(setting), setting, _UNKNOWN)),
        _PICTURES[setting.task](setting),
        _section(
            "How sure it is",
            chart_html(lambda: reliability_diagrams(setting, colours), _RELIABILITY, "reliability diagrams"),
            _extras(
                calibration(setting), setting, "On unseen domains; the temperature is fitted on source validation."
            ),
        ),
        _section("Why", _extras(why(setting), setting, _WHY)),
        _section("Learning curves", chart_html(lambda: learning_curves(setting, colours), _CURVES, "learning curves")),
        _section("From the teacher's domain", picture_html(lambda: anchored(setting), _ANCHORED, "generated samples")),
        _section("Other metrics on unseen domains", _extra_table(table.rows) if text.shown_extra(table.rows) else ""),
    ]
    return "\n".join(parts)


def _extras(rows: Mapping[str, Sequence[Extra]], setting: Setting, caption: str) -> str:
    """Numbers beside the headline, each with its difference to the reference."""
    if not rows:
        return ""
    first = next(iter(rows.values()))
    header = ["method", *(on_page(extra.name) for extra in first)]
    lines = [[on_page(label), *(_extra_cell(extra) for extra in extras)] for label, extras in rows.items()]
    note = f"{caption} Small: difference to {setting.reference} of the same seeds, with Student's 95 % interval."
    return _table(header, lines, note)


def _extra_cell(extra: Extra) -> str:
    scale, decimals = (100.0, 1) if extra.is_fraction else (1.0, 3)

    def shown(value: float, signed: bool = False) -> str:
        return f"{round(scale * value, decimals) + 0.0:{'+' if signed else ''}.{decimals}f}"

    if not math.isfinite(extra.mean):
        return text.NOTHING
    if extra.difference is None:
        return shown(extra.mean)
    bounds = (
        "" if extra.interval is None else f" [{shown(extra.interval.low, True)}, {shown(extra.interval.high, True)}]"
    )
    return _with_interval(shown(extra.mean), shown(extra.difference, True) + bounds)


def _section(title: str, *parts: str) -> str:
    content = "\n".join(part for part in parts if part)
    return f"<h3>{title}</h3>\n{content}" if content else ""


def _differences(rows: Sequence[Row], measure: Metric, reference: str, colours: Colours) -> str:
    name, side = on_page(reference), "right" if measure.higher_is_better else "left"
    caption = f"Difference to {name} on unseen domains with 95 % interval; {side} of the line is better."
    return chart_html(lambda: differences(rows, measure.name, reference, colours), caption, f"differences to {name}")


def _frames(setting: Setting) -> str:
    moving = [
        clip_html(clip, on_page(f"{label}, {_domain_name(domain)}"))
        for label, domain, clip in clips(setting)[:_MOST_CLIPS]
    ]
    side_by_side = [f'<div class="clips">{"".join(moving)}</div>'] if moving else []
    caption = f"Frames of test episodes ({on_page(frames_source(setting))})."
    still = "" if moving else picture_html(lambda: frames(setting), caption, "frames")
    return _section("What the policy sees", *side_by_side, still)


def _overlays(setting: Setting) -> str:
    figures = [
        picture_html(
            partial(overlays, setting, domain),
            f"{on_page(_domain_name(domain))}. Above: classes; below: wrong pixels in red.",
            "predictions",
        )
        for domain in [*setting.unseen, *setting.others]
    ]
    return _section("Predictions", *figures)


_PICTURES: Mapping[Task, Callable[[Setting], str]] = {"seg": _overlays, "rl": _frames}


def _main_table(rows: Sequence[Row], measure: Metric, reference: str, caption: str) -> str:
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
            _with_interval(text.number(row.unseen, name), text.interval(row.unseen_interval, name)),
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
    header = ["method", *(on_page(_domain_name(domain)) for domain in setting.domains)]
    lines = []
    for label, scores in table.domains.items():
        cells = [on_page(label)]
        for domain in setting.domains:
            value, interval = scores[domain]
            cells.append(_with_interval(text.number(value, setting.metric), text.interval(interval, setting.metric)))
        lines.append(cells)
    return _table(header, lines, f"{setting.measure.heading} per domain.")


def _extra_table(rows: Sequence[Row]) -> str:
    names = text.shown_extra(rows)
    header = ["method", *(on_page(metric(name).heading) for name in names)]
    lines = [[on_page(row.label), *(text.number(row.extra.get(name), name) for name in names)] for row in rows]
    return _table(header, lines, "Aggregated over seeds.")


def _domain_name(domain: Domain) -> str:
    return f"{domain.name} ({'seen' if domain.seen else 'unseen'})"


def _with_interval(value: str, interval: str) -> str:
    return f"{value} <small>{interval}</small>" if interval else value


def _table(header: Iterable[str], lines: Iterable[Sequence[str]], caption: str) -> str:
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    rows = "".join(
        f'<tr><th scope="row">{cells[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in cells[1:]) + "</tr>"
        for cells in lines
    )
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="caption">{on_page(caption)}</p>'
    )
