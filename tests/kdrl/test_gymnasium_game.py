"""``env=gymnasium``: other people's tasks, and physics that training has not seen."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from benchmarks.programs import configured
from common.errors import InputError
from common.report.main import main as report
from common.runs.folder import Run
from common.runs.weights import load_weights
from kdrl.evaluate import main as evaluate
from kdrl.export import main as export
from kdrl.game import Part
from kdrl.gymnasium_game import GymnasiumSettings, Variant, Wrapping
from kdrl.play import main as play
from kdrl.restore import load_network
from kdrl.train import main as train

Call = Callable[..., Any]
SHORT = (
    *("env=gymnasium", "total_timesteps=512", "ppo.n_steps=32", "ppo.batch_size=64", "ppo.n_epochs=3"),
    *("normalize_reward=false", "evaluation.every=0", "evaluation.episodes=8", "device=cpu"),
)
CART = (
    *(*SHORT, "env.id=CartPole-v1", "network=mlp", "+env.unseen.long={attributes:{length:[2.0,3.0]}}"),
    "+env.unseen.heavy={attributes:{gravity:25}}",
)
BAR = (*SHORT, "env.id=own_task:Bar-v0", "network=small", "+env.unseen.dim={attributes:{brightness:60}}")


def test_tasks_bring_settings_that_they_are_learnt_with() -> None:
    """Procgen's would update a policy three times for each rollout of 2,048 steps."""

    def updates(config: Any) -> float:
        return float(config.ppo.n_epochs / config.ppo.batch_size)

    asked = ("env=gymnasium", "env.id=CartPole-v1", "network=mlp")
    own = configured("kdrl", *asked)
    assert updates(own) > 20 * updates(configured("kdrl"))
    assert own.ppo == configured("kdrl", "experiment=control", "env.id=CartPole-v1").ppo
    assert configured("kdrl", *asked, "ppo.batch_size=64").ppo == {**own.ppo, "batch_size": 64}
    assert configured("kdrl", "experiment=cpu", *asked).ppo.n_steps == 64


def cart(**options: Any) -> GymnasiumSettings:
    return GymnasiumSettings(**{"id": "CartPole-v1", "game": "CartPole-v1", "num_envs": 4, **options})


@pytest.fixture(scope="module")
def teacher(call: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("gymnasium") / "runs" / "teacher"
    done = call(train, *CART, "seed=7", f"run_dir={path}")
    assert done.status == 0, done.err
    return path


@pytest.fixture
def own_task(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The user is where the module's file is."""
    monkeypatch.chdir(Path(__file__).parent)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one])
    yield
    sys.modules.pop("own_task", None)
    gym.registry.pop("Bar-v0", None)


def test_physics_are_set_anew_for_every_episode() -> None:
    game = cart(
        unseen={"long": Variant(attributes={"length": (2.0, 3.0)}), "heavy": Variant(attributes={"gravity": 25})}
    )
    env = game.single("long")
    lengths = set()
    for seed in range(5):
        env.reset(seed=seed)
        task: Any = env.unwrapped
        lengths.add(task.length)
        assert 2 <= task.length <= 3 and task.gravity == 9.8
        assert task.polemass_length == pytest.approx(task.masspole * task.length)
    assert len(lengths) == 5
    heavy: Any = game.single("heavy").unwrapped
    env = game.single("heavy")
    env.reset()
    assert env.unwrapped.gravity == 25 and heavy.length == 0.5  # type: ignore[attr-defined]
    plain = game.single()
    for one in (plain, env):
        one.reset(seed=0)
    paths = [np.array([one.step(number % 2)[0] for number in range(8)]) for one in (plain, env)]
    assert not np.allclose(*paths)


def test_parts_say_what_is_seen() -> None:
    game = cart(unseen={"long": Variant()})
    assert game.parts(["themed"]) == [
        Part("seen", None, True),
        Part("seen", None, False, "validation"),
        Part("long", None, False),
    ]
    assert [part.variant for part in cart().parts([])] == ["seen", "seen", "other seeds"]
    assert game.source == "CartPole-v1/seen"
    first = [cart().venv(part, 2, 0).reset() for part in cart().parts([])]
    assert len({one.tobytes() for one in first}) == 3  # type: ignore[union-attr]
    assert np.array_equal(first[0], game.venv(game.parts([])[0], 2, 0).reset())
    assert cart(return_range=(0, 500)).scores(125) == {"normalized_return": 0.25}
    assert cart().scores(125) == {}


def test_a_teacher_of_a_form_that_is_judged_as_unseen_is_told() -> None:
    heavy = Variant(attributes={"gravity": 25})
    student, other = cart(unseen={"long": Variant(attributes={"length": 2.0}), "heavy": heavy}), cart(seen=heavy)
    assert [other.saw(part, student) for part in student.parts([])] == ["", "", "", "env.unseen.heavy"]
    assert not any(student.saw(part, student) for part in student.parts([]))
    elsewhere = cart(seen=heavy, kwargs={"sutton_barto_reward": True})
    assert not any(elsewhere.saw(part, student) for part in student.parts([]))


def test_processes_show_what_one_would() -> None:
    part = Part("seen", None, True)
    found = []
    for vector in ("dummy", "subproc"):
        venv = cart(vector=vector).venv(part, 2, 3)
        shown = [venv.reset(), *(venv.step(np.array([0, 1]))[0] for _ in range(3))]
        venv.close()
        found.append(np.array(shown))
    np.testing.assert_array_equal(*found)


def test_plain_training_is_stock_ppo(teacher: Path) -> None:
    """Bit for bit, with the same environments, network and settings."""
    game = cart(num_envs=8)
    policy, trained = load_network(Run(teacher), device="cpu")
    venv = VecMonitor(game.training_venv(7))
    stock = PPO("MlpPolicy", venv, seed=7, device="cpu", policy_kwargs={"net_arch": [64, 64]}, **trained.ppo)
    stock.learn(512)
    load_weights(policy, Run(teacher))
    for name, tensor in stock.policy.state_dict().items():
        assert torch.equal(tensor, policy.state_dict()[name]), name


def test_a_student_is_judged_where_training_has_not_been(call: Call, teacher: Path, tmp_path: Path) -> None:
    run = teacher.parent / "student"
    arguments = [*CART, "method=kddg_sdd", f"teacher={teacher}", "env.return_range=[0,500]", "averaging=swad"]
    done = call(train, *arguments, "evaluation.every=256", "evaluation.progress_episodes=8", f"run_dir={run}")
    assert done.status == 0, done.err
    tests = [row for row in Run(run).records() if row.split == "test" and row.selection == "last"]
    assert {(row.domain, row.seen) for row in tests} == {
        ("CartPole-v1/seen", True),
        ("CartPole-v1/long", False),
        ("CartPole-v1/heavy", False),
    }
    returns = {row.domain: row.value for row in tests if row.metric == "return"}
    for row in tests:
        if row.metric == "normalized_return":
            assert row.value == pytest.approx(returns[row.domain] / 500)
    assert call(evaluate, f"run={run}", "episodes=8", "num_envs=4", f"out={tmp_path / 'out'}").status == 0
    again = {row.domain for row in Run(tmp_path / "out").records()}
    assert again == {f"CartPole-v1/{name}" for name in ("seen", "long", "heavy")}
    assert call(report, str(teacher.parent), "--out", str(tmp_path / "report")).status == 0
    assert "CartPole-v1/heavy" in (tmp_path / "report" / "report.html").read_text()


def test_an_interrupted_run_goes_on_and_says_that_its_episodes_began_anew(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    arguments = [*CART, "checkpoint_every=256", f"run_dir={run}"]
    learn, steps = PPO.train, []

    def breaks(self: PPO) -> None:
        learn(self)
        steps.append(self.num_timesteps)
        if self.num_timesteps >= 400:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kdrl.ppo.DistilledPPO.train", breaks)
        call(train, *arguments)
    status = Run(run).status()
    assert status is not None and status.stage != "finished" and steps
    done = call(train, *arguments)
    assert done.status == 0, done.err
    status = Run(run).status()
    assert status is not None and (status.stage, status.resumed) == ("finished", "inexact")


@pytest.mark.usefixtures("own_task")
def test_a_task_of_their_own_is_trained_looked_at_and_given_away(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    done = call(train, *BAR, f"run_dir={run}")
    assert done.status == 0, done.err
    assert {row.domain for row in Run(run).records()} == {f"own_task:Bar-v0/{name}" for name in ("seen", "dim")}
    assert Run(run).items()["image|own_task:Bar-v0/dim|unseen"].shape[1:] == (32, 32, 3)
    done = call(play, f"run={run}", f"out={tmp_path / 'film.gif'}", "most=3", "device=cpu")
    assert done.status == 0, done.err
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 3
    assert call(export, f"run={run}", f"out={tmp_path / 'out'}", "onnx=false").status == 0
    assert (tmp_path / "out" / "ppo-own_task_Bar-v0.zip").exists()
    # A folder may be anybody's: what it names is imported only if a user names it too.
    monkeypatch.delitem(sys.modules, "own_task")
    monkeypatch.delitem(gym.registry, "Bar-v0")
    for program, more in ((evaluate, ()), (play, (f"out={tmp_path / 'b.gif'}",)), (export, (f"out={tmp_path / 'c'}",))):
        refused = call(program, f"run={run}", *more)
        assert refused.status == 2 and "modules=[own_task]" in refused.err
    assert "own_task" not in sys.modules
    assert call(evaluate, f"run={run}", "episodes=4", "num_envs=4", "modules=[own_task]").status == 0
    unknown = call(evaluate, f"run={run}", "modules=[no_such_module]")
    assert unknown.status == 2 and "'no_such_module' cannot be imported" in unknown.err


@pytest.mark.usefixtures("own_task")
def test_a_task_that_cannot_be_drawn_is_trained_all_the_same(call: Call, tmp_path: Path) -> None:
    arguments = [option.replace("Bar-v0", "Unseen-v0") for option in BAR]
    done = call(train, *arguments, f"run_dir={tmp_path / 'run'}")
    assert (done.status, done.err) == (0, "")
    said = "env.id='own_task:Unseen-v0' cannot be drawn: its render_modes [] lack 'rgb_array'"
    assert f"no film in the log: {said}\n" in done.out
    refused = call(play, f"run={tmp_path / 'run'}", f"out={tmp_path / 'film.gif'}", "modules=[own_task]")
    assert (refused.status, refused.err) == (2, f"error: {said}\n")


def test_wrappers_go_around_each_environment() -> None:
    game = cart(
        wrappers=[Wrapping(name="FrameStackObservation", kwargs={"stack_size": 3}), Wrapping(name="FlattenObservation")]
    )
    assert game.spaces()[0].shape == (12,)
    assert game.facts()["wrappers"][0] == {"name": "FrameStackObservation", "kwargs": {"stack_size": 3}}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["env.id=NoSuch-v0"], "env.id='NoSuch-v0' cannot be made"),
        (["env.id=no_such_module:X-v0"], "env.id: 'no_such_module' cannot be imported (ModuleNotFoundError"),
        (["env.id=Pendulum-v1"], "terms are defined on Discrete"),
        (["env.id=Blackjack-v1"], "env.wrappers=[{name:FlattenObservation}]"),
        (["network=small"], "use network=mlp"),
        (["+env.seen.attributes.colour=1"], "env.seen.attributes.colour is no number of this task; it has: "),
        (["+env.kwargs.sideways=true"], "cannot be made"),
        (["+env.unseen.seen={}"], "'seen' is the name of what is trained in"),
        (["env.wrappers=[{name:RecordVideo}]"], "'RecordVideo' is not known"),
        (["env.wrappers=[{name:ResizeObservation,kwargs:{shape:[8,8]}}]"], "does not fit this task"),
        (["env.return_range=[5,1]"], "env.return_range=[5.0, 1.0] must be"),
        (["env.num_envs=0"], "env.num_envs=0 must be in [1, 4096]"),
        (["averaging=swad", "evaluation.every=256"], "env.return_range=null of CartPole-v1"),
        (["method=kd", "teacher={teacher}", "teacher_domains=unseen"], "is about Procgen's levels"),
        (["method=augkd", "teacher={teacher}"], "generates Procgen's frames"),
        (["method=drac"], "drac augments frames"),
        (["+network.pooled=true"], "are for networks of pictures"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    call: Call, teacher: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    arguments = [one.format(teacher=teacher) if "{teacher}" in one else one for one in more]
    done = call(train, *CART, *arguments, f"run_dir={tmp_path / 'run'}")
    assert done.status == 2 and said in done.err
    assert done.err.startswith("error: ") and len(done.err.splitlines()) == 1
    if said != "drac augments frames":  # the first minibatch shows it
        assert not (tmp_path / "run").exists()


def test_pictures_want_a_network_of_pictures(call: Call, tmp_path: Path) -> None:
    done = call(train, "env=coinrun", "network=mlp", f"run_dir={tmp_path / 'run'}")
    assert done.status == 2 and "use network=small or network=impala" in done.err


def test_measures_are_of_procgen(call: Call, teacher: Path) -> None:
    done = call(evaluate, f"run={teacher}", "episodes=4", "num_envs=4", "measures=[corruptions]")
    assert done.status == 2 and "measures are of Procgen's looks" in done.err


def test_a_variant_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"env\.unseen\.odd\.attributes\.wind"):
        cart(unseen={"odd": Variant(attributes={"wind": 3.0})}).single("odd")
