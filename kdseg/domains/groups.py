"""Which images belong together, from a table beside the images."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from common.errors import InputError
from kdseg.domains.decode import SUFFIXES


@dataclasses.dataclass(frozen=True)
class GroupTable:
    """A CSV file with a header line that names the group of every image.

    Attributes:
        path: The file.
        group_column: Column that names the group.
        name_column: Column with the image's file name, with or without its suffix.
        domain_column: Column with the domain; ``None`` if names are unique over all domains.
    """

    path: Path
    group_column: str
    name_column: str = "name"
    domain_column: str | None = None

    def read(self) -> dict[tuple[str | None, str], str]:
        """Return (domain or ``None``, name without suffix) → group.

        Raises:
            InputError: if the file is missing, is not a table, lacks a column, has a row without a group, or
                gives one image two groups.
        """
        if not self.path.is_file():
            raise InputError(
                f"{self.path} is missing; group_column={self.group_column!r} needs it, or set group_column=null"
            )
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                self._check_columns(reader.fieldnames or [])
                groups: dict[tuple[str | None, str], str] = {}
                for row in reader:
                    self._enter(row, reader.line_num, groups)
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{self.path} is not a CSV file in UTF-8 ({error})") from error
        return groups

    def groups_of(self, domain: str, names: Sequence[str]) -> list[str]:
        """Return the group of each image of a domain.

        Raises:
            InputError: if an image is not in the table, and as :meth:`read`.
        """
        table = self.read()
        keys = [(domain if self.domain_column else None, name) for name in names]
        for key in keys:
            if key not in table:
                raise InputError(
                    f"{self.path}: no row for image {key[1]!r} of domain {domain!r}"
                    f" (name_column={self.name_column!r}, domain_column={self.domain_column!r}); add it"
                )
        return [table[key] for key in keys]

    def _check_columns(self, columns: Sequence[str]) -> None:
        wanted = {
            "group_column": self.group_column,
            "name_column": self.name_column,
            "domain_column": self.domain_column,
        }
        for option, column in wanted.items():
            if column is not None and column not in columns:
                raise InputError(f"{self.path}: {option}={column!r} is not a column; it has: {', '.join(columns)}")

    def _enter(self, row: dict[str, str | None], line: int, groups: dict[tuple[str | None, str], str]) -> None:
        group, name = row[self.group_column], row[self.name_column]
        domain = row[self.domain_column] if self.domain_column else None
        if not group or not name:
            raise InputError(
                f"{self.path}:{line} has no {self.name_column if group else self.group_column}; fill it in"
            )
        # Not Path.stem: names without a suffix may hold dots.
        stem = next((name[: -len(end)] for end in SUFFIXES if name.lower().endswith(end)), name)
        if groups.setdefault((domain, stem), group) != group:
            hint = "" if self.domain_column else "; if names repeat between domains, set domain_column"
            raise InputError(f"{self.path}:{line} gives image {name!r} a second group {group!r}{hint}")
