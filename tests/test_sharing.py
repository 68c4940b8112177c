"""``kdseg-export`` and ``kdrl-export``: a folder that others load without this package, or none at all."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import kdrl.export
import kdrl.train
import kdseg.export
import kdseg.train
from common.errors import InputError
from common.onnx import difference, write_onnx
from common.runs.folder import Run
from common.sharing import new_folder
from kdrl.restore import load_network as load_policy
from kdseg.restore import load_network
from tests.nuclei import SMALL_NETWORK
from tests.policies import SMALL_POLICY

onnxruntime = pytest.importorskip("onnxruntime")
Call = Callable[..., Any]
ALONE = """
import sys
for name in ("common", "kdrl", "kdseg", "torch"):
    sys.modules[name] = None
import numpy, onnxruntime
file, inputs, answers = sys.argv[1:]
session = onnxruntime.InferenceSession(file)
names = [one.name for one in session.get_outputs()]
found = session.run(None, {session.get_inputs()[0].name: numpy.load(inputs)})
numpy.savez(answers, **dict(zip(names, found)))
"""


@dataclasses.dataclass
class Shared:
    """A finished run, and its folder for others."""

    run: Path
    out: Path
    printed: str


def elsewhere(file: Path, inputs: np.ndarray, workplace: Path) -> dict[str, np.ndarray]:
    """What an ONNX file answers in a process that can import neither this package nor torch."""
    np.save(workplace / "inputs.npy", inputs)
    command = [sys.executable, "-c", ALONE, file, workplace / "inputs.npy", workplace / "answers.npz"]
    subprocess.run([str(part) for part in command], check=True, capture_output=True, cwd=workplace)
    with np.load(workplace / "answers.npz") as answers:
        return dict(answers)


@pytest.fixture(scope="module")
def segmentation(call: Call, small_nuclei: Path, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    root = tmp_path_factory.mktemp("segmentation")
    arguments = [
        *("data=nuclei", f"data.root={small_nuclei}", "data.target=fluorescence", "data.crop_size=32"),
        *(*SMALL_NETWORK, "trainer.max_steps=4", "trainer.accelerator=cpu", "evaluation.every=0"),
    ]
    assert call(kdseg.train.main, *arguments, f"run_dir={root / 'run'}").status == 0
    done = call(kdseg.export.main, f"run={root / 'run'}", f"out={root / 'out'}", "int8=true", "license=mit")
    assert done.status == 0, done.err
    return Shared(root / "run", root / "out", done.out)


@pytest.fixture(scope="module")
def policy(call: Call, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    root = tmp_path_factory.mktemp("policy")
    more = ("network.features_dim=32", "evaluation.episodes=8")
    assert call(kdrl.train.main, *SMALL_POLICY, *more, f"run_dir={root / 'run'}").status == 0
    done = call(kdrl.export.main, f"run={root / 'run'}", f"out={root / 'out'}", "int8=true")
    assert done.status == 0, done.err
    return Shared(root / "run", root / "out", done.out)


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 32, 32), (3, 50, 75)])
def test_a_network_answers_bytes_of_any_size(segmentation: Shared, tmp_path: Path, size: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (size[0], 3, *size[1:]), dtype=np.uint8)
    network, _ = load_network(Run(segmentation.run))
    mean, std = (np.float32(one).reshape(1, 3, 1, 1) for one in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    expected = network(torch.as_tensor((images.astype(np.float32) / 255 - mean) / std)).numpy()
    found = elsewhere(segmentation.out / "model.onnx", images, tmp_path)
    assert set(found) == {"logits"}
    np.testing.assert_allclose(found["logits"], expected, atol=1e-4)
    small = elsewhere(segmentation.out / "model_int8.onnx", images, tmp_path)["logits"]
    assert small.shape == expected.shape
    assert np.abs(small - expected).max() > 0 and np.corrcoef(small.ravel(), expected.ravel())[0, 1] > 0.9


@torch.no_grad()
def test_a_policy_answers_with_logits_and_its_likeliest_action(policy: Shared, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 3, 64, 64), dtype=np.uint8)
    network, _ = load_policy(Run(policy.run), device="cpu")
    found = elsewhere(policy.out / "model.onnx", frames, tmp_path)
    expected, _ = network.predict(frames, deterministic=True)
    np.testing.assert_array_equal(found["action"], expected)
    distribution: Any = network.get_distribution(torch.as_tensor(frames)).distribution
    logits = torch.as_tensor(found["logits"])
    torch.testing.assert_close(logits.log_softmax(1), distribution.logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("task", ["segmentation", "policy"])
def test_the_folder_says_what_it_is(request: pytest.FixtureRequest, task: str) -> None:
    shared: Shared = request.getfixturevalue(task)
    names = {path.name for path in shared.out.iterdir()}
    own = {"ppo-starpilot.zip"} if task == "policy" else {"model.safetensors", "config.json"}
    assert names >= {"README.md", "config.yaml", "results.json", "model.onnx", "model_int8.onnx", *own}
    card = (shared.out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: ")
    assert ("license: mit" if task == "segmentation" else "license: other") in card
    for file in names - {"README.md", "config.yaml", "results.json"}:
        assert f"`{file}`" in card and file in shared.printed
    tests = [row for row in Run(shared.run).records() if row.split == "test"]
    told = json.loads((shared.out / "results.json").read_text())
    assert [row["value"] for row in told] == [row.value for row in tests]
    main = next(row for row in tests if row.metric in ("miou", "normalized_return") and not row.seen)
    assert f"{100 * main.value:.1f} " in card
    assert "8 bits, for CPUs; " + ("return" if task == "policy" else "mIoU") in shared.printed
    identity = Run(shared.run).identity()
    assert identity is not None and identity.key in card


@pytest.mark.parametrize("task", ["segmentation", "policy"])
def test_a_mistake_is_one_line_and_leaves_nothing(
    request: pytest.FixtureRequest, call: Call, tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared: Shared = request.getfixturevalue(task)
    main = kdrl.export.main if task == "policy" else kdseg.export.main
    before = {path: path.stat().st_mtime_ns for path in shared.out.iterdir()}
    held = call(main, f"run={shared.run}", f"out={shared.out}")
    assert held.status == 2 and "holds something already" in held.err
    assert {path: path.stat().st_mtime_ns for path in shared.out.iterdir()} == before
    monkeypatch.setitem(sys.modules, "onnx", None)
    missing = call(main, f"run={shared.run}", f"out={tmp_path / 'out'}")
    assert missing.status == 2 and "pip install 'kdshift[export]'" in missing.err
    nowhere = call(main, "run=nowhere", f"out={tmp_path / 'out'}", "onnx=false")
    assert nowhere.status == 2 and len(nowhere.err.splitlines()) == 1
    assert not any(tmp_path.iterdir())
    plain = call(main, f"run={shared.run}", f"out={tmp_path / 'out'}", "onnx=false")
    assert plain.status == 0 and not (tmp_path / "out" / "model.onnx").exists()


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "out") as folder:
        (folder / "no" / "such").write_text("half")
    assert not any(tmp_path.iterdir())


class Doubled(nn.Module):
    """Does something else in torch than what is exported."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * (2.0 if torch.compiler.is_exporting() else 1.0)


def test_a_file_that_does_not_do_the_same_is_not_kept(tmp_path: Path) -> None:
    inputs = [torch.rand(2, 3), torch.rand(5, 3)]
    assert write_onnx(nn.Softmax(dim=1), inputs, tmp_path / "same.onnx", ("inputs", ["logits"]), (0,)) < 1e-6
    with pytest.raises(InputError, match="was not kept"):
        write_onnx(Doubled(), inputs, tmp_path / "other.onnx", ("inputs", ["logits"]), (0,))
    assert [path.name for path in tmp_path.iterdir()] == ["same.onnx"]


def test_other_shapes_are_no_rounding() -> None:
    with pytest.raises(InputError, match="answers with"):
        difference(nn.Identity(), lambda inputs: [inputs.numpy()[:, :1]], [torch.rand(2, 3)])  # type: ignore[arg-type]


def test_without_a_hub_the_folder_stays(call: Call, segmentation: Shared, tmp_path: Path) -> None:
    """Nobody is logged in here; what says so is the Hub's own library."""
    out = tmp_path / "out"
    done = call(kdseg.export.main, f"run={segmentation.run}", f"out={out}", "onnx=false", "push=no/such/name")
    assert done.status == 2 and "push=no/such/name failed" in done.err and len(done.err.splitlines()) == 1
    assert (out / "README.md").exists()
