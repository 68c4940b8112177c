"""The student's domain as AuG-KD is shown it: the training batches."""

from collections.abc import Iterator

from common.augkd import Domain, Layout, Sample
from common.runs.identity import digest
from kdseg.domains.datamodule import SegmentationData
from kdseg.domains.dataset import labels_of
from kdseg.domains.sample import IGNORE
from kdseg.segmentation_network import SegmentationNetwork, pad_to_multiple

# Generator and encoder of label maps take any size.
_ANY_SIZE = (64, 64)


def student_domain(data: SegmentationData, network: SegmentationNetwork) -> Domain:
    """The training images, cropped and augmented as in training, and their masks."""
    device = next(network.parameters()).device

    def batches(start: int) -> Iterator[Sample]:
        length = len(data.train_dataloader())
        epoch, skipped = divmod(start, length)
        while True:
            for batch in data.train_dataloader(epoch, skipped):
                images = pad_to_multiple(batch["image"], network.stride).to(device)
                masks = pad_to_multiple(labels_of(batch), network.stride, value=IGNORE).to(device)
                yield Sample(images, masks, masks != IGNORE)
            epoch, skipped = epoch + 1, 0

    black, white = (
        tuple((value - mean) / std for mean, std in zip(data.mean, data.std, strict=True)) for value in (0.0, 1.0)
    )
    layout = Layout(data.num_classes, data.in_channels, _ANY_SIZE, True, black, white)
    seen = {name: print_ for name, print_ in data.fingerprints().items() if name in data.source_names}
    return Domain(layout, batches, digest(seen))
