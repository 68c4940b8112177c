"""``kd-report``: every run side by side, in the terminal, as CSV and as one page."""

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from common.errors import InputError
from common.failures import DEBUG, one_line_errors
from common.report.analysis import analyse
from common.report.page import render
from common.report.paper import measures_csv, to_latex, to_markdown
from common.report.results import REFERENCE
from common.report.table import to_csv
from common.report.terminal import show
from common.runs.disk import write_atomically
from common.text import visible

_DESCRIPTION = """\
Compare finished runs: scores on seen and unseen domains, the gap between them, the difference to plain training
(erm, or --reference) with its 95 % interval, the probability of improvement and the cost. Prints the table and writes
report.html (one file that works offline), the table as report.csv, report.md and report.tex, and all that
was measured beside it as measures.csv.
"""

MOST_RESAMPLES = 100_000  # they are held in memory


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``kd-report``.

    Args:
        arguments: The command line without the program's name; ``sys.argv`` by default.

    Raises:
        SystemExit: with status 2, after one line on standard error, if the runs cannot be used.
    """
    parser = argparse.ArgumentParser(prog="kd-report", description=_DESCRIPTION)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="folders of runs, searched at any depth")
    parser.add_argument(
        "--out", type=Path, default=Path("report"), metavar="DIR", help="where to write (default: ./report)"
    )
    parser.add_argument(
        "--reference",
        default=REFERENCE,
        metavar="METHOD",
        help='what the others are compared with: a method, such as kd or "erm (averaged)", or a row as the table names '
        'it, such as "kd [weight=0.1]" (default: %(default)s)',
    )
    parser.add_argument(
        "--resamples", type=int, default=2000, metavar="N", help="bootstrap resamples (default: %(default)s)"
    )
    parser.add_argument(DEBUG, action="store_true", help="show the traceback of an error")
    options = parser.parse_args(arguments)
    with one_line_errors(options.debug):
        _report(options.runs, options.out, options.reference, options.resamples)


def _report(runs: Sequence[Path], out: Path, reference: str, resamples: int) -> None:
    if resamples < 100:
        raise InputError(f"--resamples={resamples} is too few for a 95 % interval; use 100 or more (2000 is usual)")
    if resamples > MOST_RESAMPLES:
        raise InputError(f"--resamples={resamples} is more than any interval needs; use {MOST_RESAMPLES} or fewer")
    if any(path.exists() and not path.is_dir() for path in (out, *out.parents)):
        raise InputError(f"--out={out} is not a folder, nor can it be made one")
    analysis = analyse(runs, reference=reference, resamples=resamples)
    texts = {  # all of it before anything is written
        "report.html": render(analysis),
        "report.csv": to_csv(analysis),
        "measures.csv": measures_csv(analysis),
        "report.md": to_markdown(analysis),
        "report.tex": to_latex(analysis),
    }
    try:
        for name, text in texts.items():
            write_atomically(out / name, functools.partial(_write, text=text))
    except OSError as error:
        raise InputError(f"--out={out} cannot be written ({error.strerror})") from error
    console = Console(highlight=False)
    show(analysis, console)
    written = visible(f"written: {', '.join(str(out / name) for name in texts)}")
    console.print(written, soft_wrap=True, markup=False)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
