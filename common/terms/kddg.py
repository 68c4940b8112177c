"""Knowledge distillation with a gradient filter, for domain generalisation (KDDG).

Wang et al.: Embracing the Dark Knowledge: Domain Generalization Using Regularized Knowledge
Distillation, ACM MM 2021 (arXiv 2107.02629).

What is recovered and what is ours. The paper's abstract names the parts: distillation from a
teacher, and a gradient filter as its regulariser. Its body and code are not available to us. The
filter's *form* is recovered from a later segmentation project by authors who cite KDDG
(PIC4SeR/AgriSeg); that it is the paper's filter is likely, not proven. *Which* probability is
filtered, and which loss is scaled, is not known. Of the readings below, ``softened`` is what that
project's code does; ``student``, ``teacher`` and ``overlap`` are ours, as is the use of the teacher's
most probable action as the label in reinforcement learning. The paper's temperature, weight and
threshold are not known either.
"""

from typing import ClassVar, Literal

from torch import Tensor

from common.arguments import Positive, Share
from common.losses import full_precision, gradient_filter_weight, mean_over_valid
from common.schedule import Weight
from common.terms.base import Need, TermOutput
from common.terms.kd import KD
from common.view import View

Reading = Literal["student", "teacher", "softened", "overlap"]


class KDDG(KD):
    """KD whose gradient fades where a probability passes a threshold.

    With ``w`` the filter of :func:`common.losses.gradient_filter_weight` at threshold n, p and q what
    student and teacher say, y the label, ``p`` in ``w(p)`` is by ``reading``:

    - ``student``: the student's probability of the label (T = 1), and the *whole* loss of the position, task
      and terms alike, is scaled by w: a confident student is no longer pushed. Every gradient becomes
      ``w · [task_weight · (p − y) + weight · T (p − q)]``.
    - ``teacher``: the teacher's largest probability (T = 1), and this term alone is scaled: where the teacher is
      near one-hot, its answer holds no dark knowledge.
    - ``softened``: the teacher's probability of the label at the term's own T, and this term alone is scaled
      (AgriSeg's reading, there for a foreground, T = 3).
    - ``overlap``: ``Σ_c min(p_c, q_c) = 1 − ½ Σ_c |p_c − q_c|`` at the term's own T, and this term alone is scaled:
      it is the gradient of KD itself, T (p − q), that is filtered where it is small. A student that says nearly what
      its teacher says is not pushed to say exactly that. It asks for no label and no confidence, so it acts wherever
      a student has learnt its lesson, on policies as well, whose teachers are rarely sure.

    ``w`` is always detached. The label is the task's target, or without targets (PPO) the
    teacher's most probable action. A threshold of 0.999 touches almost nothing in one step;
    the recorded ``fraction_filtered`` (positions with w < 1) shows what the filter does.

    On a policy, ``student`` scales the policy's own loss and its entropy bonus away where the student is sure; see
    ``benchmarks/effect/control.md`` for what each reading does there.

    Args:
        weight: Factor of the KD loss in the total.
        temperature: T of the KD loss.
        threshold: n in [0, 1).
        reading: ``student``, ``teacher``, ``softened`` or ``overlap``.

    Raises:
        InputError: a value outside its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"teacher"})

    def __init__(
        self,
        weight: Weight = 1.0,
        temperature: Positive = 1.0,
        threshold: Share = 0.95,
        reading: Reading = "student",
    ) -> None:
        super().__init__(weight, temperature)
        self.threshold = threshold
        self.reading = reading

    @property
    def filters_positions(self) -> bool:
        """See :class:`common.terms.base.Term`."""
        return self.reading == "student"

    def forward(self, view: View) -> TermOutput:
        """The KD loss and the filter; records ``fraction_filtered`` and logs ``filter_weight``."""
        output = super().forward(view)
        weight = gradient_filter_weight(self._filtered(view), self.threshold)
        taken = 1 - weight if view.valid is None else (1 - weight).masked_fill(~view.valid, 0.0)
        output.acts["filter"] = taken.amax()
        if self.reading == "student":
            output.position_weight = weight
        else:
            output.loss = output.loss * weight
        output.shares["fraction_filtered"] = mean_over_valid((weight < 1).float(), view.valid)
        if view.log:
            output.metrics["filter_weight"] = mean_over_valid(weight, view.valid)
        return output

    def _filtered(self, view: View) -> Tensor:
        """The probability ``[B, *]`` that the filter looks at."""
        assert view.teacher_logits is not None
        student, teacher = full_precision(view.logits.detach()), full_precision(view.teacher_logits)
        if self.reading == "student":
            return _of_label(student.softmax(dim=1), view)
        if self.reading == "teacher":
            return teacher.softmax(dim=1).amax(dim=1)
        p, q = ((logits / self.temperature).softmax(dim=1) for logits in (student, teacher))
        return _of_label(q, view) if self.reading == "softened" else p.minimum(q).sum(dim=1)


def _of_label(probabilities: Tensor, view: View) -> Tensor:
    return probabilities.gather(1, view.labels().unsqueeze(1)).squeeze(1)
