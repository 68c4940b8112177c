"""All global random generators, there and back through a file without pickle."""

import io
import random

import numpy as np
import torch

from common.runs.generators import generator_states, restore_generators


def _draws() -> list[float]:
    return [
        float(torch.rand(1)),
        float(torch.randn(1)),
        float(np.random.rand()),  # noqa: NPY002 - the generator that Stable-Baselines3 shuffles with
        float(np.random.randn()),  # noqa: NPY002
        random.random(),
        random.gauss(0, 1),
    ]


def test_what_follows_is_the_same() -> None:
    _draws()  # a spare normal number is half of some states
    buffer = io.BytesIO()
    torch.save(generator_states(), buffer)
    expected = [_draws() for _ in range(3)]
    buffer.seek(0)
    restore_generators(torch.load(buffer, weights_only=True))
    assert [_draws() for _ in range(3)] == expected
    assert _draws() != expected[0]
