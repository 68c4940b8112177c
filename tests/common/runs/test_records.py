"""Records: only ever appended to, and checked against one schema."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import InputError
from common.runs.records import append_records, library_versions, read_records
from tests.rows import make_record

RECORD = make_record()
OTHER = make_record(split="test", identity="0123456789ab", resumed="inexact")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record.jsonl"


def test_records_round_trip_and_are_only_appended(path: Path) -> None:
    assert read_records(path) == []
    append_records(path, [RECORD])
    before = path.read_bytes()
    append_records(path, [OTHER, RECORD])
    assert path.read_bytes().startswith(before)
    assert read_records(path) == [RECORD, OTHER, RECORD]


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_torn_last_line_is_skipped_and_not_continued(path: Path, cut: int) -> None:
    append_records(path, [RECORD, OTHER])
    whole = path.read_text().splitlines(keepends=True)
    path.write_text(whole[0] + whole[1][:cut])
    assert read_records(path) == [RECORD]
    append_records(path, [OTHER])
    assert read_records(path) == [RECORD, OTHER]
    assert path.read_text() == "".join(whole)


def test_records_of_before_there_were_identities_are_read(path: Path) -> None:
    values = dataclasses.asdict(RECORD)
    del values["identity"], values["resumed"], values["versions"]
    path.write_text(json.dumps(values) + "\n")
    assert read_records(path) == [dataclasses.replace(RECORD, versions={})]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"unknown": 1}, "unknown: "),
        ({"task": "audio"}, "task: "),
        ({"split": "final"}, "split: "),
        ({"source": "day"}, "source: "),
        ({"source": [1]}, "source.0: "),
        ({"seen": 1}, "seen: "),
        ({"seed": "0"}, "seed: "),
        ({"seed": 2**63}, "seed: "),
        ({"steps": -1}, "steps: "),
        ({"n": True}, "n: "),
        ({"value": math.nan}, "value: "),
        ({"value": 1e300}, "value: "),
        ({"seconds": -1.0}, "seconds: "),
        ({"versions": [1]}, "versions: "),
        ({"method": "x" * 1001}, "method: "),
        ({"resumed": "yes"}, "resumed: "),
    ],
)
def test_what_is_not_a_record_is_named(path: Path, changes: dict[str, Any], named: str) -> None:
    line = json.dumps(dataclasses.asdict(RECORD))
    path.write_text("\n".join([line, json.dumps(dataclasses.asdict(RECORD) | changes), line]) + "\n")
    with pytest.raises(InputError) as caught:
        read_records(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:2 is not a record ({named}") and "\n" not in message


@pytest.mark.parametrize("line", [b'{"task": "seg"', b"[1, 2]", b"\xff\xfe", b"null"])
def test_a_line_that_is_no_object_is_named(path: Path, line: bytes) -> None:
    whole = json.dumps(dataclasses.asdict(RECORD)).encode()
    path.write_bytes(b"\n".join([whole, line, whole]) + b"\n")
    with pytest.raises(InputError, match=r"record\.jsonl:2 is not a record"):
        read_records(path)


def test_versions_of_what_can_change_a_result() -> None:
    versions = library_versions()
    assert versions["numpy"] == np.__version__
    assert {"kdshift", "torch", "stable-baselines3", "segmentation-models-pytorch"} <= set(versions)
