"""From the config group ``method`` and the key ``teacher`` to a distillation."""

from collections.abc import Mapping
from typing import Any

from common.averaging import AVERAGERS
from common.configuration import Choices, build
from common.distillation import Distillation
from common.overrides import Parts
from common.teacher import Teacher

METHODS: Choices = {"common.distillation.Distillation": Distillation}
METHOD_PARTS: Parts = {"method": METHODS.values(), "averaging": AVERAGERS.values()}
"""What has texts among its arguments in either task's configuration."""


def teacher_paths(given: str | list[str] | None) -> list[str]:
    """The teachers' folders, of which a configuration may name none, one or several."""
    return [given] if isinstance(given, str) and given else list(given or [])


def make_distillation(
    node: Mapping[str, Any], teacher: Teacher | None, paths: list[str]
) -> tuple[Distillation, list[str]]:
    """The method that a configuration node describes, and those of the teachers' folders it uses: all or none.

    Raises:
        InputError: a node that makes no distillation, or a term that needs a teacher where there is none.
    """
    distillation: Distillation = build(node, "method", METHODS, teacher=teacher)
    return distillation, paths if distillation.teacher is not None else []
