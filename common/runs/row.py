"""What a report compares: a method with its strengths, its averaging, its driver and the kind of its teachers."""

from collections.abc import Mapping, Sequence
from typing import Any

from common.averaging import Averager
from common.runs.folder import Run
from common.runs.records import Weights
from common.runs.settings import RunSettings
from common.runs.weights import choose_weights, weights_digest


def describe_row(
    settings: RunSettings,
    averaging: Averager | None,
    validation: Mapping[str, Any],
    teachers: Sequence[Run],
    domains: Mapping[str, Any],
    driver: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The row of a run; what is as in plain training is left out, so that a plain row is a short one.

    Args:
        settings: As configured.
        averaging: The averager that they make, if they make one.
        validation: What averagers that ask for a validation loss, and rules of selection, are given: how often, on
            how much.
        teachers: Runs of the teachers that are asked.
        domains: The run's own, which its teachers mostly share.
        driver: The config group, where the student does not choose every action.
    """
    row: dict[str, Any] = {"method": dict(settings.method)}
    if averaging is not None:
        row["averaging"] = dict(settings.averaging) | (dict(validation) if averaging.needs_validation else {})
    if settings.selection:
        row["selection"] = {"rules": sorted(settings.selection), **validation}
    if driver is not None:
        row["driver"] = dict(driver)
    if teachers:
        row["teachers"] = [teacher_kind(teacher, settings.teacher_weights, domains) for teacher in teachers]
    if len(teachers) > 1:
        row["combine"] = settings.teacher_combine
        if settings.teacher_shares != "equal":
            row["shares"] = settings.teacher_shares
    if teachers and settings.teacher_domains != "all":
        row["teacher_domains"] = settings.teacher_domains
    return row


def teacher_kind(teacher: Run, weights: Weights, domains: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a teacher is, whatever its seed: how it was trained, and by whom; of one without identity, its hash.

    Domains that are the student's own are left out: a method is then the same row on every target.
    """
    name = choose_weights(teacher, weights)
    identity = teacher.identity()
    if identity is None:
        return {"sha256": weights_digest(teacher, name)[:12]}
    kind = identity.kind | {"weights": name}
    if domains is not None and dict(identity.domains) == dict(domains):
        del kind["domains"]
    status = teacher.status()
    if status is not None and status.stage == "training":
        kind["unfinished_at"] = status.steps
    return kind


def teacher_hashes(teachers: Sequence[Run], weights: Weights) -> tuple[str, ...]:
    """SHA-256 of the weights of each teacher."""
    return tuple(weights_digest(teacher, choose_weights(teacher, weights)) for teacher in teachers)
