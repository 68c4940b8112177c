"""The grids: every cell is a command line that a user could type, cells resume, the rule for defaults by hand."""

import dataclasses
import functools
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from benchmarks.effect import comparison, defaults, images, keeping, strong, table
from benchmarks.effect import grid as benchmark
from benchmarks.effect.cells import AVERAGING, TEACHER_SEED, Cell
from benchmarks.effect.committed import validation
from benchmarks.effect.decisions import DECISIONS, Candidate
from benchmarks.effect.grids import GRIDS
from benchmarks.effect.microcolonies import DOMAINS
from benchmarks.programs import configured
from common.configuration import check_settings
from common.runs.folder import Run
from kdrl import settings as policies
from kdseg import settings as segmentation
from tests.nuclei import SMALL_NETWORK

SETTINGS = {"kdseg": segmentation.TrainSettings, "kdrl": policies.TrainSettings}


@pytest.mark.parametrize("name", GRIDS)
def test_every_cell_is_a_valid_configuration(name: str, tmp_path: Path) -> None:
    grid = GRIDS[name]
    cells = [cell for cell in grid.cells() if cell.seed == grid.first_seed]
    assert len(grid.cells()) == grid.seeds * len(cells)
    # What a target adds to a line and what a method adds do not meet, nor do the parts of either: every one is enough,
    # of methods those that have a part which none before them had.
    first = [next(iter(group)) for group in (grid.targets, grid.methods, {**grid.teachers, "": None})]
    before = [GRIDS[other] for other in itertools.takewhile(lambda other: other != name, GRIDS)]
    had = {part for other in before for given in other.methods.values() for part in given}
    known = [given for other in before for given in other.targets.values()]
    asked = []
    for cell in cells:
        if cell.target == first[0] and (parts := set(grid.methods[cell.method]) - had):
            asked.append(cell)
            had |= parts
    new = [target for target in grid.targets if target == first[0] or grid.targets[target] not in known]
    on_new = [one for one in [*grid.teacher_cells(), *cells] if one.method in first and one.target in new]
    for cell in [*asked, *on_new]:
        config = configured(grid.program, *benchmark.overrides(grid, cell, tmp_path, tmp_path))
        values = OmegaConf.to_container(config, resolve=True)
        settings = check_settings(values, SETTINGS[grid.program])
        is_teacher = cell.method in grid.teachers
        assert settings.method["name"] == ("erm" if is_teacher else cell.method)
        own = grid.teachers[cell.method].overrides if is_teacher else (*AVERAGING, *grid.methods[cell.method])
        rules = [one.removeprefix("averaging=") for one in own if one.startswith("averaging=")]
        assert settings.averaging["name"] == (rules[-1] if rules else "none")


@pytest.mark.parametrize(("target", "labelled"), [("fluorescence", "phase_contrast"), ("uneven_light", "fluorescence")])
def test_one_domain_alone_keeps_its_masks(target: str, labelled: str, tmp_path: Path) -> None:
    for name in DOMAINS:
        for kind in ("images", "masks"):
            (tmp_path / "colonies" / name / kind).mkdir(parents=True)
            (tmp_path / "colonies" / name / kind / "0.png").touch()
    (tmp_path / "colonies" / "metadata.csv").write_text("name\n")
    grid = GRIDS["colonies_one_labelled"]
    given = grid.given(target, "kd")
    images.make(given, target, tmp_path / "colonies", tmp_path)
    root = Path(images.place("colonies_one_labelled", target, None, tmp_path))
    assert images.placed(given, target, tmp_path / "colonies", tmp_path)[-2] == f"data.root={root}"
    assert (root / "metadata.csv").read_text() == "name\n"  # is no domain
    shown = [path for path in root.iterdir() if path.name[0] != "." and path.is_dir()]
    found = {path.name: {kind.name for kind in path.iterdir()} for path in shown}
    assert found == {name: {"images", "masks"} if name in (target, labelled) else {"unlabelled"} for name in DOMAINS}
    assert all((path / kind / "0.png").exists() for path in shown for kind in found[path.name])


def test_all_methods_of_a_grid_have_the_same_steps() -> None:
    for grid in GRIDS.values():
        assert sum("steps=" in one for one in grid.settings) == (1 if grid.program == "kdseg" else 2)  # and ppo.n_steps
        assert not any("steps" in one for given in grid.methods.values() for one in given)


def test_a_grid_cut_short_has_every_method() -> None:
    cells = GRIDS["core"].cells()
    assert len(cells) == len(set(cells)) == 105
    assert {cell.seed for cell in cells[:21]} == {0}


def test_a_grid_runs_resumes_and_is_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny = dataclasses.replace(
        GRIDS["core"],
        targets={"generated": GRIDS["core"].targets["generated"]},
        methods={name: GRIDS["core"].methods[name] for name in ("erm", "kd")},
        seeds=1,
        settings=(
            "trainer.max_steps=2",
            "+trainer.enable_progress_bar=false",
            "evaluation.every=0",
            *SMALL_NETWORK,
            "data.train_frames=32",
            "data.validation_frames=16",
            "data.test_frames=16",
        ),
    )
    monkeypatch.setitem(GRIDS, "core", tiny)
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path / "results")
    teacher = Cell("generated", "teacher", TEACHER_SEED)
    for cell in (teacher, *tiny.cells()):
        benchmark.run_cell("core", cell, tmp_path, None)
    benchmark.collect("core", tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "results" / "core.jsonl").read_text().splitlines()]
    assert [row["method"] for row in rows] == ["teacher", "erm", "kd"]
    for row in rows:
        assert set(row["scores"]) == ({"last"} if row["method"] == "teacher" else {"last", "averaged"})
        for scores in row["scores"].values():
            assert set(scores) == {"validation", "seen", "unseen"}
            assert set(scores["unseen"]) == {"generated"}
    compared = (tmp_path / "results" / "core_averaged.csv").read_text()
    assert "kd (averaged)" in compared
    described = json.loads((tmp_path / "results" / "core.json").read_text())
    assert described["cells"] == 2
    # The most frequent class alone is found: its share of the pixels, over the number of classes there are.
    items = Run(tmp_path / "generated" / "erm-0").items()
    counts = items["confusion|generated|unseen"].sum(axis=(0, 2))
    wanted = max(counts) / counts.sum() / sum(counts > 0)
    assert described["nothing found"]["generated"] == pytest.approx(wanted, abs=1e-4)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("record.jsonl")}
    missing = benchmark.missing(tiny, tmp_path, tiny.cells())
    benchmark.run_missing(benchmark.Console(quiet=True), "core", tmp_path, None, 1, missing)
    assert missing == ([], [])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("record.jsonl")} == before

    # Elsewhere, where nothing but the results is.
    elsewhere = tmp_path / "elsewhere"
    unpacked = keeping.unpack(benchmark.archive("core", "generated"), elsewhere)
    assert {path.name for path in unpacked} == {"erm-0", "kd-0"}
    assert benchmark.missing(tiny, elsewhere, tiny.cells()) == ([], [])
    benchmark.collect("core", elsewhere)
    assert (tmp_path / "results" / "core_averaged.csv").read_text() == compared
    assert [json.loads(line) for line in (tmp_path / "results" / "core.jsonl").read_text().splitlines()] == rows
    assert keeping.unpack(benchmark.archive("core", "generated"), elsewhere) == []


def test_nothing_is_begun_after_an_error() -> None:
    begun = []

    def job(number: int) -> None:
        begun.append(number)
        if number == 2:
            raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool, pytest.raises(KeyboardInterrupt):
        list(benchmark.in_turn(pool, 1, (functools.partial(job, number) for number in range(6))))
    assert begun == [0, 1, 2]
    with ThreadPoolExecutor(2) as pool:
        assert len(list(benchmark.in_turn(pool, 2, (functools.partial(job, number) for number in range(3, 8))))) == 5
    assert sorted(begun[3:]) == [3, 4, 5, 6, 7]


def test_teachers_are_trained_for_those_who_ask_them(tmp_path: Path) -> None:
    grid = GRIDS["nuclei_invert"]
    asked = [cell for cell in grid.cells() if cell.target == "fluorescence" and cell.method in ("erm", "kd")]
    teachers, students = benchmark.missing(grid, tmp_path, asked)
    assert teachers == [Cell("fluorescence", "large-0", TEACHER_SEED)]
    assert students == asked and len(asked) == 10
    assert benchmark.missing(grid, tmp_path, [cell for cell in asked if cell.method == "erm"])[0] == []
    assert len(benchmark.missing(grid, tmp_path, grid.cells())[0]) == 28


def test_students_have_the_settings_of_experiment_cpu() -> None:
    made = []
    for given in (GRIDS["students_10"].given("coinrun", "erm"), ["experiment=cpu"], ["experiment=recipe"]):
        config = configured("kdrl", *given)
        made.append((config.ppo, config.env.game, config.env.num_envs))
    assert made[0] == made[1] == made[2]


def test_the_rule_by_hand() -> None:
    cells = [("day", 0), ("day", 1), ("night", 0)]
    default = dict(zip(cells, (0.5, 0.6, 0.7), strict=True))
    steady = dict(zip(cells, (0.51, 0.62, 0.73), strict=True))  # gains .02, standard error .0058
    wild = dict(zip(cells, (0.9, 0.4, 0.8), strict=True))  # gains .1, standard error .17
    choice = defaults.choose("a", {"a": default, "b": steady, "c": wild})
    assert choice.value == "b"
    assert choice.gains["b"] == pytest.approx((0.02, 0.01 / 3**0.5))
    assert choice.scores["c"] == pytest.approx(0.7)
    assert defaults.choose("a", {"a": default, "c": wild}).value == "a"
    only_shared = defaults.choose("a", {"a": default, "b": {cell: steady[cell] for cell in cells[:2]}})
    assert only_shared.cells == 2
    with pytest.raises(ValueError, match="was not tried"):
        defaults.choose("z", {"a": default})
    with pytest.raises(ValueError, match="only 1 cells"):
        defaults.choose("a", {"a": default, "b": {("day", 0): 0.9}})


def test_the_target_selects_nothing() -> None:
    row = {"target": "t", "seed": 0, "method": "kd"}
    scores = {"last": {"validation": {"a": 0.4, "b": 0.6}, "seen": {"a": 9.0}, "unseen": {"t": 9.0}}}
    assert validation([row | {"scores": scores}], *Candidate("kd")) == {("t", 0): pytest.approx(0.5)}


def test_candidates_of_a_decision_are_cells_of_the_grids() -> None:
    methods = {name for grid in GRIDS.values() for name in grid.methods}
    for decision in DECISIONS:
        assert {candidate.method for candidate in decision.candidates.values()} <= methods
        assert {decision.before, decision.default()} <= set(decision.candidates)


def test_the_page_is_that_of_the_committed_data() -> None:
    assert table.PAGE.read_text(encoding="utf-8") == table.page(), "run benchmarks/effect/table.py"


def test_a_target_that_has_a_teacher_alone_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"unseen": "0.5", "unseen_ece": "", "difference": "0.1", "difference_low": "0", "difference_high": "0.2"}
    own = [row | {"sure": "", "seeds": "1", "target": target} for target in ("fluorescence", "purple_on_white", "*")]
    judged = {method: {one["target"]: one for one in own} for method in ("erm", "kd")}
    monkeypatch.setattr(strong, "judged", lambda *_: judged)
    # On source validation KD gains .1 and .3: .2, with a standard error of .1.
    plain_on_sources, kd_on_sources = {"fluorescence": 0.4, "purple_on_white": 0.5}, {"fluorescence": 0.5}
    kd_on_sources["purple_on_white"] = 0.8
    rows = [
        {"method": method, "target": target, "seed": 0, "scores": {"last": {"validation": {"a domain": score}}}}
        for method, scores in (("erm", plain_on_sources), ("kd", kd_on_sources))
        for target, score in scores.items()
    ]
    for row in rows:
        row["scores"]["averaged"] = {"unseen": {"a domain": 0.8}}
    scores = {"averaged": {"unseen": {"a domain": 0.8}}}
    rows.append({"method": "large-0", "target": "purple_on_purple", "scores": scores})
    head, _, plain, kd = strong.differences("nuclei_invert", "last", rows)
    assert head == (
        "| method | seeds | all 2 targets | fluorescence | purple_on_white | source validation "
        "| of the teacher's | ECE | filtered |"
    )
    assert plain == "| **erm** (its scores) | 1 | 50.0 | 50.0 | 50.0 | 45.0 |  |  |  |"
    assert (
        kd == "| `kd` | 1 | +10.0 [+0.0, +20.0] | +10.0 [+0.0, +20.0] | +10.0 [+0.0, +20.0] | +20.0 ± 10.0 |  |  |  |"
    )
    rows += [
        {"method": "large-0", "target": target, "scores": scores} for target in ("fluorescence", "purple_on_white")
    ]
    (_, _, plain, _) = strong.differences("nuclei_invert", "last", rows)
    assert plain == "| **erm** (its scores) | 1 | 50.0 | 50.0 | 50.0 | 45.0 | 62 % |  |  |"  # 0.5 of 0.8


def test_the_mean_over_targets_is_that_of_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = {"erm": "555", "kd": "552", "kddg": "5 5"}  # on a, on b, on both; of the last none on b
    rows = [
        {"method": f"{method} (averaged)", "target": target, "seeds": count}
        for method, counts in seeds.items()
        for target, count in zip("ab*", counts, strict=True)
        if count != " "
    ]
    monkeypatch.setattr(comparison, "read", lambda name: rows if name == "nuclei_averaged" else [])
    found = comparison.judged("nuclei", "averaged")
    whole = {method: {target: row["whole"] for target, row in own.items()} for method, own in found.items()}
    yes = {"a": "yes", "b": "yes"}
    assert whole == {"erm": yes | {"*": "yes"}, "kd": yes | {"*": ""}, "kddg": {"a": "yes"}}


def test_stars_are_corrected_over_methods_and_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "RESULTS", tmp_path)
    p_values = {("a", "kd"): 0.012, ("a", "ppd"): 0.2, ("b", "kd"): 0.013, ("b", "ppd"): 0.9, ("a", "erm"): ""}
    lines = [f"{target},{method},{value}" for (target, method), value in p_values.items()]
    (tmp_path / "x.csv").write_text("\n".join(["target,method,p_value", *lines, "*,kd,0.04", "*,ppd,0.01"]) + "\n")
    # Four questions: 4 · 0.012 = 0.048; 3 · 0.013 = 0.039, raised to 0.048. Over targets two more of their own.
    sure = {(row["target"], row["method"]) for row in comparison.read("x") if row["sure"]}
    assert sure == {("a", "kd"), ("b", "kd"), ("*", "kd"), ("*", "ppd")}
    (tmp_path / "x.csv").write_text("\n".join(["target,method,p_value", *lines, "b,wakd,0.5"]) + "\n")
    assert not any(row["sure"] for row in comparison.read("x"))


def test_defaults_are_the_chosen_ones() -> None:
    chosen = {title: choice.value for title, choice in defaults.choices().items()}
    assert {decision.title: decision.default() for decision in DECISIONS} == chosen
