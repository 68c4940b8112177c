"""The answer to "does it help?" in a sentence a method: how much, how sure, at what cost."""

from collections.abc import Iterator

from common.report import table as text
from common.report.rows import Row, SettingTable
from common.report.settings import Setting

_WORDS = {"better": "helps", "worse": "hurts"}


def sentences(table: SettingTable) -> Iterator[str]:
    """One for each method that can be compared, those that helped most first; an oracle is no method."""
    setting = table.setting
    sign = 1 if setting.measure.higher_is_better else -1
    compared = [row for row in table.rows if row.difference is not None and not row.difference.is_oracle]
    for row in sorted(compared, key=lambda row: -sign * row.difference.value if row.difference else 0.0):
        yield _sentence(setting, row)


def _sentence(setting: Setting, row: Row) -> str:
    assert row.difference is not None
    verdict = row.difference.verdict
    word = _WORDS.get(verdict.split()[0], "is not shown to help or hurt")
    unit = " points" if setting.measure.is_fraction else f" {setting.measure.unit}".rstrip()
    change = text.number(row.difference.value, setting.metric, signed=True)
    bounds = text.interval(row.difference.interval, setting.metric, signed=True)
    sure = f", 95 % interval {bounds}" if bounds else f" ({verdict})"
    cost = "" if row.cost is None else f", at {row.cost:.2f} times the training time"
    target = ", ".join(domain.name for domain in setting.unseen)
    return f"{row.label} {word} on {target}: {change}{unit} over {setting.reference}{sure}{cost}."
