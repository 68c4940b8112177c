"""Which defaults of segmentation the grids decide, and what they could be."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from common.directories import config_directory


class Candidate(NamedTuple):
    """Where a candidate's runs are: their name in the grids and the judged weights."""

    method: str
    weights: str = "last"


@dataclasses.dataclass(frozen=True)
class Decision:
    """A default and what it could be.

    Attributes:
        title: The setting as a user writes it.
        file: Configuration file that holds the default, under ``configs``.
        key: The key in it.
        before: The default before the grids were run: a paper's value, or the cheaper one.
        candidates: Value → its runs.
        grids: Where these are.
    """

    title: str
    file: str
    key: str
    before: Any
    candidates: Mapping[Any, Candidate]
    grids: tuple[str, ...] = ("core", "settings", "buffers")

    def default(self) -> Any:
        """The value in the configuration."""
        return OmegaConf.select(OmegaConf.load(config_directory() / self.file), self.key)


DECISIONS = (
    Decision(
        "KDDG: strength.threshold",
        "kdseg/train.yaml",
        "strength.threshold",
        0.95,
        {0.95: Candidate("kddg"), **{value: Candidate(f"kddg_n{value}") for value in (0.9, 0.99, 0.999)}},
    ),
    Decision(
        "KDDG: reading",
        "kdseg/train.yaml",
        "strength.reading",
        "student",
        {"student": Candidate("kddg"), "teacher": Candidate("kddg_teacher")},
    ),
    Decision(
        "KD: strength.kd",
        "kdseg/train.yaml",
        "strength.kd",
        0.1,
        {value: Candidate(f"kd_w{value}_t3.0") for value in (0.1, 0.3, 1.0, 3.0)},
        ("strength",),
    ),
    Decision(
        "KD: strength.temperature",
        "kdseg/train.yaml",
        "strength.temperature",
        3.0,
        {value: Candidate(f"kd_w0.1_t{value}") for value in (1.0, 3.0)},
        ("strength",),
    ),
    Decision(
        "Recipe: learning_rate.shape",
        "recipe/seg.yaml",
        "learning_rate.shape",
        "constant",
        {
            "constant": Candidate("erm"),
            **{shape: Candidate(f"erm_{shape}") for shape in ("cosine", "one_cycle")},
        },
        ("recipe",),
    ),
    Decision(
        "Recipe: strength.kd",
        "recipe/seg.yaml",
        "strength.kd",
        1.0,
        {value: Candidate(f"kd_w{value}_t2.0") for value in (0.3, 1.0, 3.0)},
        ("recipe",),
    ),
    Decision(
        "Recipe: strength.temperature",
        "recipe/seg.yaml",
        "strength.temperature",
        2.0,
        {value: Candidate(f"kd_w1.0_t{value}") for value in (1.0, 2.0, 4.0)},
        ("recipe",),
    ),
    Decision(
        "Recipe: teacher_view",
        "recipe/seg.yaml",
        "teacher_view",
        "same",
        {"same": Candidate("kd_w1.0_t2.0"), "clean": Candidate("kd_clean")},
        ("recipe",),
    ),
    Decision(
        "SD-Dropout: strength.sd_dropout.end",
        "kdseg/train.yaml",
        "strength.sd_dropout.end",
        0.1,
        # Averaged: the last weights of a constant rate jump by twenty points from seed to seed.
        {value: Candidate(f"sd_dropout_w{value}", "averaged") for value in (0.01, 0.03, 0.1)},
        ("dropout",),
    ),
    Decision(
        "CS-KD: strength.cs_kd",
        "kdseg/train.yaml",
        "strength.cs_kd",
        1.0,
        {value: Candidate(f"cs_kd_w{value}") for value in (0.01, 0.1, 1.0)},
        ("family",),
    ),
    Decision(
        "PS-KD: strength.ps_kd",
        "kdseg/train.yaml",
        "strength.ps_kd",
        0.8,
        {0.8: Candidate("ps_kd"), **{value: Candidate(f"ps_kd_a{value}") for value in (0.1, 0.3)}},
        ("family",),
    ),
    Decision(
        "Beta smoothing: alpha",
        "method/beta_smoothing.yaml",
        "terms.beta_smoothing.alpha",
        0.6,
        {0.6: Candidate("beta_smoothing"), **{value: Candidate(f"beta_smoothing_a{value}") for value in (0.06, 0.2)}},
        ("family",),
    ),
    Decision(
        "DPS: concentration",
        "method/dps.yaml",
        "terms.dps.concentration",
        10.0,
        {10.0: Candidate("dps"), **{value: Candidate(f"dps_c{value}") for value in (100.0, 1000.0)}},
        ("family",),
    ),
    Decision(
        "WAKD: averaging.buffers",
        "averaging/wakd.yaml",
        "buffers",
        "average",
        {
            "average": Candidate("erm_buffers_average", "averaged"),
            "reestimate": Candidate("erm", "averaged"),
        },
    ),
)
