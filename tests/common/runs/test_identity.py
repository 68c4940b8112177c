"""What a run is: keys that are equal exactly where runs are to be compared, repeated or the same."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import InputError
from common.runs.identity import FORMAT, Identity, digest, read_identity

KD = Identity(
    task="seg",
    setting={"budget": {"steps": 400}, "network": {"encoder": "resnet18"}},
    domains={"target": "dusk", "sources": ["day"]},
    row={"method": {"name": "kd", "terms": {"kd": {"weight": 1.0}}}, "averaging": {"name": "wakd"}},
    seed=3,
    teachers=("a" * 64,),
    versions={"torch": "2"},
)


def keys(identity: Identity) -> dict[str, str]:
    return {
        "run": identity.key,
        "setting": identity.setting_key,
        "family": identity.family_key,
        "last": identity.row_key(),
        "averaged": identity.row_key("averaged"),
        "short": identity.short,
    }


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"versions": {"torch": "3"}}, set()),
        ({"seed": 4}, {"run"}),
        ({"teachers": ("b" * 64,)}, {"run", "short"}),
        ({"row": {**KD.row, "averaging": {"name": "swad"}}}, {"run", "short", "averaged"}),
        ({"row": {**KD.row, "method": {"name": "erm"}}}, {"run", "short", "averaged", "last"}),
        ({"domains": {"target": "fog", "sources": ["day"]}}, {"run", "short", "setting"}),
        ({"setting": {"budget": {"steps": 800}}}, {"run", "short", "setting", "family"}),
        ({"task": "rl"}, {"run", "short", "setting", "family"}),
    ],
)
def test_each_key_changes_with_its_own_parts(changes: dict[str, Any], changed: set[str]) -> None:
    before, after = keys(KD), keys(dataclasses.replace(KD, **changes))
    assert {name for name in before if before[name] != after[name]} == changed


def test_an_identity_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    assert read_identity(path) is None
    path.write_text(KD.to_json())
    read = read_identity(path)
    assert read is not None
    assert keys(read) == keys(KD)
    assert read.differences(KD) == []
    assert read.versions == KD.versions
    other = dataclasses.replace(KD, seed=4, setting={**KD.setting, "budget": {"steps": 800}})
    assert other.differences(KD) == ["setting.budget.steps=400 (there: 800)", "seed=3 (there: 4)"]


def test_the_order_of_keys_does_not_matter() -> None:
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1}) != digest({"a": 1, "b": [3, 2]})


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "is not a run's identity"),
        ("[]", "is not an identity of format"),
        ("[" * 100_000, "is not a run's identity"),
        (json.dumps({"format": FORMAT + 1}), "is not an identity of format"),
        (json.dumps({"format": FORMAT, "key": "x"}), "is not a run's identity"),
        (KD.to_json().replace('"dusk"', '"dawn"'), "does not fit its key"),
        (KD.to_json().replace('"key"', '"more"'), "does not fit its key 'None'"),
        (KD.to_json().replace('"seed": 3', '"seed": "three"'), "is not a run's identity"),
    ],
)
def test_what_is_no_identity_is_named(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "identity.json"
    path.write_text(content)
    with pytest.raises(InputError, match=named) as caught:
        read_identity(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
