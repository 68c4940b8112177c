"""The random policy of the grids, and the pilot's table."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.effect import chance, pilot
from benchmarks.effect.grids import GRIDS
from common.procgen.constants import normalized_return


def test_chance_prefers_no_action_and_is_judged_where_policies_are() -> None:
    logits = chance.Chance()(torch.zeros(7, 3, 64, 64))
    assert logits.shape == (7, 15) and torch.equal(logits.softmax(dim=1), torch.full((7, 15), 1 / 15))
    found = chance.scores("starpilot", episodes=4)
    assert {(part, domain) for part, scores in found.items() for domain in scores} == {
        ("seen", "starpilot/themed"),
        ("unseen", "starpilot/themed"),
        ("unseen", "starpilot/generated"),
    }
    for score in (*found["seen"].values(), *found["unseen"].values()):
        assert score["normalized_return"] == normalized_return("starpilot", "easy", score["return"])


def test_the_pilots_table_is_that_of_its_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score = {weights: {"seen": {"coinrun/themed": value}} for weights, value in (("last", 0.484), ("averaged", 0.36))}
    cell = {"target": "coinrun", "method": "discount_99", "seed": 0, "steps": 250000, "scores": score}
    machine = {"cells": 1, "of": 45, "device": "a CPU", "date": "today", "versions": {"torch": "2"}}
    by_chance = {game: {"seen": {"a": {"normalized_return": -0.1}}} for game in GRIDS["pilot"].targets}
    monkeypatch.setattr("benchmarks.effect.committed.RESULTS", tmp_path)
    (tmp_path / "pilot.jsonl").write_text(json.dumps(cell) + "\n")
    (tmp_path / "pilot.json").write_text(json.dumps(machine))
    (tmp_path / "chance.json").write_text(json.dumps({"episodes": 8, "games": by_chance}))
    lines = pilot.section()
    assert "| coinrun | -10.0 | – | 48.4 / 36.0 | – | – | – |" in lines
    assert next(line for line in lines if line.startswith("| game")).split(" | ")[2:4] == [
        "published",
        "discount_99: gamma=0.99",
    ]
