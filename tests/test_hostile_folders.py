"""A run's folder that was made to do harm: nothing in it is executed, and it is refused in a line."""

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

import common.runs.items
import kdrl.evaluate
import kdrl.restore
import kdrl.train
import kdseg.evaluate
import kdseg.restore
import kdseg.train
from common.errors import InputError
from common.report.main import main as report
from common.runs.folder import Run
from kdseg.configured import make_data
from tests.nuclei import SMALL_NETWORK
from tests.odd_bytes import Harm
from tests.policies import SMALL_POLICY

Call = Callable[..., Any]

# What a folder could try to name: things that run, write, remove, load or reach the network.
TARGETS = [
    "os.system",
    "subprocess.Popen",
    "builtins.eval",
    "torch.load",
    "torch.os.system",
    "torch.hub.load",
    "common.generations._run",
    "common.report.main.main",
    "common.runs.disk.write_text",
    "common.runs.folder.Run.set_aside",
    "common.runs.checkpoint.Checkpoints",
    "common.configuration.yaml.unsafe_load",
    "kdrl.DistilledPPO.load",
    "kdseg.networks.create_network",
    "stable_baselines3.PPO.load",
    "segmentation_models_pytorch.from_pretrained",
    "torch.utils.tensorboard.SummaryWriter",
    "pytorch_lightning.loggers.CSVLogger",
    "albumentations.load",
]


@pytest.fixture(scope="module")
def policies(call: Call, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("policies") / "run"
    more = ("total_timesteps=64", "evaluation.episodes=4", "evaluation.looks=[themed]")
    outcome = call(kdrl.train.main, *SMALL_POLICY, *more, f"run_dir={folder}")
    assert (outcome.status, outcome.err) == (0, "")
    return Run(folder)


@pytest.fixture(scope="module")
def networks(call: Call, small_nuclei: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("networks") / "run"
    arguments = ["data=nuclei", f"data.root={small_nuclei}", "data.target=fluorescence", "data.batch_size=2"]
    arguments += ["data.crop_size=32", *SMALL_NETWORK, "trainer.max_steps=1", "evaluation.every=0"]
    outcome = call(kdseg.train.main, *arguments, "trainer.accelerator=cpu", f"run_dir={folder}")
    assert (outcome.status, outcome.err) == (0, "")
    return Run(folder)


@pytest.fixture
def harmless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], bool]:
    """Whether nothing has been run, written or removed outside of what the test itself made."""
    import os
    import subprocess

    ran: list[Any] = []
    for module, name in ((os, "system"), (os, "popen"), (subprocess, "Popen"), (subprocess, "run")):
        monkeypatch.setattr(module, name, lambda *arguments, **_: ran.append(arguments))
    monkeypatch.chdir(tmp_path)
    return lambda: ran == [] and not (tmp_path / "harm").exists()


def copy(run: Run, folder: Path) -> Run:
    shutil.copytree(run.path, folder)
    return Run(folder)


def refused(outcome: Any) -> str:
    assert outcome.status == 2, outcome.out
    assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1 and len(outcome.err) < 3000
    assert outcome.err.strip().isprintable()
    return str(outcome.err)


def harmful(target: str) -> dict[str, Any]:
    return {"_target_": target, "command": ["touch", "harm"], "path": "harm", "text": "harm", "f": "harm"}


def places(config: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every value of a configuration."""
    if not isinstance(config, dict):
        return [place]
    return [place, *(inner for key, value in config.items() for inner in places(value, (*place, key)))]


def changed(run: Run, place: tuple[Any, ...], value: Any) -> None:
    config = yaml.safe_load(run.config_path.read_text())
    node = config
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    run.config_path.write_text(yaml.safe_dump(config))


@pytest.mark.parametrize("task", ["policies", "networks"])
def test_no_place_of_a_configuration_executes_anything(
    task: str, request: pytest.FixtureRequest, tmp_path: Path, harmless: Callable[[], bool]
) -> None:
    """What the programs of evaluation and training build of a folder: its network, and its data."""
    original: Run = request.getfixturevalue(task)
    text = original.config_path.read_text()
    run = copy(original, tmp_path / "run")
    said: list[str] = []
    for number, place in enumerate(place for place in places(yaml.safe_load(text)) if place):
        run.config_path.write_text(text)
        # In place of the value, and under a key that is named like what is called.
        target = TARGETS[number % len(TARGETS)]
        changed(run, place, target if place[-1] == "_target_" else harmful(target))
        try:
            if task == "policies":
                kdrl.restore.load_network(run, device="cpu")
            else:
                _, settings = kdseg.restore.load_network(run)
                if place[0] == "data":
                    make_data(settings.data)
        except InputError as error:
            said.append(str(error))
        assert harmless(), place
    # What neither has a use for, such as the optimiser, is not looked at.
    assert len(said) >= 10 and not any("\n" in line for line in said)


@pytest.mark.parametrize("target", TARGETS[::4])
def test_a_method_an_averager_a_driver_and_data_are_what_they_are_called(
    target: str, networks: Run, call: Call, tmp_path: Path, harmless: Callable[[], bool]
) -> None:
    """On the command line of training, which builds all of them."""
    run = f"run_dir={tmp_path / 'run'}"
    for group in ("method", "averaging", "driver"):
        given = ["averaging=wakd", "method=kd", f"{group}._target_={target}", "device=cpu"]
        assert f"{group}._target_='{target}' is refused" in refused(call(kdrl.train.main, *given, run))
    for group in ("data", "optimizer"):
        given = ["data=nuclei", "data.root=x", "data.target=y", f"{group}._target_={target}"]
        if group == "data":
            assert f"data._target_='{target}' is refused" in refused(call(kdseg.train.main, *given, run))
    nested = f"method.terms.kd.weight={{_target_:{target}}}"
    assert f"weight._target_='{target}' is refused" in refused(call(kdrl.train.main, "method=kd", nested, run))
    assert harmless() and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name", ["tu-hf-hub:owner/model", "tu-local-dir:/etc", "../resnet18", "tu-resnet18;ls", "a\nb"]
)
def test_an_encoder_that_would_be_fetched_is_refused(
    name: str, networks: Run, call: Call, tmp_path: Path, harmless: Callable[[], bool]
) -> None:
    run = copy(networks, tmp_path / "run")
    changed(run, ("network", "encoder_name"), name)
    assert "is no encoder's name" in refused(call(kdseg.evaluate.main, f"run={run.path}"))


def _pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Harm()))


def _torch(path: Path) -> None:
    torch.save({"a": Harm()}, path)


def _huge_header(path: Path) -> None:
    path.write_bytes((2**40).to_bytes(8, "little") + b"{}")


def _other_shapes(path: Path) -> None:
    save_file({"a": torch.zeros(3)}, path)


def _giant(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**33)


@pytest.mark.parametrize("harm", [_pickled, _torch, _huge_header, _other_shapes, _giant, Path.unlink])
@pytest.mark.parametrize("task", ["policies", "networks"])
def test_weights_are_tensors_of_the_network_or_nothing(
    task: str,
    harm: Callable[[Path], None],
    request: pytest.FixtureRequest,
    call: Call,
    tmp_path: Path,
    harmless: Callable[[], bool],
) -> None:
    run = copy(request.getfixturevalue(task), tmp_path / "run")
    harm(run.checkpoints / "last.safetensors")
    program = kdrl.evaluate.main if task == "policies" else kdseg.evaluate.main
    refused(call(program, f"run={run.path}"))
    train = kdrl.train.main if task == "policies" else kdseg.train.main
    given = [] if task == "policies" else ["data.train_frames=8", "data.validation_frames=8", "data.test_frames=8"]
    if task == "policies":
        refused(call(train, *given, "env=leaper", "method=kd", f"teacher={run.path}", f"run_dir={tmp_path / 'new'}"))
    assert harmless() and not (tmp_path / "new").exists()


def _bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**24,)})  # type: ignore[arg-type]
        with archive.open("image|a|seen.npy", "w", force_zip64=True) as file:
            file.write(header.getvalue())
            file.write(bytes(2**24))


def _objects(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **{"return|a|seen": np.array([Harm()], dtype=object)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "harm",
    [
        lambda run: _objects(run.items_path),
        lambda run: run.record_path.write_text("[" * 100_000),
        lambda run: run.record_path.write_text('{"task": "rl"}\n' * 3),
        lambda run: run.record_path.write_bytes(b"\xff" * 1000 + b"\n\n"),
        lambda run: run.status_path.write_text('{"stage": "finished", "steps": 1e400}'),
        lambda run: run.status_path.write_text("[" * 100_000),
        lambda run: run.identity_path.write_text("[" * 100_000),
        lambda run: run.identity_path.write_text("x" * 2**21),
        lambda run: run.identity_path.write_text(run.identity_path.read_text().replace('"seed": 0', '"seed": 1')),
        lambda run: run.identity_path.write_text(json.dumps({"format": 1, "key": "x", "setting": {"a": 1}})),
    ],
)
def test_a_report_names_what_is_broken_and_goes_on(
    harm: Callable[[Run], Any],
    policies: Run,
    tmp_path: Path,
    harmless: Callable[[], bool],
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy(policies, tmp_path / "runs" / "good")
    harm(copy(policies, tmp_path / "runs" / "broken"))
    report([str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--resamples", "100"])
    said = capsys.readouterr()
    assert f"skipped: {tmp_path / 'runs' / 'broken'}: " in said.out.replace("\n", "") or "skipped" in said.out
    assert said.err == "" and harmless()


def test_arrays_that_unpack_to_more_than_there_is_room_for_are_refused(
    policies: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common.runs.items, "_LARGEST", 2**20)
    run = copy(policies, tmp_path / "run")
    _bomb(run.items_path)
    assert run.items_path.stat().st_size < 2**20
    with pytest.raises(ValueError, match="unpacks to more than"):
        run.items()


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x]\nb: &b [" + "*a," * 9 + "]\nc: &c [" + "*b," * 9 + "]\ntask: rl\n",
        "!!python/object/apply:os.system ['touch harm']",
        "task: rl\nseed: !!python/name:os.system\n",
        "[" * 20_000,
        "task: rl\n" + "x" * 2**21,
        "\x00\x01",
        "task: rl\nrun_dir: ../../../etc\nmethod: {name: '[/x]$a_$'}\n",
    ],
)
def test_configurations_that_are_none_are_refused(
    text: str, policies: Run, call: Call, tmp_path: Path, harmless: Callable[[], bool]
) -> None:
    run = copy(policies, tmp_path / "run")
    run.config_path.write_text(text)
    refused(call(kdrl.evaluate.main, f"run={run.path}"))
    assert harmless()
