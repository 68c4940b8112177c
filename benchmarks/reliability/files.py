"""1,000 odd image files, and each of them damaged: read as what they are, or refused in one line.

``python benchmarks/reliability/files.py`` writes ``results/files.json``: how many were read and refused, and every file
that was read as something else (*silent*), refused though it makes sense, or ended in a traceback. What is expected of
a sound file comes from the arrays that it was written from; of a damaged one, only that it never ends in a traceback.
"""

import argparse
import json
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.speed import machine
from common.errors import InputError
from kdseg.domains.images import read_image
from kdseg.domains.masks import read_mask
from tests.kdseg.odd_files import SUFFIXES, damaged, faults, odd_files

RESULTS = Path(__file__).parent / "results" / "files.json"


def outcome(read: Callable[[], NDArray[np.uint8]], tracebacks: list[str]) -> NDArray[np.uint8] | str:
    """What was read, or the words of a refusal."""
    try:
        return read()
    except InputError as error:
        return str(error)
    except BaseException:
        tracebacks.append(traceback.format_exc())
        return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    options = parser.parse_args()
    rng = np.random.default_rng(29)
    files, seed = odd_files(0), 0
    while len(files) < options.files:
        seed += 1
        files += odd_files(seed)
    fates: dict[str, Counter[str]] = {"sound": Counter(), "damaged": Counter()}
    tracebacks: list[str] = []
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="files-") as work:
        for number, file in enumerate(files[: options.files]):
            path = Path(work) / f"{number}{SUFFIXES[number % len(SUFFIXES)]}"
            for state, content in (("sound", file.content), ("damaged", damaged(file.content, rng))):
                path.write_bytes(content)
                image = outcome(lambda: read_image(path).pixels, tracebacks)  # noqa: B023
                mask = outcome(lambda: read_mask(path).labels, tracebacks)  # noqa: B023
                for what, read in (("images", image), ("masks", mask)):
                    fates[state][f"{what} {'refused' if isinstance(read, str) else 'read'}"] += 1
                if state == "sound":
                    wrong += faults(file, image, mask)
            path.unlink()
    result: dict[str, Any] = {
        "machine": machine.describe("cpu"),
        "files": options.files,
        **{state: dict(sorted(counts.items())) for state, counts in fates.items()},
        "tracebacks": tracebacks,
        "silent": wrong,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "machine"}, indent=1))
    return int(bool(tracebacks or wrong))


if __name__ == "__main__":
    sys.exit(main())
