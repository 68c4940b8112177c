"""Ways in which a run's files can be wrong, or odd: each changes one folder, drawn from a generator."""

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from common.runs.folder import Run
from common.runs.identity import Identity
from tests import odd_bytes

Rng = np.random.Generator
Mutation = Callable[[Run, Rng], None]

TEXTS = (
    *("", "$a_$", "_a", "[old]", "[/x]", "a|b", "a%7Cb", "=cmd()", "-1", "\x1b[2J", "a\nb", "\t", "<b>", "é漢🙂"),
    *("x" * 900, "x" * 2000, "\u202e", "unseen", "last", "averaged", "kd", "erm", "miou", "nll", "iou/", "*", "%s"),
    *("{0}", "'", '"'),
)
NUMBERS = (0, -1, 1, 2**31, 2**63, 10**400, 1e308, -1e11, 1e-300, 0.5, math.nan, math.inf)
OTHERS = (None, True, [], {}, [1], ["a"], {"a": 1}, [[]])
DEEP = json.loads("[" * 400 + "]" * 400)


def odd(rng: Rng) -> Any:
    """A value that nobody expects."""
    kinds = (TEXTS, NUMBERS, OTHERS)
    values = kinds[rng.integers(len(kinds))]
    return values[rng.integers(len(values))]


def reseeded(run: Run, seed: int) -> Run:
    """The run of another seed, so that it repeats no other."""
    identity = run.identity()
    assert identity is not None
    changed = dataclasses.replace(identity, seed=seed)
    run.identity_path.write_text(changed.to_json())
    _write(run, [line | {"seed": seed, "identity": changed.key} for line in _lines(run)])
    return run


def text(rng: Rng) -> str:
    """A name that nobody expects."""
    return TEXTS[rng.integers(len(TEXTS))]


# --- files -----------------------------------------------------------------------------------------------------------


def _file(run: Run, rng: Rng) -> Any:
    files = sorted(path for path in run.path.iterdir() if path.is_file())
    return files[rng.integers(len(files))]


def cut(run: Run, rng: Rng) -> None:
    path = _file(run, rng)
    path.write_bytes(odd_bytes.cut(path.read_bytes(), rng))


def flip(run: Run, rng: Rng) -> None:
    path = _file(run, rng)
    path.write_bytes(odd_bytes.flipped(path.read_bytes(), rng))


def remove(run: Run, rng: Rng) -> None:
    _file(run, rng).unlink()


def replace_by_folder(run: Run, rng: Rng) -> None:
    path = _file(run, rng)
    path.unlink()
    path.mkdir()


def replace_by_another(run: Run, rng: Rng) -> None:
    shutil.copyfile(_file(run, rng), run.path / "other")
    (run.path / "other").rename(_file(run, rng))


# --- records ---------------------------------------------------------------------------------------------------------


def _lines(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.record_path.read_text().splitlines()]


def _write(run: Run, lines: list[Any]) -> None:
    run.record_path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def one_field(run: Run, rng: Rng) -> None:
    lines = _lines(run)
    line = lines[rng.integers(len(lines))]
    line[rng.choice(sorted(line))] = odd(rng)
    _write(run, lines)


def one_field_of_all(run: Run, rng: Rng) -> None:
    lines, value = _lines(run), odd(rng)
    name = rng.choice(sorted(lines[0]))
    _write(run, [line | {name: value} for line in lines])


def one_name_of_all(run: Run, rng: Rng) -> None:
    lines, value = _lines(run), text(rng)
    name = rng.choice(["method", "target", "domain", "metric", "selection", "network", "split"])
    old = lines[rng.integers(len(lines))][name]
    _write(run, [line | {name: value} if line[name] == old else line for line in lines])


def all_numbers(run: Run, rng: Rng) -> None:
    lines = _lines(run)
    name = rng.choice(["value", "seconds", "n", "steps"])
    allowed = [number for number in NUMBERS if name in ("value", "seconds") or isinstance(number, int)]
    value = allowed[rng.integers(len(allowed))]
    _write(run, [line | {name: value} for line in lines])


def swap_fields(run: Run, rng: Rng) -> None:
    lines = _lines(run)
    line = lines[rng.integers(len(lines))]
    one, other = rng.choice(sorted(line), 2, replace=False)
    line[one], line[other] = line[other], line[one]
    _write(run, lines)


def fewer_or_more_fields(run: Run, rng: Rng) -> None:
    lines = _lines(run)
    line = lines[rng.integers(len(lines))]
    if rng.random() < 0.5:
        del line[rng.choice(sorted(line))]
    else:
        line[text(rng)] = odd(rng)
    _write(run, lines)


def no_object(run: Run, rng: Rng) -> None:
    lines: list[Any] = list(_lines(run))
    lines[rng.integers(len(lines))] = odd(rng)
    _write(run, lines)


def other_lines(run: Run, rng: Rng) -> None:
    lines = _lines(run)
    kept = rng.permutation(len(lines))[: rng.integers(len(lines) + 1)]
    _write(run, [lines[position] for position in kept])


def other_seen(run: Run, rng: Rng) -> None:
    lines = _lines(run)
    _write(run, [line | {"seen": bool(rng.random() < 0.5)} for line in lines])


def many_versions(run: Run, rng: Rng) -> None:
    _write(run, [line | {"versions": {text(rng): text(rng) for _ in range(3)}} for line in _lines(run)])


# --- items -----------------------------------------------------------------------------------------------------------


def _save(run: Run, items: dict[str, Any]) -> None:
    with run.items_path.open("wb") as file:
        np.savez(file, **items)


def _changed(array: Any, rng: Rng) -> Any:
    ways: list[Callable[[], Any]] = [
        lambda: array[: rng.integers(len(array) + 1)],
        lambda: np.concatenate([array, array]),
        lambda: array[:0],
        lambda: array[None],
        lambda: array.reshape(-1),
        lambda: array.T,
        lambda: np.zeros(()),
        lambda: np.array([{"a": 1}], dtype=object),
        lambda: array.astype("S8") if array.dtype.kind == "U" else array.astype(np.float64),
        lambda: array.astype(str),
        lambda: array.astype(np.complex64) if array.dtype.kind != "U" else array[::-1],
        lambda: array if array.dtype.kind == "U" else -array,
        lambda: array if array.dtype.kind in "UuS" else np.full_like(array, np.iinfo(np.int64).max // 2),
        lambda: np.full(array.shape, np.nan),
        lambda: np.full(array.shape, np.inf),
        lambda: array[:, :1] if array.ndim > 1 else array[:1],
        lambda: array[..., :0],
        lambda: array[:, :, ::2] if array.ndim > 2 else array[::2],
        lambda: np.full(array.shape, text(rng)),
        lambda: np.full(array.shape, 255, array.dtype) if array.dtype.kind in "iu" else array,
        lambda: np.frombuffer(np.full(2 * array.size, 0x7FFFFFFF, np.uint32).tobytes(), "<U2"),
    ]
    return ways[rng.integers(len(ways))]()


def one_array(run: Run, rng: Rng) -> None:
    items = run.items()
    key = sorted(items)[rng.integers(len(items))]
    _save(run, items | {key: _changed(items[key], rng)})


def arrays_of_one_name(run: Run, rng: Rng) -> None:
    items = run.items()
    name = sorted(items)[rng.integers(len(items))].split("|")[0]
    state = int(rng.integers(2**31))
    changed = {key: _changed(items[key], np.random.default_rng(state)) for key in items if key.split("|")[0] == name}
    _save(run, items | changed)


def pictures_of_another_size(run: Run, rng: Rng) -> None:
    shape = rng.choice([(0, 8, 8), (1, 1, 1), (2, 1, 90), (2, 90, 1), (1, 8, 12), (3, 5, 5)])
    items = run.items()
    for key in items:
        name = key.split("|")[0]
        if name in ("image", "mask", "prediction"):
            size = (*shape, 3) if name == "image" else shape
            items[key] = rng.integers(256, size=size, dtype=np.uint8)
    _save(run, items)


def other_classes(run: Run, rng: Rng) -> None:
    count = int(rng.choice([1, 2, 30, 300]))
    items = run.items()
    for key in items:
        if key.startswith("confusion"):
            items[key] = np.ones((len(items[key]), count, count), np.int64)
    _save(run, items | {"class_names": np.array([text(rng) for _ in range(count)])})


def other_keys(run: Run, rng: Rng) -> None:
    items = run.items()
    key = sorted(items)[rng.integers(len(items))]
    array = items.pop(key)
    names = [text(rng) or "a", f"{key}|averaged", key.replace("seen", "heard"), f"{key}|a|b", key.split("|")[0]]
    _save(run, items | {names[rng.integers(len(names))].replace("/", "_"): array})


def fewer_items(run: Run, rng: Rng) -> None:
    items = run.items()
    kept = rng.permutation(sorted(items))[: rng.integers(len(items) + 1)]
    _save(run, {key: items[key] for key in kept.tolist()})


def items_of_nothing(run: Run, rng: Rng) -> None:
    _save(run, {key: array[:0] if key != "class_names" else array for key, array in run.items().items()})


# --- identity and status ---------------------------------------------------------------------------------------------


def _odd_place(value: Any, rng: Rng) -> Any:
    """The value with one place in it changed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = sorted(value)[rng.integers(len(value))]
        if rng.random() < 0.15:
            return {name: inner for name, inner in value.items() if name != key}
        return value | {key: _odd_place(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        position = int(rng.integers(len(value)))
        return [*value[:position], _odd_place(value[position], rng), *value[position + 1 :]]
    return DEEP if rng.random() < 0.05 else odd(rng)


def unfit_identity(run: Run, rng: Rng) -> None:
    values = json.loads(run.identity_path.read_text())
    run.identity_path.write_text(json.dumps(_odd_place(values, rng)))


def other_identity(run: Run, rng: Rng) -> None:
    """One that fits its key, and records that refer to it."""
    values = json.loads(run.identity_path.read_text())
    part = ("setting", "domains", "row")[rng.integers(3)]
    changed = _odd_place(values[part], rng)
    changed = changed if isinstance(changed, dict) else {text(rng): changed}
    if part == "row" and rng.random() < 0.5:
        changed["teachers"] = odd(rng) if rng.random() < 0.5 else [{"setting": {}, "domains": {}, "row": {}}]
    kept = {name: values[name] for name in ("task", "setting", "domains", "row", "seed", "versions")}
    identity = Identity(**{**kept, part: changed}, teachers=tuple(text(rng) for _ in range(rng.integers(3))))
    run.identity_path.write_text(identity.to_json())
    _write(run, [line | {"identity": identity.key} for line in _lines(run)])


def of_before_identities(run: Run, rng: Rng) -> None:
    run.identity_path.unlink()
    if rng.random() < 0.5:
        run.status_path.unlink()
    _write(run, [line | {"identity": ""} for line in _lines(run)])


def other_status(run: Run, rng: Rng) -> None:
    values = json.loads(run.status_path.read_text())
    run.status_path.write_text(json.dumps(_odd_place(values, rng)))


def not_finished(run: Run, rng: Rng) -> None:
    status = run.status()
    assert status is not None
    run.set_status(dataclasses.replace(status, stage=("training", "trained")[rng.integers(2)]))


FILES: tuple[Mutation, ...] = (
    *(cut, flip, remove, replace_by_folder, replace_by_another),
    *(one_field, all_numbers, swap_fields, fewer_or_more_fields, no_object, other_lines, other_seen, many_versions),
    *(one_array, one_array, arrays_of_one_name, arrays_of_one_name, pictures_of_another_size, other_classes),
    *(other_keys, fewer_items, items_of_nothing, unfit_identity, other_status, not_finished),
)
NAMES: tuple[Mutation, ...] = (
    *(one_field_of_all, one_name_of_all, one_name_of_all, other_identity, other_identity, of_before_identities),
)
"""Those that mostly leave a sound run, of another name or setting."""
