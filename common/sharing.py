"""A finished run as a folder to give away: a card, the weights in others' formats, and how to train it again."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from common.errors import InputError
from common.onnx import check_installed
from common.report.analysis import analyse
from common.report.paper import to_markdown
from common.runs.disk import write_text
from common.runs.folder import Run
from common.runs.records import Record
from common.runs.settings import ExportSettings
from common.runs.weights import choose_weights

_KINDS: Mapping[str, tuple[str, str, str]] = {
    "seg": ("segmentation-models-pytorch", "image-segmentation", "kdseg-train"),
    "rl": ("stable-baselines3", "reinforcement-learning", "kdrl-train"),
}


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which is ``out`` once all of it is there, and nothing if that fails.

    Raises:
        InputError: ``out`` holds something already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"out={out} holds something already; choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        yield work
        os.chmod(work, 0o755)  # mkdtemp makes private folders, and some libraries private files
        for path in work.iterdir():
            os.chmod(path, 0o644)
        if out.exists():
            out.rmdir()
        work.rename(out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def share(settings: ExportSettings, write: Callable[[Path], tuple[dict[str, str], list[str]]]) -> None:
    """Write a run's folder for others, and upload it if that is asked for.

    Args:
        settings: What to share, and where.
        write: Fills a folder; says of each file what it is, and how to load them, in Markdown.

    Raises:
        InputError: a run that is not finished, an ``out`` that holds something, a missing extra, what ``write`` raises,
            or a Hub that refuses.
    """
    run, out, console = Run(settings.run), Path(settings.out), Console()
    if settings.onnx or settings.int8:
        check_installed()
    run.check_finished(f"run={settings.run}", settings.unfinished)
    with new_folder(out) as folder:
        files, uses = write(folder)
        weights = choose_weights(run, settings.weights)
        describe(run, folder, weights, "\n\n".join(uses), files, settings.license)
    lines = [f"{out / name}: {what}" for name, what in files.items()]
    if settings.push is not None:
        lines.append(f"uploaded to {push(out, settings.push)}")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def describe(run: Run, folder: Path, weights: str, use: str, files: Mapping[str, str], license_: str | None) -> None:
    """Write the card (``README.md``), ``results.json``, and what the run was trained with.

    Args:
        run: A finished run.
        folder: Where the card lies.
        weights: Which of its weights are there, as records name them.
        use: How to load it, in Markdown.
        files: Name → what it is.
        license_: Of the weights, as the Hub names licences; ``None`` leaves it to be filled in.
    """
    records = [row for row in run.records() if row.split == "test" and row.selection == weights]
    last = records[-1]
    library, pipeline, program = _KINDS[last.task]
    lines = ["---", f"library_name: {library}", f"pipeline_tag: {pipeline}", f"license: {license_ or 'other'}"]
    lines += ["tags:", "- kdshift", "- knowledge-distillation", "- domain-generalization", "---", ""]
    lines += [f"# {last.method} on {last.target}", "", _sentence(run, last), "", "## Use", "", use, ""]
    lines += ["| file | what it is |", "|---|---|", *(f"| `{name}` | {what} |" for name, what in files.items()), ""]
    lines += ["## Scores", "", *_scores(run), "", "## How it was trained", ""]
    lines += [f"`{program} --config-dir . --config-name config run_dir=NEW`, with `config.yaml` of this folder.", ""]
    lines += _origin(run, license_)
    write_text(folder / "README.md", "\n".join(lines) + "\n")
    write_text(folder / "results.json", json.dumps(_results(records), indent=1) + "\n")
    shutil.copy(run.config_path, folder / "config.yaml")


def _sentence(run: Run, last: Record) -> str:
    tests = [row for row in run.records() if row.split == "test"]
    seen, unseen = (", ".join(sorted({row.domain for row in tests if row.seen == side})) for side in (True, False))
    what = "levels" if last.task == "rl" else "domains"
    return (
        f"Trained on {seen or 'what its configuration says'}; judged on {what} that training has not seen: {unseen}."
        f" {last.steps:,} steps, seed {last.seed}."
    )


def _scores(run: Run) -> list[str]:
    """The report's own tables, below this card's headings."""
    _, *lines = to_markdown(analyse([run.path])).splitlines()
    return [f"#{line}" if line.startswith("#") else line for line in lines]


def _origin(run: Run, license_: str | None) -> list[str]:
    identity = run.identity()
    lines = [] if identity is None else [f"- Identity of the run: `{identity.key}`"]
    if identity is not None and identity.teachers:
        lines.append(
            f"- Teachers, by the SHA-256 of their weights: {', '.join(f'`{one}`' for one in identity.teachers)}"
        )
    lines.append(f"- Licence: {license_ or 'not stated; say which, for the weights and for the data they are made of'}")
    return lines


def _results(records: Sequence[Record]) -> list[dict[str, Any]]:
    return [
        {"domain": row.domain, "seen": row.seen, "metric": row.metric, "value": row.value, "n": row.n}
        for row in records
    ]


def push(folder: Path, name: str) -> str:
    """Upload a folder to the Hugging Face Hub, to the model ``name`` (``USER/NAME``), and return its address.

    Raises:
        InputError: the Hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = HfApi()
    try:
        address = api.create_repo(name, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=name)
    except (OSError, HfHubHTTPError, HFValidationError, LocalTokenNotFoundError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"push={name} failed ({reason}); the folder {folder} is there") from error
    return str(address)
