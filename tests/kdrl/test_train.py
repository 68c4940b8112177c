"""``kdrl-train`` and ``kdrl-evaluate`` on the real engine, from the command line to the run's folder."""

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from stable_baselines3.common.vec_env import VecMonitor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.configuration import read_settings
from common.procgen import LevelSet
from common.procgen.constants import normalized_return
from common.runs.folder import Run
from common.runs.items import item_key
from common.runs.records import Record
from common.runs.status import Status
from kdrl import DistilledPPO, ProcgenVecEnv
from kdrl.configured import make_env
from kdrl.episodes import play, play_part
from kdrl.evaluate import main as evaluate
from kdrl.extractors import policy_kwargs
from kdrl.networks import PolicyLogits
from kdrl.restore import load_network, load_teacher
from kdrl.settings import TrainSettings
from kdrl.train import main as train

Call = Callable[..., Any]
THEMED, GENERATED = "leaper/themed", "leaper/generated"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def teacher(runs: Path, call: Call, tiny: list[str]) -> Run:
    """A run of plain PPO."""
    outcome = call(train, *tiny, "method=erm", f"run_dir={runs / 'teacher'}")
    assert (outcome.status, outcome.err) == (0, "")
    assert "Return, sampled actions" in outcome.out
    return Run(runs / "teacher")


@pytest.fixture(scope="module")
def student(runs: Path, call: Call, tiny: list[str], teacher: Run) -> Run:
    """A run with every term there is, taught by the other, with a learning curve."""
    arguments = ["method=kddg_sdd", f"teacher={teacher.path}", f"run_dir={runs / 'student'}"]
    outcome = call(train, *tiny, *arguments, "evaluation.every=128", "evaluation.progress_episodes=4")
    assert (outcome.status, outcome.err) == (0, "")
    assert "teacher: return" in outcome.out
    return Run(runs / "student")


def rows(run: Run, split: str) -> list[Record]:
    return [record for record in run.records() if record.split == split]


def timeless(run: Run) -> list[Record]:
    return [dataclasses.replace(record, seconds=0.0) for record in run.records()]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.checkpoints / "last.safetensors")


def assert_same_weights(first: Run, second: Run) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def assert_same_items(first: Run, second: Run) -> None:
    ours, theirs = first.items(), second.items()
    assert ours.keys() == theirs.keys()
    for key, array in ours.items():
        np.testing.assert_array_equal(array, theirs[key])


# --- a run's folder --------------------------------------------------------------------------------------------------


def test_a_run_leaves_a_complete_folder(student: Run, teacher: Run) -> None:
    def files(run: Run) -> set[str]:
        found = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
        events = {name for name in found if name.startswith("tensorboard/events.out.tfevents.")}
        assert len(events) == 1
        return found - events

    plain = {"config.yaml", "identity.json", "status.json", "record.jsonl", "items.npz", "lock"}
    plain.add("checkpoints/last.safetensors")
    kept = {"config.yaml", "identity.json", "status.json", "checkpoints/last.safetensors"}
    assert files(teacher) == plain
    assert files(student) == plain | {f"teachers/0/{name}" for name in kept}
    assert student.finished and teacher.finished


def test_the_configuration_is_resolved_and_reads_back(student: Run, teacher: Run) -> None:
    text = student.config_path.read_text()
    assert "${" not in text and "???" not in text
    settings = read_settings(student.config_path, TrainSettings, "rl")
    assert settings.env.game == "leaper" and settings.env.seen() == LevelSet.seen(0, 200)
    assert settings.method["terms"]["kddg"]["weight"] == settings.strength["kd"] == 1.0
    assert settings.teacher == str(teacher.path)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_records_say_what_was_measured(student: Run, split: str) -> None:
    parts = {
        "validation": [(THEMED, False)],
        "test": [(THEMED, True), (THEMED, False), (GENERATED, False)],
    }[split]
    found = rows(student, split)
    metrics = ["return", "normalized_return", "normalized_return_paper"]
    assert [(row.domain, row.seen, row.metric) for row in found] == [
        (domain, seen, metric) for domain, seen in parts for metric in metrics
    ]
    for row in found:
        assert (row.task, row.method, row.seed, row.network) == ("rl", "kddg_sdd", 0, "small")
        assert (row.source, row.target, row.selection) == ([THEMED], THEMED, "last")
        assert (row.n, row.steps) == (4, 256)
        assert row.seconds > 0
        assert row.versions["stable-baselines3"] and row.versions["procgen-mirror"]
        identity = student.identity()
        assert identity is not None and row.identity == identity.key
    for mean, code, paper in zip(found[::3], found[1::3], found[2::3], strict=True):
        assert code.value == normalized_return("leaper", "easy", mean.value)
        assert paper.value == normalized_return("leaper", "easy", mean.value, constants="paper")
        assert code.value != paper.value


def test_items_hold_every_test_episode(student: Run) -> None:
    items = student.items()
    parts = [(THEMED, True), (THEMED, False), (GENERATED, False)]
    assert set(items) == {item_key(name, *where) for name in ("return", "level", "image", "clip") for where in parts}
    means = {(row.domain, row.seen): row.value for row in rows(student, "test") if row.metric == "return"}
    for where in parts:
        returns, levels, images = (items[item_key(name, *where)] for name in ("return", "level", "image"))
        assert returns.shape == levels.shape == (4,)
        assert returns.dtype == np.float64 and levels.dtype == np.int64
        # Leaper pays 10 for the goal: rewards are as the game gives them, not as training sees them.
        assert set(returns) <= {0.0, 10.0}
        assert returns.mean() == means[where]
        assert images.dtype == np.uint8 and images.shape[1:] == (64, 64, 3)
        assert 2 <= len(images) <= 12
        assert (images[0] != images[1]).any()
        clip = items[item_key("clip", *where)]
        assert clip.dtype == np.uint8 and 2 <= len(clip) <= 48 and clip.shape[1:] == (64, 64, 3)
        # One environment's: neighbours are alike, as frames of different levels are not.
        assert (clip[1:] != clip[:-1]).mean() < (images[1:] != images[:-1]).mean()
    assert set(items[item_key("level", THEMED, seen=True)]) <= set(range(200))
    assert not set(items[item_key("level", THEMED, seen=False)]) <= set(range(200))
    looks = [items[item_key("image", domain, seen=False)][0] for domain in (THEMED, GENERATED)]
    assert (looks[0] != looks[1]).mean() > 0.5


def test_the_learning_curve_has_seen_and_unseen_points(student: Run, teacher: Run) -> None:
    found = [row for row in rows(student, "progress") if row.metric == "return"]
    assert [row.steps for row in found if not row.seen] == [128, 256]
    assert {row.n for row in found if not row.seen} == {4}
    assert {row.domain for row in found} == {THEMED}
    (travelled,) = rows(teacher, "progress")
    assert travelled.metric == "weight_distance"
    assert (travelled.steps, travelled.value > 0) == (256, True)


def test_the_filter_acts_with_the_settings_as_they_are(
    teacher: Run, call: Call, tiny: list[str], tmp_path: Path
) -> None:
    """And so ``kddg`` is another method than ``kd``: part of the states are filtered, and not all."""
    runs, short = {}, ["total_timesteps=1024", "evaluation.looks=[]", "evaluation.episodes=1"]
    for name in ("kd", "kddg"):
        runs[name] = Run(tmp_path / name)
        given = [*short, f"method={name}", f"teacher={teacher.path}", "seed=1", f"run_dir={runs[name].path}"]
        assert call(train, *tiny, *given).status == 0
    events = EventAccumulator(str(runs["kddg"].path / "tensorboard")).Reload()
    filtered = [event.value for event in events.Scalars("distillation/kddg/fraction_filtered")]
    assert any(0 < fraction < 1 for fraction in filtered)
    assert [run.status().idle for run in runs.values()] == [(), ()]  # type: ignore[union-attr]
    ours, theirs = (weights(run) for run in runs.values())
    assert any(not torch.equal(ours[key], theirs[key]) for key in ours)


def test_what_never_acted_is_said_at_the_end(teacher: Run, call: Call, quick: list[str], tmp_path: Path) -> None:
    arguments = [f"teacher={teacher.path}", "method=kddg", "strength.reading=student", f"run_dir={tmp_path / 'run'}"]
    outcome = call(train, *quick, *arguments)
    assert "warning: the filter of kddg touched nothing in any step" in outcome.out
    status = Run(tmp_path / "run").status()
    assert status is not None and status.idle == ("the filter of kddg touched nothing in any step",)


def test_scalars_are_there_for_tensorboard(student: Run) -> None:
    events = EventAccumulator(str(student.path / "tensorboard")).Reload()
    tags = set(events.Tags()["scalars"])
    assert {"train/loss", "train/clip_fraction", "train/approx_kl", "distillation/task"} <= tags
    assert {"distillation/kddg", "distillation/kddg/fraction_filtered", "distillation/sd_dropout"} <= tags
    assert {"distillation/kddg/teacher_agreement", "distillation/sd_dropout/weight"} <= tags
    assert all(np.isfinite(event.value) for event in events.Scalars("distillation/kddg"))


def test_the_teacher_is_kept_with_its_student(student: Run, teacher: Run) -> None:
    kept = Run(student.path / "teachers" / "0")
    assert_same_weights(kept, teacher)
    frames = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    ours, theirs = (load_teacher([str(run.path)], "leaper", device="cpu") for run in (kept, teacher))
    assert torch.equal(ours(frames), theirs(frames))
    assert torch.equal(ours(frames), PolicyLogits(load_network(teacher, device="cpu")[0])(frames))


def test_weights_have_moved(student: Run, teacher: Run) -> None:
    settings = read_settings(teacher.config_path, TrainSettings, "rl")
    env = make_env(settings)
    network = policy_kwargs("small", 32)
    first = DistilledPPO("CnnPolicy", env, policy_kwargs=network, seed=0, device="cpu").policy.state_dict()
    env.close()
    ours, theirs = weights(student), weights(teacher)
    assert all(not torch.equal(ours[name], first[name]) for name in ours)
    assert all(not torch.equal(ours[name], theirs[name]) for name in ours)


# --- the same again --------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_run(student: Run, teacher: Run, runs: Path, call: Call, tiny: list[str]) -> None:
    arguments = ["method=kddg_sdd", f"teacher={teacher.path}", f"run_dir={runs / 'again'}"]
    call(train, *tiny, *arguments, "evaluation.every=128", "evaluation.progress_episodes=4")
    again = Run(runs / "again")
    assert timeless(again) == timeless(student)
    assert_same_items(again, student)
    assert_same_weights(again, student)


def test_the_learning_curve_does_not_change_training(teacher: Run, runs: Path, call: Call, tiny: list[str]) -> None:
    curve = ["evaluation.every=1", "evaluation.progress_episodes=3", "checkpoint_every=1"]
    assert call(train, *tiny, "method=erm", f"run_dir={runs / 'curve'}", *curve).status == 0
    run = Run(runs / "curve")
    assert {row.steps for row in rows(run, "progress")} == {128, 256}
    assert_same_weights(run, teacher)
    found = [row for row in timeless(run) if row.split != "progress" or row.metric == "weight_distance"]
    assert found == timeless(teacher)


def test_evaluation_repeats_the_tests_of_training(student: Run, runs: Path, call: Call) -> None:
    arguments = [f"run={student.path}", "episodes=4", "num_envs=8", "looks=[themed,generated]", "device=cpu"]
    outcome = call(evaluate, *arguments, f"out={runs / 'judged'}")
    assert (outcome.status, outcome.err) == (0, "")
    judged = Run(runs / "judged")
    assert_same_items(judged, student)
    assert list(judged.records()) == [row for row in student.records() if row.split != "progress"]
    assert judged.config_path.read_text() == student.config_path.read_text()

    before = sorted(runs.rglob("*"))
    outcome = call(evaluate, *arguments[:3], "looks=[]", "seed=1", "device=cpu")
    assert outcome.status == 0 and THEMED in outcome.out and GENERATED not in outcome.out
    assert sorted(runs.rglob("*")) == before


def test_an_interrupted_run_is_judged_if_asked_for_and_no_run_to_compare(
    teacher: Run, call: Call, tmp_path: Path
) -> None:
    run = Run(shutil.copytree(teacher.path, tmp_path / "run"))
    run.set_status(Status("training", 128, 256, 0.5))
    arguments = [f"run={run.path}", "episodes=4", "num_envs=4", "looks=[]", "device=cpu", f"out={tmp_path / 'judged'}"]
    outcome = call(evaluate, *arguments)
    assert outcome.status == 2 and "is not finished (training, 128 of 256 steps)" in outcome.err
    assert call(evaluate, *arguments, "unfinished=true").status == 0
    judged = Run(tmp_path / "judged")
    ours, theirs = judged.identity(), teacher.identity()
    assert ours is not None and theirs is not None
    assert ours.differences(theirs) == ["setting.unfinished_at=absent (there: 128)"]
    assert {(row.steps, row.seconds, row.identity) for row in judged.records()} == {(128, 0.5, ours.key)}


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(tiny: list[str]) -> list[str]:
    """One rollout, an episode a part."""
    return [*tiny, "total_timesteps=128", "evaluation.episodes=1", "evaluation.looks=[]"]


def test_the_game_can_be_changed(call: Call, quick: list[str], tmp_path: Path) -> None:
    outcome = call(train, *quick, "env.game=starpilot", "env.look=plain", f"run_dir={tmp_path / 'run'}")
    assert (outcome.status, outcome.err) == (0, "")
    found = rows(Run(tmp_path / "run"), "test")
    assert {row.domain for row in found} == {"starpilot/plain"}
    assert [row.seen for row in found if row.metric == "return"] == [True, False]


def test_a_multirun_leaves_a_run_for_each_setting(
    call: Call, quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = call(train, "--multirun", *quick, "seed=0,1", "method=sd_dropout")
    assert (outcome.status, outcome.err) == (0, "")
    folders = sorted(path.parent.relative_to(tmp_path) for path in tmp_path.rglob("record.jsonl"))
    assert [folder.name for folder in folders] == ["seed0", "seed1"]
    (named,) = {folder.parent for folder in folders}
    assert named.parent == Path("runs/kdrl/leaper") and named.name.startswith("sd_dropout-")
    # The same sweep once more has nothing to do.
    outcome = call(train, "--multirun", *quick, "seed=0,1", "method=sd_dropout")
    assert (outcome.status, outcome.err) == (0, "") and outcome.out.count("finished already") == 2
    for folder in folders:
        assert {row.seed for row in rows(Run(folder), "test")} == {int(folder.name[-1])}
    first, second = (weights(Run(folder)) for folder in folders)
    assert not torch.equal(first["action_net.weight"], second["action_net.weight"])


def test_several_teachers_are_all_kept(
    call: Call, quick: list[str], teacher: Run, student: Run, tmp_path: Path
) -> None:
    both = f"teacher=[{teacher.path},{student.path}]"
    outcome = call(train, *quick, "method=kd", both, f"run_dir={tmp_path / 'run'}")
    assert (outcome.status, outcome.err) == (0, "")
    run = Run(tmp_path / "run")
    for number, source in enumerate([teacher, student]):
        assert_same_weights(Run(run.path / "teachers" / str(number)), source)


def test_a_teacher_that_is_not_asked_is_not_kept(call: Call, quick: list[str], teacher: Run, tmp_path: Path) -> None:
    outcome = call(train, *quick, "method=sd_dropout", f"teacher={teacher.path}", f"run_dir={tmp_path / 'run'}")
    assert outcome.status == 0
    assert "method=sd_dropout asks no teacher; the one given is not used" in outcome.out.replace("\n", " ")
    assert not (tmp_path / "run" / "teachers").exists()


def test_an_interrupted_run_of_an_older_version_is_moved_aside(call: Call, quick: list[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("interrupted: true\n")
    outcome = call(train, *quick, f"run_dir={tmp_path / 'run'}")
    assert outcome.status == 0
    assert (tmp_path / "run.interrupted-1" / "config.yaml").read_text() == "interrupted: true\n"
    assert Run(tmp_path / "run").finished


@pytest.mark.parametrize("normalize", [True, False])
def test_rewards_are_normalised_over_the_discount_that_ppo_has(teacher: Run, normalize: bool) -> None:
    settings = read_settings(teacher.config_path, TrainSettings, "rl")
    settings.ppo["gamma"] = 0.9
    settings.normalize_reward = normalize
    env = make_env(settings)
    assert getattr(env, "gamma", None) == (0.9 if normalize else None)
    assert isinstance(env.venv if normalize else env, VecMonitor)
    env.close()


def test_the_console_script_trains(quick: list[str], tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("kdrl-train")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    result = subprocess.run(
        [script, *quick, "run_dir=run"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    # The unmaintained gym, which the engine needs, has a notice for every import; a user never sees it.
    assert (result.returncode, result.stderr) == (0, "")
    assert "training erm on leaper (cpu) into run" in result.stdout and THEMED in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert Run(tmp_path / "run").finished


# --- losses that are not numbers -------------------------------------------------------------------------------------


def test_a_loss_that_is_not_a_number_leaves_the_last_good_weights(
    call: Call, quick: list[str], teacher: Run, tmp_path: Path
) -> None:
    cold = ["method=sd_dropout", "strength.sd_temperature=1e-40"]  # by which logits are divided
    outcome = call(train, *quick, *cold, f"run_dir={tmp_path / 'run'}")
    assert outcome.status == 3
    assert outcome.err == (
        "error: the loss is nan at step 128; training stopped, the last good weights are in "
        f"{tmp_path / 'run' / 'checkpoints'}\n"
    )
    run = Run(tmp_path / "run")
    assert not run.finished and list(run.records()) == []
    settings = read_settings(teacher.config_path, TrainSettings, "rl")
    env = make_env(settings)
    policy = DistilledPPO("CnnPolicy", env, policy_kwargs=policy_kwargs("small", 32), seed=0, device="cpu").policy
    env.close()
    for name, value in weights(run).items():
        assert torch.equal(value, policy.state_dict()[name])


def test_weights_that_a_step_has_spoilt_are_not_saved(call: Call, quick: list[str], tmp_path: Path) -> None:
    # The whole rollout is one step: nothing is computed with the policy after it.
    big = ["ppo.learning_rate=1e12", "ppo.batch_size=128", "ppo.n_epochs=1"]
    outcome = call(train, *quick, *big, f"run_dir={tmp_path / 'run'}")
    assert outcome.status == 3
    assert outcome.err == (
        "error: the policy's logits are not finite at step 128; training stopped, no weights were saved\n"
    )
    assert not list((tmp_path / "run").rglob("*.safetensors"))


# --- playing ---------------------------------------------------------------------------------------------------------


class Watched(ProcgenVecEnv):
    """Keeps the returns and levels of each copy's episodes."""

    def reset(self) -> Any:
        self.episodes: list[list[tuple[float, int]]] = [[] for _ in range(self.num_envs)]
        self.running = np.zeros(self.num_envs)
        return super().reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = super().step_wait()
        self.running += rewards
        for index in np.flatnonzero(dones):
            self.episodes[index].append((float(self.running[index]), infos[index]["prev_level_seed"]))
            self.running[index] = 0
        return observations, rewards, dones, infos


@pytest.fixture(scope="module")
def policy(teacher: Run) -> PolicyLogits:
    return PolicyLogits(load_network(teacher, device="cpu")[0])


@pytest.mark.parametrize("episodes", [12, 20, 30])
def test_every_environment_contributes_its_first_episodes(policy: PolicyLogits, episodes: int) -> None:
    env = Watched("starpilot", 12, LevelSet.unseen(), threads=0)
    played = play(policy, env, episodes, seed=3)
    env.close()
    quota = [episodes // 12 + (index < episodes % 12) for index in range(12)]
    assert sum(quota) == len(played.returns) == len(played.levels) == episodes
    expected = sorted(episode for index in range(12) for episode in env.episodes[index][: quota[index]])
    assert sorted(zip(played.returns.tolist(), played.levels.tolist(), strict=True)) == expected
    # Copies with short episodes did play more, which must not count.
    assert any(len(ended) > share for ended, share in zip(env.episodes, quota, strict=True))


def test_evaluation_leaves_the_global_generators_alone(policy: PolicyLogits, teacher: Run) -> None:
    settings = read_settings(teacher.config_path, TrainSettings, "rl")
    part = settings.env.parts([])[-1]
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the generator that Stable-Baselines3 shuffles with
    first = play_part(policy, settings.env, part, 10, seed=0)
    after = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert after == (torch.rand(1), np.random.rand())  # noqa: NPY002
    # Its own generators are seeded: the state of the global ones does not matter either.
    again = play_part(policy, settings.env, part, 10, seed=0)
    other = play_part(policy, settings.env, part, 10, seed=1)
    np.testing.assert_array_equal(first.levels, again.levels)
    np.testing.assert_array_equal(first.returns, again.returns)
    np.testing.assert_array_equal(first.frames, again.frames)
    assert (first.levels != other.levels).any()


def test_actions_are_sampled_from_the_policy() -> None:
    class Chooses(torch.nn.Module):
        """Two actions, one three times as likely."""

        def __init__(self) -> None:
            super().__init__()
            logits = torch.full((15,), -torch.inf)
            logits[4], logits[7] = 0.0, np.log(3)
            self.logits = torch.nn.Parameter(logits)

        def forward(self, observations: torch.Tensor) -> torch.Tensor:
            return self.logits.expand(len(observations), 15)

    class Counts(ProcgenVecEnv):
        """Keeps the actions of copies that are in their first episode; the others only wait."""

        waiting = np.zeros(8, dtype=np.bool_)

        def step_async(self, actions: Any) -> None:
            counts.extend(actions[~self.waiting].tolist())
            super().step_async(actions)

        def step_wait(self) -> Any:
            result = super().step_wait()
            self.waiting = self.waiting | result[2]
            return result

    counts: list[int] = []
    env = Counts("starpilot", 8, threads=0)
    play(Chooses(), env, 8, seed=0)
    env.close()
    assert set(counts) == {4, 7}
    assert len(counts) > 300
    assert np.mean(np.array(counts) == 7) == pytest.approx(0.75, abs=0.08)


def test_parts_are_seen_validation_unseen_then_other_looks(teacher: Run) -> None:
    settings = read_settings(teacher.config_path, TrainSettings, "rl")
    found = settings.env.parts(["plain", "themed", "generated"])
    assert [(one.variant, one.seen, one.split) for one in found] == [
        ("themed", True, "test"),
        ("themed", False, "validation"),
        ("themed", False, "test"),
        ("plain", False, "test"),
        ("generated", False, "test"),
    ]
    assert found[0].levels == LevelSet.seen(0, 200)
    assert 199 not in found[1].levels
    assert all(part.levels == LevelSet.unseen() for part in found[2:])


def test_the_configuration_file_is_plain_yaml(teacher: Run) -> None:
    values = yaml.safe_load(teacher.config_path.read_text())
    assert values["task"] == "rl"
    assert values["method"] == {
        "_target_": "common.distillation.Distillation",
        "name": "erm",
        "task_weight": 1.0,
        "terms": {},
    }
