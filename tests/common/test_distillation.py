"""A method's total: weights, schedules, filters, masks, metrics, the teacher's place, saved state."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from common.distillation import Distillation
from common.errors import InputError
from common.schedule import LinearSchedule
from common.teacher import Teacher
from common.terms import KD, KDDG, SDDropout, Term, TermOutput
from common.view import View


class _Given(Term):
    """Says what it was told to say."""

    def __init__(self, loss: Tensor, weight: Any = 1.0, position_weight: Tensor | None = None) -> None:
        super().__init__(weight)
        self.loss, self.position_weight = loss, position_weight

    def forward(self, view: View) -> TermOutput:
        return TermOutput(self.loss, {"twice": 2 * self.loss.detach().mean()}, self.position_weight)


class _Stateful(Term):
    """A term with a parameter and a buffer of its own."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(start))
        self.register_buffer("calls", torch.tensor(0))
        self.calls: Tensor

    def forward(self, view: View) -> TermOutput:
        self.calls += 1
        return TermOutput(self.scale * view.logits.square().mean(dim=1))


def _view(*positions: int, valid: Tensor | None = None, progress: float = 0.0) -> View:
    logits = torch.randn(positions[0], 3, *positions[1:], generator=torch.Generator().manual_seed(0))
    return View(
        inputs=logits,
        features=logits,
        head=nn.Identity(),
        logits=logits,
        forward=nn.Identity(),
        valid=valid,
        teacher_logits=logits.flip(1),
        progress=progress,
    )


def test_weighted_sum_by_hand() -> None:
    terms = {"a": _Given(torch.tensor([1.0, 3.0]), 0.5), "b": _Given(torch.tensor(10.0), 0.1)}
    output = Distillation(terms, task_weight=2.0)(_view(2), torch.tensor([4.0, 6.0]))
    # 2 · mean(4, 6) + 0.5 · mean(1, 3) + 0.1 · 10
    assert output.loss.item() == pytest.approx(12.0)


def test_schedules_follow_progress() -> None:
    term = _Given(torch.tensor([1.0, 3.0]), LinearSchedule(0.0, 1.0, 0.5))
    distillation = Distillation({"a": term})
    task = torch.tensor([4.0, 6.0])
    for progress, weight in [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (1.0, 1.0)]:
        output = distillation(_view(2, progress=progress), task)
        assert output.loss.item() == pytest.approx(5.0 + weight * 2.0)
        assert output.metrics["a/weight"] == pytest.approx(weight)
        assert output.metrics["a"] == 2.0


def test_filters_multiply_and_scale_task_and_terms() -> None:
    terms = {
        "a": _Given(torch.tensor([1.0, 3.0]), 1.0, torch.tensor([0.5, 1.0])),
        "b": _Given(torch.tensor([10.0, 20.0]), 0.1, torch.tensor([0.5, 0.2])),
        "c": _Given(torch.tensor(7.0)),
    }
    output = Distillation(terms, task_weight=2.0)(_view(2), torch.tensor([4.0, 6.0]))
    # the product is (.25, .2); the mean still counts both positions; a scalar term is left alone
    task, a, b = (0.25 * 4 + 0.2 * 6) / 2, (0.25 * 1 + 0.2 * 3) / 2, (0.25 * 10 + 0.2 * 20) / 2
    assert output.loss.item() == pytest.approx(2 * task + a + 0.1 * b + 7)
    assert output.metrics["task"] == 5.0 and output.metrics["a"] == 2.0 and output.metrics["b"] == 15.0


def test_a_scalar_task_is_left_alone_by_filters() -> None:
    term = _Given(torch.tensor([1.0, 3.0]), 1.0, torch.zeros(2))
    assert Distillation({"a": term})(_view(2), torch.tensor(5.0)).loss.item() == 5.0


def test_a_filter_is_averaged_over_the_pixels_below_a_coarser_cell() -> None:
    filtered = torch.tensor([[[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]]])  # [1, 2, 4]: cells of mean 1/4 and 3/4
    terms = {"filter": _Given(torch.zeros(1, 2, 4), 1.0, filtered), "coarse": _Given(torch.tensor([[[8.0, 16.0]]]))}
    output = Distillation(terms)(_view(1, 2, 4), torch.ones(1, 2, 4))
    assert output.loss.item() == pytest.approx(4 / 8 + (8 / 4 + 16 * 3 / 4) / 2)


def test_a_coarser_filter_ignores_invalid_pixels() -> None:
    # Left cell: weights 1 and 0 are valid; right cell: one weight of .5 is valid. The rest is made up.
    filtered = torch.tensor([[[1.0, 0.0, 0.5, 1.0], [0.0, 0.0, 1.0, 1.0]]])
    valid = torch.tensor([[[True, True, True, False], [False, False, False, False]]])
    terms = {"filter": _Given(torch.zeros(1, 2, 4), 1.0, filtered), "coarse": _Given(torch.tensor([[[8.0, 16.0]]]))}
    output = Distillation(terms)(_view(1, 2, 4, valid=valid), torch.zeros(1, 2, 4))
    assert output.loss.item() == pytest.approx((8 * 0.5 + 16 * 0.5) / 2)


def test_only_valid_positions_count() -> None:
    valid = torch.tensor([[True, False], [True, False]])
    task = torch.tensor([[4.0, 999.0], [6.0, float("nan")]])
    term = _Given(torch.tensor([[1.0, float("inf")], [3.0, 999.0]]), 0.5)
    output = Distillation({"a": term})(_view(2, 2, valid=valid), task)
    assert output.loss.item() == pytest.approx(5.0 + 0.5 * 2.0)
    assert output.metrics["task"] == 5.0 and output.metrics["a"] == 2.0


def test_metrics_are_named_detached_and_unscaled() -> None:
    loss = torch.tensor([1.0, 3.0], requires_grad=True)
    task = torch.tensor([4.0, 6.0], requires_grad=True)
    output = Distillation({"a": _Given(loss, 0.25)}, task_weight=3.0)(_view(2), task)
    assert set(output.metrics) == {"task", "a", "a/weight", "a/twice"}
    assert output.metrics["task"] == 5.0 and output.metrics["a"] == 2.0
    assert output.metrics["a/weight"] == 0.25 and output.metrics["a/twice"] == 4.0
    assert output.loss.requires_grad
    assert not any(value.requires_grad for value in output.metrics.values() if isinstance(value, Tensor))


def test_plain_is_the_tasks_mean_bit_for_bit() -> None:
    task = torch.rand(7, 5, generator=torch.Generator().manual_seed(0))
    plain = Distillation()
    assert plain.is_plain
    assert torch.equal(plain(_view(7, 5), task).loss, task.mean())
    assert not Distillation(task_weight=0.5).is_plain
    assert not Distillation({"sdd": SDDropout()}).is_plain


def test_composition_is_the_sum_of_its_parts() -> None:
    view, task, teacher = _view(2, 4, 4), torch.rand(2, 4, 4), Teacher([nn.Identity()])
    torch.manual_seed(0)
    together = Distillation({"kd": KD(0.5, 2.0), "sdd": SDDropout(0.1)}, 0.3, teacher)(view, task).loss
    kd = Distillation({"kd": KD(0.5, 2.0)}, 0.3, teacher)(view, task).loss
    torch.manual_seed(0)
    sdd = Distillation({"sdd": SDDropout(0.1)}, 0.0)(view, task).loss
    torch.testing.assert_close(together, kd + sdd)


def test_a_missing_teacher_is_named_with_the_fix() -> None:
    with pytest.raises(InputError, match="method=mine: filter needs a teacher; give teacher=RUN"):
        Distillation({"sdd": SDDropout(), "filter": KDDG()}, name="mine")


def test_a_teacher_nobody_asks_is_not_kept() -> None:
    assert Distillation({"sdd": SDDropout()}, teacher=Teacher([nn.Linear(2, 2)])).teacher is None


def test_a_term_may_not_be_named_like_the_task() -> None:
    with pytest.raises(InputError, match="'task'"):
        Distillation({"task": SDDropout()})


def test_check_needs_names_term_need_and_adapter() -> None:
    distillation = Distillation({"kd": KD(), "sdd": SDDropout()}, teacher=Teacher([nn.Identity()]), name="mine")
    distillation.check_needs({"teacher", "features"}, "PPO")
    with pytest.raises(InputError, match="method=mine: sdd needs features, which PPO does not have"):
        distillation.check_needs({"teacher"}, "PPO")
    with pytest.raises(InputError, match="method=mine: kd needs teacher, which PPO does not have"):
        distillation.check_needs({"features"}, "PPO")


def test_the_teacher_is_frozen_and_stays_in_eval_mode() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 3))
    student = nn.Linear(4, 3)
    distillation = Distillation({"kd": KD(), "own": _Stateful(1.0)}, teacher=Teacher([network]))
    holder = nn.ModuleList([student, distillation]).train()
    assert distillation.training and distillation.terms["kd"].training
    assert distillation.teacher is not None
    assert not any(module.training for module in distillation.teacher.modules())
    # The one that was given is left alone.
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())

    statistics = {name: value.clone() for name, value in network.state_dict().items()}
    inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    logits = student(inputs)
    view = View(inputs, inputs, student, logits, student, teacher_logits=distillation.teacher(inputs))
    distillation(view, torch.zeros(8)).loss.backward()
    assert student.weight.grad is not None
    (taught,) = distillation.teacher.networks
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in taught.parameters())
    assert all(torch.equal(value, statistics[name]) for name, value in taught.state_dict().items())
    own = distillation.trainable_parameters()
    assert [id(parameter) for parameter in own] == [id(distillation.terms["own"].scale)]
    assert own[0].grad is not None
    assert not any(module.training for module in holder.eval().modules())


def test_state_dict_round_trip() -> None:
    def make(start: float) -> Distillation:
        torch.manual_seed(int(start))
        return Distillation({"kd": KD(), "own": _Stateful(start)}, teacher=Teacher([nn.Linear(3, 3)]))

    saved, loaded = make(1.0), make(2.0)
    saved(_view(2), torch.zeros(2))
    view = _view(2)
    assert not torch.equal(saved(view, torch.zeros(2)).loss, loaded(view, torch.zeros(2)).loss)
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(saved(view, torch.zeros(2)).loss, loaded(view, torch.zeros(2)).loss)
    own = loaded.terms["own"]
    assert isinstance(own, _Stateful) and own.scale.item() == 1.0 and own.calls.item() == 3
    assert saved.teacher is not None and loaded.teacher is not None
    assert torch.equal(saved.teacher(view.inputs), loaded.teacher(view.inputs))


class _PerSample(Term):
    """One value a sample, as image-level terms give."""

    def forward(self, view: View) -> TermOutput:
        return TermOutput(torch.arange(1.0, len(view.logits) + 1))


class _Half(Term):
    """Halves the weight of the first sample's positions."""

    def forward(self, view: View) -> TermOutput:
        weight = torch.ones_like(view.logits[:, 0])
        weight[0] = 0.5
        return TermOutput(torch.zeros(()), position_weight=weight)


def test_a_value_a_sample_counts_samples_with_any_valid_pixel_and_is_filtered_by_their_mean_weight() -> None:
    logits = torch.zeros(3, 2, 4, 4)
    valid = torch.ones(3, 4, 4, dtype=torch.bool)
    valid[2] = False
    view = View(inputs=logits, features=logits, head=lambda x: x, logits=logits, forward=lambda x: x, valid=valid)
    task = torch.zeros(3, 4, 4)
    plain = Distillation({"per_sample": _PerSample()})(view, task)
    assert plain.loss.item() == pytest.approx(1.5)
    filtered = Distillation({"per_sample": _PerSample(), "halved": _Half()})(view, task)
    assert filtered.loss.item() == pytest.approx((0.5 * 1 + 2) / 2)


def test_what_never_acts_is_named() -> None:
    nothing, something = torch.zeros(2), torch.tensor([1.0, 3.0])
    terms = {
        "acts": _Given(something),
        "weightless": _Given(something, 0.0),
        "silent": _Given(nothing),
        "late": _Given(something, LinearSchedule(0.0, 1.0, 0.5)),
        "kddg": KDDG(threshold=1 - 1e-9),
    }
    distillation = Distillation(terms, teacher=Teacher([nn.Identity()]))
    distillation(_view(2), something)
    weightless, silent, late = (
        f"{name} added nothing to the loss in any step" for name in ("weightless", "silent", "late")
    )
    untouched = "the filter of kddg touched nothing in any step"
    assert distillation.tally.idle() == [weightless, silent, late, untouched]
    # What acts once has acted; steps outside training do not count.
    terms["kddg"].threshold = 0.0  # type: ignore[assignment]
    distillation.eval()(_view(2, progress=0.5), something)
    assert distillation.tally.idle() == [weightless, silent, late, untouched]
    distillation.train()(_view(2, progress=0.5), something)
    assert distillation.tally.idle() == [weightless, silent]


def test_a_filter_that_touches_ignored_positions_alone_is_idle() -> None:
    valid = torch.tensor([False, True])
    view = _view(2, valid=valid)
    view.logits[0] = torch.tensor([100.0, 0.0, 0.0])
    teacher = torch.stack([view.logits[0], torch.zeros(3)])
    distillation = Distillation({"kddg": KDDG(threshold=0.9)}, teacher=Teacher([nn.Identity()]))
    distillation(dataclasses.replace(view, teacher_logits=teacher), torch.ones(2))
    assert distillation.tally.idle() == ["the filter of kddg touched nothing in any step"]


class _Shares(_Given):
    def forward(self, view: View) -> TermOutput:
        output = super().forward(view)
        output.shares["taken"] = output.loss.mean()
        return output


def test_shares_are_means_over_the_steps_since_they_were_taken() -> None:
    def made() -> Distillation:
        return Distillation({"kddg": _Shares(torch.tensor([0.25, 0.75])), "other": _Given(torch.ones(2))})

    first, second = made(), made()
    output = first(_view(2), torch.ones(2))
    assert output.metrics["kddg/taken"] == 0.5
    first.eval()(_view(2), torch.ones(2))
    first.terms["kddg"].loss = torch.ones(2)  # type: ignore[assignment]
    first.train()(_view(2), torch.ones(2))
    second.tally.load(first.tally.state())
    second(_view(2), torch.ones(2))
    assert first.tally.take_shares() == {"kddg/taken": 0.75}
    assert second.tally.take_shares() == {"kddg/taken": pytest.approx(2 / 3)}
    assert first.tally.take_shares() == {} == made().tally.take_shares()


def test_what_has_acted_can_be_set_again() -> None:
    def made() -> Distillation:
        return Distillation({"silent": _Given(torch.zeros(2)), "acts": _Given(torch.ones(2))})

    first, second = made(), made()
    first(_view(2), torch.ones(2))
    first.terms["acts"].weight = 0.0  # type: ignore[assignment]
    first(_view(2), torch.ones(2))
    second.tally.load(first.tally.state())
    assert first.tally.idle() == second.tally.idle() == ["silent added nothing to the loss in any step"]
    assert made().tally.idle() == []
    second.tally.load({})  # of a training that was interrupted before there was a tally
    assert second.tally.idle() == [] and second.tally.take_shares() == {}


def test_labels_of_some_positions_task_over_these_distillation_over_all() -> None:
    labelled = torch.tensor([True, False, True])
    view = dataclasses.replace(
        _view(3), targets=torch.tensor([2, 255, 0]), labelled=labelled, valid=torch.tensor([True, True, True])
    )

    class Silent(_Given):
        """Learns nothing from what has no label."""

        def forward(self, view: View) -> TermOutput:
            assert view.valid is not None and view.valid.tolist() == labelled.tolist() and view.labelled is None
            assert view.labels().tolist() == [2, 0, 0]
            return super().forward(view)

    terms = {"kd": KD(weight=0.5), "silent": Silent(torch.tensor([1.0, 50.0, 3.0]))}
    output = Distillation(terms, teacher=Teacher([nn.Identity()]))(view, torch.tensor([4.0, 99.0, 6.0]))
    q, log_p = view.logits.flip(1).double().softmax(1), view.logits.double().log_softmax(1)
    divergence = (q * (q.log() - log_p)).sum(1).mean()
    assert output.loss.item() == pytest.approx((4 + 6) / 2 + 0.5 * divergence.item() + (1 + 3) / 2)
    assert output.metrics["task"] == pytest.approx(5.0)
    assert Distillation(terms, teacher=Teacher([nn.Identity()])).uses_unlabelled
    assert not Distillation({"silent": terms["silent"]}).uses_unlabelled


def test_the_students_filter_asks_for_the_teachers_class_where_there_is_no_label() -> None:
    logits, teacher = torch.tensor([[4.0, 0.0], [4.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    view = View(
        inputs=logits,
        features=logits,
        head=nn.Identity(),
        logits=logits,
        forward=nn.Identity(),
        targets=torch.tensor([255, 255]),
        valid=torch.tensor([True, True]),
        labelled=torch.tensor([False, False]),
        teacher_logits=teacher,
    )
    output = KDDG(threshold=0.9)(view)
    assert output.position_weight is not None
    # Sure of the teacher's class, and filtered; sure of the other, and not.
    assert output.position_weight[0] < 1 and output.position_weight[1] == 1
