"""One page that holds the whole comparison: tables, figures, pictures, conditions. No other file, no network."""

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files

from common.report import table as text
from common.report.analysis import Analysis
from common.report.conditions import conditions, headline_sentence
from common.report.curves import attack_curves, profiles, reliability_diagrams, seen_and_unseen, severity_curves
from common.report.escape import on_page
from common.report.extras import attacked, calibration, robustness, unknown, why
from common.report.figures import Colours, differences, domain_bars, learning_curves
from common.report.html import domain_name, section
from common.report.page_tables import domain_table, extra_table, extras_table, main_table, pictures_table
from common.report.pictures import anchored, clips, frames, frames_source, overlays
from common.report.published import published
from common.report.rows import Row, SettingTable, TargetsTable
from common.report.sentences import sentences
from common.report.settings import Setting
from common.report.theme import chart_html, clip_html, method_colours
from common.runs.metrics import Metric, Task

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
        _answers(analysis),
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


def _answers(analysis: Analysis) -> str:
    """What a reader wants to know first: of every setting, about the method that is furthest from the reference."""
    found = [(table.setting.short, next(sentences(table), "")) for table in analysis.tables]
    lines = [f"<strong>{on_page(short)}</strong> {on_page(sentence)}" for short, sentence in found if sentence]
    return "".join(f'<p class="headline">{line}</p>' for line in lines)


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
    parts.append(main_table(table.rows, setting.measure, table.reference, caption))
    parts.append(_differences(table.rows, setting.measure, table.reference, colours))
    parts.append(chart_html(lambda: profiles(table.settings, colours), _PROFILES, "performance profiles"))
    return "\n".join(parts)


def _setting(table: SettingTable, colours: Colours) -> str:
    setting = table.setting
    parts = [
        f"<h2>{on_page(setting.title)}</h2>",
        *(f'<p class="headline">{on_page(sentence)}</p>' for sentence in sentences(table)),
        f'<p class="soft">{on_page(text.headline(setting))}</p>',
        main_table(table.rows, setting.measure, setting.reference, "Scores are aggregated over seeds."),
        f'<p class="caption">{on_page(sentence)}</p>' if (sentence := published(setting)) else "",
        _differences(table.rows, setting.measure, setting.reference, colours),
        section(
            "Seen against unseen",
            chart_html(lambda: seen_and_unseen(setting, colours), _SCATTER, "seen against unseen scores"),
            chart_html(lambda: profiles([setting], colours), _PROFILES, "performance profiles"),
        ),
        section(
            "Where it fails: domains",
            chart_html(lambda: domain_bars(table, colours), "Bars with 95 % intervals.", "scores per domain"),
            domain_table(table) if setting.domains else "",
        ),
        section(
            "Where it fails: corruptions and attacks",
            extras_table(robustness(setting), setting, "Mean over all corruptions and severities that were measured."),
            chart_html(lambda: severity_curves(setting, colours), _SEVERITY, "scores under corruptions"),
            chart_html(lambda: attack_curves(setting, colours), _ATTACKS, "scores under attack"),
            extras_table(attacked(setting), setting, "Unseen domains under attack; radii in 255ths of the range."),
        ),
        section("Where it fails: unknown inputs", extras_table(unknown(setting), setting, _UNKNOWN)),
        _PICTURES[setting.task](setting),
        section(
            "How sure it is",
            chart_html(lambda: reliability_diagrams(setting, colours), _RELIABILITY, "reliability diagrams"),
            extras_table(
                calibration(setting), setting, "On unseen domains; the temperature is fitted on source validation."
            ),
        ),
        section("Why", extras_table(why(setting), setting, _WHY)),
        section("Learning curves", chart_html(lambda: learning_curves(setting, colours), _CURVES, "learning curves")),
        section("From the teacher's domain", pictures_table(anchored(setting), _ANCHORED)),
        section("Other metrics on unseen domains", extra_table(table.rows) if text.shown_extra(table.rows) else ""),
    ]
    return "\n".join(parts)


def _differences(rows: Sequence[Row], measure: Metric, reference: str, colours: Colours) -> str:
    name, side = on_page(reference), "right" if measure.higher_is_better else "left"
    caption = f"Difference to {name} on unseen domains with 95 % interval; {side} of the line is better."
    return chart_html(lambda: differences(rows, measure.name, reference, colours), caption, f"differences to {name}")


def _frames(setting: Setting) -> str:
    moving = [
        clip_html(clip, on_page(f"{label}, {domain_name(domain)}"))
        for label, domain, clip in clips(setting)[:_MOST_CLIPS]
    ]
    side_by_side = [f'<div class="clips">{"".join(moving)}</div>'] if moving else []
    caption = f"Frames of test episodes ({frames_source(setting)})."
    still = "" if moving else pictures_table(frames(setting), caption)
    return section("What the policy sees", *side_by_side, still)


def _overlays(setting: Setting) -> str:
    tables = [
        pictures_table(overlays(setting, domain), f"{domain_name(domain)}. Above: classes; below: wrong pixels in red.")
        for domain in [*setting.unseen, *setting.others]
    ]
    return section("Predictions", *tables)


_PICTURES: Mapping[Task, Callable[[Setting], str]] = {"seg": _overlays, "rl": _frames}
