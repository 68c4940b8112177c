"""Where a run or an evaluation is to be put: what may be written there, and what must not be touched."""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from common.errors import InputError
from common.runs.folder import Run
from common.runs.identity import Identity
from common.runs.paths import CONTENTS
from common.runs.records import Record
from common.runs.status import Status


def check_usable(run: Run) -> None:
    """Raise unless this is, or can be made, a run's folder; changes nothing.

    Raises:
        InputError: the path is a file, a folder of something else, or one that cannot be written to.
    """
    there = next(place for place in (run.path, *run.path.absolute().parents) if place.exists())
    what = f"run_dir={run.path}" if there == run.path else f"run_dir={run.path}: {there}"
    if not there.is_dir():
        raise InputError(f"{what} is a file; give a folder that does not exist yet")
    if not os.access(there, os.W_OK):
        raise InputError(f"{what} cannot be written to; give another one")
    if there != run.path:
        return
    # Hidden: what a killed process was just writing.
    names = {path.name for path in run.path.iterdir() if not path.name.startswith(".")} - {"lock"}
    if names and not ("config.yaml" in names and names <= CONTENTS):
        raise InputError(f"run_dir={run.path} holds files that are not a run's; choose another run_dir")


def check_free(run: Run) -> None:
    """Raise unless a run may be put here; changes nothing.

    Raises:
        InputError: as :func:`check_usable`, or there is a finished run.
    """
    check_usable(run)
    if run.finished:
        raise InputError(f"run_dir={run.path} already holds a finished run; choose another run_dir")


def check_new(run: Run) -> None:
    """Raise unless an evaluation may be put here; changes nothing.

    Raises:
        InputError: as :func:`check_free`, or there is an interrupted run.
    """
    check_free(run)
    if run.config_path.exists():
        raise InputError(f"out={run.path} holds an interrupted run, which training may go on with; choose another out")


def keep_evaluation(
    run: Run,
    config_yaml: str,
    identity: Identity | None,
    status: Status,
    items: Mapping[str, NDArray[Any]],
    records: Iterable[Record],
) -> None:
    """Make a run the folder of an evaluation, which is written at once; the path must be new.

    Args:
        run: Whose folder.
        config_yaml: The configuration of what was judged.
        identity: What was judged; ``None`` for a run of before there were identities.
        status: How far it had come.
        items: What later statistics need.
        records: The rows.

    Raises:
        InputError: as :func:`check_new`.
    """
    with run.lock():
        check_new(run)  # what another process did in between
        run.begin(config_yaml, identity, status.steps)
        run.save_items(items)
        run.append(records)
        run.set_status(dataclasses.replace(status, stage="finished", of=status.steps, record_bytes=0))
