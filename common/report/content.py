"""What a row is, said so that it is the same on all of its targets.

Teachers are trained for each target anew: they are compared by what they were trained on beside the student.
"""

from collections.abc import Mapping
from typing import Any

from common.report.results import Result

OTHERS = "others of the same domains"
"""What stands for the files of a teacher that had images or masks of the student's domains that the student has not."""


def content(result: Result) -> dict[str, Any]:
    """What the identity says of the row, wherever it was judged."""
    if result.identity is None:
        return {}
    said: dict[str, Any] = _beside(result.identity.row_of(result.last.selection), result.identity.domains)
    return said


def _beside(value: Any, domains: Mapping[str, Any]) -> Any:
    """A row in which the teachers' domains are what they were trained on beside the student's own."""
    if isinstance(value, list | tuple):
        return [_beside(inner, domains) for inner in value]
    if not isinstance(value, Mapping):
        return value
    theirs = value.get("domains")
    if not isinstance(theirs, Mapping) or not {"setting", "row"} <= set(value):  # no teacher's kind
        return {name: _beside(inner, domains) for name, inner in value.items()}
    other = _other_domains(theirs, domains)
    rest = {name: _beside(inner, domains) for name, inner in value.items() if name != "domains"}
    return rest | ({"domains": other} if other else {})


def _other_domains(theirs: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    # What a teacher was judged on has taught it nothing.
    target, result = theirs.get("target"), {}
    for name, value in theirs.items():
        ours = own.get(name)
        if name == "target" or value == ours or (name == "sources" and _same_names(value, ours)):
            continue
        if isinstance(value, Mapping):
            ours = ours if isinstance(ours, Mapping) else {}
            value = {key: one for key, one in value.items() if key != target and one != ours.get(key)}
            if value and set(value) <= set(ours):  # on every target others, which no row should be told by
                value = OTHERS
        if name == "sources":
            value = _all_but(value, ours)
        if value != {}:
            result[name] = value
    return result


def _same_names(theirs: Any, ours: Any) -> bool:
    return _are_names(theirs, ours) and set(theirs) == set(ours)


def _all_but(theirs: Any, ours: Any) -> Any:
    """Which of the student's sources a teacher lacks, by number: names are others on every target. Else theirs."""
    if not _are_names(theirs, ours) or not set(theirs) < set(ours):
        return theirs
    return f"all but {', '.join(f'no. {place}' for place, one in enumerate(ours, 1) if one not in theirs)}"


def _are_names(*both: Any) -> bool:
    return all(isinstance(names, list | tuple) and all(isinstance(one, str) for one in names) for names in both)
