"""Whatever a user gets wrong is one line on standard error, before anything is written."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from common.runs.folder import Run
from common.runs.weights import save_weights
from kdseg.evaluate import main as evaluate
from kdseg.restore import build_network
from kdseg.settings import NetworkSettings
from kdseg.train import main as train

Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs run in an empty folder, so that whatever they write is seen."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture
def refuse(call: Call, tmp_path: Path) -> Callable[..., str]:
    """Runs a program that must refuse its arguments; gives what it said."""

    def run(main: Callable[[], None], *arguments: object) -> str:
        cwd = tmp_path / "cwd"
        before = sorted(cwd.rglob("*"))
        outcome = call(main, *arguments)
        assert outcome.status == 2, outcome
        assert outcome.err.startswith("error: ")
        assert outcome.err.endswith("\n")
        assert outcome.err.count("\n") == 1
        assert len(outcome.err) < 800
        assert "Traceback" not in outcome.out + outcome.err
        assert sorted(cwd.rglob("*")) == before
        message: str = outcome.err
        return message

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, call: Call, tiny: list[str]) -> Run:
    """A finished run."""
    run = Run(tmp_path_factory.mktemp("trained") / "run")
    assert call(train, *tiny, "trainer.max_steps=1", f"run_dir={run.path}").status == 0
    return run


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("method=kddgg", ["method=kddgg", "use one of: ", " kddg_sdd, "]),
        ("network=unett", ["network=unett", "unet_small"]),
        ("data=nucleii", ["data=nucleii", "folder"]),
        ("network.arch=unett", ["network.arch='unett'", "unetplusplus"]),
        ("network.encoder_name=resnet19", ["network.encoder_name='resnet19'", "resnet18"]),
        ("network.encoder_depth=deep", ["network.encoder_depth='deep'", "integer"]),
        ("+network.decoder_chanels=[8]", ["decoder_chanels"]),
        ("network._target_=kdseg.networks.pad_to_multiple", ["network"]),
        ("sead=1", ["sead", "not a key"]),
        ("+sead=1", ["sead", "not a key"]),
        ("trainer.max_step=5", ["trainer.max_step", "not a key"]),
        ("+trainer.max_step=5", ["trainer.max_step", "did you mean max_steps?"]),
        ("+data.crop=5", ["data.crop", "crop_size"]),
        ("+evaluation.each=5", ["evaluation.each", "not a key"]),
        ("+optimizer.learning_rate=5", ["optimizer.learning_rate", "lr"]),
        ("+method.terms.kd.weight=1", ["method.terms"]),
        ("seed=abc", ["seed='abc'", "integer"]),
        ("seed=-1", ["seed=-1", "must not be negative"]),
        ("seed=4294967296", ["seed=4294967296", "must be at most 2147483647"]),
        ("seed=true", ["seed=True", "must be a number"]),
        ("+trainer.accumulate_grad_batches=0", ["trainer.accumulate_grad_batches=0", "must be at least 1"]),
        ("+trainer.accumulate_grad_batches=-1", ["trainer.accumulate_grad_batches=-1", "must be at least 1"]),
        ("trainer.log_every_n_steps=0", ["trainer.log_every_n_steps=0", "must be at least 1"]),
        ("+trainer.gradient_clip_val=nan", ["trainer.gradient_clip_val=nan", "must not be negative"]),
        ("+trainer.limit_train_batches=0", ["trainer.limit_train_batches=0", "must be at least 1"]),
        ("+trainer.num_nodes=2", ["trainer.num_nodes=2", "use one of: 1"]),
        ("trainer.precision=bf16-true", ["trainer.precision='bf16-true'", "bf16-mixed"]),
        ("trainer.precision=64-true", ["trainer.precision='64-true'", "32-true"]),
        ("+trainer.fast_dev_run=1", ["trainer.fast_dev_run cannot be set here"]),
        ("optimizer.lr=nan", ["optimizer.lr=nan", "must"]),
        ("optimizer.weight_decay=-1", ["optimizer.weight_decay=-1", "must"]),
        # A weight without a gradient would become 0 / 0.
        ("+optimizer.eps=0", ["optimizer.eps=0", "must be positive"]),
        ("strength.temperature=nan", ["strength.temperature=nan", "must not be negative"]),
        ("data.class_names=[a,a]", ["data.class_names=['a', 'a'] has 'a' twice"]),
        ("network.encoder_weights=abc", ["network.encoder_weights='abc' is not known"]),
        ("trainer.max_steps=abc", ["trainer.max_steps='abc'", "integer"]),
        ("trainer.max_steps=0", ["trainer.max_steps=0", "must be at least 1"]),
        ("trainer.max_steps=null", ["trainer.max_steps=None", "integer"]),
        ("trainer.accelerator=abacus", ["abacus", "cpu"]),
        ("trainer.precision=17", ["precision", "17"]),
        ("+trainer.max_epochs=3", ["trainer.max_epochs", "remove it"]),
        ("+trainer.logger=true", ["trainer.logger", "remove it"]),
        ("evaluation.every=often", ["evaluation.every='often'", "integer"]),
        ("checkpoint_every=0", ["checkpoint_every=0", "must be at least 1"]),
        ("channels_last=perhaps", ["channels_last='perhaps'", "bool"]),
        ("data.batch_size=x", ["data.batch_size='x'", "integer"]),
        ("data.batch_size=0", ["batch_size=0"]),
        ("data.validation_fraction=1.5", ["data.validation_fraction=1.5 must be in [0, 1)"]),
        ("data.sources=[fluorescence]", ["target='fluorescence' is among the sources", "take it out"]),
        ("data.sources=[moon]", ["'moon'", "known: fluorescence, "]),
        ("data.target=moon", ["target='moon'", "known: fluorescence, "]),
        ("data.target=???", ["data.target", "data.target="]),
        ("data.root=???", ["data.root", "data.root="]),
        ("data.root=/nowhere/at/all", ["root=/nowhere/at/all", "is not a folder"]),
        ("data.metadata=none.csv", ["none.csv", "group_column"]),
        ("data.num_classes=7", ["num_classes=7", "class_names has 2"]),
        ("optimizer.lr=fast", ["optimizer.lr='fast'", "number"]),
        ("optimizer.lr=-1", ["optimizer", "-1"]),
        (
            "optimizer._target_=torch.optim.Adamm",
            ["optimizer._target_='torch.optim.Adamm'", "did you mean torch."],
        ),
        ("optimizer._target_=kdseg.train.train", ["optimizer"]),
        (
            "method._target_=os.system",
            ["method._target_='os.system'", "is refused", "common.distillation"],
        ),
        ("method._target_=torch.os.system", ["method._target_='torch.os.system'", "is refused"]),
        ("method._target_=torch.hub.load", ["method._target_='torch.hub.load'", "is refused"]),
        ("method._target_=torch.nn.Identity", ["method._target_='torch.nn.Identity'"]),
        ("data._target_=subprocess.run", ["data._target_='subprocess.run'", "is refused"]),
        ("data._target_=torch.nn.Identity", ["data"]),
        ("+network._target_=builtins.eval", ["network._target_='builtins.eval'", "is refused"]),
        ("optimizer._target_=shutil.rmtree", ["optimizer._target_='shutil.rmtree'", "is refused"]),
        ("method=kd", ["kd needs a teacher", "teacher=RUN"]),
        ("method=kddg_sdd", ["kddg needs a teacher", "teacher=RUN"]),
        ("method.task_weight=much", ["method.task_weight='much'", "number"]),
        ("'seed=", ["seed"]),
        ("seed", ["seed"]),
    ],
)
def test_a_mistake_on_the_command_line(
    refuse: Callable[..., str], tiny: list[str], argument: str, expected: list[str]
) -> None:
    message = refuse(train, *tiny, "run_dir=run", argument)
    assert [part for part in expected if part not in message] == [], message


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("strength.temperature=0", ["temperature=0", "positive"]),
        ("strength.temperature=hot", ["temperature='hot'", "number"]),
        ("strength.threshold=1", ["threshold=1", "[0, 1)"]),
        ("strength.rate=1.0", ["rate=1.0", "(0, 1)"]),
        ("method.terms.kddg.reading=both", ["reading='both' is not known; use one of: student"]),
        ("method.terms.sd_dropout.mask=row", ["mask='row' is not known; use one of: channel"]),
        ("+method.terms.kddg.tau=2", ["method.terms.kddg.tau", "temperature"]),
        ("strength.sd_dropout.fraction=2", ["fraction"]),
        ("strength.tempo=2", ["strength.tempo", "not a key"]),
    ],
)
def test_a_mistake_in_the_methods_settings(
    refuse: Callable[..., str], tiny: list[str], trained: Run, argument: str, expected: list[str]
) -> None:
    message = refuse(train, *tiny, "run_dir=run", "method=kddg_sdd", f"teacher={trained.path}", argument)
    assert [part for part in expected if part not in message] == [], message


def test_a_network_of_the_other_task(refuse: Callable[..., str], tiny: list[str]) -> None:
    arguments = [argument for argument in tiny if "network." not in argument]
    message = refuse(train, *arguments, "run_dir=run", "network=impala")
    assert [part for part in ("network=impala", "'rl'", "'seg'") if part not in message] == [], message


def test_data_without_its_root(refuse: Callable[..., str]) -> None:
    message = refuse(train, "data=folder", "data.target=dusk", "run_dir=run")
    assert message == "error: data.root is missing; give data.root=…\n"


def test_a_teacher_that_is_not_there(refuse: Callable[..., str], tiny: list[str]) -> None:
    message = refuse(train, *tiny, "run_dir=run", "method=kd", "teacher=nowhere")
    assert "nowhere is not a run's folder" in message


def test_a_teacher_that_was_not_trained_to_its_end(
    refuse: Callable[..., str], tiny: list[str], trained: Run, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(trained.config_path, begun)
    assert "has no checkpoint last" in refuse(train, *tiny, "run_dir=run", "method=kd", f"teacher={begun}")


def test_a_teacher_that_plays_games(refuse: Callable[..., str], tiny: list[str], tmp_path: Path) -> None:
    player = tmp_path / "player"
    player.mkdir()
    (player / "config.yaml").write_text("task: rl\nseed: 0\n")
    message = refuse(train, *tiny, "run_dir=run", "method=kd", f"teacher={player}")
    assert "player is a run of task 'rl'; a run of task 'seg' is needed" in message


def test_a_teacher_whose_configuration_is_not_readable(
    refuse: Callable[..., str], tiny: list[str], tmp_path: Path
) -> None:
    for text, expected in (
        ("task: [seg\n", "is not readable as YAML"),
        ("- a list\n", "is a run of task None"),
        ("task: seg\nseed: 0\n", "config.yaml: run_dir is missing"),
    ):
        (tmp_path / "config.yaml").write_text(text)
        message = refuse(train, *tiny, "run_dir=run", "method=kd", f"teacher={tmp_path}")
        assert str(tmp_path) in message
        assert expected in message


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (("classes",), ["background", "nucleus", "wall"], "has 3 classes (background, nucleus, wall), the data 2"),
        (("data", "mean"), [0.0, 0.0, "a"], "data.mean"),
    ],
)
def test_a_teacher_of_other_data(
    refuse: Callable[..., str], tiny: list[str], trained: Run, tmp_path: Path, key: Any, value: Any, expected: str
) -> None:
    config = yaml.safe_load(trained.config_path.read_text())
    place = config
    for part in key[:-1]:
        place = place[part]
    place[key[-1]] = value
    other = Run(tmp_path / "other")
    shutil.copytree(trained.path, other.path)
    other.config_path.write_text(yaml.safe_dump(config))
    network = build_network(NetworkSettings(**config["network"]), len(config["classes"]))
    save_weights(network, other)
    message = refuse(train, *tiny, "run_dir=run", "method=kd", f"teacher={other.path}")
    assert expected in message


def test_a_teacher_whose_weights_do_not_fit(
    refuse: Callable[..., str], tiny: list[str], trained: Run, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(trained.path, other)
    text = other.joinpath("config.yaml").read_text()
    config = yaml.safe_load(text)
    config["network"]["decoder_channels"] = [16, 8, 8]
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    assert "does not fit the network" in refuse(train, *tiny, "run_dir=run", "method=kd", f"teacher={other}")
    (other / "config.yaml").write_text(text)
    weights = other / "checkpoints" / "last.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "does not fit the network" in refuse(train, *tiny, "run_dir=run", "method=kd", f"teacher={other}")


def test_a_teacher_that_would_run_code(
    refuse: Callable[..., str], tiny: list[str], trained: Run, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(trained.path, other)
    config = yaml.safe_load(trained.config_path.read_text())
    config["network"] |= {"_target_": "os.system", "command": f"touch {tmp_path / 'done'}"}
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    for arguments in ((train, *tiny, "run_dir=run", "method=kd", f"teacher={other}"), (evaluate, f"run={other}")):
        assert "network._target_='os.system' is refused" in refuse(*arguments)
    (other / "config.yaml").write_text(f"!!python/object/apply:os.system ['touch {tmp_path / 'done'}']\n")
    assert "is not readable as YAML" in refuse(evaluate, f"run={other}")
    assert not (tmp_path / "done").exists()


def test_a_folder_that_holds_something_already(
    refuse: Callable[..., str], tiny: list[str], trained: Run, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in trained.path.rglob("*") if path.is_file()}
    assert "already holds a finished run; choose another run_dir" in refuse(train, *tiny, f"run_dir={trained.path}")
    assert {path: path.read_bytes() for path in trained.path.rglob("*") if path.is_file()} == before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("words")
    assert "holds files that are not a run's" in refuse(train, *tiny, f"run_dir={tmp_path / 'thesis'}")
    assert "is a file" in refuse(train, *tiny, f"run_dir={tmp_path / 'thesis' / 'chapter.tex'}")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "words"


def test_images_that_the_network_cannot_take(refuse: Callable[..., str], tiny: list[str]) -> None:
    arguments = [argument for argument in tiny if "network." not in argument]
    fpn = ["network=unet", "network.arch=fpn", "network.encoder_name=resnet18", "run_dir=run"]
    message = refuse(train, *arguments, *fpn, "+network.encoder_depth=4")
    assert "network: the logits are 64x64 for images of 32x32 pixels" in message
    message = refuse(train, *arguments, *fpn, "network.arch=pan")
    assert "network: PAN cannot take images of 32x32 pixels" in message


def test_an_image_that_is_damaged(refuse: Callable[..., str], tiny: list[str], nuclei: Path, tmp_path: Path) -> None:
    shutil.copytree(nuclei, tmp_path / "copy")
    image = sorted((tmp_path / "copy" / "purple_on_white" / "images").iterdir())[0]
    image.write_bytes(image.read_bytes()[:500])
    assert str(image) in refuse(train, *tiny, f"data.root={tmp_path / 'copy'}", "run_dir=run")


def test_a_mask_with_a_class_too_many(
    refuse: Callable[..., str], tiny: list[str], nuclei: Path, tmp_path: Path
) -> None:
    shutil.copytree(nuclei, tmp_path / "copy")
    mask = sorted((tmp_path / "copy" / "purple_on_white" / "masks").iterdir())[0]
    with Image.open(mask) as opened:
        size = opened.size
    Image.new("L", size, 9).save(mask)
    message = refuse(train, *tiny, f"data.root={tmp_path / 'copy'}", "run_dir=run")
    assert str(mask) in message
    assert "class 9" in message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["run is missing; give run="]),
        (["run=nowhere"], ["nowhere is not a run's folder"]),
        (["run={run}", "target=moon"], ["target='moon'", "known: fluorescence, "]),
        (["run={run}", "root=nowhere"], ["root=nowhere", "is not a folder"]),
        (["run={run}", "device=abacus"], ["device='abacus'", "cpu"]),
        (["run={run}", "devise=cpu"], ["devise", "not a key"]),
        (["run={run}", "out={run}"], ["already holds a finished run"]),
    ],
)
def test_a_mistake_in_evaluation(
    refuse: Callable[..., str], trained: Run, arguments: list[str], expected: list[str]
) -> None:
    message = refuse(evaluate, *(argument.format(run=trained.path) for argument in arguments))
    assert [part for part in expected if part not in message] == [], message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so naming one is no mistake")
def test_a_gpu_where_there_is_none(refuse: Callable[..., str], tiny: list[str], trained: Run) -> None:
    assert "device='cuda'" in refuse(evaluate, f"run={trained.path}", "device=cuda", "out=again")
    assert "gpu" in refuse(train, *tiny, "run_dir=run", "trainer.accelerator=gpu").lower()
