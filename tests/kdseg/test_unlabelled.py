"""Images without masks: found, kept out of scores, drawn in turn with the others, distilled on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import InputError
from common.runs.folder import Run
from kdseg.domains.folder import FolderData
from kdseg.domains.held_out import read_images
from kdseg.domains.unlabelled import WithoutLabels, hide_labels
from kdseg.evaluate import main as evaluate
from kdseg.train import main as train

SOURCES = ("grey_brightfield", "purple_on_purple", "purple_on_white")
TARGET = "fluorescence"


@pytest.fixture
def partly(small_nuclei: Path, tmp_path: Path) -> Path:
    """Nuclei of which one source has an image without its mask and two images more in a folder of their own."""
    root = tmp_path / "nuclei"
    shutil.copytree(small_nuclei, root)
    domain = root / SOURCES[0]
    masks = sorted((domain / "masks").iterdir())
    masks[0].unlink()
    (domain / "unlabelled").mkdir()
    for number, mask in enumerate(masks[1:3]):
        mask.unlink()
        image = domain / "images" / mask.name
        image.rename(domain / "unlabelled" / f"more{number}.png")
    return root


def options(root: Path, **more: Any) -> dict[str, Any]:
    return {"root": root, "target": TARGET, "batch_size": 8, "crop_size": 32, "num_classes": 2, **more}


def test_a_missing_mask_is_a_mistake_unless_it_is_meant(partly: Path) -> None:
    with pytest.raises(InputError, match=r"has no mask of that name .* or set data.unlabelled=true to learn from it"):
        FolderData(**options(partly))
    data = FolderData(**options(partly, unlabelled=True))
    assert data.unlabelled_count == 3
    assert data.found[SOURCES[0]].unlabelled == 3
    assert "3 more without masks" in data.summary()
    assert f"{SOURCES[0]} 3 without masks" in data.summary()


def test_a_source_may_have_no_mask_at_all(small_nuclei: Path, call: Callable[..., Any], tmp_path: Path) -> None:
    root = tmp_path / "nuclei"
    shutil.copytree(small_nuclei, root)
    shutil.rmtree(root / SOURCES[0] / "masks")
    for path in (root / SOURCES[1] / "masks").iterdir():
        path.unlink()
    (root / SOURCES[1] / "images").rename(root / SOURCES[1] / "unlabelled")
    with pytest.raises(InputError, match=r"masks is not a folder; .* or data.unlabelled=true to be learnt from"):
        FolderData(**options(root))
    data = FolderData(**options(root, unlabelled=True))
    assert [part.domain for part in data.validation_parts] == [SOURCES[2]]
    assert data.source_names == [SOURCES[2], *SOURCES[:2]] and data.domain_names[-1] == TARGET
    assert data.unlabelled_count == sum(len(list((small_nuclei / name / "images").iterdir())) for name in SOURCES[:2])
    batch = next(iter(data.train_dataloader()))
    assert {data.domain_names[number] for number in batch["domain"][~batch["labelled"]]} == set(SOURCES[:2])

    run = Run(tmp_path / "run")
    arguments = ["data=nuclei", f"data.root={root}", f"data.target={TARGET}", "data.unlabelled=true"]
    short = ["data.batch_size=6", "data.crop_size=16", "trainer.max_steps=2", "trainer.accelerator=cpu"]
    outcome = call(train, *arguments, *short, "method=sd_dropout", f"run_dir={run.path}")
    assert (outcome.status, outcome.err) == (0, "")
    outcome = call(evaluate, f"run={run.path}", f"out={tmp_path / 'again'}")
    assert (outcome.status, outcome.err) == (0, "")
    tests = [record for record in run.records() if record.split == "test"]
    assert list(Run(tmp_path / "again").records()) == tests
    assert {record.domain for record in tests} == {SOURCES[2], TARGET}

    shutil.rmtree(root / SOURCES[2] / "masks")
    with pytest.raises(InputError, match=f"no source beside target={TARGET} has an image with a mask"):
        FolderData(**options(root, unlabelled=True))
    shutil.rmtree(root / TARGET / "masks")
    with pytest.raises(InputError, match=f"target={TARGET} has no image with a mask"):
        FolderData(**options(root, unlabelled=True))


def test_they_are_drawn_in_turn_and_never_scored(partly: Path) -> None:
    data = FolderData(**options(partly, unlabelled=True))
    names = [item.name for part in (*data.validation_parts, *data.test_parts) for item in part.dataset.items]
    assert not any(name.startswith("more") for name in names)
    batch = next(iter(data.train_dataloader()))
    # Four domains take turns: three with masks, and what one of them has without.
    assert int((~batch["labelled"]).sum()) == 2
    assert set(batch["mask"][~batch["labelled"]].unique().tolist()) <= {0, 255}
    assert batch["domain"][~batch["labelled"]].tolist() == [data.source_names.index(SOURCES[0])] * 2
    data.leave_unlabelled_out()
    assert next(iter(data.train_dataloader()))["labelled"].all()
    assert "without masks" not in data.summary().splitlines()[-3]


def test_images_of_a_group_that_is_judged_are_left_out(partly: Path) -> None:
    table = ["domain,name,group"]
    for domain in (*SOURCES, TARGET):
        for kind in ("images", "unlabelled"):
            for path in sorted((partly / domain / kind).glob("*.png")):
                group = "shared" if path.stem == "more0" else f"{domain}{path.stem}"
                table.append(f"{domain},{path.stem},{group}")
    first = sorted((partly / TARGET / "images").iterdir())[0].stem
    table = [line.replace(f"{TARGET}{first}", "shared") for line in table]
    (partly / "groups.csv").write_text("\n".join(table))
    grouped = {"metadata": "groups.csv", "group_column": "group", "domain_column": "domain"}
    data = FolderData(**options(partly, unlabelled=True, **grouped))
    assert data.unlabelled_count == 2
    names = {item.name for domain in data.train_dataset.domains if not domain.labelled for item in domain.items}
    assert "more0" not in names and "more1" in names


def test_a_name_twice_is_a_mistake(partly: Path) -> None:
    domain = partly / SOURCES[0]
    known = sorted((domain / "images").iterdir())[-1]
    shutil.copy(known, domain / "unlabelled" / known.name)
    with pytest.raises(InputError, match="have the same name"):
        FolderData(**options(partly, unlabelled=True))


def test_hidden_labels_are_whole_groups_and_nested() -> None:
    nuclei = Path(__file__).parents[1] / "data" / "nuclei"
    grouped = {"group_column": "mosaic_idx", "name_column": "img_id", "domain_column": "domain"}
    domains = FolderData(nuclei, TARGET, **grouped).train_dataset.domains
    before: set[str] = set()
    for fraction in (0.05, 0.3, 0.6, 1.0):
        labelled, hidden = hide_labels(domains, fraction, seed=3)
        assert [domain.name for domain in labelled] == [domain.name for domain in domains]
        names = {item.name for domain in labelled for item in domain.items}
        assert before <= names
        before = names
        for whole, part in zip(domains, labelled, strict=True):
            assert 1 <= len(part) <= max(round(fraction * len(whole)), min_group(whole))
        own = {domain.name: {item.group for item in domain.items} for domain in labelled}
        assert not any(item.group in own[domain.name] for domain in hidden for item in domain.items)
        assert sum(map(len, (*labelled, *hidden))) == sum(map(len, domains))
        for domain in hidden:
            assert isinstance(domain, WithoutLabels)
            assert not any(sample.mask.any() for sample in domain)
    assert hide_labels(domains, 1.0, seed=3)[1] == []


def min_group(domain: Any) -> int:
    """The largest group of a domain: at least one group keeps its masks, however large."""
    groups = [item.group for item in domain.items]
    return max(groups.count(group) for group in groups)


def test_programs_distil_on_them_and_plain_training_leaves_them_out(
    partly: Path, tmp_path: Path, call: Callable[..., Any], tiny: list[str]
) -> None:
    asked = [*tiny, f"data.root={partly}", "data.unlabelled=true", "data.group_column=null"]
    plain, taught = Run(tmp_path / "plain"), Run(tmp_path / "taught")
    outcome = call(train, *asked, "method=erm", f"run_dir={plain.path}")
    assert (outcome.status, outcome.err) == (0, "")
    assert "method=erm learns nothing from images without masks: 3 left out" in outcome.out
    outcome = call(train, *asked, "method=kddg_sdd", f"teacher={plain.path}", f"run_dir={taught.path}")
    assert (outcome.status, outcome.err) == (0, "")
    assert "left out" not in outcome.out and f"{SOURCES[0]} 3 without masks" in outcome.out
    identities = [run.identity() for run in (plain, taught)]
    assert all(identities) and len({identity.setting_key for identity in identities if identity}) == 1
    images = read_images(taught)
    assert images is not None and {"more0", "more1"} <= images[SOURCES[0]].train.keys()
    assert json.loads(taught.findings_path.read_text())["domains"][SOURCES[0]]["unlabelled"] == 3
    outcome = call(evaluate, f"run={taught.path}", f"out={tmp_path / 'again'}", "device=cpu")
    assert (outcome.status, outcome.err) == (0, "")
    before, after = (
        {(r.domain, r.metric): r.value for r in run.records() if r.split == "test"}
        for run in (taught, Run(tmp_path / "again"))
    )
    assert {key: before[key] for key in after} == after


def test_fewer_labels_are_another_setting(tmp_path: Path, call: Callable[..., Any], tiny: list[str]) -> None:
    found = {}
    for fraction in ("0.5", "1.0"):
        run = Run(tmp_path / fraction)
        outcome = call(train, *tiny, f"data.labelled_fraction={fraction}", "evaluation.every=0", f"run_dir={run.path}")
        assert (outcome.status, outcome.err) == (0, "")
        identity = run.identity()
        assert identity is not None
        found[fraction] = identity.setting["data"]
    assert found["0.5"].pop("labelled_fraction") == 0.5
    assert found["0.5"] == found["1.0"]
    outcome = call(train, *tiny, "data.labelled_fraction=0", f"run_dir={tmp_path / 'none'}")
    assert outcome.status == 2 and "data.labelled_fraction=0 must be in (0, 1]" in outcome.err
