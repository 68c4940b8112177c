"""What the pages say of a method: only rows of all seeds are headlines, and whose student a row is stands aside."""

from typing import Any

import pytest

from benchmarks import found
from benchmarks.effect import comparison


def row(seeds: int, **more: str) -> dict[str, str]:
    interval = {"difference": "0.1", "difference_low": "0.05", "difference_high": "0.15", "sure": ""}
    return {"target": "*", "seeds": str(seeds), "relative_cost": "", **interval, **more}


@pytest.mark.parametrize(("seeds", "first"), [(5, True), (2, False)])
def test_a_row_of_fewer_seeds_is_no_headline(seeds: int, first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(name: str) -> Any:
        suffix = " (averaged)" if name.endswith("_averaged") else ""
        return [row(5, method=f"erm{suffix}", difference_low=""), row(seeds, method=f"kd_wide{suffix}")]

    monkeypatch.setattr(comparison, "read", read)
    told = list(found._compared("kd", "a grid", "nuclei", lambda _: True, lambda weights: weights == "averaged"))
    assert [(one.weights, one.headline) for one in told] == [("last", False), ("averaged", first)]
    assert {one.difference for one in told} == {"+10.0 [+5.0, +15.0]"}
