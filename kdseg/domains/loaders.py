"""What reads the images of a data set, in worker processes or in this one."""

from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Sampler, default_collate

from common.errors import InputError
from kdseg.domains.dataset import Entry, Loading, SegmentationDataset


def loader(dataset: SegmentationDataset, batches: Sampler[Any], loading: Loading) -> DataLoader[Entry]:
    """The batches of a data set that ``batches`` names.

    Raises:
        InputError: in reading, a batch of images of different sizes.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=_collate,
        num_workers=loading.num_workers,
        persistent_workers=loading.num_workers > 0,
        worker_init_fn=_one_thread,
        # Its own: otherwise every pass over a loader would draw a number from torch's global generator.
        generator=torch.Generator().manual_seed(loading.seed),
    )


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # each worker would otherwise start as many threads as there are cores


def _collate(entries: list[Entry]) -> Any:
    sizes = sorted({tuple(entry["mask"].shape) for entry in entries})
    if len(sizes) > 1:
        raise InputError(
            f"a training batch holds images of sizes {sizes[0]} and {sizes[1]};"
            " set crop_size, or end augmentation with a crop"
        )
    return default_collate(entries)
