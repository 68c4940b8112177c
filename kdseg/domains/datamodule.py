"""The loaders of one experiment: trained on source domains, judged on a target domain."""

import dataclasses
from collections.abc import Mapping, Sequence

from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from common.errors import InputError
from common.text import visible
from kdseg.domains.augmentation import Pipeline
from kdseg.domains.dataset import Entry, Loading, SegmentationDataset
from kdseg.domains.digests import Digest
from kdseg.domains.draws import SameSizeBatches, TrainingBatches, TrainingDraws
from kdseg.domains.findings import Findings
from kdseg.domains.folds import Fold, leave_out
from kdseg.domains.held_out import DomainImages, Images, digests, fingerprints, source_names, trained_on
from kdseg.domains.loaders import loader
from kdseg.domains.sample import DomainData, WithoutClass
from kdseg.domains.unlabelled import hide_labels


@dataclasses.dataclass(frozen=True)
class Part:
    """Images of one domain that something is measured on.

    Attributes:
        domain: Name of the domain.
        seen: Whether training saw this domain.
        dataset: Whole images, in order.
    """

    domain: str
    seen: bool
    dataset: SegmentationDataset


class SegmentationData(LightningDataModule):
    """Training on source domains, judged on a target domain.

    Validation is held-out images of the source domains: the target selects nothing. The test is the target
    domain, followed by the sources' ``seen_test`` images.

    Args:
        train: Training images of each source domain; none where a finished run is judged.
        validation: Held-out images of source domains; may be empty.
        target: All test images of the target domain.
        class_names: Name of each class.
        loading: See :class:`Loading`.
        seen_test: Test images of the source domains; ``None`` means ``validation``.
        images: What a finished run that is judged was trained on.
        notes: What of the data was passed over or makes little sense, a line each.
        fold: A fold of the training images that is left out, for a teacher that is to label it.
        unknown_class: A class of ``class_names`` that is kept from training and scores, to be detected as unknown.
        unlabelled: Training images of source domains without masks, which methods that can learn from them are shown in
            turn with the others.
        labelled_fraction: Share of each domain's training images that keep their masks, in (0, 1]; groups are not cut.
        label_seed: Chooses them.

    Raises:
        InputError: an ``unknown_class`` that is no class, or leaves fewer than two.

    Attributes:
        num_classes: Number of classes.
        class_names: Their names.
        in_channels: Bands of the images: 3, or what files of other bands have.
        source_names: Names of the domains trained on.
        target_name: Name of the domain judged on.
        domain_names: The sources and, last, the target; ``domain`` in a batch counts along these.
        train_dataset: What :meth:`train_dataloader` draws from; ``index`` in its batches is 0 .. length - 1.
        validation_parts: In the order of :meth:`val_dataloader`'s loaders.
        test_parts: In the order of :meth:`test_dataloader`'s loaders; the target is first.
        mean, std: The normalisation, per channel, of pixels scaled to [0, 1].
        notes: As given.
        found: What was found in each domain's folder, where the data come from folders.
    """

    def __init__(
        self,
        train: Sequence[DomainData],
        validation: Sequence[DomainData],
        target: DomainData,
        class_names: Sequence[str],
        loading: Loading,
        seen_test: Sequence[DomainData] | None = None,
        images: Images | None = None,
        notes: Sequence[str] = (),
        fold: Fold | None = None,
        unknown_class: str | None = None,
        unlabelled: Sequence[DomainData] = (),
        labelled_fraction: float = 1.0,
        label_seed: int = 0,
    ) -> None:
        super().__init__()
        if unknown_class is not None:
            index = _index_of(unknown_class, class_names)
            train, validation = ([WithoutClass(one, index) for one in part] for part in (train, validation))
            target = WithoutClass(target, index)
            seen_test = None if seen_test is None else [WithoutClass(one, index) for one in seen_test]
            class_names = [name for name in class_names if name != unknown_class]
        self.in_channels = target.bands
        loading = loading.for_bands(self.in_channels)
        self.unknown_class = unknown_class
        if fold is not None and images is None:
            train, unlabelled = leave_out(train, fold), leave_out(unlabelled, fold)
        train, hidden = hide_labels(train, labelled_fraction, label_seed)
        unlabelled = [*hidden, *unlabelled]
        self.loading = loading
        self.class_names = list(class_names)
        self.num_classes = len(self.class_names)
        learnt = dict.fromkeys(domain.name for domain in [*train, *unlabelled])
        self.source_names = list(learnt) if images is None else source_names(images)
        self.target_name = target.name
        self.domain_names = list(dict.fromkeys([*self.source_names, self.target_name]))
        self.notes = list(notes)
        self.found: Mapping[str, Findings] = {}
        self.mean, self.std = tuple(loading.mean), tuple(loading.std)
        self._count = 0
        self._trained_on = images
        self.train_dataset = self._dataset([*train, *unlabelled], loading.pipeline())
        self._labelled_only = False
        self.validation_parts = [Part(domain.name, True, self._dataset([domain])) for domain in validation]
        self.test_parts = [Part(target.name, target.name in self.source_names, self._dataset([target]))]
        if seen_test is None:
            self.test_parts += self.validation_parts
        else:
            self.test_parts += [Part(domain.name, True, self._dataset([domain])) for domain in seen_test]

    def _dataset(self, domains: Sequence[DomainData], pipeline: Pipeline | None = None) -> SegmentationDataset:
        numbers = [self.domain_names.index(domain.name) for domain in domains]
        dataset = SegmentationDataset(domains, numbers, self.loading, self._count, pipeline)
        self._count += len(dataset)
        return dataset

    @property
    def unlabelled_count(self) -> int:
        """How many training images have no mask."""
        return sum(len(domain) for domain in self.train_dataset.domains if not domain.labelled)

    def leave_unlabelled_out(self) -> None:
        """Draw no image without a mask, for methods that would learn nothing from it."""
        self._labelled_only = True

    def _drawn(self) -> list[DomainData]:
        """The domains that training images are drawn from; those with masks come first."""
        return [domain for domain in self.train_dataset.domains if domain.labelled or not self._labelled_only]

    def train_dataloader(self, epoch: int = 0, batches: int = 0, shared: bool = True) -> DataLoader[Entry]:
        """Full batches over the source domains; two calls give the same batches.

        Args:
            epoch: The first pass, counted from 0, to go on where an interrupted run ended.
            batches: How many batches of that pass are left out, unread; later passes are whole.
            shared: Whether the processes of a training on several devices share each batch, or each reads all of it.
        """
        loading = self.loading
        sizes = [len(domain) for domain in self._drawn()]
        wanted = loading.samples_per_epoch or sum(sizes)
        length = -(-wanted // loading.batch_size) * loading.batch_size
        draws = TrainingDraws(sizes, length, loading.seed, loading.balanced, epoch, batches * loading.batch_size)
        return loader(self.train_dataset, TrainingBatches(draws, loading.batch_size, shared), loading)

    def whole_batches(self) -> DataLoader[Entry]:
        """The same batches for every process of a training, for statistics that all must agree on."""
        return self.train_dataloader(shared=False)

    def val_dataloader(self) -> list[DataLoader[Entry]]:
        """A loader for each of ``validation_parts``."""
        return [self.eval_dataloader(part.dataset) for part in self.validation_parts]

    def test_dataloader(self) -> list[DataLoader[Entry]]:
        """A loader for each of ``test_parts``."""
        return [self.eval_dataloader(part.dataset) for part in self.test_parts]

    def predict_dataloader(self) -> list[DataLoader[Entry]]:
        """As :meth:`test_dataloader`."""
        return self.test_dataloader()

    def eval_dataloader(self, dataset: SegmentationDataset) -> DataLoader[Entry]:
        """Every image of ``dataset`` once, whole, in batches of one size; see ``index`` for which is which."""
        sizes = [(item.height, item.width) for item in dataset.items]
        return loader(dataset, SameSizeBatches(sizes, self.loading.eval_batch_size), self.loading)

    def images(self) -> Images:
        """What the images of each domain are used for; where a finished run is judged, what they were used for."""
        train: dict[str, dict[str, Digest]] = {}
        for domain in self.train_dataset.domains:  # one with masks, and another of the same name without
            train.setdefault(domain.name, {}).update(digests(domain))
        if self._trained_on is not None:
            train = {name: dict(self._trained_on[name].train) for name in self.source_names}
        validation, test = (
            {part.domain: digests(part.dataset.domains[0]) for part in parts}
            for parts in (self.validation_parts, self.test_parts)
        )
        return {
            name: DomainImages(train.get(name, {}), validation.get(name, {}), test.get(name, {}))
            for name in self.domain_names
        }

    def fingerprints(self) -> dict[str, str]:
        """Domain name → twelve hexadecimal digits that stand for all its images that take part, and their masks.

        A run that is judged on the same images as after its training has the same ones.
        """
        return fingerprints(self.images())

    def summary(self) -> str:
        """What is trained, validated and tested on, in a few lines."""
        sources = ", ".join(
            f"{domain.name} {len(domain)}{'' if domain.labelled else ' without masks'}" for domain in self._drawn()
        )
        validation = ", ".join(f"{part.domain} {len(part.dataset)}" for part in self.validation_parts) or "none"
        tests = ", ".join(f"{part.domain} {len(part.dataset)}" for part in self.test_parts)
        lines = [f"{domain}: {found.line()}" for domain, found in self.found.items()]
        lines += [f"train: {sources}", f"validation: {validation}", f"test: {tests} images, {self.num_classes} classes"]
        images = self.images()
        trained, target = trained_on(images), images[self.target_name].test.values()
        if overlap := sum(found.image in trained for found in target):
            lines.append(f"warning: {overlap} of {len(target)} test images of {self.target_name} are also trained on")
        lines += [f"warning: {note}" for note in self.notes]
        return "\n".join(visible(line) for line in lines)


def _index_of(unknown: str, names: Sequence[str]) -> int:
    if unknown not in names:
        raise InputError(f"unknown_class={unknown!r} is no class; use one of: {', '.join(names)}")
    if len(names) < 3:
        raise InputError(f"unknown_class={unknown!r} leaves one class of {', '.join(names)}; there must be two")
    return list(names).index(unknown)
