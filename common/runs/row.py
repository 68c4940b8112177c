"""What a report compares: a method with its strengths, its averaging, its driver and the kind of its teachers."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from common.averaging import Averager
from common.runs.folder import Run
from common.runs.records import Weights
from common.runs.selection import Rule
from common.runs.teachers import Shares
from common.runs.weights import choose_weights, weights_digest


def describe_row(
    method: Mapping[str, Any],
    averaging: tuple[Mapping[str, Any], Averager] | None = None,
    validation: Mapping[str, Any] | None = None,
    selection: Sequence[Rule] = (),
    driver: Mapping[str, Any] | None = None,
    teachers: Sequence[Run] = (),
    weights: Weights = "auto",
    combine: str = "probability",
    domains: Mapping[str, Any] | None = None,
    shares: Shares = "equal",
    labelling: Literal["all", "unseen"] = "all",
) -> dict[str, Any]:
    """The row of a run; what is as in plain training is left out, so that a plain row is a short one.

    Args:
        method: The config group, resolved.
        averaging: The config group and the averager it makes, if it makes one.
        validation: What averagers that ask for a validation loss, and rules of selection, are given: how often, on
            how much.
        selection: The rules of selection.
        driver: The config group, where the student does not choose every action.
        teachers: Runs of the teachers that are asked.
        weights: Which of their weights.
        combine: What of several teachers is averaged.
        domains: The run's own, which its teachers mostly share.
        shares: What each of several teachers weighs.
        labelling: Which of them label a domain: all, or those that have not seen it.
    """
    row: dict[str, Any] = {"method": dict(method)}
    if averaging is not None:
        node, averager = averaging
        row["averaging"] = dict(node) | (dict(validation or {}) if averager.needs_validation else {})
    if selection:
        row["selection"] = {"rules": sorted(selection), **(validation or {})}
    if driver is not None:
        row["driver"] = dict(driver)
    if teachers:
        row["teachers"] = [teacher_kind(teacher, weights, domains) for teacher in teachers]
    if len(teachers) > 1:
        row["combine"] = combine
        if shares != "equal":
            row["shares"] = shares
    if teachers and labelling != "all":
        row["teacher_domains"] = labelling
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
