"""What is compared with what: runs alike in everything but method and seed, and never others."""

import csv
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import InputError
from common.report.analysis import Analysis, analyse
from common.report.labels import Named, differences, labels
from common.report.table import to_csv
from common.runs.folder import Run
from common.runs.status import Status

Make = Callable[..., Run]


@pytest.fixture
def policy(write: SimpleNamespace, tmp_path: Path) -> Make:
    """Writes a policy's run that says what it is."""

    def make(name: str, method: str, seed: int, **changes: Any) -> Run:
        run = write.policy_run(tmp_path / "runs" / name, method, seed, 0.7, game=changes.pop("game", "coinrun"))
        return write.identified(run, **changes)  # type: ignore[no-any-return]

    return make


@pytest.fixture
def network(write: SimpleNamespace, tmp_path: Path) -> Make:
    """Writes a segmentation network's run that says what it is."""

    def make(name: str, method: str, seed: int, **changes: Any) -> Run:
        given = {key: changes.pop(key) for key in ("domains_measured", "target", "selections") if key in changes}
        measured = given.pop("domains_measured", (("day", True, 0.1), ("dusk", False, 0.4)))
        run = write.segmentation_run(tmp_path / "runs" / name, method, seed, measured, **given)
        return write.identified(run, **changes)  # type: ignore[no-any-return]

    return make


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., Analysis]:
    return lambda **options: analyse([tmp_path / "runs"], resamples=100, **options)


def rows(analysis: Analysis) -> list[tuple[str, int]]:
    """Label and number of seeds of every row, table by table."""
    return [(row.label, row.seeds) for table in analysis.tables for row in table.rows]


def kd(weight: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"method": {"name": "kd", "terms": {"kd": {"weight": weight}}}, **more}


def kind(row: dict[str, Any], steps: int = 400) -> dict[str, Any]:
    return {"setting": {"budget": {"steps": steps}}, "row": row, "weights": "last"}


ERM = {"method": {"name": "erm"}}


def test_seeds_are_what_differs_in_nothing_else(policy: Make, report: Callable[..., Analysis]) -> None:
    for seed in range(3):
        policy(f"erm-{seed}", "erm", seed)
        policy(f"kd-{seed}", "kd", seed, row=kd(), teachers=(f"{seed:064x}",))
    assert rows(report()) == [("erm", 3), ("kd", 3)]
    assert report().skipped == []


def test_strengths_are_rows_of_their_own(policy: Make, report: Callable[..., Analysis]) -> None:
    for seed in range(2):
        policy(f"erm-{seed}", "erm", seed)
        for weight in (0.1, 1.0):
            policy(f"kd-{weight}-{seed}", "kd", seed, row=kd(weight))
    assert rows(report()) == [("erm", 2), ("kd [weight=0.1]", 2), ("kd [weight=1.0]", 2)]


def test_generations_of_a_chain_are_no_seeds_of_one_method(policy: Make, report: Callable[..., Analysis]) -> None:
    first = kd(teachers=[kind(ERM)])
    second = kd(teachers=[kind(first)])
    third = kd(teachers=[kind(second)])
    policy("generation0", "erm", 0)
    for number, row in enumerate((first, second, third), start=1):
        policy(f"generation{number}", "kd", number, row=row, teachers=(str(number) * 64,))
    assert rows(report()) == [
        ("erm", 1),
        ("kd [teacher.method=erm]", 1),
        ("kd [teacher.method=kd, teacher.teacher.method=erm]", 1),
        ("kd [teacher.method=kd, teacher.teacher.method=kd]", 1),
    ]
    assert report().skipped == []


def test_teachers_of_other_quality_are_other_rows(policy: Make, report: Callable[..., Analysis]) -> None:
    policy("good", "kd", 0, row=kd(teachers=[kind(ERM, steps=1000)]))
    policy("poor", "kd", 0, row=kd(teachers=[kind(ERM, steps=10)]))
    assert sorted(rows(report())) == [("kd [teacher.steps=1000]", 1), ("kd [teacher.steps=10]", 1)]


def test_teachers_of_one_kind_that_teach_one_seed_are_told_apart(policy: Make, report: Callable[..., Analysis]) -> None:
    for number in range(2):
        policy(f"kd-{number}", "kd", 0, row=kd(teachers=[kind(ERM)]), teachers=(str(number) * 64,))
    found = report()
    assert rows(found) == [("kd [teacher.sha256=000000000000]", 1), ("kd [teacher.sha256=111111111111]", 1)]
    assert found.skipped == []


def test_drivers_are_rows_and_the_plain_one_keeps_its_name(policy: Make, report: Callable[..., Analysis]) -> None:
    policy("plain", "erm", 0)
    policy("driven", "erm", 0, row={**ERM, "driver": {"teacher_share": 0.5}})
    found = report()
    assert rows(found) == [("erm", 1), ("erm [teacher_share=0.5]", 1)]
    assert [row.is_reference for row in found.tables[0].rows] == [True, False]


@pytest.mark.parametrize(
    ("setting", "title"),
    [
        ({"data": {"difficulty": "hard"}}, "difficulty=hard"),
        ({"data": {"levels": {"count": 10}}}, "levels.count=10"),
        ({"network": {"features_dim": 64}}, "features_dim=64"),
        ({"budget": {"steps": 800}}, "steps=800"),
        ({"host": {"ppo": {"gamma": 0.9}}}, "gamma=0.9"),
    ],
)
def test_other_settings_are_never_compared(
    policy: Make, report: Callable[..., Analysis], setting: dict[str, Any], title: str
) -> None:
    usual: dict[str, Any] = {
        "data": {"difficulty": "easy", "levels": {"count": 200}},
        "network": {"features_dim": 256},
        "budget": {"steps": 400},
        "host": {"ppo": {"gamma": 0.999}},
    }
    for seed in range(2):
        policy(f"erm-{seed}", "erm", seed, setting=usual)
        policy(f"kd-{seed}", "kd", seed, setting=usual | setting)
    found = report()
    assert rows(found) in ([("erm", 2), ("kd", 2)], [("kd", 2), ("erm", 2)])
    assert len(found.tables) == 2 and found.over_targets == []
    assert all(row.difference is None for table in found.tables for row in table.rows)
    titles = [table.setting.title for table in found.tables]
    assert len(set(titles)) == 2 and any(title in one for one in titles)
    cells = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert len({row["setting"] for row in cells}) == 2 and any(title in row["differs"] for row in cells)


def test_two_games_are_two_settings_of_one_family(policy: Make, report: Callable[..., Analysis]) -> None:
    for game in ("coinrun", "ninja"):
        for seed in range(2):
            policy(f"erm-{game}-{seed}", "erm", seed, game=game, domains={"game": game})
            policy(f"kd-{game}-{seed}", "kd", seed, game=game, domains={"game": game}, row=kd())
    found = report()
    assert rows(found) == [("erm", 2), ("kd", 2)] * 2
    (over,) = found.over_targets
    assert [(row.label, row.targets, row.seeds) for row in over.rows] == [("erm", 2, 2), ("kd", 2, 2)]


def test_left_out_domains_are_targets_of_one_family(network: Make, report: Callable[..., Analysis]) -> None:
    for target, other in (("day", "dusk"), ("dusk", "day")):
        measured = ((other, True, 0.1), (target, False, 0.4))
        domains = {"target": target, "sources": [other], "files": {other: "1", target: "2"}}
        for seed in range(2):
            for method, row in (("erm", ERM), ("kd", kd(teachers=[kind(ERM)]))):
                options = {"target": target, "domains": domains, "row": row, "domains_measured": measured}
                network(f"{method}-{target}-{seed}", method, seed, **options)
    found = report()
    assert [table.setting.target for table in found.tables] == ["day", "dusk"]
    assert [(row.label, row.targets) for row in found.over_targets[0].rows] == [("erm", 2), ("kd", 2)]


def test_teachers_with_masks_that_students_lack_are_one_row_over_targets(
    network: Make, report: Callable[..., Analysis]
) -> None:
    """Their files differ on every target in another domain, and their sources stand in another order."""
    for target, bare in (("day", "dusk"), ("dusk", "day")):
        own = {"target": target, "sources": ["fog", bare], "files": {"fog": "1", bare: "2", target: "3"}}
        whole = {"target": target, "sources": [bare, "fog"], "files": {"fog": "1", bare: "whole", target: "3"}}
        options = {"target": target, "domains_measured": (("fog", True, 0.1), (target, False, 0.4)), "domains": own}
        network(f"erm-{target}", "erm", 0, row=ERM, **options)
        network(f"kd-{target}", "kd", 0, row=kd(teachers=[kind(ERM) | {"domains": whole}]), **options)
        plain = kd(teachers=[kind(ERM) | {"domains": own}])
        network(f"alike-{target}", "kd", 1, row=plain, **options)
    (over,) = report().over_targets
    labels = {row.label: row.targets for row in over.rows}
    assert labels == {"erm": 2, "kd": 2, "kd [teacher.files=others of the same domains]": 2}


def test_complementary_teachers_are_one_row_over_targets(network: Make, report: Callable[..., Analysis]) -> None:
    """Each was trained without one of the student's sources, which are others on every target."""
    for target, sources in (("day", ["dusk", "fog"]), ("dusk", ["day", "fog"])):
        own = {"target": target, "sources": sources, "files": dict.fromkeys((*sources, target), "1")}
        options = {"target": target, "domains_measured": ((sources[0], True, 0.1), (target, False, 0.4))}
        without = [
            kind(ERM) | {"domains": {"target": target, "sources": [name], "files": dict.fromkeys((name, target), "1")}}
            for name in sources[::-1]
        ]
        network(f"erm-{target}", "erm", 0, row=ERM, domains=own, **options)
        network(f"kd-{target}", "kd", 0, row=kd(teachers=without), domains=own, **options)
        network(f"one-{target}", "kd", 1, row=kd(teachers=without[:1]), domains=own, **options)
        network(f"other-{target}", "kd", 2, row=kd(teachers=without[1:]), domains=own, **options)
    (over,) = report().over_targets
    labels = {row.label: row.targets for row in over.rows}
    alone = [f"kd [teachers.0.domains.sources=all but no. {number}]" for number in (1, 2)]
    assert labels == dict.fromkeys(("erm", "kd [teacher.method=erm]", *alone), 2)


def test_two_data_sets_of_equal_names_are_two_settings(network: Make, report: Callable[..., Analysis]) -> None:
    for version in "ab":
        network(f"erm-{version}", "erm", 0, domains={"target": "dusk", "files": {"dusk": version}})
    found = report()
    assert rows(found) == [("erm", 1), ("erm", 1)]
    # One target twice is no two targets.
    assert found.over_targets == [] and found.skipped == []
    assert {table.setting.differs for table in found.tables} == {" [files.dusk=a]", " [files.dusk=b]"}


def test_two_data_sets_are_aggregated_each_on_its_own(network: Make, report: Callable[..., Analysis]) -> None:
    for version in "ab":
        for target, other in (("day", "dusk"), ("dusk", "day")):
            domains = {"target": target, "sources": [other], "files": {"day": version, "dusk": version}}
            options = {"target": target, "domains_measured": ((other, True, 0.1), (target, False, 0.4))}
            network(f"{version}-{target}", "erm", 0, domains=domains, **options)
    found = report()
    assert [table.title for table in found.over_targets] == [
        f"seg · all 2 targets · unet_resnet18 [files.day={version}, files.dusk={version}]" for version in "ab"
    ]


def test_judged_elsewhere_a_row_is_the_same_row(network: Make, report: Callable[..., Analysis]) -> None:
    trained = {"target": "dusk", "sources": ["day"], "files": {"day": "1", "dusk": "2"}}
    elsewhere = {"target": "fog", "sources": ["day"], "files": {"day": "1", "fog": "3"}}
    for teacher, steps in (("own", 400), ("longer", 800)):
        row = kd(teachers=[kind(ERM, steps) | {"domains": trained}])
        for domains in (trained, elsewhere):
            target = domains["target"]
            options = {"target": target, "domains_measured": (("day", True, 0.1), (target, False, 0.4))}
            network(f"{teacher}-{target}", "kd", 0, domains=domains, row=row, **options)
    (over,) = report().over_targets
    assert [(row.label, row.targets) for row in over.rows] == [
        ("kd [teacher.steps=400]", 2),
        ("kd [teacher.steps=800]", 2),
    ]


def test_a_teacher_of_other_domains_is_another_kind(network: Make, report: Callable[..., Analysis]) -> None:
    own = {"target": "dusk", "sources": ["day"]}
    for name, sources in (("same", ["day"]), ("more", ["day", "dawn"])):
        row = kd(teachers=[kind(ERM) | {"domains": {"target": "elsewhere", "sources": sources}}])
        network(name, "kd", 0, domains=own, row=row)
    assert [label for label, _ in rows(report())] == ["kd", "kd [teacher.sources.0=day, teacher.sources.1=dawn]"]


def test_a_reference_that_is_another_row_on_each_target_gives_no_difference_over_them(
    policy: Make, report: Callable[..., Analysis]
) -> None:
    for game, share in (("coinrun", 0.1), ("ninja", 0.2)):
        for seed in range(2):
            driven = {**ERM, "driver": {"share": share}}
            policy(f"erm-{game}-{seed}", "erm", seed, game=game, domains={"game": game}, row=driven)
            policy(f"kd-{game}-{seed}", "kd", seed, game=game, domains={"game": game}, row=kd())
    found = report()
    for table in found.tables:
        assert [row.difference is None for row in table.rows] == [True, False]
    assert all(row.difference is None for row in found.over_targets[0].rows)
    assert any(
        "the reference is another row on some targets (erm [share=0.1], erm [share=0.2])" in n for n in found.notes
    )


def test_one_setting_without_a_clear_reference_does_not_keep_others_from_theirs(
    policy: Make, report: Callable[..., Analysis]
) -> None:
    for game, shares in (("coinrun", (None,)), ("ninja", (0.1, 0.2))):
        domains = {"game": game}
        for share in shares:
            row = ERM if share is None else {**ERM, "driver": {"share": share}}
            policy(f"erm-{game}-{share}", "erm", 0, game=game, domains=domains, row=row)
        policy(f"kd-{game}", "kd", 0, game=game, domains=domains, row=kd())
    found = report()
    assert [table.setting.has_reference for table in found.tables] == [True, False]
    assert any("several rows are called erm (erm [share=0.1], erm [share=0.2])" in note for note in found.notes)


def test_averaging_makes_rows_of_averaged_weights_alone(network: Make, report: Callable[..., Analysis]) -> None:
    both = (("last", 1.0), ("averaged", 0.8))
    network("a-plain", "erm", 0)
    network("b-wakd", "erm", 0, selections=both, row=ERM | {"averaging": {"name": "wakd"}})
    network("c-swad", "erm", 0, selections=both, row=ERM | {"averaging": {"name": "swad"}})
    found = report()
    assert rows(found) == [("erm", 1), ("erm (averaged) [averaging=swad]", 1), ("erm (averaged) [averaging=wakd]", 1)]
    assert [line.partition(": ")[2].partition(" as ")[0] for line in found.skipped] == [
        "erm with seed 0 is the same training"
    ] * 2


def test_the_same_run_once_more_is_named_and_counts_once(policy: Make, report: Callable[..., Analysis]) -> None:
    policy("erm", "erm", 0)
    policy("judged-again", "erm", 0)
    found = report()
    assert rows(found) == [("erm", 1)]
    (line,) = found.skipped
    assert "judged-again: erm with seed 0 is the same run as" in line


def test_a_reference_of_which_there_are_several_is_asked_for(policy: Make, report: Callable[..., Analysis]) -> None:
    for weight in (0.1, 1.0):
        policy(f"kd-{weight}", "kd", 0, row=kd(weight))
    with pytest.raises(
        InputError, match=r"--reference=kd may be any of these: kd \[weight=0.1\], kd \[weight=1.0\]; give"
    ):
        report(reference="kd")
    found = report(reference="kd [weight=1.0]")
    assert [row.label for row in found.tables[0].rows] == ["kd [weight=1.0]", "kd [weight=0.1]"]
    with pytest.raises(InputError, match=r"there is no run of 'ppd' to compare with; there are: kd \[weight=0.1\], "):
        report(reference="ppd")


def test_old_records_are_read_and_said_to_be_of_unknown_setting(
    policy: Make, write: SimpleNamespace, tmp_path: Path, report: Callable[..., Analysis]
) -> None:
    for seed in range(2):
        write.policy_run(tmp_path / "runs" / "old" / f"erm-{seed}", "erm", seed, 0.7)
        policy(f"kd-{seed}", "kd", seed)
    found = report()
    assert sorted(rows(found)) == [("erm", 2), ("kd", 2)] and len(found.tables) == 2
    (note,) = (one for one in found.notes if "setting is unknown" in one)
    assert "rl · coinrun [recorded before runs had identities]: recorded before" in note


def test_only_finished_runs_are_results(policy: Make, report: Callable[..., Analysis]) -> None:
    policy("erm", "erm", 0)
    for stage in ("training", "trained"):
        policy(stage, "kd", 0, row=kd()).set_status(Status(stage, 10, 400, 1.0))
    found = report()
    assert rows(found) == [("erm", 1)]
    assert [line.partition(": ")[2] for line in found.skipped] == [
        "not finished (trained, 10 of 400 steps)",
        "not finished (training, 10 of 400 steps)",
    ]


def test_what_did_not_go_on_exactly_is_said(policy: Make, report: Callable[..., Analysis]) -> None:
    run = policy("erm", "erm", 0)
    run.record_path.write_text(run.record_path.read_text().replace('"resumed": ""', '"resumed": "inexact"'))
    assert any("resumed, but not bit for bit: erm 0 (method and seed)" in note for note in report().notes)


def test_what_of_a_method_never_acted_is_said(policy: Make, report: Callable[..., Analysis]) -> None:
    line = "the filter of kddg touched nothing in any step"
    for seed in range(3):
        policy(f"a{seed}", "erm", seed)
        run = policy(f"b{seed}", "kddg", seed)
        status = run.status()
        assert status is not None
        run.set_status(dataclasses.replace(status, idle=(line,) if seed < 2 else ()))
    assert any(note.endswith(f": kddg: {line} (2 of 3 runs)") for note in report().notes)


def test_records_that_are_not_the_runs_own_are_passed_over(policy: Make, report: Callable[..., Analysis]) -> None:
    policy("erm", "erm", 0)
    other = policy("kd", "kd", 1)
    policy("mixed", "kd", 2).record_path.write_bytes(other.record_path.read_bytes())
    found = report()
    assert rows(found) == [("erm", 1), ("kd", 1)]
    assert "mixed/record.jsonl:1 is not of the run that identity.json describes" in found.skipped[0]


def test_holm_corrects_over_methods_too(policy: Make, report: Callable[..., Analysis], write: SimpleNamespace) -> None:
    for seed in range(4):
        policy(f"erm-{seed}", "erm", seed)
        for weight in range(1, 4):
            policy(f"kd-{weight}-{seed}", "kd", seed, row=kd(float(weight)))
    compared = [row.difference for row in report().tables[0].rows if row.difference is not None]
    p_values = sorted((one.p_value, one.adjusted) for one in compared if one.p_value and one.adjusted)
    assert len(p_values) == 3
    assert p_values[0][1] == pytest.approx(min(1.0, 3 * p_values[0][0]))


def test_names_are_as_short_as_tells_apart() -> None:
    assert differences({"x": {"a": 1}}) == {"x": ""}
    assert differences({"x": {"a.b": 1, "a.c": 2}, "y": {"a.b": 1, "a.c": 3}}) == {"x": "c=2", "y": "c=3"}
    assert differences({"x": {"a": 1}, "y": {"a": 1, "b": True}}) == {"x": "", "y": "b=true"}
    # What has one short name is called by its whole one.
    assert differences({"x": {"a.c": 1, "b.c": 0}, "y": {"a.c": 2, "b.c": 3}})["x"] == "a.c=1, b.c=0"
    # Three items at most, then a hash.
    many = {number: {str(bit) * 2: number >> bit & 1 for bit in range(5)} for number in range(32)}
    assert all(words.count("=") <= 3 for words in differences(many).values())
    named = {number: Named("kd", leaves, f"{number:06d}") for number, leaves in many.items()}
    assert len(set(labels(named).values())) == 32
    lookalike = {"x": Named("kd [a=1]", {}, "1"), "y": Named("kd", {"a": 1}, "2"), "z": Named("kd", {"a": 2}, "3")}
    assert len(set(labels(lookalike).values())) == 3
    assert labels({"x": Named("kd", {}, "1"), "y": Named("erm", {}, "2")}) == {"x": "kd", "y": "erm"}
