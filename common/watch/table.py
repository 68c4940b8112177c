"""Numbers as a table."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from common.runs.disk import write_text
from common.watch.base import Watch

TABLE = "scalars.csv"
_COLUMNS = ["step", "name", "value"]


class Table(Watch):
    """A line for each number in the run's ``scalars.csv``."""

    def __init__(self, run: Path, after: int) -> None:
        path = run / TABLE
        kept = [_COLUMNS]
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                # A line that was being written when the run was killed is cut short.
                whole = [row for row in csv.reader(file) if len(row) == len(_COLUMNS) and row[0].isdigit()]
            kept += [row for row in whole if int(row[0]) <= after]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(kept)
        write_text(path, text.getvalue())
        self._file: TextIO = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See :meth:`Watch.scalars`."""
        self._writer.writerows([step, name, repr(float(value))] for name, value in values.items())
        self._file.flush()

    def close(self) -> None:
        """See :meth:`Watch.close`."""
        self._file.close()
