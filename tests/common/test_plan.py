"""Plans: which runs, in which order, with which overrides; and one of each task from end to end."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

import common.plan
from benchmarks.programs import configured
from common.configuration import check_settings
from common.errors import InputError
from common.plan import Plan, chain_of
from common.report.main import main as report
from common.runs.folder import Run
from kdrl.settings import TrainSettings as PolicySettings
from kdrl.train import main as train_policy
from kdseg.settings import TrainSettings as SegmentationSettings
from kdseg.train import main as train_network
from tests.nuclei import SMALL_NETWORK
from tests.policies import SMALL_POLICY

Call = Callable[..., Any]
GIVEN = ["experiment=recipe", "data.root=/d", "network=unet_small", "+trainer.devices=1", "plan.out=out"]


def plan(**more: Any) -> Plan:
    made: Plan = check_settings({"out": "out", "seeds": [0, 4], **more}, Plan)
    return made


def test_teachers_come_first_and_then_the_students_seed_by_seed() -> None:
    made = plan(teachers={"a": ["method=erm", "network=unet"], "b": ["method=erm"]}, beside={"plain": ["method=erm"]})
    chain = chain_of(made, "kdseg-train", GIVEN, [])
    names = ["teachers/a", "teachers/b", "runs/student-0", "runs/plain-0", "runs/student-4", "runs/plain-4"]
    assert [path for path, _ in chain] == [Path("out") / name for name in names]
    shared = ["kdseg-train", "experiment=recipe", "data.root=/d", "+trainer.devices=1"]
    ends = [[*command[-3:]] for _, command in chain]
    assert ends[0] == ["plan=null", "seed=100", "run_dir=out/teachers/a"]
    assert ends[1] == ["plan=null", "seed=101", "run_dir=out/teachers/b"]
    assert ends[4] == ["plan=null", "seed=4", "run_dir=out/runs/student-4"]
    # What a run says itself replaces what all were given.
    assert chain[0][1][:-3] == [*shared, "method=erm", "network=unet", "teacher=null"]
    student = chain[2][1][:-3]
    assert student == [*shared[:3], "network=unet_small", shared[3], "teacher=[out/teachers/a,out/teachers/b]"]


def test_a_teacher_for_each_domain_that_it_has_not_seen() -> None:
    chain = chain_of(plan(without_each=["method=erm"]), "kdseg-train", [], ["dawn", "day", "dusk"])
    assert [path.name for path, _ in chain[:3]] == ["without-dawn", "without-day", "without-dusk"]
    assert [command[2] for _, command in chain[:3]] == [
        "data.sources=[day,dusk]",
        "data.sources=[dawn,dusk]",
        "data.sources=[dawn,day]",
    ]


@pytest.mark.parametrize(
    ("made", "given", "said"),
    [
        ({}, [], "plan.teachers is empty"),
        ({"teachers": {"a": []}}, ["seed=3"], "seed=3 is set by the plan"),
        ({"teachers": {"a": []}}, ["run_dir=x"], "run_dir=x is set by the plan"),
        ({"teachers": {"a": []}}, ["teacher=x"], "teacher=x is set by the plan"),
        ({"teachers": {"a": []}, "beside": {"student": []}}, [], "plan.beside has a run named student"),
        ({"without_each": []}, [], "plan.without_each needs two source domains or more, there is: day"),
    ],
)
def test_what_cannot_be_is_refused(made: dict[str, Any], given: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        chain_of(plan(**made), "kdseg-train", given, ["day"])


@pytest.mark.parametrize("experiment", ["recipe", "complementary", "wakd", "swad", "sma"])
@pytest.mark.parametrize(("program", "settings"), [("kdrl", PolicySettings), ("kdseg", SegmentationSettings)])
def test_experiments_of_both_tasks_compose_for_both(experiment: str, program: str, settings: Any) -> None:
    data = ["data=nuclei", "data.root=x", "data.target=y"] if program == "kdseg" else []
    config = configured(program, f"experiment={experiment}", *data)
    made = check_settings(OmegaConf.to_container(config, resolve=True, throw_on_missing=True), settings)
    assert (made.plan is not None) == (experiment in ("recipe", "complementary"))
    if experiment == "wakd":
        assert (made.method["task_weight"], made.method["terms"]["kd"]["weight"]) == (0.0, 1.0)
    if experiment in ("wakd", "swad", "sma"):
        assert made.averaging["name"] == experiment


def test_a_wide_teacher_has_seen_nothing_that_its_student_is_judged_on() -> None:
    def settings(*given: str) -> PolicySettings:
        config = configured("kdrl", *given)
        made: PolicySettings = check_settings(OmegaConf.to_container(config, resolve=True), PolicySettings)
        return made

    given = ["experiment=wide_teacher", "env=leaper"]
    whole = settings(*given)
    assert whole.plan is not None
    chain = chain_of(whole.plan, "kdrl-train", given, [])
    teacher, student, plain = (settings(*command[1:]) for _, command in chain[:3])
    names = [one.method["name"] for one in (teacher, student, plain)]
    assert names == ["erm", "policy_distillation", "erm"]
    assert student.teacher == ["runs/wide_teacher/leaper/teachers/wide"]
    assert student.env == plain.env and student.total_timesteps == plain.total_timesteps
    parts = student.env.parts(["themed", "generated"])
    assert not any(teacher.env.saw(part, student.env) for part in parts)
    assert not teacher.env.parts([])[0].levels.overlaps(parts[0].levels)  # type: ignore[union-attr,arg-type]


POLICY = [*SMALL_POLICY, "~plan.teachers.long-1", "plan.teachers.long-0=['method=erm']"]
NETWORK = [
    *("data=nuclei", "data.target=fluorescence", "data.batch_size=4", "data.crop_size=32", "trainer.max_steps=2"),
    *("trainer.accelerator=cpu", "evaluation.every=0"),
]


@pytest.mark.parametrize(
    ("train", "arguments", "teachers"),
    [
        (train_policy, ["experiment=recipe", *POLICY], ["long-0"]),
        (train_network, ["experiment=recipe", *NETWORK], ["large-0", "large-1"]),
        (
            train_network,
            ["experiment=complementary", *NETWORK, *SMALL_NETWORK, "data.sources=[grey_brightfield,purple_on_white]"],
            ["without-grey_brightfield", "without-purple_on_white"],
        ),
    ],
    ids=["policies", "segmentation", "complementary"],
)
def test_one_command_trains_all_and_reports(
    train: Any,
    arguments: list[str],
    teachers: list[str],
    tmp_path: Path,
    small_nuclei: Path,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []

    def run(command: list[str]) -> int:
        """The same in this process, where everything is imported already."""
        ran.append(command[0])
        outcome = call(report if command[0] == "kd-report" else train, *command[1:])
        assert (outcome.status, outcome.err) == (0, "")
        return int(outcome.status)

    monkeypatch.setattr(common.plan, "run_program", run)
    asked = [*arguments, f"plan.out={tmp_path}/all", "plan.seeds=[0]"]
    asked += [f"data.root={small_nuclei}"] if train is train_network else []
    outcome = call(train, *asked)
    assert (outcome.status, outcome.err) == (0, "")
    assert sorted(os.listdir(tmp_path / "all" / "teachers")) == teachers
    student, plain = (Run(tmp_path / "all" / "runs" / f"{name}-0") for name in ("student", "plain"))
    assert student.finished and plain.finished
    settings = yaml.safe_load(student.config_path.read_text())
    assert settings["teacher"] == [str(tmp_path / "all" / "teachers" / name) for name in teachers]
    identities = [run.identity() for run in (student, plain)]
    assert identities[0] and identities[1] and identities[0].setting_key == identities[1].setting_key
    assert (tmp_path / "all" / "report" / "report.html").exists()
    # Again: nothing is trained twice.
    ran.clear()
    assert call(train, *asked).status == 0
    assert ran == ["kd-report"]
