"""The same content for a paper's appendix: Markdown, a LaTeX table, and every further number as CSV."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from common.report import table as text
from common.report.analysis import Analysis
from common.report.escape import in_cell
from common.report.extras import Extra, attacked, calibration, robustness, unknown, why
from common.report.rows import Row, SettingTable, TargetsTable
from common.report.sentences import sentences
from common.report.settings import Setting
from common.runs.metrics import Metric
from common.text import visible

_EXTRAS: Mapping[str, Callable[[Setting], dict[str, list[Extra]]]] = {
    "Under corruptions": robustness,
    "Under attack": attacked,
    "Unknown inputs": unknown,
    "Calibration": calibration,
    "Why": why,
}
_HEADER = ("method", "seeds", "seen", "unseen", "gap", "difference", "p (Holm)", "cost", "verdict")
_SPECIAL = re.compile(r"[&%$#_{}~^\\]")
_NAMED = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def to_markdown(analysis: Analysis) -> str:
    """Sentences and tables of every setting."""
    lines = ["# Seen and unseen domains", ""]
    lines += [f"> {_plain(note)}" for note in analysis.notes]
    for over in analysis.over_targets:
        lines += ["", f"## {_plain(over.title)}", "", *_markdown(_HEADER, _rows(over.rows, over.settings[0].measure))]
    for one in analysis.tables:
        setting = one.setting
        lines += ["", f"## {_plain(setting.title)}", ""]
        lines += [f"- {_plain(sentence)}" for sentence in sentences(one)]
        lines += ["", f"{setting.measure.heading}; {_plain(text.headline(setting))}.", ""]
        lines += _markdown(_HEADER, _rows(one.rows, setting.measure))
        for title, make in _EXTRAS.items():
            if extras := make(setting):
                lines += ["", f"### {title}", "", *_extra_lines(extras)]
    return "\n".join(lines) + "\n"


def to_latex(analysis: Analysis) -> str:
    """A ``booktabs`` table of every setting."""
    found: list[SettingTable | TargetsTable] = [*analysis.over_targets, *analysis.tables]
    return "\n".join(_latex(one) for one in found)


def measures_csv(analysis: Analysis) -> str:
    """A line for each number that was measured beside the test."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(
        ["task", "target", "setting", "method", "seed", "condition", "domain", "seen", "metric", "value", "n"]
    )
    for one in analysis.tables:
        setting = one.setting
        for label, runs in setting.methods.items():
            for seed, result in sorted(runs.items()):
                for row in result.measures:
                    named = (in_cell(value) for value in (setting.target, setting.key, label))
                    place = (row.condition, in_cell(row.domain), str(row.seen).lower(), row.metric)
                    writer.writerow([setting.task, *named, seed, *place, f"{row.value:.6g}", row.n])
    return content.getvalue()


def _rows(rows: Sequence[Row], measure: Metric) -> Iterator[list[str]]:
    name = measure.name
    for row in rows:
        adjusted = None if row.difference is None else row.difference.adjusted
        unseen = f"{text.number(row.unseen, name)} {text.interval(row.unseen_interval, name)}".strip()
        yield [
            row.label,
            str(row.seeds),
            text.number(row.seen, name),
            unseen,
            text.number(row.gap, name, signed=True),
            text.difference(row, name),
            text.NOTHING if adjusted is None else f"{adjusted:.3f}",
            text.cost(row),
            text.verdict(row),
        ]


def _extra_lines(rows: Mapping[str, Sequence[Extra]]) -> list[str]:
    header = ["method", *(extra.name for extra in next(iter(rows.values())))]
    return _markdown(header, ([label, *(_number(extra) for extra in extras)] for label, extras in rows.items()))


def _number(extra: Extra) -> str:
    if extra.interval is None:
        return extra.shown(extra.mean)
    low, high = (extra.shown(bound, True) for bound in extra.interval)
    return f"{extra.shown(extra.mean)} [{low}, {high}]"


def _markdown(header: Sequence[str], rows: Iterator[list[str]]) -> list[str]:
    lines = [[_plain(cell) for cell in cells] for cells in rows]
    rule = ["---", *["--:"] * (len(header) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in ([_plain(cell) for cell in header], rule, *lines)]


def _plain(value: str) -> str:
    """Without what Markdown or HTML would take for their own."""
    shown = visible(value).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_|\[\]])", r"\\\1", shown)


def _latex(one: SettingTable | TargetsTable) -> str:
    setting = one.setting if isinstance(one, SettingTable) else one.settings[0]
    title = setting.title if isinstance(one, SettingTable) else one.title
    lines = [
        f"% {visible(title)}: {setting.measure.heading}",
        r"\begin{tabular}{l" + "r" * (len(_HEADER) - 1) + "}",
        r"\toprule",
        " & ".join(_tex(cell) for cell in _HEADER) + r" \\",
        r"\midrule",
        *(" & ".join(_tex(cell) for cell in cells) + r" \\" for cells in _rows(one.rows, setting.measure)),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _tex(value: str) -> str:
    escaped = _SPECIAL.sub(lambda found: _NAMED.get(found[0], "\\" + found[0]), visible(value))
    return escaped.replace("×", r"$\times$").replace("–", "--").replace("→", r"$\to$").replace("·", r"$\cdot$")
