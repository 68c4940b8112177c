"""A record of a run, for tests that need one and do not mind which."""

import dataclasses
from typing import Any

from common.runs.records import Record

_RECORD = Record(
    task="seg",
    method="kd",
    seed=3,
    source=["plain", "themed"],
    target="generated",
    domain="generated",
    seen=False,
    split="validation",
    metric="miou",
    value=0.625,
    n=40,
    selection="last",
    steps=100,
    seconds=1.5,
    network="unet",
    versions={"torch": "2"},
)


def make_record(**changes: Any) -> Record:
    """It, but for these fields."""
    return dataclasses.replace(_RECORD, **changes)
