"""Segmentation quality per domain, from per-image confusion matrices: kdseg-evaluate."""

import dataclasses
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from common.application import run as run_application
from common.configuration import to_yaml
from common.device import pick_device
from common.errors import InputError
from common.evaluation.measures import place, take
from common.runs.destination import check_new, keep_evaluation
from common.runs.folder import Run
from common.runs.identity import Identity
from common.runs.records import Judged
from common.runs.weights import choose_weights
from kdseg.configured import make_data
from kdseg.domains.datamodule import SegmentationData
from kdseg.domains.held_out import read_images
from kdseg.measure import measure, validated_temperature
from kdseg.measures import SegmentationSubject
from kdseg.records import items, print_scores, rows
from kdseg.restore import load_network, load_teacher
from kdseg.settings import EvaluateSettings, TrainSettings


def evaluate(settings: EvaluateSettings) -> None:
    """Test a finished run's network and print, and with ``out`` record, its scores.

    Domains that the run was trained on are judged on the images that it held out, others on all that it was not
    trained on.

    Raises:
        InputError: no finished segmentation run there, weights or a domain or folder that do not exist, other
            classes in the data, nothing that was not trained on, or an ``out`` that holds something.
    """
    source = Run(settings.run)
    network, trained = load_network(source, settings.weights)
    status = source.check_finished(f"run={settings.run}", settings.unfinished)
    selection = choose_weights(source, settings.weights)
    if trained.channels_last:  # other kernels round otherwise: use those of the run
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    out = None if settings.out is None else Run(settings.out)
    if out is not None:
        check_new(out)
    kept_in = place(settings, source, out, settings.target is not None or settings.root is not None)
    for key in ("target", "root"):
        value = getattr(settings, key)
        if value is not None:
            trained.data[key] = str(Path(value)) if key == "root" else value
    console = Console()
    data = _judged_data(source, trained, console)
    device = pick_device(settings.device)
    temperature = _temperature(source, selection) or validated_temperature(network, data, device)
    measured = [measure(network, data, part, device, console, temperature) for part in data.test_parts]
    print_scores(console, data, measured, selection)
    console.print(f"weights: {selection}")
    identity = source.judged_identity() if out is None else _judged_identity(source, data)
    judged = Judged(status.steps, status.seconds, selection, "" if identity is None else identity.key, status.resumed)
    if out is not None:
        found = [row for result in measured for row in rows(trained, data, result, "test", judged)]
        keep_evaluation(out, to_yaml(trained), identity, status, items(data, measured), found)
        console.print(f"records in {out.path}", markup=False, soft_wrap=True)
    if settings.measures:
        teacher = _kept_teacher(source, data) if "analysis" in settings.measures else None
        subject = SegmentationSubject(network, teacher, data, trained, judged, device, settings.most)
        take(kept_in, subject.cells(settings), console)


def _kept_teacher(source: Run, data: SegmentationData) -> nn.Module | None:
    """What the run's folder keeps of its teachers, as one."""
    paths = source.kept_teachers()
    if not paths:
        return None
    teacher, _ = load_teacher([str(path) for path in paths], data, unfinished=True)
    return teacher


def _temperature(source: Run, selection: str) -> float | None:
    """What the run's test fitted: the images that it was fitted on need not be here."""
    found = (row.value for row in source.records() if (row.metric, row.selection) == ("temperature", selection))
    return next((value for value in found if value > 0), None)


def _judged_data(source: Run, trained: TrainSettings, console: Console) -> SegmentationData:
    """The images to judge a run on; tells what is passed over."""
    images = read_images(source)
    node = dict(trained.data)
    if images is None:
        data = make_data(node)
        notes = ["the run has no list of its images: whether it was trained on some of these cannot be checked"]
    else:
        # The masks of what is judged need not hold every class.
        if "class_names" in node and node.get("unknown_class") is None:
            node["class_names"] = trained.classes
        data = make_data(node, images=images)
        notes = data.notes
    if data.class_names != trained.classes:
        raise InputError(f"the data's classes are {data.class_names}, the network's {trained.classes}")
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    return data


def _judged_identity(source: Run, data: SegmentationData) -> Identity | None:
    """The run's own, on the domains it is judged on now; ``None`` for a run of before there were identities."""
    identity = source.judged_identity()
    if identity is None:
        return None
    domains = {"target": data.target_name, "sources": list(data.source_names), "files": data.fingerprints()}
    return dataclasses.replace(identity, domains=domains)


def main() -> None:
    """Entry point of ``kdseg-evaluate``."""
    run_application("kdseg/evaluate", EvaluateSettings, evaluate)


if __name__ == "__main__":
    main()
