"""Whatever a user gets wrong is one line on standard error, before anything is written."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.runs.folder import Run
from kdrl.evaluate import main as evaluate
from kdrl.train import main as train

Call = Callable[..., Any]
Refuse = Callable[..., str]


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs run in an empty folder, so that whatever they write is seen."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def assert_one_line(status: int, out: str, err: str) -> None:
    assert status == 2, err
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
    assert len(err) < 800
    assert out == ""


@pytest.fixture
def refuse(call: Call, cwd: Path) -> Refuse:
    """Runs a program that must refuse its arguments; gives what it said."""

    def run(main: Callable[[], None], *arguments: object) -> str:
        before = sorted(cwd.rglob("*"))
        outcome = call(main, *arguments)
        assert_one_line(outcome.status, outcome.out, outcome.err)
        assert sorted(cwd.rglob("*")) == before
        message: str = outcome.err.removeprefix("error: ").rstrip()
        return message

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, call: Call, tiny: list[str]) -> Run:
    """A finished run."""
    run = Run(tmp_path_factory.mktemp("trained") / "run")
    short = ["total_timesteps=128", "evaluation.episodes=1", "evaluation.looks=[]"]
    assert call(train, *tiny, *short, f"run_dir={run.path}").status == 0
    return run


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("env=foo", ["env=foo is not known", "bigfish", "starpilot"]),
        ("env.look=dark", ["env.look='dark' is not known; use one of: themed, plain, generated"]),
        ("evaluation.looks=[themed,dark]", ["evaluation.looks='dark' is not known; use one of: themed, plain, gen"]),
        ("evaluation.looks=themed", ["evaluation.looks='themed'", "list"]),
        ("env.difficulty=extreme", ["env.difficulty='extreme' is not known; use one of: easy, hard"]),
        ("method=kddgg", ["method=kddgg is not known; use one of: ", "kddg_sdd, "]),
        ("network=impalas", ["network=impalas is not known", "impala"]),
        ("network=unet_small", ["network=unet_small is for task 'seg'; choose one for task 'rl'"]),
        ("network.extractor=resnet", ["network.extractor='resnet' is not known; use one of: impala, small"]),
        ("network.features_dim=0", ["network.features_dim=0", "must be in [1, 65536]"]),
        ("network.features_dim=wide", ["network.features_dim='wide'", "integer"]),
        ("sead=1", ["sead is not a key"]),
        ("+sead=1", ["sead is not a key"]),
        ("env.gane=maze", ["env.gane is not a key"]),
        ("+env.gane=maze", ["env.gane is not a key"]),
        ("ppo.target_kl=0.1", ["ppo.target_kl is not a key", "+ppo.target_kl="]),
        ("+ppo.n_step=5", ["ppo.n_step is not known", "did you mean n_steps?"]),
        ("+ppo.seed=5", ["ppo.seed cannot be set here; remove it"]),
        ("+ppo.policy=MlpPolicy", ["ppo.policy cannot be set here; remove it"]),
        ("+ppo._init_setup_model=false", ["ppo._init_setup_model is not known"]),
        ("seed=abc", ["seed='abc'", "integer"]),
        ("seed=-1", ["seed=-1", "must not be negative"]),
        ("seed=4294967296", ["seed=4294967296", "must be at most 2147483647"]),
        ("device=meta", ["device='meta' cannot be used", "use auto, cpu or cuda"]),
        ("+ppo.stats_window_size=-1", ["ppo.stats_window_size=-1 must be at least 1"]),
        ("ppo.max_grad_norm=-1", ["ppo.max_grad_norm=-1 must be positive"]),
        ("ppo.clip_range=-1", ["ppo.clip_range=-1", "must not be negative"]),
        ("ppo.gamma=2", ["ppo.gamma=2 must be in [0, 1]"]),
        ("ppo.gamma=nan", ["ppo.gamma=nan must be in [0, 1]"]),
        ("ppo.n_steps=100000000", ["ppo.n_steps=100000000", "GiB for a rollout"]),
        ("method.task_weight=-1", ["method.task_weight=-1", "must not be negative"]),
        ("seed=2147483648", ["seed=2147483648", "must be at most 2147483647"]),
        ("total_timesteps=0", ["total_timesteps=0", "must be at least 1"]),
        ("ppo.n_steps=x", ["ppo.n_steps='x'", "integer"]),
        ("ppo.n_steps=0", ["ppo.n_steps=0 must be at least 1"]),
        ("ppo.n_epochs=0", ["ppo.n_epochs=0 must be at least 1"]),
        ("ppo.learning_rate=x", ["ppo.learning_rate='x'", "number"]),
        ("ppo.learning_rate=-1", ["ppo.learning_rate=-1 must not be negative"]),
        ("ppo.clip_range=x", ["ppo.clip_range='x'", "number"]),
        ("ppo.gamma=x", ["ppo.gamma='x'", "number"]),
        ("+ppo.clip_range_vf=-1", ["ppo.clip_range_vf=-1 must be positive"]),
        ("ppo.batch_size=0", ["ppo.batch_size=0 must be at least 1"]),
        ("ppo.batch_size=1", ["ppo:", "`batch_size` must be greater than 1"]),
        ("ppo.batch_size=48", ["ppo.batch_size=48 does not divide a rollout of 128 transitions", "divisor"]),
        ("ppo=null", ["ppo=None", "dictionary"]),
        ("env.num_envs=0", ["env.num_envs=0", "must be in [1, 4096]"]),
        ("env.num_envs=5000", ["env.num_envs=5000", "must be in [1, 4096]"]),
        ("env.num_levels=0", ["env.num_levels=0", "must be at least 1"]),
        ("env.start_level=-1", ["env.start_level=-1", "must not be negative"]),
        ("env.threads=-1", ["env.threads=-1", "must be in [0, 256]"]),
        ("evaluation.episodes=0", ["evaluation.episodes=0", "must be at least 1"]),
        ("evaluation.every=often", ["evaluation.every='often'", "integer"]),
        ("checkpoint_every=0", ["checkpoint_every=0", "must be at least 1"]),
        ("normalize_reward=perhaps", ["normalize_reward='perhaps'", "bool"]),
        ("device=abacus", ["device='abacus' cannot be used", "use auto, cpu or cuda"]),
        ("task=seg", ["task='seg' is not known; use one of: rl"]),
        ("run_dir=null", ["run_dir=None", "string"]),
        ("run_dir=/proc/run", ["/proc/run"]),
        ("~env.look", ["env.look is missing; give env.look=…"]),
        ("method=kd", ["method=kd: kd needs a teacher; give teacher=RUN"]),
        ("method=kddg_sdd", ["method=kddg_sdd: kddg needs a teacher; give teacher=RUN"]),
        ("teacher=nowhere", ["nowhere is not a run's folder"]),
        (
            "method._target_=os.system",
            ["method._target_='os.system' is refused; use one of: common.dist"],
        ),
        ("method._target_=torch.os.system", ["method._target_='torch.os.system' is refused"]),
        ("method._target_=common.terms.SDDropout", ["method._target_='common.terms.SDDropout' is refused"]),
        (
            "method._target_=common.distillation.Distilation",
            ["did you mean common.distillation.Distillation?"],
        ),
        ("~method._target_", ["method has no _target_"]),
        ("method.task_weight=x", ["method.task_weight='x'", "number"]),
    ],
)
def test_a_bad_argument_is_refused(refuse: Refuse, tiny: list[str], argument: str, expected: list[str]) -> None:
    group = argument.split("=")[0]
    # Hydra does not let a group's keys be set that the group chosen does not have.
    kept = [given for given in [*tiny, "run_dir=run"] if not given.startswith((f"{group}=", f"{group}."))]
    message = refuse(train, *kept, argument)
    for part in expected:
        assert part in message


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("strength.rate=1.5", "rate=1.5 must be in (0, 1)"),
        ("strength.sd_temperature=0", "method.terms.sd_dropout.temperature=0 must be positive"),
        ("strength.sd_dropout=x", "method.terms.sd_dropout.weight='x'"),
        (
            "method.terms.sd_dropout.mask=pixel",
            "method.terms.sd_dropout.mask='pixel' is not known; use one of: channel, e",
        ),
        ("+method.terms.sd_dropout.rat=0.1", "method.terms.sd_dropout.rat is not known; use one of: weight, rate"),
        ("+method.terms.mine._target_=os.system", "method.terms.mine._target_='os.system' is refused"),
        ("+method.terms.mine._target_=torch.nn.ReLU", "method"),
    ],
)
def test_a_bad_term_is_refused(refuse: Refuse, tiny: list[str], argument: str, expected: str) -> None:
    assert expected in refuse(train, *tiny, "run_dir=run", "method=sd_dropout", argument)


def test_an_unknown_game_does_not_end_the_process(tiny: list[str], cwd: Path) -> None:
    """The engine would end it without a message that Python could catch."""
    script = Path(sys.executable).with_name("kdrl-train")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [script, *tiny, "env.game=pong"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert_one_line(result.returncode, result.stdout, result.stderr)
    assert "env.game='pong' is not known; use one of: bigfish," in result.stderr
    assert list(cwd.iterdir()) == []


# --- teachers --------------------------------------------------------------------------------------------------------


def changed(run: Run, folder: Path, **values: Any) -> Path:
    """A copy of a run whose configuration says something else."""
    shutil.copytree(run.path, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for key, value in values.items():
        *groups, last = key.split("__")
        node = config
        for group in groups:
            node = node[group]
        node[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_a_teacher_that_was_not_trained_to_its_end(
    refuse: Refuse, tiny: list[str], trained: Run, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    message = refuse(train, *tiny, "method=kd", f"teacher={tmp_path / 'empty'}")
    assert message == (
        f"{tmp_path / 'empty'} is not a run's folder: there is no config.yaml; give one that training wrote"
    )
    shutil.copytree(trained.path, tmp_path / "started")
    shutil.rmtree(tmp_path / "started" / "checkpoints")
    message = refuse(train, *tiny, "method=kd", f"teacher={tmp_path / 'started'}")
    assert message == f"{tmp_path / 'started'} has no checkpoint last; train it to its end first"


def test_a_teacher_of_another_task(refuse: Refuse, tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("task: seg\n")
    message = refuse(train, *tiny, "method=kd", f"teacher={tmp_path}")
    assert message == f"{tmp_path} is a run of task 'seg'; a run of task 'rl' is needed"


def test_a_teacher_of_another_game(refuse: Refuse, tiny: list[str], trained: Run) -> None:
    message = refuse(train, *tiny, "env.game=maze", "method=kd", f"teacher={trained.path}")
    assert message == f"teacher={trained.path} was trained on leaper; give a teacher trained on maze"


def test_one_bad_teacher_among_good_ones(refuse: Refuse, tiny: list[str], trained: Run) -> None:
    message = refuse(train, *tiny, "method=kd", f"teacher=[{trained.path},elsewhere]")
    assert message.startswith("elsewhere is not a run's folder")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "is not readable as YAML"),
        ("- 1\n", "is a run of task None"),
        ("task: rl\n", "is missing"),
    ],
)
def test_a_teacher_with_a_damaged_configuration(
    refuse: Refuse, tiny: list[str], tmp_path: Path, text: str, expected: str
) -> None:
    (tmp_path / "config.yaml").write_text(text)
    message = refuse(train, *tiny, "method=kd", f"teacher={tmp_path}")
    assert str(tmp_path) in message and expected in message


def test_a_teacher_with_damaged_weights(refuse: Refuse, tiny: list[str], trained: Run, tmp_path: Path) -> None:
    damaged = changed(trained, tmp_path / "damaged")
    path = damaged / "checkpoints" / "last.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    message = refuse(train, *tiny, "method=kd", f"teacher={damaged}")
    assert message.startswith(f"{path} does not fit the network in {damaged / 'config.yaml'} (")


def test_a_teacher_whose_configuration_names_another_network(
    refuse: Refuse, tiny: list[str], trained: Run, tmp_path: Path
) -> None:
    other = changed(trained, tmp_path / "other", network__features_dim=48)
    message = refuse(train, *tiny, "method=kd", f"teacher={other}")
    assert "does not fit the network" in message and "size mismatch" in message


def test_a_teacher_cannot_run_code(refuse: Refuse, tiny: list[str], trained: Run, tmp_path: Path) -> None:
    """What its configuration calls a method is not even looked at."""
    hostile = changed(
        trained, tmp_path / "hostile", method={"name": "kd", "_target_": "os.system", "command": "touch hacked"}
    )
    message = refuse(train, *tiny, "method=kd", "env.game=maze", f"teacher={hostile}")
    assert "was trained on leaper" in message


# --- where it is written, and evaluation -----------------------------------------------------------------------------


def test_a_folder_that_is_taken(refuse: Refuse, tiny: list[str], trained: Run, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in trained.path.rglob("*") if path.is_file()}
    message = refuse(train, *tiny, f"run_dir={trained.path}")
    assert message == f"run_dir={trained.path} already holds a finished run; choose another run_dir"
    assert {path: path.read_bytes() for path in trained.path.rglob("*") if path.is_file()} == before

    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("x")
    assert "holds files that are not a run's" in refuse(train, *tiny, f"run_dir={tmp_path / 'thesis'}")
    assert "is a file" in refuse(train, *tiny, f"run_dir={tmp_path / 'thesis' / 'thesis.tex'}")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("looks=[dark]", "looks='dark' is not known; use one of: themed, plain, generated"),
        ("episodes=0", "episodes=0 must be at least 1"),
        ("num_envs=5000", "num_envs=5000 must be in [1, 4096]"),
        ("seed=-1", "seed=-1 must not be negative"),
        ("device=abacus", "device='abacus' cannot be used"),
        ("levels=5", "levels is not a key of the configuration"),
    ],
)
def test_a_bad_argument_of_evaluation(refuse: Refuse, trained: Run, argument: str, expected: str) -> None:
    short = ["episodes=1", "looks=[]", "device=cpu"]
    kept = [given for given in short if given.split("=")[0] != argument.split("=")[0]]
    assert expected in refuse(evaluate, f"run={trained.path}", *kept, argument)


def test_evaluation_needs_a_finished_run(refuse: Refuse, trained: Run, tmp_path: Path) -> None:
    assert refuse(evaluate) == "run is missing; give run=…"
    (tmp_path / "empty").mkdir()
    assert refuse(evaluate, f"run={tmp_path / 'empty'}").startswith(f"{tmp_path / 'empty'} is not a run's folder")
    (tmp_path / "empty" / "config.yaml").write_text("task: seg\n")
    assert "is a run of task 'seg'" in refuse(evaluate, f"run={tmp_path / 'empty'}")
    message = refuse(evaluate, f"run={trained.path}", f"out={trained.path}", "episodes=1", "looks=[]")
    assert "already holds a finished run" in message


def test_evaluation_says_where_it_could_not_write(call: Call, trained: Run) -> None:
    arguments = [f"run={trained.path}", "episodes=1", "looks=[]", "device=cpu"]
    outcome = call(evaluate, *arguments, "out=/proc/judged")
    assert_one_line(outcome.status, "", outcome.err)
    assert "/proc/judged" in outcome.err
