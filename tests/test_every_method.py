"""Every method of ``configs/method`` on every task: what each must do, whatever it is.

A new configuration is tested by existing. The tasks are PPO on the real game engine, segmentation of real images
through Lightning, and the core alone (``benchmarks/digits``) on rotated digits. Each trains on one fixed batch, with
teachers of its own kind, and either refuses a method with one line or does all of what the tests below ask.
"""

import copy
import dataclasses
import functools
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import yaml
from omegaconf import OmegaConf
from PIL import Image
from pytorch_lightning.callbacks import ModelCheckpoint
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import set_random_seed
from torch import Tensor, nn
from torch.nn import functional as F

import common.terms
from benchmarks.digits.adapter import Classification, DigitNetwork
from benchmarks.digits.domains import rotated, split
from benchmarks.programs import configured
from common.augkd import Artefact, Domain, Layout, Preparation, Sample, prepare
from common.averaging import Averager, make_averager
from common.directories import config_directory
from common.distillation import Distillation, DistillationOutput
from common.errors import InputError
from common.losses import kl_divergence, mean_over_valid
from common.method import make_distillation
from common.schedule import value_at
from common.teacher import Teacher
from common.terms import AIKD, KD, AuGKD, ProbabilityMSE, Term
from common.view import View
from kdrl import DistilledPPO, ProcgenVecEnv
from kdrl.extractors import policy_kwargs
from kdrl.networks import PolicyJudge, PolicyLogits
from kdseg import SegmentationModule, create_network

pytestmark = [
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),
    # Lightning 2.6 uses what torch 2.11 and later call deprecated.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    # The teacher is, on purpose.
    pytest.mark.filterwarnings("ignore:Found .* in eval mode at the start of training"),
    # The callback that writes the checkpoint has done so.
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create"),
]

NUCLEI = Path(__file__).parent / "data" / "nuclei"
METHODS = sorted(path.stem for path in (config_directory() / "method").glob("*.yaml"))
AVERAGERS = sorted(path.stem for path in (config_directory() / "averaging").glob("*.yaml") if path.stem != "none")
TEACHERS = 2
Batch = dict[str, Tensor]

ENTROPY = "; without labels the entropy bonus, ppo.ent_coef, is its analogue"
KD_ALONE = "; method=kd distils predictions alone"
# Written out, so that a method which stops (or begins) to be refused is noticed: task → method → the line.
REFUSED: dict[str, dict[str, str]] = {
    "policy": {
        "beta_smoothing": "beta_smoothing needs labels, which PPO does not have" + ENTROPY,
        "byot": "byot needs labels, stages, which PPO does not have",
        "cross_fitted": "cross_fitted needs labels, which PPO does not have; "
        "method=kd distils from the mean of several teachers",
        "cs_kd": "cs_kd needs labels, which PPO does not have; "
        "with a teacher, method=cs_kd_teacher groups by its choices instead",
        "dps": "dps needs labels, which PPO does not have",
        "label_smoothing": "label_smoothing needs labels, which PPO does not have" + ENTROPY,
        "subclass": "subclass needs labels, which PPO does not have",
        "tf_kd_reg": "tf_kd_reg needs labels, which PPO does not have" + ENTROPY,
    },
    "segmentation": {
        "drac": "drac needs values, which segmentation does not have; "
        "method=ddgsd compares two looks at images without a critic",
        "iter": "value_distillation needs teacher_values, values, which segmentation does not have" + KD_ALONE,
        "ppd": "ppd needs ratio, which segmentation does not have; method=kd is the same without actions",
        "value_distillation": "value_distillation needs teacher_values, values, "
        "which segmentation does not have" + KD_ALONE,
    },
}
REFUSED["digits"] = {
    name: line.replace("segmentation", "plain classification") for name, line in REFUSED["segmentation"].items()
} | {"gkd": "gkd needs encoded, which plain classification does not have; method=kd distils what the networks say"}


def keeps_state(name: str) -> bool:
    """Whether a term of the method keeps or makes anything from step to step, by what its class has of its own."""
    terms = yaml.safe_load((config_directory() / "method" / f"{name}.yaml").read_text()).get("terms", {})
    # What only changes another method's settings names no class.
    named = [term["_target_"] for term in terms.values() if "_target_" in term]
    kinds = [getattr(common.terms, name.split(".")[-1]) for name in named]
    hooks = ("bind", "before_step", "after_step", "after_epoch")
    return any(
        any(getattr(kind, hook) is not getattr(Term, hook) for hook in hooks) or len(list(kind().buffers())) > 0
        for kind in kinds
    )


def node(group: str, name: str, program: str = "kdseg") -> Any:
    """A choice of a configuration's group, as the programs compose it."""
    chosen = configured(program, f"{group}={name}")[group]
    return OmegaConf.to_container(chosen, resolve=True, throw_on_missing=True)


def method(name: str, task: str) -> Distillation:
    teacher = Teacher(TASKS[task].teachers())
    made = make_distillation(node("method", name, "kdrl" if task == "policy" else "kdseg"), teacher, [])[0]
    for term in made.terms.values():
        if isinstance(term, AuGKD):
            term.artefact = copy.deepcopy(artefact(task))
    return made


@functools.cache
def artefact(task: str) -> Artefact:
    """What AuG-KD prepares, of a few rounds."""
    layout, sample = TASKS[task].own_domain()
    domain = Domain(layout, lambda start: itertools.repeat(sample), "", has_labels=task != "policy")
    student, teacher = TASKS[task].run(Distillation(name="erm"), 1).student, Teacher(TASKS[task].teachers())
    if isinstance(student, ActorCriticPolicy):
        student = PolicyLogits(student)
    settings = Preparation(latent=8, width=4, data_free_rounds=2, anchor_rounds=2, batch_size=4)
    with tempfile.TemporaryDirectory() as folder:
        return prepare(settings, teacher, student, domain, Path(folder))


def averager(name: str) -> Averager:
    # The loaders here are lists of batches, which no adapter takes images from for a pass of its own.
    made = make_averager(node("averaging", name) | {"buffers": "average"}, None)
    assert made is not None
    return made


@dataclasses.dataclass
class Trained:
    """What a training leaves behind.

    Attributes:
        student: The network in training.
        distillation: Its method, as it is at the end.
        losses: Total loss of each step, all of the same batch.
        logged: What the method logged at each step; empty for plain training.
        pull: Largest gradient that the terms alone give the student at the first or the last step; ``None`` for plain
            training.
        own: The terms' own parameters, as they were at the first step.
        averager: As it is at the end.
    """

    student: nn.Module
    distillation: Distillation
    losses: list[float]
    logged: list[dict[str, float]]
    pull: float | None
    own: list[Tensor]
    averager: Averager | None = None


def own_parameters(distillation: Distillation) -> list[nn.Parameter]:
    """What the terms train beside the student."""
    return [parameter for parameter in distillation.terms.parameters() if parameter.requires_grad]


class Watch:
    """Sees every call of a distillation: what is logged, and at the first and last step how its terms pull."""

    def __init__(self, distillation: Distillation, student: nn.Module, last: int) -> None:
        self.logged: list[dict[str, float]] = []
        self.pull: float | None = None
        self.own: list[Tensor] = []
        self.parameters, self.last = list(student.parameters()), last
        distillation.register_forward_hook(self._see)

    def _see(self, distillation: nn.Module, arguments: tuple[View, Tensor], output: DistillationOutput) -> None:
        assert isinstance(distillation, Distillation)
        if not self.logged:
            self.own = [parameter.detach().clone() for parameter in own_parameters(distillation)]
        self.logged.append({name: float(value) for name, value in output.metrics.items()})
        if len(self.logged) in (1, self.last) and len(distillation.terms):
            view, task = arguments
            share = value_at(distillation.task_weight, view.progress) * mean_over_valid(task, view.valid)
            learning = [parameter for parameter in self.parameters if parameter.requires_grad]
            gradients = torch.autograd.grad(
                output.loss - share, learning, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            self.pull = max(self.pull or 0.0, *(float(gradient.abs().max()) for gradient in gradients))


# --- the core alone --------------------------------------------------------------------------------------------------


@functools.cache
def digits_batch() -> tuple[Tensor, Tensor, Tensor]:
    images, labels = split(0, rotated()).training()
    index = torch.arange(0, len(labels), len(labels) // 32)[:32]
    return images[index], labels[index], index


class Digits:
    """The adapter of the benchmark; a pass over the data is the batch four times."""

    steps, half = 12, 6

    @staticmethod
    def seen(path: Path) -> tuple[Tensor, Tensor]:
        """The batch: what the networks are given, and which samples these are."""
        return digits_batch()[0], digits_batch()[2]

    @staticmethod
    def own_domain() -> tuple[Layout, Sample]:
        """For AuG-KD."""
        images, labels, _ = digits_batch()
        return Layout(10, 1, (16, 16), False, (-0.5,), (0.5,)), Sample(images, labels)

    @staticmethod
    @functools.cache
    def teachers() -> list[nn.Module]:
        return [Digits.run(Distillation(name="erm"), seed).student for seed in range(10, 10 + TEACHERS)]

    @classmethod
    def run(
        cls, distillation: Distillation, seed: int, path: Path | None = None, averaging: Averager | None = None
    ) -> Trained:
        """Train; half-way the state goes to ``path``, or comes from there if it exists."""
        images, labels, index = digits_batch()
        torch.manual_seed(seed)
        training = Classification(DigitNetwork(), distillation, cls.steps, (images, labels), averaging)
        if path is not None and path.exists():
            training.load_state_dict(torch.load(path, weights_only=True))
        watch = Watch(distillation, training.network, cls.steps - training.done)
        losses = []
        while training.done < cls.steps:
            torch.manual_seed(1000 * seed + training.done)
            losses.append(float(training.step(images, labels, index, log=True).loss.detach()))
            if training.done % 4 == 0:
                training.end_epoch()
            if training.done % 4 == 2:
                training.validate(images, labels)
            if path is not None and training.done == cls.half:
                torch.save(training.state_dict(), path)
        return Trained(training.network, distillation, losses, watch.logged, watch.pull, watch.own, averaging)


# --- segmentation ----------------------------------------------------------------------------------------------------


@functools.cache
def nuclei_batch(side: int = 24) -> Batch:
    """A real image of each domain, with a band of ignored pixels."""
    images, masks = [], []
    for domain in sorted(path for path in NUCLEI.iterdir() if path.is_dir()):
        path = sorted((domain / "images").iterdir())[0]
        colours = np.asarray(Image.open(path).convert("RGB"))[:side, :side]
        images.append(torch.from_numpy(colours.copy()).permute(2, 0, 1) / 127.5 - 1)
        masks.append(torch.from_numpy(np.asarray(Image.open(domain / "masks" / path.name))[:side, :side].copy()).long())
    mask = torch.stack(masks)
    mask[:, :, :3] = 255
    return {"image": torch.stack(images), "mask": mask, "index": torch.arange(len(mask))}


class Same:
    """The same batch, some times a pass."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __iter__(self) -> Iterator[Batch]:
        return iter([nuclei_batch()] * self.times)

    def __len__(self) -> int:
        return self.times


class Steps(pl.Callback):
    """Random numbers are a matter of the step, so that an interrupted training has those of one that was not."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.losses: list[float] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(1000 * self.seed + trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(outputs["loss"]))


class Segmentation:
    """A tiny U-Net through Lightning; a pass over the data is the batch four times."""

    steps, half = 8, 4

    @staticmethod
    def seen(path: Path) -> tuple[Tensor, Tensor]:
        """The batch: what the networks are given, and which samples these are."""
        return nuclei_batch()["image"], nuclei_batch()["index"]

    @staticmethod
    def own_domain() -> tuple[Layout, Sample]:
        """For AuG-KD."""
        images, masks = nuclei_batch()["image"], nuclei_batch()["mask"]
        return Layout(2, 3, (images.shape[2], images.shape[3]), True, (-1.0,) * 3, (1.0,) * 3), Sample(
            images, masks, masks != 255
        )

    @staticmethod
    @functools.cache
    def teachers() -> list[nn.Module]:
        return [Segmentation.run(Distillation(name="erm"), seed).student for seed in range(10, 10 + TEACHERS)]

    @classmethod
    def run(
        cls, distillation: Distillation, seed: int, path: Path | None = None, averaging: Averager | None = None
    ) -> Trained:
        """Train; half-way Lightning's checkpoint goes to ``path``, or comes from there if it exists."""
        torch.manual_seed(seed)
        network = create_network("unet", "tu-test_resnet", classes=2, encoder_depth=2, decoder_channels=(8, 8))
        module = SegmentationModule(network, 2, distillation, averaging=averaging)
        resumed = path is not None and path.exists()
        watch = Watch(distillation, module.network, cls.steps - cls.half if resumed else cls.steps)
        steps = Steps(seed)
        callbacks: list[pl.Callback] = [steps]
        if path is not None and not resumed:
            callbacks.append(Halfway(path, cls.half))
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            # Counted in passes: with max_steps, Lightning 2.6 adds a batch to a pass that a checkpoint had ended.
            max_epochs=cls.steps // cls.half,
            log_every_n_steps=1,
            num_sanity_val_steps=0,
            val_check_interval=3,  # not at the last step: an average of that one alone would tell nothing
            enable_checkpointing=path is not None and not resumed,
            callbacks=callbacks,
            **quiet,  # type: ignore[arg-type]
        )
        validation = None if averaging is None else Same(1)
        trainer.fit(module, Same(cls.half), validation, ckpt_path=path if resumed else None)
        return Trained(module.network, distillation, steps.losses, watch.logged, watch.pull, watch.own, averaging)


class Halfway(ModelCheckpoint):
    """Lightning's own checkpoint, at the end of the first pass."""

    def __init__(self, path: Path, steps: int) -> None:
        super().__init__(path.parent, filename=path.stem, save_top_k=1, every_n_epochs=1, save_on_train_epoch_end=True)
        self.at = steps

    def _should_skip_saving_checkpoint(self, trainer: pl.Trainer) -> bool:
        return trainer.global_step != self.at or super()._should_skip_saving_checkpoint(trainer)


# --- policies --------------------------------------------------------------------------------------------------------


class Recorded(DistilledPPO):
    """Keeps the loss of every step."""

    losses: list[float]

    def _step(self, loss: Tensor) -> None:
        self.losses.append(loss.item())
        super()._step(loss)


class OneRollout(BaseCallback):
    """Ends a training that was planned longer after its first rollout and update, and keeps the rollout."""

    def _on_step(self) -> bool:
        return self.num_timesteps <= Policy.transitions

    def _on_rollout_end(self) -> None:
        self.rollout = copy.deepcopy(self.model.rollout_buffer)  # type: ignore[attr-defined]


class Policy:
    """A small policy on the real engine; a minibatch is the whole rollout, so that every step sees the same."""

    transitions, half = 64, 4

    @staticmethod
    def seen(path: Path) -> tuple[Tensor, None]:
        """The observations of the rollout that was kept beside the archive at ``path``."""
        rollout = torch.load(path.with_suffix(".rollout"), weights_only=False)
        return torch.as_tensor(rollout.observations.reshape(-1, *rollout.obs_shape)), None

    @staticmethod
    def own_domain() -> tuple[Layout, Sample]:
        """For AuG-KD: made-up frames."""
        frames = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
        return Layout(15, 3, (64, 64), False, (0.0,) * 3, (255.0,) * 3), Sample(frames, torch.arange(4))

    @staticmethod
    def student(distillation: Distillation | None, seed: int) -> Recorded:
        network = policy_kwargs("small", 32)
        options: dict[str, Any] = {"n_steps": 16, "batch_size": Policy.transitions, "n_epochs": Policy.half}
        model = Recorded(
            "CnnPolicy",
            ProcgenVecEnv("starpilot", 4, threads=0),
            policy_kwargs=network,
            distillation=distillation,
            device="cpu",
            seed=seed,
            **options,
        )
        model.losses = []
        return model

    @staticmethod
    @functools.cache
    def teachers() -> list[nn.Module]:
        """Untrained policies with opinions."""
        networks: list[nn.Module] = []
        for seed in range(10, 10 + TEACHERS):
            policy = Policy.student(None, seed).policy
            nn.init.normal_(policy.action_net.weight, std=4.0)
            networks.append(PolicyJudge(policy))
        return networks

    @classmethod
    def run(cls, distillation: Distillation, seed: int, path: Path | None = None) -> Trained:
        """Train on a rollout, and once more on the same; in between the archive goes to ``path``.

        Where it exists, only the second part is trained, on the rollout kept beside it.
        """
        resumed = path is not None and path.exists()
        kept = None if path is None else path.with_suffix(".rollout")
        if resumed:
            assert path is not None and kept is not None
            model = Recorded.load(path, device="cpu")
            model.losses = []
            model.set_logger(configure(None, []))
            assert model.distillation is not None
            distillation = model.distillation
            watch = Watch(distillation, model.policy, cls.half)
            rollout = torch.load(kept, weights_only=False)
        else:
            model = cls.student(distillation, seed)
            watch = Watch(distillation, model.policy, 2 * cls.half)
            callback = OneRollout()
            # Planned longer than it is, so that schedules are not at their end already.
            model.learn(10 * cls.transitions, callback)
            rollout = callback.rollout
            if path is not None and kept is not None:
                model.save(path)
                torch.save(rollout, kept)
        model.rollout_buffer = copy.deepcopy(rollout)
        set_random_seed(1000 * seed)
        model.train()
        return Trained(model.policy, distillation, model.losses, watch.logged, watch.pull, watch.own)


TASKS: dict[str, Any] = {"policy": Policy, "segmentation": Segmentation, "digits": Digits}
PAIRS = [(task, name) for task in TASKS for name in METHODS]
SERVED = [pair for pair in PAIRS if pair[1] not in REFUSED[pair[0]]]


# --- what is asked of every method -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Case:
    """One method on one task, trained once for all tests of it."""

    task: str
    name: str
    trained: Trained
    teacher_before: dict[str, Any]
    path: Path


@pytest.fixture(scope="module", params=SERVED, ids="-".join)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    task, name = request.param
    # The ending that Lightning and Stable-Baselines3 give, or any.
    path = tmp_path_factory.mktemp("state") / ("half.zip" if task == "policy" else "half.ckpt")
    distillation = method(name, task)
    before = copy.deepcopy(distillation.teacher.state_dict()) if distillation.teacher is not None else {}
    return Case(task, name, TASKS[task].run(distillation, 1, path), before, path)


def differences(ours: Any, theirs: Any, place: str = "") -> list[str]:
    """Where two states differ in any bit, whatever is nested in them."""
    if isinstance(ours, Tensor):
        same = isinstance(theirs, Tensor) and ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        if not isinstance(theirs, dict) or list(ours) != list(theirs):
            return [f"{place}: other keys"]
        return [line for key in ours for line in differences(ours[key], theirs[key], f"{place}.{key}")]
    elif isinstance(ours, list | tuple):
        if len(ours) != len(theirs):
            return [f"{place}: other length"]
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [line for number, pair in pairs for line in differences(*pair, f"{place}[{number}]")]
    else:
        same = ours == theirs
    return [] if same else [place]


def assert_same_training(ours: Trained, theirs: Trained) -> None:
    """Equal losses from where the shorter one begins, and equal states of everything at the end."""
    length = min(len(ours.losses), len(theirs.losses))
    assert length > 0
    assert ours.losses[-length:] == theirs.losses[-length:]
    assert differences(ours.logged[-length:], theirs.logged[-length:]) == []
    assert differences(dict(ours.student.state_dict()), dict(theirs.student.state_dict())) == []
    assert differences(dict(ours.distillation.state_dict()), dict(theirs.distillation.state_dict())) == []
    if ours.averager is not None and theirs.averager is not None:
        assert differences(dict(ours.averager.state_dict()), dict(theirs.averager.state_dict())) == []
        finished = [dict(trained.averager.finish().state_dict()) for trained in (ours, theirs) if trained.averager]
        assert differences(*finished) == []


@pytest.mark.parametrize(("task", "name"), [pair for pair in PAIRS if pair not in SERVED])
def test_what_a_task_cannot_give_is_refused_in_a_line_that_names_the_term(task: str, name: str) -> None:
    with pytest.raises(InputError) as caught:
        TASKS[task].run(method(name, task), 1)
    assert str(caught.value) == f"method={name}: {REFUSED[task][name]}"
    assert "\n" not in str(caught.value)


def test_every_refusal_is_of_a_method_that_there_is() -> None:
    assert {name for lines in REFUSED.values() for name in lines} <= set(METHODS)


def test_every_number_is_finite(case: Case) -> None:
    trained = case.trained
    assert np.isfinite(trained.losses).all()
    assert all(np.isfinite(list(step.values())).all() for step in trained.logged)
    assert bool(trained.logged) == (case.name != "erm" or case.task == "digits")
    for network in (trained.student, trained.distillation):
        assert all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())


def test_gradients_reach_the_student_and_never_the_teacher(case: Case) -> None:
    trained = case.trained
    assert any(parameter.grad is not None and bool(parameter.grad.any()) for parameter in trained.student.parameters())
    if len(trained.distillation.terms):
        # From the terms themselves, the task's share taken off.
        assert trained.pull is not None
        assert 0 < trained.pull < np.inf
    teacher = trained.distillation.teacher
    if teacher is not None:
        assert not any(module.training for module in teacher.modules())
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())
        assert differences(dict(teacher.state_dict()), case.teacher_before) == []
    # What the terms brought along learns too: classifiers at the stages, discriminators.
    own = own_parameters(trained.distillation)
    assert not any(torch.equal(now, then) for now, then in zip(own, trained.own, strict=True))


def test_a_few_steps_on_one_batch_lower_what_they_should(case: Case) -> None:
    """The task where there is one that a batch can tell, else the whole loss; the terms where they are all there is."""
    trained = case.trained
    if not trained.logged:
        assert trained.losses[-1] < trained.losses[0]
        return
    first, last = trained.logged[0], trained.logged[-1]
    terms = list(trained.distillation.terms)
    if trained.distillation.task_weight == 0:
        assert all(0 <= last[name] < first[name] for name in terms)
    elif case.task == "policy":
        assert trained.losses[-1] < trained.losses[0]
    else:
        # By every method the labels of the batch are learnt.
        assert last["task"] < 0.9 * first["task"]


@functools.cache
def plain(task: str, name: str = "erm") -> Trained:
    """Without an average."""
    trained = TASKS[task].run(method(name, task), 1)
    assert isinstance(trained, Trained)
    return trained


def test_a_student_comes_closer_to_its_teacher_than_one_that_has_none(case: Case) -> None:
    distillation = case.trained.distillation
    if not any(isinstance(term, KD | AIKD | ProbabilityMSE) for term in distillation.terms.values()):
        return
    teacher = distillation.teacher
    assert teacher is not None
    inputs, index = TASKS[case.task].seen(case.path)
    distances = []
    for trained in (case.trained, plain(case.task)):
        network = trained.student
        student = copy.deepcopy(PolicyJudge(network) if isinstance(network, ActorCriticPolicy) else network)
        # With the batch's own statistics: the running ones of a few steps say little.
        student.train()
        with torch.no_grad():
            distances.append(float(kl_divergence(student(inputs), teacher(inputs, index)).mean()))
    assert distances[0] < distances[1]


def test_the_hosts_own_archive_keeps_all_of_a_method(case: Case) -> None:
    """Lightning's checkpoint and Stable-Baselines3's zip hold neither random generators nor the engine.

    So every step is seeded here, and a kept rollout is trained on. That a run of the programs goes on bit for bit, with
    its generators, its engine and its driver, is for ``test_resume.py`` of each task to show.
    """
    assert case.path.exists()
    resumed = TASKS[case.task].run(method(case.name, case.task), 1, case.path)
    assert 0 < len(resumed.losses) < len(case.trained.losses)
    assert_same_training(case.trained, resumed)


def test_the_same_seed_twice_is_equal(case: Case) -> None:
    again = TASKS[case.task].run(method(case.name, case.task), 1)
    assert len(again.losses) == len(case.trained.losses)
    assert_same_training(case.trained, again)


@pytest.mark.parametrize("name", AVERAGERS)
@pytest.mark.parametrize("task", ["digits", "segmentation"])
def test_the_hosts_own_archive_keeps_an_average(task: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "half.ckpt"
    run: Callable[..., Trained] = TASKS[task].run
    whole = run(method("kddg_sdd", task), 1, path, averager(name))
    assert path.exists()
    resumed = run(method("kddg_sdd", task), 1, path, averager(name))
    assert 0 < len(resumed.losses) < len(whole.losses)
    assert_same_training(whole, resumed)
    assert whole.averager is not None
    averaged, live = whole.averager.finish().state_dict(), whole.student.state_dict()
    # It is an average of several networks, and training does not notice it.
    assert any(not torch.equal(averaged[key], live[key]) for key in live if live[key].is_floating_point())
    assert_same_training(whole, plain(task, "kddg_sdd"))


def test_the_core_alone_without_terms_is_a_plain_loop() -> None:
    images, labels, _ = digits_batch()
    trained = Digits.run(Distillation(name="erm"), 3)
    torch.manual_seed(3)
    host = DigitNetwork()
    optimizer = torch.optim.AdamW(host.parameters(), lr=3e-3, weight_decay=1e-4)
    host.train()
    for _ in range(Digits.steps):
        optimizer.zero_grad()
        F.cross_entropy(host(images), labels, reduction="none").mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert differences(dict(trained.student.state_dict()), dict(host.state_dict())) == []
