"""What a reader of a comparison should be wary of."""

from collections.abc import Iterable, Iterator, Sequence

from common.report.results import REFERENCE, Result
from common.report.rows import FEW_SEEDS, SettingTable, TargetsTable
from common.report.settings import Setting
from common.runs.metrics import TASKS


def all_notes(tables: Sequence[SettingTable]) -> list[str]:
    """Every note once, with the settings it is about."""
    about: dict[str, list[str]] = {}
    for table in tables:
        setting = table.setting
        for note in (
            *_seed_notes(table),
            *_setting_notes(table),
            *_identity_notes(setting),
            *_idle_notes(setting),
            *_oracle_notes(setting),
            *_compute_notes(setting),
        ):
            about.setdefault(note, []).append(setting.short)
    return [f"{', '.join(dict.fromkeys(where))}: {note}" for note, where in about.items()]


def balance_notes(tables: Sequence[TargetsTable]) -> Iterator[str]:
    """Why methods have no difference over targets."""
    for table in tables:
        references = {setting.reference for setting in table.settings if setting.has_reference}
        if len(references) > 1:
            yield (
                f"{table.title}: the reference is another row on some targets ({', '.join(sorted(references))}), "
                "so no differences over targets"
            )
            continue
        uneven = [row.label for row in table.rows if references and row.difference is None and not row.is_reference]
        if uneven:
            yield (
                f"{table.title}: {', '.join(uneven)} and {', '.join(references)} have other numbers of seeds on "
                "some targets, so no difference over targets; train the missing ones"
            )


def _seed_notes(table: SettingTable) -> Iterator[str]:
    seeds = {row.label: row.seeds for row in table.rows}
    single = [label for label, count in seeds.items() if count == 1]
    few = [label for label, count in seeds.items() if 1 < count < FEW_SEEDS]
    if single:
        yield (
            f"{', '.join(single)} ran with one seed, and one seed proves nothing: intervals cover the choice of test "
            "items only; train with more seeds"
        )
    if few:
        yield (
            f"{', '.join(few)} ran with fewer than {FEW_SEEDS} seeds; intervals are wide, and right only if scores are "
            "normal over seeds"
        )


def _setting_notes(table: SettingTable) -> Iterator[str]:
    setting = table.setting
    if setting.candidates:
        yield (
            f"several rows are called {setting.reference} ({', '.join(setting.candidates)}), so no differences; "
            "give one of them as --reference"
        )
    elif not setting.has_reference:
        yield (
            f"no finished run of {setting.reference}, so no differences; train one with the same network, domains, "
            f"seeds and steps{' (method=erm)' if setting.reference == REFERENCE else ''}"
        )
    if not setting.unseen:
        yield "the runs share no unseen domain; evaluate them on the same ones"
    without = [label for label, scores in table.domains.items() if any(scores[d][1] is None for d in setting.unseen)]
    if without:
        yield (
            f"no intervals for {', '.join(without)}: items.npz is missing or does not give the recorded scores; "
            "evaluate those runs again"
        )
    measured = {frozenset(domain for domain in result.scores if not domain.seen) for result in setting.results()}
    if len(measured) > 1:
        yield "not every run was measured on the same unseen domains; only shared ones are compared"


def _identity_notes(setting: Setting) -> Iterator[str]:
    if not setting.key:
        yield (
            "recorded before runs had identities, so their setting is unknown: equal names may hide other data, "
            "hyper-parameters or teachers"
        )
    if inexact := [f"{label} {seed}" for label, seed, result in _each(setting) if result.last.resumed == "inexact"]:
        yield (
            f"interrupted and resumed, but not bit for bit: {', '.join(inexact)} (method and seed); "
            "the same command would not give exactly these runs again"
        )


def _idle_notes(setting: Setting) -> Iterator[str]:
    """A method of which a part did nothing is another one, whatever it is called."""
    for label, runs in setting.methods.items():
        for line in dict.fromkeys(line for result in runs.values() for line in result.idle):
            count = sum(line in result.idle for result in runs.values())
            yield f"{label}: {line} ({count} of {len(runs)} runs)"


def _oracle_notes(setting: Setting) -> Iterator[str]:
    if oracles := [label for label in setting.methods if setting.is_oracle(label)]:
        yield (
            f"{', '.join(oracles)}: its weights were chosen by the target's own labels, which bounds what a better "
            "choice could gain and is no result"
        )


def _each(setting: Setting) -> Iterator[tuple[str, int, Result]]:
    for label, runs in setting.methods.items():
        for seed, result in runs.items():
            yield label, seed, result


def _compute_notes(setting: Setting) -> Iterator[str]:
    steps = {label: sorted({run.last.steps for run in runs.values()}) for label, runs in setting.methods.items()}
    if len({step for values in steps.values() for step in values}) > 1:
        budgets = ", ".join(f"{label} {' / '.join(f'{step:,}' for step in values)}" for label, values in steps.items())
        yield f"{TASKS[setting.task].steps} differ, this is no comparison at equal compute ({budgets})"
    if mixed := _mixed_versions(setting.results()):
        yield f"runs come from different versions ({', '.join(mixed)})"


def _mixed_versions(results: Iterable[Result]) -> list[str]:
    versions: dict[str, set[str]] = {}
    for result in results:
        for name, version in result.last.versions.items():
            versions.setdefault(name, set()).add(version)
    return [f"{name} {' / '.join(sorted(found))}" for name, found in sorted(versions.items()) if len(found) > 1]
