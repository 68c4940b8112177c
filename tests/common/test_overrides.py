"""Names on the command line stay the text that was typed, and what cannot be read says how to write it."""

from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from common.errors import InputError
from common.method import METHOD_PARTS
from common.overrides import Texts, prepared, texts_of
from kdrl.settings import TrainSettings as PolicySettings
from kdseg.configured import DATA_PARTS
from kdseg.settings import EvaluateSettings
from kdseg.settings import TrainSettings as SegmentationSettings

SEGMENTATION = texts_of(SegmentationSettings, {**METHOD_PARTS, **DATA_PARTS})


def read(*arguments: str, texts: Texts = SEGMENTATION) -> list[Any]:
    parser = OverridesParser.create()
    return [parser.parse_override(argument).value() for argument in prepared(arguments, texts)]


def test_the_keys_of_texts_are_those_of_what_the_configuration_becomes() -> None:
    assert {"run_dir", "teacher", "data.root", "data.target", "network.encoder_weights"} <= SEGMENTATION.single
    assert {"data.sources", "data.class_names", "teacher", "plan.teachers.*", "plan.beside.*"} <= SEGMENTATION.several
    assert not {"seed", "data.loading.batch_size", "trainer.max_steps"} & (SEGMENTATION.single | SEGMENTATION.several)
    policies = texts_of(PolicySettings, METHOD_PARTS)
    assert {"env.game", "env.look", "run_dir", "device"} <= policies.single
    assert "evaluation.looks" in policies.several
    assert {"run", "target", "root"} <= texts_of(EvaluateSettings, {}).single


@pytest.mark.parametrize(
    "name",
    [
        "2020_01", "1e5", "007", "true", "No", "nan", "inf", ".5", "a=b", "a b", "(a)", "[old]", "é", "~x", "x~", "a,b",
        "{a}", "it's", 'say "it"', "日本", "back\\slash", "ends\\", "'", "#1", "@home", "ä/ö", "a'b\\", "-1", "+1",
    ],
)  # fmt: skip
def test_a_name_is_the_text_that_was_typed(name: str) -> None:
    assert read(f"data.target={name}") == [name]
    assert read(f"run_dir={name}/x", f"+data.root={name}") == [f"{name}/x", name]


def test_a_list_of_names_too() -> None:
    assert read("data.sources=[2020_01, 1e5,é]", "data.class_names=[no,yes]") == [
        ["2020_01", "1e5", "é"],
        ["no", "yes"],
    ]
    assert read("data.sources=[a]", "data.sources=['a,b', c, [old], =x]") == [["a"], ["a,b", "c", "[old]", "=x"]]


def test_a_plans_overrides_need_no_quotes() -> None:
    typed = "plan.teachers.wide=[method=erm,total_timesteps=8192, env.num_levels=1_000]"
    assert read(typed) == [["method=erm", "total_timesteps=8192", "env.num_levels=1_000"]]
    quoted = "plan.beside.plain=['method=erm','data.sources=[a,b]']"
    assert read(quoted) == [["method=erm", "data.sources=[a,b]"]]


@pytest.mark.parametrize(("typed", "value"), [("null", None), ("'null'", "null"), ("", ""), ("'1_0'", "1_0")])
def test_what_is_no_name_stays_what_it_is(typed: str, value: Any) -> None:
    assert read(f"data.target={typed}") == [value]


def test_everything_else_is_hydras() -> None:
    given = ["seed=1_0", "method=kd", "~averaging", "--help", "trainer.max_steps=1e5", "run_dir=runs/${seed}", "x"]
    assert prepared(given, SEGMENTATION) == given


def test_a_sweep_over_names() -> None:
    sweep = prepared(["-m", "data.target=2020_01,b", "data.sources=[a,b],[1_0]", "seed=range(3)"], SEGMENTATION)
    assert sweep == ["-m", "data.target='2020_01',b", "data.sources=[a,b],[1_0]", "seed=range(3)"]


@pytest.mark.parametrize("argument", ["data.loading.batch_size=(", "seed=[1", "method.name={", "trainer.precision=a=b"])
def test_what_cannot_be_read_says_how_to_write_it(argument: str) -> None:
    key, _, value = argument.partition("=")
    with pytest.raises(InputError) as caught:
        read(argument, texts=Texts(frozenset(), frozenset()))
    assert str(caught.value).startswith(f"{argument} cannot be read; quote a value that holds such characters: ")
    quoted = str(caught.value).rpartition(": ")[2]
    assert quoted == f"'{key}=\"{value}\"'"
    assert OverridesParser.create().parse_override(quoted[1:-1]).value() == value


@pytest.mark.parametrize("argument", ["method=[1]", "network=[small,1]", "env=[[a]]", "task=[null]"])
def test_a_group_takes_names(argument: str) -> None:
    name = argument.partition("=")[0]
    with pytest.raises(InputError, match=f"{name} takes the name of one of its configurations, no such list"):
        prepared([argument], SEGMENTATION)
    assert prepared(["trainer.max_steps=[1]", "method=kd"], SEGMENTATION) == ["trainer.max_steps=[1]", "method=kd"]
