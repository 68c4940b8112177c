"""Where everything is in a run's folder.

::

    config.yaml      the resolved configuration
    identity.json    what the run is (common.runs.identity)
    status.json      how far it has come: training, trained, finished
    record.jsonl     measured numbers (common.runs.records)
    measures.jsonl   numbers that were measured later, under corruptions and the like
    items.npz        what later statistics need (common.runs.items)
    images.json      which images were trained on and which were held out (segmentation)
    data.json        what was found in the images' folder, and what was passed over (segmentation)
    checkpoints/     weights as safetensors; while training, the state to go on from
    teachers/        what it takes to load each teacher again, where there were any
    anchor/          what AuG-KD prepares before the first step (common.augkd.folder), where it is the method
    tensorboard/     scalars and pictures for TensorBoard
    scalars.csv      the same scalars as a table, where it is asked for
    wandb/           what Weights & Biases keeps, where it is asked for
    lock             the process that works here, or the last one that did
"""

from pathlib import Path

CONTENTS = {
    "config.yaml",
    "identity.json",
    "status.json",
    "record.jsonl",
    "measures.jsonl",
    "items.npz",
    "images.json",
    "data.json",
    "checkpoints",
    "teachers",
    "anchor",
    "tensorboard",
    "scalars.csv",
    "wandb",
    "lock",
}


class RunPaths:
    """The files of a run's folder.

    Args:
        path: The folder. It need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def identity_path(self) -> Path:
        """What the run is."""
        return self.path / "identity.json"

    @property
    def status_path(self) -> Path:
        """How far it has come."""
        return self.path / "status.json"

    @property
    def record_path(self) -> Path:
        """The rows."""
        return self.path / "record.jsonl"

    @property
    def measures_path(self) -> Path:
        """Rows that were measured later, of what was done to the run's domains."""
        return self.path / "measures.jsonl"

    @property
    def record_bytes(self) -> int:
        """Length of the rows' file."""
        return self.record_path.stat().st_size if self.record_path.exists() else 0

    @property
    def items_path(self) -> Path:
        """What later statistics need."""
        return self.path / "items.npz"

    @property
    def findings_path(self) -> Path:
        """What was found in the images' folder."""
        return self.path / "data.json"

    @property
    def images_path(self) -> Path:
        """Which images were trained on and which were held out."""
        return self.path / "images.json"

    @property
    def checkpoints(self) -> Path:
        """The weights' folder."""
        return self.path / "checkpoints"

    @property
    def anchor(self) -> Path:
        """What AuG-KD has prepared."""
        return self.path / "anchor"
