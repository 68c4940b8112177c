"""Command-line programs on Hydra: typed settings in, one line of error out."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from common.chain import FULL_ERROR, full_errors
from common.configuration import check_settings
from common.device import keep_freed_memory
from common.directories import config_directory
from common.errors import AlreadyFinishedError, InputError
from common.failures import DEBUG, end, one_line_errors, plainly, printable
from common.overrides import Parts, prepared, texts_of
from common.plan import Plan, carry_out
from common.runs.naming import CHANGES, changes

S = TypeVar("S")


def wants_trace() -> bool:
    """Whether ``--debug`` stands on the command line, which is taken off it."""
    wanted = DEBUG in sys.argv
    sys.argv[:] = [argument for argument in sys.argv if argument != DEBUG]
    return wanted


def run(
    config_name: str,
    settings: type[S],
    task: Callable[[S], object],
    parts: Parts | None = None,
    sources: Callable[[S], Sequence[str]] = lambda _: (),
) -> None:
    """Compose the configuration from the command line and run ``task`` on it; never returns on bad input.

    Hydra's own flags work: ``--help``, ``--cfg job``, ``--multirun``. A mistake in the configuration or
    the data, or a file that cannot be read or written, prints ``error: …`` in one line on standard error
    and exits with status 2; a non-finite loss exits with status 3; a signal with 128 and its number; what nobody
    foresaw with 1, and the place. ``--debug`` shows the traceback.

    In a sweep, a job that fails says so and the others go on; the status is that of the first that failed. A job whose
    run is there already, finished, is passed over.

    Args:
        config_name: The primary configuration, such as ``kdrl/train``.
        settings: Dataclass that the composed configuration must fit.
        task: The program.
        parts: What else has texts among its arguments, by its place in the configuration.
        sources: The source domains, for plans that ask for teachers that have not seen one.
    """
    keep_freed_memory()
    show_trace = wants_trace() or os.environ.get(FULL_ERROR) == "1"
    composed = False
    sweep = _Sweep()

    def program(config: DictConfig) -> None:
        nonlocal composed
        composed = True
        sweep.jobs += 1
        sweep.is_local = str(HydraConfig.get().launcher._target_).endswith(".BasicLauncher")
        # Caught here already: Hydra adds a line of its own to what leaves the job.
        fail = sweep.note if HydraConfig.get().mode == RunMode.MULTIRUN else end
        with one_line_errors(show_trace, foreseen, fail):
            values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            assert isinstance(values, dict)
            _name_changes(config, values)
            made = check_settings(values, settings)
            plan: Plan | None = getattr(made, "plan", None)
            if plan is None:
                task(made)
                return
            program_name, overrides = config_name.replace("/", "-"), HydraConfig.get().overrides.task
            known = [] if plan.without_each is None else sources(made)
            if status := carry_out(plan, program_name, list(overrides), known):
                sys.exit(status)

    with full_errors(), one_line_errors(show_trace, foreseen):
        sys.argv[1:] = prepared(sys.argv[1:], texts_of(settings, parts or {}))
        try:
            _on_hydra(config_name, program)
        except ValueError as error:
            # Hydra's own, for such as method=null.
            raise error if composed else InputError(str(error)) from error
    if sweep.failed:
        print(f"{len(sweep.failed)} of {sweep.jobs} jobs failed; the same sweep runs those alone", file=sys.stderr)
        sys.exit(sweep.failed[0])


def _on_hydra(config_name: str, program: Callable[[DictConfig], None]) -> None:
    """Call the program with the configuration that the command line asks for, once or, in a sweep, many times.

    Hydra's own way composes it twice, to see whether it is a sweep. It is left to Hydra where that has more to do (its
    flags and settings, a sweep), or knows better what to say (a mistake).
    """
    directory, arguments = str(config_directory()), sys.argv[1:]
    if not any(argument.lstrip("+~").startswith(("-", "hydra")) for argument in arguments):
        with hydra.initialize_config_dir(directory, version_base="1.3"):
            config = _of_one_run(config_name, arguments)
            if config is not None:
                with _as_job(config):
                    program(config)
                return
    hydra.main(version_base="1.3", config_path=directory, config_name=config_name)(program)()


def _of_one_run(config_name: str, arguments: list[str]) -> DictConfig | None:
    try:
        config = hydra.compose(config_name, arguments, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError):
        return None
    return None if config.hydra.mode == RunMode.MULTIRUN else config


@contextlib.contextmanager
def _as_job(config: DictConfig) -> Iterator[None]:
    """Let ``HydraConfig`` tell of this configuration, as in a job of Hydra's, and leave the program its own part."""
    told = HydraConfig.instance()
    before = told.cfg
    told.set_config(config)
    with open_dict(config):
        del config["hydra"]
    try:
        yield
    finally:
        told.cfg = before


class _Sweep:
    """What has come of a sweep's jobs so far: how many there were, and the statuses of those that failed.

    Where jobs run in processes of other launchers, each has one of these of its own.
    """

    def __init__(self) -> None:
        self.jobs = 0
        self.failed: list[int] = []
        self.is_local = True

    def note(self, error: Exception, said: str, status: int) -> None:
        """A job's failure, after which the sweep goes on."""
        job = " ".join(HydraConfig.get().overrides.task)
        if isinstance(error, AlreadyFinishedError):
            print(printable(f"finished already: {job}"), flush=True)
            return
        if not self.is_local:
            raise error  # the launcher takes it to the process that waits for all jobs; to exit would kill its worker
        print(printable(f"error: {said} (job {self.jobs}: {job})"), file=sys.stderr)
        self.failed.append(status)


def _name_changes(config: DictConfig, values: dict[Any, Any]) -> None:
    """Fill in what the run's default folder says of the differences to the defaults."""
    folder = values.get("run_dir")
    if isinstance(folder, str) and CHANGES in folder:
        folder = folder.replace("{data}", str(HydraConfig.get().runtime.choices.get("data")))
        values["run_dir"] = folder.replace(CHANGES, changes(config))


def foreseen(error: Exception) -> str | None:
    """What a mistake says, Hydra's and OmegaConf's among them; see :func:`common.failures.one_line_errors`."""
    return one_line(error) if isinstance(error, (HydraException, OmegaConfBaseException)) else plainly(error)


def one_line(error: Exception) -> str:
    """What a Hydra or OmegaConf error says, as one line that names the value and what would do."""
    text = str(error)
    missing = re.search(r"Could not find '([^']+)'", text)
    if isinstance(error, MissingConfigException) and missing:
        group, _, value = missing.group(1).rpartition("/")
        options = re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE)
        known = f"; use one of: {', '.join(options)}" if options else ""
        return f"{group}={value} is not known{known}"
    if isinstance(error, ConfigCompositionException):
        key = re.search(r"(?:override|append) '?([^'\s]+)'?", text)
        if key and ("not in struct" in text or "not in struct" in str(error.__cause__)):
            more = f" (+{key.group(1)}=… adds an argument)" if "." in key.group(1) else ""
            return f"{key.group(1)} is not a key of the configuration; see --cfg job for those there are{more}"
    missing_value = re.search(r"Missing mandatory value: (\S+)", text)
    if missing_value:
        # The message has the last part of the key alone, or all of it where another's value stands for it.
        is_another = isinstance(error, InterpolationToMissingValueError)
        name = (None if is_another else getattr(error, "full_key", None)) or missing_value.group(1)
        return f"{name} is missing; give {name}=…"
    return " ".join(
        line.strip()
        for line in text.split("\n")
        if line.strip() and line.split(":")[0].split("=")[0].strip() not in ("full_key", "object_type")
    )
