"""Run folders with real numbers in them: noisy predictions of random masks, and random episodes."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.evaluation.segmentation import confusion_matrix, scores
from common.runs.folder import Run
from common.runs.identity import Identity
from common.runs.items import item_key
from common.runs.records import Record
from common.runs.status import Status

CLASSES = ("background", "agent", "wall")
CONFIG = "method: test\n"
Domains = Sequence[tuple[str, bool, float]]


def _old(path: Path) -> Run:
    """A run of before there were identities."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(CONFIG)
    return Run(path)


def identified(run: Run, **changes: Any) -> Run:
    """Let a run say what it is: ``setting``, ``domains``, ``row``, ``teachers`` where they are not the usual."""
    first = run.records()[0]
    usual: dict[str, Any] = {
        "setting": {"budget": {"steps": 400}},
        "domains": {"target": first.target, "sources": first.source},
        "row": {"method": {"name": first.method}},
    }
    identity = Identity(task=first.task, seed=first.seed, versions=first.versions, **{**usual, **changes})
    records = [dataclasses.replace(record, identity=identity.key) for record in run.records()]
    run.record_path.unlink()
    run.append(records)
    run.begin(CONFIG, identity, first.steps)
    run.set_status(Status("finished", first.steps, first.steps, first.seconds))
    return run


def scene(rng: np.random.Generator, size: int = 32) -> np.ndarray:
    """A mask ``[size, size]``: a wall at the bottom and one round agent."""
    rows, columns = np.mgrid[:size, :size]
    mask = np.where(rows > size * rng.uniform(0.6, 0.9), 2, 0)
    centre = rng.uniform(0.2, 0.8, 2) * size
    mask[(rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (size * rng.uniform(0.1, 0.2)) ** 2] = 1
    mask[0] = 255
    return mask.astype(np.uint8)


def predict(mask: np.ndarray, errors: float, rng: np.random.Generator) -> np.ndarray:
    """The mask with a share of its 4 × 4 blocks replaced by a random class."""
    blocks = [-(-side // 4) for side in mask.shape]
    wrong = np.kron(rng.random(blocks) < errors, np.ones((4, 4), bool))[: mask.shape[0], : mask.shape[1]]
    other = np.kron(rng.integers(len(CLASSES), size=blocks), np.ones((4, 4), int))[: mask.shape[0], : mask.shape[1]]
    clean = np.where(mask == 255, 0, mask)
    return np.where(wrong, other, clean).astype(np.uint8)


def picture(mask: np.ndarray, domain: str, rng: np.random.Generator) -> np.ndarray:
    """An RGB image of a mask in a domain's colours."""
    tint = np.random.default_rng(len(domain)).uniform(40, 215, (len(CLASSES), 3))
    image = tint[np.where(mask == 255, 0, mask)] + rng.normal(0, 12, (*mask.shape, 3))
    return image.clip(0, 255).astype(np.uint8)


def segmentation_run(
    path: Path,
    method: str,
    seed: int,
    domains: Domains = (("day", True, 0.1), ("dusk", False, 0.4)),
    *,
    target: str = "dusk",
    images: int = 12,
    steps: int = 400,
    seconds: float = 60.0,
    selections: Sequence[tuple[str, float]] = (("last", 1.0),),
    items: bool = True,
) -> Run:
    """Write a finished segmentation run; ``domains`` are (name, seen, share of wrong blocks)."""
    run = _old(path)
    base = Record(
        task="seg", method=method, seed=seed, source=[name for name, seen, _ in domains if seen], target=target,
        domain="", seen=True, split="test", metric="miou", value=0.0, n=images, selection="last", steps=steps,
        seconds=seconds, network="unet_resnet18", versions={"torch": "2.15.0", "kdshift": "0.1.0"},
    )  # fmt: skip
    kept: dict[str, np.ndarray] = {"class_names": np.array(CLASSES)}
    for name, seen, errors in domains:
        world = np.random.default_rng([len(name), *name.encode()])  # every run is tested on the same images
        masks = [scene(world) for _ in range(images)]
        rng = np.random.default_rng([seed, *method.encode()])
        shift = float(rng.normal(0, 0.03))
        kept[item_key("group", name, seen)] = np.array([f"sequence{i // 2}" for i in range(images)])
        kept[item_key("item", name, seen)] = np.array([f"{i}.png" for i in range(images)])
        kept[item_key("image", name, seen)] = np.stack([picture(mask, name, world) for mask in masks[:4]])
        kept[item_key("mask", name, seen)] = np.stack(masks[:4])
        for fraction in (0.25, 0.5, 0.75, 1.0):
            value = 0.9 - errors - 0.3 * (1 - fraction) + shift
            progress = dataclasses.replace(base, domain=name, seen=seen, split="progress", value=value)
            run.append([dataclasses.replace(progress, steps=int(fraction * steps))])
        for selection, factor in selections:
            share = float(np.clip(factor * (errors + shift), 0, 1))
            predictions = [predict(mask, share, rng) for mask in masks]
            confusions = [confusion_matrix(m, p, len(CLASSES)) for m, p in zip(masks, predictions, strict=True)]
            kept[item_key("confusion", name, seen, selection)] = np.stack(confusions)
            kept[item_key("prediction", name, seen, selection)] = np.stack(predictions[:4])
            row = dataclasses.replace(base, domain=name, seen=seen, selection=selection)
            values = scores(np.sum(confusions, axis=0), CLASSES)
            run.append([dataclasses.replace(row, metric=metric, value=value) for metric, value in values.items()])
    if items:
        run.save_items(kept)
    return run


def policy_run(
    path: Path,
    method: str,
    seed: int,
    skill: float,
    *,
    game: str = "coinrun",
    episodes: int = 40,
    steps: int = 100_000,
    seconds: float = 300.0,
) -> Run:
    """Write a finished policy run whose episodes return 0 or 10; ``skill`` is the chance of 10 on seen levels."""
    run = _old(path)
    rng = np.random.default_rng([seed, *method.encode(), *game.encode()])
    base = Record(
        task="rl", method=method, seed=seed, source=[f"{game}/themed"], target=game, domain="", seen=True,
        split="test", metric="return", value=0.0, n=episodes, selection="last", steps=steps, seconds=seconds,
        network="impala", versions={"stable-baselines3": "2.9.2", "kdshift": "0.1.0"},
    )  # fmt: skip
    kept: dict[str, np.ndarray] = {}
    talent = skill + float(rng.normal(0, 0.04))
    looks = (("themed", True, 0.0), ("themed", False, 0.1), ("plain", False, 0.25))
    for name, seen, loss in ((f"{game}/{look}", seen, loss) for look, seen, loss in looks):
        returns = 10.0 * (rng.random(episodes) < np.clip(talent - loss, 0, 1))
        mean = float(returns.mean())
        row = dataclasses.replace(base, domain=name, seen=seen)
        run.append(
            [
                dataclasses.replace(row, value=mean),
                dataclasses.replace(row, metric="normalized_return", value=(mean - 5) / 5),
            ]
        )
        for at in (1, 2, 3, 4):
            value = (talent - loss) * at / 4 * 2 - 1
            progress = dataclasses.replace(row, split="progress", steps=at * steps // 4, value=value)
            run.append([dataclasses.replace(progress, metric="normalized_return")])
        kept[item_key("return", name, seen)] = returns
        kept[item_key("level", name, seen)] = np.arange(episodes) // 2
        kept[item_key("image", name, seen)] = np.stack([picture(scene(rng), name, rng) for _ in range(6)])
    run.save_items(kept)
    return run


def renamed(run: Run, path: Path, method: str) -> Run:
    """The same run once more, under another method's name."""
    copy = _old(path)
    copy.append(dataclasses.replace(record, method=method) for record in run.records())
    copy.save_items(run.items())
    return copy


def policy_runs(path: Path) -> None:
    """Four seeds of erm and kd on each of two games."""
    for game in ("coinrun", "ninja"):
        for seed in range(4):
            policy_run(path / game / f"erm-{seed}", "erm", seed, 0.7, game=game)
            policy_run(path / game / f"kd-{seed}", "kd", seed, 0.85, game=game, seconds=450.0)


def segmentation_runs(path: Path) -> None:
    """Three seeds of erm, and of kd with averaged weights too, on one target."""
    easier = (("day", True, 0.08), ("dusk", False, 0.25))
    for seed in range(3):
        segmentation_run(path / f"erm-{seed}", "erm", seed)
        both = (("last", 1.0), ("averaged", 0.8))
        segmentation_run(path / f"kd-{seed}", "kd", seed, easier, seconds=90.0, selections=both)


@pytest.fixture(scope="session")
def write() -> SimpleNamespace:
    """What writes run folders."""
    return SimpleNamespace(
        segmentation_run=segmentation_run,
        segmentation_runs=segmentation_runs,
        policy_run=policy_run,
        policy_runs=policy_runs,
        renamed=renamed,
        identified=identified,
    )
