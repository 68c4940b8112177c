"""The settings of both tasks: a key that both have means the same on either."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import kdrl.settings
import kdseg.settings
from common.configuration import check_settings, read_settings, to_yaml
from common.directories import config_directory
from common.errors import InputError
from common.runs.settings import JudgeSettings, RunSettings

PROGRAMS: dict[str, Any] = {"kdrl": kdrl.settings, "kdseg": kdseg.settings}
OLD = Path(__file__).parents[1] / "data" / "runs-0.1.0"


def composed(program: str, name: str = "train", *overrides: str) -> Any:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        return OmegaConf.to_container(compose(f"{program}/{name}", list(overrides)), resolve=True)


def refusal(program: str, **change: Any) -> str:
    with pytest.raises(InputError) as caught:
        check_settings(composed(program) | change, PROGRAMS[program].TrainSettings)
    return str(caught.value)


def types(settings: Any) -> dict[str, Any]:
    return {field.name: field.type for field in dataclasses.fields(settings)}


def test_what_both_tasks_have_is_one_definition() -> None:
    for name, shared in (("TrainSettings", RunSettings), ("EvaluateSettings", JudgeSettings)):
        ours, theirs = (types(getattr(PROGRAMS[program], name)) for program in PROGRAMS)
        assert types(shared).items() <= ours.items() and types(shared).items() <= theirs.items()
        # The rest bears a name in common only where its values are the task's own.
        both = ours.keys() & theirs.keys() - types(shared).keys()
        assert both == ({"task", "network", "evaluation"} if name == "TrainSettings" else {"run"})


def test_what_both_tasks_have_has_one_default_and_one_comment() -> None:
    own = {"task", "run_dir", "strength", "network", "evaluation", "checkpoint_every", "seed", "hydra", "defaults"}
    for name in ("train", "evaluate"):
        texts = [(config_directory() / program / f"{name}.yaml").read_text() for program in PROGRAMS]
        ours, theirs = ({key: value for key, value in yaml.safe_load(text).items() if key not in own} for text in texts)
        for key in ours.keys() & theirs.keys():
            assert ours[key] == theirs[key], key
            comments = [_comment(text, key) for text in texts]
            assert comments[0] == comments[1] or key in ("out", "run"), key
        assert {"unfinished"} <= ours.keys() & theirs.keys()


def _comment(text: str, key: str) -> str:
    lines = text.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith(f"{key}:"))
    return lines[place - 1] if lines[place - 1].startswith("#") else ""


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"seed": 2**31},
        {"seed": "x"},
        {"seed": 1.5},
        {"checkpoint_every": 0},
        {"run_dir": None},
        {"teacher": 3},
        {"teacher": [3]},
        {"teacher_weights": "best"},
        {"teacher_combine": "mean"},
        {"resume": "always"},
        {"unfinished": "perhaps"},
        {"method": "kd"},
        {"method": {"_target_": "common.distillation.Distillation"}},
        {"method": {"_target_": "common.distillation.Distillation", "name": 3}},
        {"averaging": None},
        {"averaging": {"_target_": "common.averaging.EMA"}},
        {"sead": 1},
    ],
    ids=str,
)
def test_both_tasks_refuse_the_same_in_the_same_words(change: dict[str, Any]) -> None:
    ours, theirs = (refusal(program, **change) for program in PROGRAMS)
    assert ours == theirs
    assert ours.startswith(next(iter(change))) and "\n" not in ours


@pytest.mark.parametrize("program", PROGRAMS)
def test_settings_are_what_the_file_gives_back(program: str, tmp_path: Path) -> None:
    task = {"kdrl": "rl", "kdseg": "seg"}[program]
    schedule = "strength.sd_dropout={_target_:common.schedule.LinearSchedule,start:0.0,end:1.0}"
    for overrides in ([], ["method=iter"], ["method=sd_dropout", schedule, "averaging=swad", "teacher=[a,b]"]):
        settings = check_settings(composed(program, "train", *overrides), PROGRAMS[program].TrainSettings)
        (tmp_path / "config.yaml").write_text(to_yaml(settings))
        assert read_settings(tmp_path / "config.yaml", PROGRAMS[program].TrainSettings, task) == settings
    assert "&" not in to_yaml(settings)  # aliases would not be read back


@pytest.mark.parametrize(("program", "task"), [("kdrl", "rl"), ("kdseg", "seg")])
def test_runs_of_the_first_release_are_read(program: str, task: str) -> None:
    settings: Any = read_settings(OLD / f"{program}.yaml", PROGRAMS[program].TrainSettings, task)
    assert (settings.resume, settings.unfinished) == ("auto", False)
    assert settings.method["terms"]["kddg"]["reading"] == "student"
    if program == "kdseg":
        assert settings.network.options == {"encoder_depth": 3, "decoder_channels": [16, 8, 8]}
        assert settings.trainer.max_steps == 1000 and settings.trainer.model_dump()["precision"] == "32-true"
        assert "create_network" not in to_yaml(settings)


def test_segmentation_is_typed_as_policies_are() -> None:
    network = composed("kdseg")["network"]
    for change, expected in (
        ({"_target_": "os.system"}, "network._target_='os.system' is refused; remove it"),
        ({"arch": {"_target_": "common.generations._run", "command": ["true"]}}, "network.arch={'_target_': 'common.g"),
        ({"encoder_name": None}, "network.encoder_name=None: Input should be a valid string"),
        ({"encoder_weights": 3}, "network.encoder_weights=3: "),
        ({"task": "rl", "name": "impala"}, "network=impala is for task 'rl'; choose one for task 'seg'"),
    ):
        assert refusal("kdseg", network=network | change).startswith(expected)
    for trainer, expected in (
        ({}, "trainer.max_steps is missing; give trainer.max_steps=…"),
        ({"max_steps": 0}, "trainer.max_steps=0 must be at least 1"),
        ({"max_steps": "abc"}, "trainer.max_steps='abc': Input should be a valid integer"),
        ({"max_steps": None}, "trainer.max_steps=None: Input should be a valid integer"),
    ):
        assert refusal("kdseg", trainer=trainer).startswith(expected)
