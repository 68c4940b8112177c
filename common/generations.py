"""Born-again chains: each generation is taught by the one before it. ``kd-generations``.

Furlanello, Lipton, Tschannen, Itti, Anandkumar: Born Again Neural Networks, ICML 2018 (arXiv 1805.04770).

    kd-generations --count 3 --out runs/again kdrl-train method=kd env=coinrun
    kd-generations --count 2 --out runs/again --student network.features_dim=64 --student network.features_dim=512 \
kdrl-train method=kd network.features_dim=256

Generation 0 is trained with ``method=erm``, or is the run given as ``teacher=RUN``; generation k is trained with the
method asked for and generation k − 1 as its teacher, in a process of its own, by the program that trains single runs.
Each has a seed of its own (the one asked for plus k): students as large as their teacher would otherwise begin with
its very first weights. ``--student``, once for each generation, says what differs in it, such as its size; the last
one holds for the rest. Started again, a chain keeps its finished generations and goes on with the interrupted one.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from common.arguments import Count, Seed, check_type
from common.chain import run_program, train_chain
from common.errors import InputError
from common.failures import DEBUG, one_line_errors


def commands(
    program: Sequence[str], count: int, out: Path, students: Sequence[str] = ()
) -> list[tuple[Path, list[str]]]:
    """Every generation's folder and the command that trains it.

    Args:
        program: A training program and its arguments; ``method=…`` is the students', ``teacher=RUN`` generation 0.
        count: How many students follow generation 0.
        out: The folder of the generations.
        students: For each generation after 0, arguments that hold in it alone, separated by spaces.

    Raises:
        InputError: no generations, or an argument that the chain sets itself.

    >>> for path, command in commands(["kdrl-train", "method=kd"], 1, Path("out")):
    ...     print(" ".join(command))
    kdrl-train method=erm seed=0 run_dir=out/generation0
    kdrl-train method=kd seed=1 teacher=out/generation0 run_dir=out/generation1
    """
    check_type(count, Count, "--count")
    if len(students) > count:
        raise InputError(f"there are {len(students)} --student for {count} generations; give one for each at most")
    given = {key: _last(program, key) for key in ("method", "teacher", "seed", "run_dir")}
    if given["run_dir"] is not None:
        raise InputError(f"run_dir={given['run_dir']} is set by the chain; give --out")
    if given["method"] in (None, "erm"):
        raise InputError("the students need a method with a teacher; give method=kd")
    first = check_type(given["seed"] or 0, Seed, "seed")
    shared = [argument for argument in program if argument.split("=")[0] not in given]
    chain: list[tuple[Path, list[str]]] = []
    teacher = given["teacher"]
    if teacher is None:
        chain.append((out / "generation0", [*shared, "method=erm", f"seed={first}"]))
        teacher = str(out / "generation0")
    for number in range(1, count + 1):
        own = students[min(number, len(students)) - 1].split() if students else []
        command = [*shared, *own, f"method={given['method']}", f"seed={first + number}", f"teacher={teacher}"]
        chain.append((out / f"generation{number}", command))
        teacher = str(out / f"generation{number}")
    return [(path, [*command, f"run_dir={path}"]) for path, command in chain]


def _last(arguments: Sequence[str], key: str) -> str | None:
    values = [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{key}=")]
    return values[-1] if values else None


def main() -> None:
    """Entry point of ``kd-generations``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3, help="how many students follow generation 0")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the generations")
    parser.add_argument("--student", action="append", default=[], help="what differs in the next generation")
    parser.add_argument(DEBUG, action="store_true", help="show the traceback of an error")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="kdrl-train or kdseg-train and its arguments")
    options = parser.parse_args()
    if not options.program:
        parser.error("no program to train with; end with kdrl-train or kdseg-train and its arguments")
    with one_line_errors(options.debug):
        status = train_chain(commands(options.program, options.count, options.out, options.student), run_program)
        sys.exit(status)


if __name__ == "__main__":
    main()
