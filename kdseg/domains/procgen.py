"""Looks of a game as domains: labelled frames from the engine, with nothing to download."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from rich.console import Console
from rich.progress import Progress

from common.arguments import Count, Range, Seed, UpToOne, checked
from common.errors import choice
from common.procgen import LOOKS, LevelSet
from common.procgen.labels import LABELLED_GAMES, LabelledFrames, class_names
from kdseg.domains.augmentation import Augmentation
from kdseg.domains.datamodule import SegmentationData
from kdseg.domains.dataset import IMAGENET_MEAN, IMAGENET_STD, Batch, Channels, Deviations, Loading, Side, Workers
from kdseg.domains.folds import Fold
from kdseg.domains.held_out import Images, Parts, judged_parts, source_names
from kdseg.domains.sample import ArrayDomain
from kdseg.domains.split import choose_domains

# Games played side by side. Frames come from at least as many episodes, so that many levels are met.
_COPIES = 64

Frames = Annotated[int, Range(1, 1_000_000)]
FramesOrNone = Annotated[int, Range(0, 1_000_000)]
FrameSeed = Annotated[int, Range(0, 10_000)]


class ProcgenData(SegmentationData):
    """Train on some looks of a game, judge on another look and on levels never met.

    Training frames show the training levels in the source looks; validation frames (and the test of what
    was seen) show the source looks on the block of levels after them; the target's frames show its look on
    the full distribution of levels. Frames are 64x64, made once at construction from random play, and kept
    in memory (16 kB each). A frame's group is its level.

    Args:
        game: One of :data:`common.procgen.labels.LABELLED_GAMES`.
        target: Look to judge on: one of :data:`common.procgen.LOOKS`.
        sources: Looks to train on; ``None`` means all others.
        difficulty: ``easy`` or ``hard``.
        first_level: First training level.
        level_count: How many training levels; as many follow for validation.
        train_frames: Training frames of each source look.
        validation_frames: Validation frames of each source look; 0 for none.
        test_frames: Test frames of the target look.
        stride: Steps of random play between two frames of one episode.
        frame_seed: FrameSeeds level order and play. Apart from ``seed`` so that runs with different seeds are
            trained and judged on the same frames.
        fold: ``(k, K)`` leaves fold k of K of the training images out, for a teacher of ``method=cross_fitted``; images
            of one group are in one fold.
        unknown_class: A class that is kept from training and scores; see :class:`kdseg.FolderData`.
        labelled_fraction: Share of each look's training frames that keep their masks, by whole levels, for studies;
            ``frame_seed`` chooses them.
        batch_size: See :class:`~kdseg.domains.dataset.Loading`, as for the arguments that follow.
        eval_batch_size: As above.
        crop_size: As above; ``None``, whole frames, by default.
        augmentation: As above.
        upright: As above.
        balanced: As above.
        samples_per_epoch: As above.
        num_workers: As above.
        seed: As above.
        mean: As above.
        std: As above.
        images: Judge a finished run with these frames instead of training one: on those that it held out, or on a
            target that it did not train on.

    Raises:
        InputError: if an option cannot be used, before the engine is started.
    """

    @checked
    def __init__(
        self,
        game: str = "coinrun",
        target: str = "generated",
        sources: Sequence[str] | None = None,
        difficulty: str = "easy",
        first_level: Seed = 0,
        level_count: Count = 200,
        train_frames: Frames = 512,
        validation_frames: FramesOrNone = 128,
        test_frames: Frames = 256,
        stride: Count = 16,
        frame_seed: FrameSeed = 0,
        fold: Fold | None = None,
        unknown_class: str | None = None,
        labelled_fraction: UpToOne = 1.0,
        batch_size: Batch = 16,
        eval_batch_size: Batch = 64,
        crop_size: Side | None = None,
        augmentation: Augmentation = "mild",
        upright: bool = True,
        balanced: bool = True,
        samples_per_epoch: Count | None = None,
        num_workers: Workers = 0,
        seed: Seed = 0,
        mean: Channels = IMAGENET_MEAN,
        std: Deviations = IMAGENET_STD,
        images: Images | None = None,
    ) -> None:
        loading = Loading(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            crop_size=crop_size,
            augmentation=augmentation,
            upright=upright,
            balanced=balanced,
            samples_per_epoch=samples_per_epoch,
            num_workers=num_workers,
            seed=seed,
            mean=mean,
            std=std,
        )
        loading.pipeline()  # a mistake in it should be found before frames are made
        choice(game, LABELLED_GAMES, "game")
        if images is None:
            names = choose_domains(LOOKS, target, sources, f"of {game}")
        else:
            choice(target, LOOKS, "target")
            names = source_names(images)
        seen = LevelSet.seen(first_level, level_count)
        validation = LevelSet.validation(seen, count=level_count)
        held_out = [(look, validation, validation_frames, 1) for look in names if validation_frames]
        judged = [(target, LevelSet.unseen(), test_frames, 2)]
        if images is None:
            wanted = [*((look, seen, train_frames, 0) for look in names), *held_out, *judged]
        else:
            wanted = held_out + [part for part in judged if target not in names]
        domains = []
        with Progress(console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task(f"drawing frames of {game}", total=sum(count for _, _, count, _ in wanted))
            for look, levels, count, part in wanted:
                # Other scenes in every look and part: the same moments in two looks would teach less.
                scenes = 100 * frame_seed + len(LOOKS) * part + LOOKS.index(look)
                domains.append(draw_frames(game, look, levels, count, difficulty, scenes, stride))
                progress.advance(bar, count)
        if images is None:
            parts: Parts = {
                "train": domains[: len(names)],
                "validation": domains[len(names) : -1],
                "target": domains[-1],
            }
        else:
            parts = judged_parts({domain.name: domain for domain in domains}, target, images, [])
        super().__init__(
            **parts,
            class_names=class_names(game),
            loading=loading,
            fold=fold,
            unknown_class=unknown_class,
            labelled_fraction=labelled_fraction,
            label_seed=frame_seed,
        )


def draw_frames(
    game: str, look: str, levels: LevelSet, count: int, difficulty: str = "easy", seed: int = 0, stride: int = 16
) -> ArrayDomain:
    """Play a game at random and keep labelled frames.

    Args:
        game: One of :data:`common.procgen.labels.LABELLED_GAMES`.
        look: One of :data:`common.procgen.LOOKS`, and the domain's name.
        levels: Where episodes are drawn from.
        count: How many frames.
        difficulty: ``easy`` or ``hard``.
        seed: Equal arguments give equal frames.
        stride: Steps between two frames of one episode.

    Returns:
        The frames; their groups are their levels.

    Raises:
        InputError: if an option cannot be used.
    """
    copies = min(count, _COPIES)
    frames = LabelledFrames(game, copies, levels, look, difficulty, seed, stride)
    try:
        batches = [frames.batch() for _ in range(-(-count // copies))]
    finally:
        frames.close()
    images, masks, numbers = (np.concatenate(arrays)[:count] for arrays in zip(*batches, strict=True))
    groups = [str(level) for level in numbers]
    return ArrayDomain(look, images, masks, [f"{index:05d}" for index in range(count)], groups)
