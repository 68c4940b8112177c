"""States on disk: the last two, whole or named as damaged."""

import errno
import hashlib
import io
import json
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from common.errors import InputError
from common.runs.checkpoint import Checkpoints, load_own_state, own_state
from common.runs.folder import Run
from tests.odd_bytes import Harm


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(Run(tmp_path))


def state(steps: int) -> dict[str, Any]:
    torch.manual_seed(steps)
    weights = OrderedDict(a=torch.randn(64, 64))
    return {"players": {"weights": weights}, "steps": steps, "list": [1.5, None, "x", [True]]}


def names(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_a_state_comes_back_and_the_last_two_are_kept(checkpoints: Checkpoints) -> None:
    assert checkpoints.load() == (None, [])
    for steps in (5, 10, 20):
        checkpoints.save(state(steps), steps)
    assert names(checkpoints) == ["state-10.pt", "state-20.pt", "states.json"]
    loaded, damaged = checkpoints.load()
    assert loaded is not None and damaged == []
    assert loaded["steps"] == 20 and loaded["list"] == [1.5, None, "x", [True]]
    assert torch.equal(loaded["players"]["weights"]["a"], state(20)["players"]["weights"]["a"])
    checkpoints.clear()
    assert names(checkpoints) == []


def test_the_same_steps_again_replace_their_state(checkpoints: Checkpoints) -> None:
    for steps in (5, 10, 10):
        checkpoints.save(state(steps), steps)
    assert names(checkpoints) == ["state-10.pt", "state-5.pt", "states.json"]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [_truncate, _flip, Path.unlink])
def test_a_damaged_state_is_named_and_the_one_before_is_used(checkpoints: Checkpoints, harm: Any) -> None:
    for steps in (5, 10):
        checkpoints.save(state(steps), steps)
    harm(checkpoints.folder / "state-10.pt")
    loaded, damaged = checkpoints.load()
    assert loaded is not None and loaded["steps"] == 5
    assert len(damaged) == 1 and "state-10.pt is " in damaged[0]
    harm(checkpoints.folder / "state-5.pt")
    with pytest.raises(InputError, match="resume=never begins the run anew"):
        checkpoints.load()


def test_what_is_no_state_is_named_though_its_checksum_is_right(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """A folder may come from anybody."""
    for steps in (5, 10):
        checkpoints.save(state(steps), steps)
    harm = Harm(tmp_path)
    others = (_saved({"players": harm}), pickle.dumps(harm), b"", b"text", _saved([1]), _saved({"a": 1}))
    for content in others:
        (checkpoints.folder / "state-10.pt").write_bytes(content)
        entries = json.loads((checkpoints.folder / "states.json").read_text())
        entries[-1]["sha256"] = hashlib.sha256(content).hexdigest()
        (checkpoints.folder / "states.json").write_text(json.dumps(entries))
        loaded, damaged = checkpoints.load()
        assert loaded is not None and loaded["steps"] == 5
        assert len(damaged) == 1 and "state-10.pt is no state of a training" in damaged[0] and "\n" not in damaged[0]
    assert not (tmp_path / "harm").exists()


def _saved(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def test_a_damaged_list_is_named(checkpoints: Checkpoints) -> None:
    checkpoints.save(state(5), 5)
    for content in ("", "{}", '[{"file": "../../x.pt", "sha256": "", "steps": 1}]'):
        (checkpoints.folder / "states.json").write_text(content)
        with pytest.raises(InputError, match=r"states\.json is damaged"):
            checkpoints.load()


def test_a_full_disk_leaves_the_states_there_were(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.save(state(5), 5)

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(state(10), 10)
    assert names(checkpoints) == ["state-5.pt", "states.json"]
    assert checkpoints.load()[0] is not None


class Taught(nn.Module):
    """With a teacher that is no part of its state."""

    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.as_tensor(self.student(inputs) + self.teacher(inputs))


def test_a_teacher_is_left_out_and_nothing_else_may_be_missing() -> None:
    first, second = Taught(), Taught()
    kept = own_state(first)
    assert list(kept) == ["student.weight", "student.bias"]
    load_own_state(second, kept)
    assert torch.equal(second.student.weight, first.student.weight)
    assert not torch.equal(second.teacher.weight, first.teacher.weight)
    assert list(own_state(nn.ModuleDict({"taught": first}), "taught.")) == [
        "taught.student.weight",
        "taught.student.bias",
    ]
    with pytest.raises(RuntimeError, match="missing"):
        load_own_state(second, {"student.weight": kept["student.weight"]})
    with pytest.raises(RuntimeError, match="unexpected"):
        load_own_state(second, kept | {"other": torch.zeros(1)})
    assert own_state(None) == {}
