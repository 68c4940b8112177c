"""Teachers: ensembles are averaged in probability space, frozen, in eval mode, without a graph."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common.distillation import Distillation
from common.errors import InputError
from common.teacher import Combination, CrossFittedTeacher, Teacher
from common.terms import CrossFittedKD


def _networks(count: int, classes: int = 4) -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Conv2d(3, classes, 1) for _ in range(count)]


@pytest.fixture
def inputs() -> Tensor:
    return 3 * torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("count", [2, 5])
def test_an_ensemble_answers_with_the_mean_of_probabilities(inputs: Tensor, count: int) -> None:
    networks = _networks(count)
    with torch.no_grad():
        expected = sum(network(inputs).double().softmax(dim=1) for network in networks) / count
    logits = Teacher(networks)(inputs)
    torch.testing.assert_close(logits.double().softmax(dim=1), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(logits.double().exp(), expected, rtol=1e-5, atol=1e-6)  # they are log-probabilities


def test_one_network_answers_for_itself(inputs: Tensor) -> None:
    network = _networks(1)[0]
    assert torch.equal(Teacher([network])(inputs), network(inputs))


def test_an_ensemble_of_one_network_twice_is_that_network(inputs: Tensor) -> None:
    network = _networks(1)[0]
    twice = Teacher([network, network])(inputs)
    torch.testing.assert_close(twice, network(inputs).log_softmax(dim=1))


def test_builds_no_graph_and_needs_no_gradient(inputs: Tensor) -> None:
    for count in (1, 2):
        teacher = Teacher(_networks(count))
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
        assert teacher(inputs.clone().requires_grad_()).grad_fn is None


def test_stays_in_eval_mode(inputs: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.9)).train()
    teacher = Teacher([network])
    before = network[1].running_mean.clone()
    for mode in (True, False):
        assert teacher.train(mode) is teacher
        assert not any(module.training for module in teacher.modules())
    nn.Sequential(teacher).train()
    assert torch.equal(teacher(inputs), teacher(inputs))
    assert torch.equal(network[1].running_mean, before)


def test_half_precision_ensembles_are_averaged_in_float32(inputs: Tensor) -> None:
    networks = [network.bfloat16() for network in _networks(3)]
    assert Teacher(networks)(inputs.bfloat16()).dtype == torch.float32


def test_differing_classes_are_named(inputs: Tensor) -> None:
    teacher = Teacher([*_networks(1, 4), *_networks(1, 6)])
    with pytest.raises(ValueError, match=r"differ in shape.*\(2, 4, 5, 4\).*\(2, 6, 5, 4\)"):
        teacher(inputs)


def test_at_least_one_network() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Teacher([])


def test_logits_can_be_averaged_instead(inputs: Tensor) -> None:
    networks = _networks(3)
    with torch.no_grad():
        expected = sum(network(inputs).double() for network in networks) / 3
        logs = [network(inputs).double().log_softmax(1) for network in networks]
    logits = Teacher(networks, combine="logit")(inputs)
    torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-6)
    # The geometric mean of the probabilities, normalised.
    geometric = (sum(logs) / 3).exp()
    torch.testing.assert_close(logits.double().softmax(1), geometric / geometric.sum(1, keepdim=True))
    with pytest.raises(InputError, match="combine='mean' is not known; use one of: probability, logit"):
        Teacher(networks, combine="mean")  # type: ignore[arg-type]


class _Judge(nn.Linear):
    """Three logits and a value."""

    def judge(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self(inputs), self(inputs).sum(1)


@pytest.mark.parametrize("combine", ["probability", "logit"])
def test_values_are_averaged_beside_the_logits(combine: Combination) -> None:
    torch.manual_seed(0)
    networks, rows = [_Judge(4, 3) for _ in range(2)], torch.randn(5, 4)
    teacher = Teacher(networks, combine)
    logits, values = teacher.judge(rows)
    assert teacher.has_values and logits.grad_fn is None and values.grad_fn is None
    assert torch.equal(logits, teacher(rows))
    torch.testing.assert_close(values, (networks[0](rows).sum(1) + networks[1](rows).sum(1)).detach() / 2)
    assert not Teacher([*networks, nn.Linear(4, 3)]).has_values


def test_a_network_from_a_safetensors_file_teaches(tmp_path: Path, inputs: Tensor) -> None:
    network = _networks(1)[0]
    save_file(network.state_dict(), tmp_path / "network.safetensors")
    torch.manual_seed(9)
    other = nn.Conv2d(3, 4, 1)
    other.load_state_dict(load_file(tmp_path / "network.safetensors"))
    assert torch.equal(Teacher([other])(inputs), network(inputs))


def test_a_term_with_teachers_of_its_own_kind_keeps_how_they_are_combined() -> None:
    teacher = Teacher(_networks(2), combine="logit")
    kept = Distillation({"cross_fitted": CrossFittedKD()}, teacher=teacher).teacher
    assert isinstance(kept, CrossFittedTeacher) and kept.combine == "logit"


@pytest.mark.parametrize("combine", ["probability", "logit"])
def test_shares_weigh_the_networks(inputs: Tensor, combine: Combination) -> None:
    networks = _networks(3)
    answers = [network(inputs).double() for network in networks]
    weighed = Teacher(networks, combine, shares=[3, 1, 4])(inputs).double()
    if combine == "logit":
        expected = (3 * answers[0] + answers[1] + 4 * answers[2]) / 8
    else:
        expected = ((3 * answers[0].softmax(1) + answers[1].softmax(1) + 4 * answers[2].softmax(1)) / 8).log()
    torch.testing.assert_close(weighed, expected, rtol=1e-5, atol=1e-6)
    same = Teacher(networks, combine, shares=[2, 2, 2])(inputs)
    torch.testing.assert_close(same, Teacher(networks, combine)(inputs))
    alone = Teacher(networks, combine, shares=[1e-9, 1, 1e-9])(inputs)
    torch.testing.assert_close(alone.softmax(1), answers[1].float().softmax(1))


def test_there_is_a_share_for_each() -> None:
    with pytest.raises(InputError, match=r"shares=\[1.0, 2.0\] must be 3 numbers, one a network"):
        Teacher(_networks(3), shares=[1, 2])
    with pytest.raises(InputError, match=r"shares=0 must be positive"):
        Teacher(_networks(2), shares=[1, 0])


def test_only_those_answer_that_may(inputs: Tensor) -> None:
    networks = _networks(3)
    teacher = Teacher(networks, shares=[3, 1, 4])
    teacher.answering = torch.tensor([[True, False, True], [False, True, False], [True, True, True]])
    inputs = torch.cat([inputs, inputs + 1, inputs.flip(1)])
    index = torch.arange(len(inputs)) % 3
    answer = teacher(inputs, index)
    for number, asked in enumerate(([0, 2], [1], [0, 1, 2])):
        own = Teacher([networks[network] for network in asked], shares=[[3, 1, 4][network] for network in asked])
        torch.testing.assert_close(answer[index == number], own(inputs[index == number]))
    torch.testing.assert_close(teacher(inputs), Teacher(networks, shares=[3, 1, 4])(inputs))
