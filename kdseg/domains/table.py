"""What a table beside the images says of them: which belong together, and which are for what."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from common.errors import InputError
from kdseg.domains.decode import SUFFIXES


@dataclasses.dataclass(frozen=True)
class ImageTable:
    """A CSV file with a header line and a row for every image.

    Attributes:
        path: The file.
        name_column: Column with the image's file name, with or without its suffix.
        domain_column: Column with the domain; ``None`` if names are unique over all domains.
    """

    path: Path
    name_column: str = "name"
    domain_column: str | None = None

    def read(self, option: str, column: str) -> dict[tuple[str | None, str], str]:
        """Return (domain or ``None``, name without suffix) → what a column says.

        Args:
            option: Which option names the column, for messages.
            column: Its name.

        Raises:
            InputError: if the file is missing, is not a table, lacks a column, has a row that says nothing, or
                two that contradict each other.
        """
        if not self.path.is_file():
            raise InputError(f"{self.path} is missing; {option}={column!r} needs it, or set {option}=null")
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                self._check_columns({option: column}, reader.fieldnames or [])
                values: dict[tuple[str | None, str], str] = {}
                for row in reader:
                    self._enter(row, column, reader.line_num, values)
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{self.path} is not a CSV file in UTF-8 ({error})") from error
        return values

    def values_of(self, option: str, column: str, domain: str, names: Sequence[str]) -> list[str]:
        """Return what a column says of each image of a domain.

        Raises:
            InputError: if an image is not in the table, and as :meth:`read`.
        """
        table = self.read(option, column)
        keys = [(domain if self.domain_column else None, name) for name in names]
        for key in keys:
            if key not in table:
                raise InputError(
                    f"{self.path}: no row for image {key[1]!r} of domain {domain!r}"
                    f" (name_column={self.name_column!r}, domain_column={self.domain_column!r}); add it"
                )
        return [table[key] for key in keys]

    def _check_columns(self, wanted: dict[str, str], columns: Sequence[str]) -> None:
        for option, column in {**wanted, "name_column": self.name_column, "domain_column": self.domain_column}.items():
            if column is not None and column not in columns:
                raise InputError(f"{self.path}: {option}={column!r} is not a column; it has: {', '.join(columns)}")

    def _enter(
        self, row: dict[str, str | None], column: str, line: int, values: dict[tuple[str | None, str], str]
    ) -> None:
        value, name = row[column], row[self.name_column]
        domain = row[self.domain_column] if self.domain_column else None
        if not value or not name:
            raise InputError(f"{self.path}:{line} has no {self.name_column if value else column}; fill it in")
        # Not Path.stem: names without a suffix may hold dots.
        stem = next((name[: -len(end)] for end in SUFFIXES if name.lower().endswith(end)), name)
        if values.setdefault((domain, stem), value) != value:
            hint = "" if self.domain_column else "; if names repeat between domains, set domain_column"
            raise InputError(f"{self.path}:{line} gives image {name!r} a second {column} {value!r}{hint}")
