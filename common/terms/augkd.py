"""AuG-KD: distillation where the teacher's training data are gone, on samples between its domain and the student's.

Tang, Lv, Dai, Zhang, Yin, Wei, Liu, Yang: AuG-KD: Anchor-Based Mixup Generation for Out-of-Domain Knowledge
Distillation, ICLR 2024 (arXiv 2403.07030). This is its third module, mixup learning; :mod:`common.augkd` prepares what
it draws from.
"""

from typing import ClassVar, Literal

from common.arguments import Count, Positive
from common.augkd import Artefact, Preparation
from common.errors import InputError
from common.losses import kl_divergence, mean_over_valid
from common.schedule import LinearSchedule, Weight, value_at
from common.terms.base import Need, Term, TermOutput
from common.view import View

CURRICULUM = LinearSchedule(0.2, 1.0, 0.6)
"""The paper's ``min((1 − b) · e / (a · E) + b, 1)`` with a = 0.6, b = 0.2."""


class AuGKD(Term):
    """``T² · KL(teacher(x_m) ‖ student(x_m))`` on mixed samples x_m, one for each sample x of the minibatch.

    ``x_m = (1 − f) · G(z_m) + f · x`` and ``z_m = (1 − f) · z' + f · z``: z is the latent of x, z' the one that the
    anchor carries into the teacher's domain, G the generator. The curriculum f rises from ``real.start`` to 1 over the
    first part of training: what the student is asked about comes from what the teacher knows, and ends as the student's
    own data. With f = 1 this is knowledge distillation, without a further pass of anything.

    The task's own loss stays on x. The paper asks about x as well as x_m: put ``KD`` beside this term for that. Its
    released code asks the *student* where the teacher is meant; here it is the teacher that answers. Without labels
    (policies) the teacher's choices stand for them.

    Args:
        weight: Factor in the total loss.
        temperature: T, positive; 10 in the released code.
        real: f over training, in [0, 1]; the paper's by default.
        samples: The most samples of a minibatch that are mixed, the first ones (ours): PPO's has thousands, and each
            mixed one costs a pass of generator, teacher and student. Filters of positions (KDDG) then scale the loss by
            their mean. Where f = 1 all are asked about.
        agreeing: Whether only those positions of x_m are learnt from at which the teacher's choice is the label (ours):
            a teacher that is often wrong in the student's domain otherwise teaches its mistakes.
        anchored: Whether latents are carried into the teacher's domain; without, z' = z.
        start: Whether the student begins with the weights that were learnt from the generator alone, or with its own;
            where a program prepares the artefact.
        preparation: How the artefact is prepared, where a program does it.
        artefact: What :func:`common.augkd.prepare` gave; programs fill it in before training.

    Raises:
        InputError: a value outside its range; when it is first used, if there is no artefact.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"teacher"})

    def __init__(
        self,
        weight: Weight = 1.0,
        temperature: Positive = 1.0,
        real: Weight = CURRICULUM,
        samples: Count = 64,
        agreeing: bool = True,
        anchored: bool = True,
        start: Literal["data_free", "fresh"] = "data_free",
        preparation: Preparation | None = None,
        artefact: Artefact | None = None,
    ) -> None:
        super().__init__(weight)
        for share in (value_at(real, 0.0), value_at(real, 1.0)):
            if share > 1:
                raise InputError(f"real={share:g} must be in [0, 1]")
        self.temperature, self.real, self.samples = temperature, real, samples
        self.agreeing, self.anchored, self.start = agreeing, anchored, start
        self.preparation = preparation or Preparation()
        self.artefact = artefact

    def forward(self, view: View) -> TermOutput:
        """Loss ``[B, *]``, or a scalar where not all samples are mixed.

        Logs f, how often the teacher's choice on x_m is the label, how sure it is, and how often the student agrees.
        """
        if self.artefact is None:
            raise InputError("augkd needs what common.augkd.prepare gives; give AuGKD(artefact=…)")
        share, valid, labels = value_at(self.real, view.progress), view.valid, view.labels()
        if share < 1:
            assert view.teacher is not None
            valid = None if valid is None else valid[: self.samples]
            labels = labels[: self.samples]
            mixed = self.artefact.mixture(view.inputs[: self.samples], labels, share, valid).to(view.logits.dtype)
            teacher, student = view.teacher(mixed), view.forward(mixed)
        else:
            assert view.teacher_logits is not None
            teacher, student = view.teacher_logits, view.logits
        loss = self.temperature**2 * kl_divergence(student, teacher, self.temperature, valid)
        right = (teacher.argmax(dim=1) == labels).to(loss.dtype)
        if self.agreeing:
            loss = loss * right
        acts, shares = {"mixture": loss.new_tensor(1.0 - share)}, {"teacher_right": mean_over_valid(right, valid)}
        metrics = {}
        if view.log:
            confidence = teacher.float().softmax(dim=1).amax(dim=1)
            agreement = (student.detach().argmax(dim=1) == teacher.argmax(dim=1)).float()
            metrics = {
                "real": loss.new_tensor(share),
                "teacher_confidence": mean_over_valid(confidence, valid),
                "teacher_agreement": mean_over_valid(agreement, valid),
            }
        if len(loss) < len(view.inputs):
            loss = mean_over_valid(loss, valid)
        return TermOutput(loss, metrics, acts=acts, shares=shares)
