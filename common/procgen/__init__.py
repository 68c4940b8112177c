"""The Procgen games: the engine, sets of levels, looks, and labelled frames."""

from common.procgen.engine import (
    ACTION_COUNT,
    ACTION_NAMES,
    DIFFICULTIES,
    FRAME_SHAPE,
    GAMES,
    LOOKS,
    NEW_EPISODE,
    ProcgenEngine,
    default_threads,
)
from common.procgen.levels import LevelSet

__all__ = [
    "ACTION_COUNT",
    "ACTION_NAMES",
    "DIFFICULTIES",
    "FRAME_SHAPE",
    "GAMES",
    "LOOKS",
    "NEW_EPISODE",
    "LevelSet",
    "ProcgenEngine",
    "default_threads",
]
