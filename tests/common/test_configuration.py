"""From configuration files to objects: what is refused, what is converted, and every method there is."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pydantic
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from torch import nn

from benchmarks.programs import configured
from common.configuration import (
    PARTS,
    build,
    check_arguments,
    check_settings,
    check_type,
    read_settings,
    shown,
    to_yaml,
)
from common.directories import config_directory
from common.distillation import Distillation
from common.errors import InputError, choice
from common.method import METHODS as METHOD
from common.schedule import LinearSchedule
from common.teacher import Teacher
from common.terms import KD, KDDG, SDDropout
from common.terms.base import Term
from kdseg.configured import make_optimizer

METHODS = sorted(path.stem for path in (config_directory() / "method").glob("*.yaml"))


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "pickle.loads",
        "hydra.utils.instantiate",
        # Classes, functions and methods of ours that are no method.
        "common.generations._run",
        "common.generations.main",
        "common.report.main.main",
        "common.runs.disk.write_text",
        "common.runs.folder.Run",
        "common.runs.folder.Run.set_aside",
        "kdrl.DistilledPPO.load",
        "kdrl.drivers.Driver",
        "common.terms.KD",
        "common.configuration.yaml.unsafe_load",
        # Of other packages.
        "torch.load",
        "torch.hub.load",
        "torch.os.system",
        "torch.nn.Linear",
        "torch.optim.SGD",
        "torch.utils.tensorboard.SummaryWriter",
        "segmentation_models_pytorch.Unet",
        "stable_baselines3.PPO.load",
        "pytorch_lightning.loggers.CSVLogger",
        # Nearly, and not a name.
        "common.distillation.distillation",
        "common.distillation",
        "",
        3,
        None,
        ["common.distillation.Distillation"],
        {"_target_": "common.distillation.Distillation"},
    ],
)
def test_a_target_that_is_not_a_choice_is_refused(target: Any) -> None:
    message = refusal(lambda: build({"_target_": target}, "method", METHOD))
    assert (
        message.startswith("method._target_=") and "is refused; use one of: common.distillation.Distillation" in message
    )


def test_a_target_is_looked_up_and_never_imported() -> None:
    import sys

    assert "antigravity" not in sys.modules
    refusal(lambda: build({"_target_": "antigravity.fly"}, "method", METHOD))
    refusal(lambda: build({**NESTED, "terms": {"kd": {"_target_": "antigravity.fly"}}}, "method", METHOD))
    assert "antigravity" not in sys.modules


def test_the_nearest_choice_is_named() -> None:
    message = refusal(lambda: build({"_target_": "common.distilation.Distillation"}, "method", METHOD))
    assert message.endswith("(did you mean common.distillation.Distillation?)")


def test_no_target_at_all_is_named() -> None:
    message = refusal(lambda: build({"weight": 1}, "a.b", METHOD))
    assert message == "a.b has no _target_; use one of: common.distillation.Distillation"


class Opened:
    """Notes that it was made."""

    made: ClassVar[list[Any]] = []

    def __init__(self, weight: float | LinearSchedule = 1.0, plain: int = 0, anything: Any = None) -> None:
        self.made.append(self)


@pytest.mark.parametrize(
    "arguments",
    [
        # The parent refuses a key: nothing of it is built.
        {"weight": {"_target_": "common.schedule.LinearSchedule", "start": 0, "end": 1}, "unknown": 1},
        # A part where the signature takes none.
        {"plain": {"_target_": "common.schedule.LinearSchedule", "start": 0, "end": 1}},
        {"anything": {"_target_": "common.schedule.LinearSchedule", "start": 0, "end": 1}},
        {"anything": [{"_target_": "common.terms.KD"}]},
        {"weight": {"_target_": "common.terms.KD"}},
        {"weight": {"_target_": "x.Opened"}},
    ],
)
def test_nothing_is_built_that_the_signature_does_not_take(
    arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []
    monkeypatch.setattr(LinearSchedule, "__init__", lambda self, **_: built.append(self))
    monkeypatch.setattr(KD, "__init__", lambda self, *_: built.append(self))
    refusal(lambda: build({"_target_": "x.Opened", **arguments}, "x", {"x.Opened": Opened}))
    assert built == Opened.made == []


# --- arguments -------------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_named_with_those_there_are_and_the_nearest() -> None:
    message = refusal(lambda: build({"_target_": "common.terms.KDDG", "treshold": 0.9}, "method.terms.kddg", PARTS))
    assert message == (
        "method.terms.kddg.treshold is not known; use one of: weight, temperature, threshold, reading "
        "(did you mean threshold?)"
    )
    message = refusal(lambda: build({"_target_": "common.terms.KD", "zzz": 1}, "x", PARTS))
    assert message == "x.zzz is not known; use one of: weight, temperature"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"temperature": "hot"}, "x.temperature='hot': Input should be a valid number"),
        ({"temperature": None}, "x.temperature=None: Input should be a valid number"),
        ({"temperature": True}, "x.temperature=True must be a number"),
        ({"temperature": [1.0]}, "x.temperature=[1.0]: Input should be a valid number"),
        ({"reading": "pupil"}, "x.reading='pupil' is not known; use one of: student, teacher"),
        ({"weight": "heavy"}, "x.weight='heavy': Input should be a valid number"),
    ],
)
def test_a_wrong_type_is_named(arguments: dict[str, Any], expected: str) -> None:
    assert refusal(lambda: build({"_target_": "common.terms.KDDG", **arguments}, "x", PARTS)).startswith(expected)


def test_a_value_the_constructor_refuses_is_one_line() -> None:
    assert refusal(lambda: build({"_target_": "common.terms.KD", "temperature": 0}, "x", PARTS)) == (
        "x.temperature=0 must be positive"
    )
    # Errors of other packages get the place in front.
    layers: dict[str, type] = {"Conv2d": nn.Conv2d, "Linear": nn.Linear}
    shape = {"in_channels": 3, "out_channels": 4, "kernel_size": 1, "groups": 2}
    message = refusal(lambda: build({"_target_": "Conv2d", **shape}, "network", layers))
    assert message == "network: in_channels must be divisible by groups"
    message = refusal(lambda: build({"_target_": "Linear", "in_features": 3}, "network", layers))
    assert message.startswith("network: ") and "'out_features'" in message


def test_what_loses_nothing_is_converted() -> None:
    term = build({"_target_": "common.terms.KDDG", "temperature": "2", "threshold": 0}, "x", PARTS)
    assert (term.temperature, term.threshold) == (2.0, 0.0)
    assert isinstance(term.temperature, float)

    def tuples(sizes: tuple[int, ...], count: int) -> None:
        raise AssertionError("only its signature is looked at")

    assert check_arguments(tuples, {"sizes": [1, 2], "count": 3.0}, "x") == {"sizes": (1, 2), "count": 3}
    assert refusal(lambda: check_arguments(tuples, {"count": 3.5}, "x")).startswith("x.count=3.5: ")


def test_a_hint_that_cannot_be_resolved_does_not_spoil_the_others() -> None:
    def mixed(size: int, strange: "DoesNotExist") -> None:  # type: ignore[name-defined]  # noqa: F821
        raise AssertionError("only its signature is looked at")

    assert check_arguments(mixed, {"size": "3", "strange": "x"}, "a") == {"size": 3, "strange": "x"}
    assert refusal(lambda: check_arguments(mixed, {"size": "x"}, "a")).startswith("a.size='x': ")


def test_reserved_and_private_arguments_cannot_be_set() -> None:
    def function(size: int, seed: int, _secret: int = 0) -> None:
        raise AssertionError("only its signature is looked at")

    assert refusal(lambda: check_arguments(function, {"seed": 1}, "a", ["seed"])) == (
        "a.seed cannot be set here; remove it"
    )
    for key in ("_secret", "sizes"):
        message = refusal(lambda key=key: check_arguments(function, {key: 1}, "a", ["seed"]))  # type: ignore[misc]
        assert message.startswith(f"a.{key} is not known; use one of: size")


def test_keyword_arguments_of_any_name_pass() -> None:
    def function(size: int, **more: Any) -> None:
        raise AssertionError("only its signature is looked at")

    assert check_arguments(function, {"size": 1, "other": "x"}, "a") == {"size": 1, "other": "x"}
    assert refusal(lambda: check_arguments(function, {"size": "x", "other": "x"}, "a")).startswith("a.size='x'")


# --- nodes within nodes ----------------------------------------------------------------------------------------------

NESTED = {
    "_target_": "common.distillation.Distillation",
    "name": "mine",
    "terms": {
        "kd": {
            "_target_": "common.terms.KD",
            "weight": {"_target_": "common.schedule.LinearSchedule", "start": 0, "end": 0.1, "fraction": 0.5},
        },
        "sd": {"_target_": "common.terms.SDDropout", "rate": 0.1},
    },
}


def test_nested_nodes_are_built_first_and_later_arguments_added() -> None:
    teacher = Teacher([nn.Identity()])
    made = build(NESTED, "method", METHOD, teacher=teacher)
    assert isinstance(made, Distillation)
    assert made.teacher is teacher and made.name == "mine"
    kd, sd = made.terms["kd"], made.terms["sd"]
    assert isinstance(kd, KD) and kd.weight == LinearSchedule(0.0, 0.1, 0.5)
    assert isinstance(sd, SDDropout) and sd.rate == 0.1


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("terms", "kd", "weight", "fraction"), 2, "fraction=2 must be in [0, 1]"),
        (("terms", "kd", "weight", "start"), "x", "method.terms.kd.weight.start='x'"),
        (("terms", "kd", "weight", "_target_"), "os.system", "method.terms.kd.weight._target_='os.system' is refused"),
        (("terms", "sd", "mask"), "row", "method.terms.sd.mask='row'"),
        (("terms", "sd"), {"_target_": "torch.nn.ReLU"}, "method.terms"),
        (("terms", "sd"), 3, "method.terms"),
        (("terms",), [1], "method.terms"),
    ],
)
def test_a_mistake_deep_down_is_named_with_its_place(path: tuple[str, ...], value: Any, expected: str) -> None:
    node = yaml.safe_load(yaml.safe_dump(NESTED))
    inner = node
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert expected in refusal(lambda: build(node, "method", METHOD, teacher=Teacher([nn.Identity()])))


def test_nodes_in_lists_are_built() -> None:
    class Several:
        def __init__(self, terms: Sequence[Term], weights: tuple[LinearSchedule, ...] = ()) -> None:
            self.terms, self.weights = terms, weights

    def make(*targets: str) -> Any:
        return build({"_target_": "x", "terms": [{"_target_": target} for target in targets]}, "x", {"x": Several})

    assert [type(term) for term in make("common.terms.KD", "common.terms.KDDG").terms] == [KD, KDDG]
    message = refusal(lambda: make("common.terms.KD", "os.system"))
    assert message.startswith("x.terms[1]._target_='os.system' is refused; use one of: common.terms.")


def test_a_mapping_that_is_wanted_as_it_is_stays_one() -> None:
    """Augmentations name albumentations' transforms, which have a table of their own."""

    class Data:
        def __init__(self, augmentation: Sequence[Mapping[str, Any] | Any] | None) -> None:
            self.augmentation = augmentation

    entries = [{"_target_": "albumentations.OneOf", "transforms": [{"_target_": "os.system", "command": "true"}]}]
    assert build({"_target_": "d", "augmentation": entries}, "data", {"d": Data}).augmentation == entries


def test_build_partial_checks_now_and_builds_later() -> None:
    make = make_optimizer({"_target_": "torch.optim.AdamW", "lr": "0.1"})
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = make([parameter])
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert refusal(lambda: make_optimizer({"_target_": "torch.optim.AdamW", "learning_rate": 1})).startswith(
        "optimizer.learning_rate is not known; use one of: "
    )
    bad = make_optimizer({"_target_": "torch.optim.AdamW", "betas": [0.9, 1.5]})
    assert refusal(lambda: bad([parameter])) == "optimizer: Invalid beta parameter at index 1: 1.5"
    for lr in (-1.0, float("nan"), "inf"):
        assert refusal(lambda lr=lr: make_optimizer({"_target_": "torch.optim.SGD", "momentum": lr})).startswith(
            f"optimizer.momentum={float(lr)} must"
        )


# --- the methods there are -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["kdrl", "kdseg"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_builds_for_both_tasks(task: str, method: str) -> None:
    config = configured(task, f"method={method}")
    node = OmegaConf.to_container(config.method, resolve=True, throw_on_missing=True)
    assert isinstance(node, dict)
    made = build(node, "method", METHOD, teacher=Teacher([nn.Identity(), nn.Identity()]))
    assert isinstance(made, Distillation)
    assert made.name == method
    assert set(made.terms) == set(node["terms"])
    assert made.is_plain == (method == "erm")
    for key, term in made.terms.items():
        for name, value in node["terms"][key].items():
            if isinstance(value, float | int | str) and hasattr(term, name):
                assert getattr(term, name) == value


@pytest.mark.parametrize("task", ["kdrl", "kdseg"])
def test_strengths_reach_the_terms(task: str) -> None:
    overrides = ["method=kddg_sdd", "strength.kd=0.7", "strength.temperature=5", "strength.threshold=0.8"]
    config = configured(task, *overrides, "strength.rate=0.2", "strength.sd_dropout=0.03")
    node = OmegaConf.to_container(config.method, resolve=True)
    made = build(node, "method", METHOD, teacher=Teacher([nn.Identity()]))  # type: ignore[arg-type]
    kddg, sd_dropout = made.terms["kddg"], made.terms["sd_dropout"]
    assert isinstance(kddg, KDDG) and isinstance(sd_dropout, SDDropout)
    assert (kddg.weight, kddg.temperature, kddg.threshold) == (0.7, 5.0, 0.8)
    assert (sd_dropout.weight, sd_dropout.rate) == (0.03, 0.2)


# --- types and settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, int, 3),
        ("3", int, 3),
        (3, float, 3.0),
        (None, int | None, None),
        ([1, 2], tuple[int, int], (1, 2)),
        ("x", Any, "x"),
        (KD, type[KD], KD),
        (nn.ReLU, type[nn.Module], nn.ReLU),
        (True, bool, True),
    ],
)
def test_values_that_fit(value: Any, hint: Any, expected: Any) -> None:
    result = check_type(value, hint, "x")
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint"),
    [("x", int), (1.5, int), (True, int), (False, float), ([1], tuple[int, int]), (nn.ReLU, type[KD]), (3, nn.Module)],
)
def test_values_that_do_not_fit(value: Any, hint: Any) -> None:
    assert refusal(lambda: check_type(value, hint, "a.b")).startswith(
        (f"a.b={value!r}: ", f"a.b={value!r} must be a number")
    )


@pydantic.dataclasses.dataclass(config=pydantic.ConfigDict(extra="forbid"), kw_only=True)
class _Inner:
    name: str
    task: Literal["rl"]
    look: Annotated[str, pydantic.AfterValidator(lambda value: choice(value, ["dark"], "network.look"))]


@pydantic.dataclasses.dataclass(config=pydantic.ConfigDict(extra="forbid"), kw_only=True)
class _Settings:
    task: Literal["rl"]
    seed: int = pydantic.Field(ge=0)
    teacher: str | list[str] | None
    network: _Inner
    more: dict[str, Any]


GOOD: dict[str, Any] = {
    "task": "rl",
    "seed": 1,
    "teacher": ["a", "b"],
    "network": {"name": "small", "task": "rl", "look": "dark"},
    "more": {"weight": {"_target_": "common.schedule.LinearSchedule", "start": 0.5}, "none": None},
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"seed": "abc"}, "seed='abc': Input should be a valid integer"),
        ({"seed": -1}, "seed=-1: Input should be greater than or equal to 0"),
        ({"sead": 1}, "sead is not a key of the configuration; see --cfg job for those there are"),
        ({"network": GOOD["network"] | {"nme": 1}}, "network.nme is not a key of the configuration"),
        ({"network": {"name": "small", "task": "rl"}}, "network.look is missing; give network.look=…"),
        ({"network": GOOD["network"] | {"name": "unet", "task": "seg"}}, "network=unet is for task 'seg'; choose one"),
        ({"network": GOOD["network"] | {"look": "light"}}, "network.look='light' is not known; use one of: dark"),
        ({"task": "seg"}, "task='seg' is not known; use one of: rl"),
        ({"more": 3}, "more=3: Input should be a valid dictionary"),
    ],
)
def test_settings_that_do_not_fit(change: dict[str, Any], expected: str) -> None:
    assert refusal(lambda: check_settings(GOOD | change, _Settings)).startswith(expected)


def test_settings_survive_the_file(tmp_path: Path) -> None:
    settings = check_settings(GOOD, _Settings)
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(settings))
    again = read_settings(path, _Settings, "rl")
    assert again == settings
    assert dataclasses.asdict(again) == GOOD  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "is not a run's folder: there is no config.yaml; give one that training wrote"),
        ("a: [", "config.yaml is not readable as YAML"),
        ("task: rl\na: &a [x]\nb: *a", "is not readable as YAML (it has an alias, which no such file needs)"),
        ("task: rl\nmore: " + "[" * 60 + "]" * 60, "is not readable as YAML (it is more than 50 levels deep)"),
        ("task: rl\nmore: " + "[" * 100_000, "is not readable as YAML (it is more than 50 levels deep)"),
        ("task: rl\nseed: 2026-13-45", "is not readable as YAML (month must be in 1..12"),
        ("task: rl\nseed: " + "9" * 5000, "is not readable as YAML (Exceeds the limit"),
        ("task: rl\nseed: 0x" + "f" * 5000, "config.yaml: "),
        ("task: rl\nseed: !!timestamp x", "is not readable as YAML ("),
        ("task: rl\nseed: !!bool x", "is not readable as YAML ("),
        ("task: rl\n1: 2", "config.yaml: "),
        ("task: rl #" + "x" * 2**20, "config.yaml has 1,048,"),
        ("task: rl\nseed: \x00", "is not readable as YAML ("),
        ("!!python/object/apply:os.system ['touch hacked']", "config.yaml is not readable as YAML"),
        ("", "is a run of task None; a run of task 'rl' is needed"),
        ("- task: rl", "is a run of task None"),
        ("task: seg", "is a run of task 'seg'; a run of task 'rl' is needed"),
        ("task: rl\nseed: x", "config.yaml: "),
    ],
)
def test_a_file_that_is_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    message = refusal(lambda: read_settings(path, _Settings, "rl"))
    assert message.startswith(str(tmp_path)) and expected in message
    assert {entry.name for entry in tmp_path.iterdir()} <= {"config.yaml"}


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"task: \xff\xfe")
    assert "config.yaml is not a text file (" in refusal(
        lambda: read_settings(tmp_path / "config.yaml", _Settings, "rl")
    )


def test_a_value_is_shown_on_one_short_line() -> None:
    assert shown("a\nb\x1b[31m") == "'a\\nb\\x1b[31m'"
    assert shown(["x" * 10_000]) == f"['{'x' * 197}…"
    assert shown({"a": 16**5000}) == "a huge dict"


def test_the_configurations_are_found() -> None:
    assert {"kdrl", "kdseg", "method", "env", "network"} <= {path.name for path in config_directory().iterdir()}
    assert {"erm", "kd", "kddg", "kddg_teacher", "sd_dropout", "kddg_sdd"} <= set(METHODS)
