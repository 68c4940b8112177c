import copy
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import InputError
from kdseg.networks import create_network
from kdseg.segmentation_network import SegmentationNetwork, pad_to_multiple

ARCHITECTURES = sorted(smp.MODEL_ARCHITECTURES_MAPPING)
# Those whose head works on a coarser grid and then upsamples.
COARSE = ["deeplabv3", "deeplabv3plus", "fpn", "pan", "pspnet", "segformer", "upernet"]
SIDE = 128  # PAN pools 1/16 of it three times


def light(arch: str) -> SegmentationNetwork:
    """An architecture of the library with its lightest usual encoder and three classes."""
    torch.manual_seed(0)
    # DPT takes vision transformers only.
    encoder = "tu-vit_tiny_patch16_224" if arch == "dpt" else "resnet18"
    return SegmentationNetwork(create_network(arch, encoder, classes=3)).eval()


def images(height: int, width: int) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("arch", ARCHITECTURES)
@torch.no_grad()
def test_features_and_head_give_the_hosts_logits(arch: str) -> None:
    network = light(arch)
    batch = images(SIDE, SIDE)
    pixels = network.pixels(batch)
    assert torch.equal(pixels.logits, network.model(batch))
    low = network.head()(pixels.features)
    assert low.shape[:2] == (1, 3)
    if arch in COARSE:
        assert low.shape[-1] < SIDE
        raised = F.interpolate(low, size=(SIDE, SIDE), mode="bilinear", align_corners=True)
        torch.testing.assert_close(raised, pixels.logits)
    else:
        assert torch.equal(low, pixels.logits)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@torch.no_grad()
def test_any_size_comes_back_at_its_size(arch: str) -> None:
    network = light(arch)
    height, width = SIDE - 7, SIDE + 3
    batch = images(height, width)
    logits = network(batch)
    assert logits.shape == (1, 3, height, width)
    stride = network.stride
    padded = F.pad(batch, (0, -width % stride, 0, -height % stride), mode="replicate")
    assert torch.equal(logits, network.model(padded)[..., :height, :width])


@torch.no_grad()
def test_nothing_is_padded_where_the_stride_divides_the_size() -> None:
    network = light("fpn")
    batch = images(64, 96)
    assert pad_to_multiple(batch, network.stride) is batch
    assert torch.equal(network(batch), network.model(batch))


def test_padding_repeats_the_edge_or_fills() -> None:
    ramp = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert pad_to_multiple(ramp, 4)[0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    labels = torch.tensor([[[0, 1, 2]]])
    assert pad_to_multiple(labels, 2, value=255).tolist() == [[[0, 1, 2, 255], [255, 255, 255, 255]]]


@torch.no_grad()
def test_a_transformer_takes_sizes_other_than_its_own() -> None:
    network = light("dpt")
    assert network.stride == 32  # two patches: the coarsest stage halves their grid
    for side in (32, 48, 224):
        assert network(images(side, side)).shape == (1, 3, side, side)


@torch.no_grad()
def test_a_model_with_a_second_head_gives_pixels_alone() -> None:
    model = create_network("unet", "resnet18", encoder_depth=3, decoder_channels=(16, 8, 8), aux_params={"classes": 4})
    network = SegmentationNetwork(model).eval()
    pixels = network.pixels(images(32, 32))
    assert pixels.logits.shape == (1, 2, 32, 32)
    assert torch.equal(network.head()(pixels.features), pixels.logits)


@torch.no_grad()
def test_a_copy_catches_its_own_features() -> None:
    network = light("unet")
    other = copy.deepcopy(network)
    for parameter in other.parameters():
        parameter.mul_(1.1)
    batch = images(64, 64)
    for one in (network, other, network):
        pixels = one.pixels(batch)
        assert torch.equal(one.head()(pixels.features), pixels.logits)
    assert not torch.equal(network(batch), other(batch))


class OneConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 5, 1)
        self.segmentation_head = nn.Conv2d(5, 2, 1)

    def forward(self, batch: Tensor) -> Tensor:
        answer: Tensor = self.segmentation_head(self.body(batch))
        return answer


@torch.no_grad()
def test_a_model_from_elsewhere_needs_a_segmentation_head() -> None:
    network = SegmentationNetwork(OneConvolution())
    pixels = network.pixels(images(7, 5))
    assert pixels.features.shape == (1, 5, 7, 5)
    assert torch.equal(network.head()(pixels.features), pixels.logits)
    with pytest.raises(InputError, match="Conv2d has no segmentation_head"):
        SegmentationNetwork(nn.Conv2d(3, 2, 1))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"arch": "unett"}, r"network\.arch='unett' is not known; use one of: unet, "),
        ({"encoder_name": "resnet19"}, r"network\.encoder_name='resnet19' .*near it: resnet18"),
        ({"encoder_name": "tu-resnet19"}, "resnet19"),
        ({"encoder_weights": "imagenett"}, "imagenett.*imagenet"),
        ({"encoder_depth": 9}, r"\[1, 5\], got 9"),
        ({"encoder_depth": "deep"}, r"network\.encoder_depth='deep'"),
        ({"decoder_channels": [16, 8]}, "decoder_channels.*2 blocks"),
        (
            {"decoder_chanels": [16, 8]},
            r"network\.decoder_chanels is not an option of unet; use one of: .*decoder_channels",
        ),
        ({"encoder_name": "tu-resnet18", "drop_pathh": 0.1}, "drop_pathh"),
        ({"activation": "softmax2d"}, r"network\.activation='softmax2d'.*logits"),
        ({"arch": "dpt"}, "Timm encoders"),
    ],
)
def test_what_the_library_does_not_know_is_one_line_that_names_it(options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        create_network(**options)
    assert "\n" not in str(caught.value)


def test_encoders_of_timm_take_their_own_options() -> None:
    network = create_network("unet", "tu-resnet18", encoder_depth=2, decoder_channels=[8, 8], drop_path_rate=0.1)
    assert isinstance(network, nn.Module)
