"""Segmentation networks by name, and a look inside them just before the head."""

import dataclasses
import difflib
import inspect
import math
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from segmentation_models_pytorch.base import SegmentationHead
from torch import Tensor, nn
from torch.nn import functional as F

from common.configuration import check_arguments
from common.errors import InputError, choice
from common.text import shown
from kdseg.pretrained import PACKAGED, check_packaged, load_packaged

_OF_NAMES = frozenset(string.ascii_letters + string.digits + "_-.")
# Set by create_network itself, or such as make timm read files and fetch weights.
_RESERVED = ("in_channels", "classes", *inspect.signature(timm.create_model).parameters)


def create_network(
    arch: str = "unet",
    encoder_name: str = "resnet18",
    encoder_weights: str | None = None,
    classes: int = 2,
    in_channels: int = 3,
    **options: Any,
) -> nn.Module:
    """A network of segmentation-models-pytorch.

    Args:
        arch: Architecture, such as ``unet``, ``fpn``, ``deeplabv3plus``, ``segformer``.
        encoder_name: Any encoder of the library, or ``tu-<name>`` for one of timm's.
        encoder_weights: ``None`` (the default here) for none; ``packaged`` for those of an installed package (see
            :mod:`kdseg.pretrained`); else pretrained weights to download: ``imagenet`` for those that timm has for an
            encoder, which has others as ``tu-<name>.<tag>``.
        classes: Number of classes.
        in_channels: Bands of the images. A pretrained first layer's weights for red, green and blue are repeated over
            other bands, and scaled so that equal bands give what three would.
        options: What else the architecture takes, such as ``encoder_depth`` or ``decoder_channels``; for timm's
            encoders, theirs too. ``dpt`` gets ``dynamic_img_size=True``, without which it takes one size only.

    Raises:
        InputError: an architecture, encoder or option the library does not know, or weights that are not there.
    """
    arch = choice(arch.lower(), smp.MODEL_ARCHITECTURES_MAPPING, "network.arch")
    _check_encoder(encoder_name)
    is_packaged = encoder_weights == PACKAGED
    if is_packaged:
        check_packaged(encoder_name)
        encoder_weights = None
    if encoder_name.startswith("tu-") and encoder_weights not in (None, "imagenet"):  # any other would mean this one
        raise InputError(
            f"network.encoder_weights={shown(encoder_weights)} is not known for an encoder of timm's; use imagenet,"
            f" {PACKAGED} or null"
        )
    _check_options(arch, encoder_name, options)
    options = check_arguments(smp.MODEL_ARCHITECTURES_MAPPING[arch], options, "network", _RESERVED)
    if arch == "dpt":
        options.setdefault("dynamic_img_size", True)
    try:
        model: nn.Module = smp.create_model(
            arch,
            encoder_name=encoder_name,
            encoder_weights=encoder_weights,
            in_channels=in_channels,
            classes=classes,
            **options,
        )
    except (TypeError, ValueError, KeyError, AssertionError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"network: {' '.join(str(error).split())}") from error
    if is_packaged:
        load_packaged(model.encoder, encoder_name, in_channels)  # type: ignore[arg-type]
    return model


def _check_encoder(name: str) -> None:
    if not isinstance(name, str) or not set(name) <= _OF_NAMES:
        # timm fetches what is named hf-hub:OWNER/NAME, and reads what is named local-dir:PATH.
        raise InputError(
            f"network.encoder_name={shown(name)} is no encoder's name; use one of the library's or tu-<name>"
        )
    if name.startswith("tu-") and not timm.is_model(name.removeprefix("tu-")):
        nearest = difflib.get_close_matches(name.removeprefix("tu-"), timm.list_models(), n=3, cutoff=0.0)
        raise InputError(
            f"network.encoder_name={shown(name)} is not known to timm (near it: tu-{', tu-'.join(nearest)})"
        )
    known = smp.encoders.get_encoder_names()
    if not name.startswith("tu-") and name not in known:
        # There are over a hundred: all of them would not be a line to read.
        nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.0)
        raise InputError(
            f"network.encoder_name={name!r} is not known; use an encoder of segmentation-models-pytorch "
            f"(near it: {', '.join(nearest)}) or tu-<name> for one of timm's"
        )


def _check_options(arch: str, encoder_name: str, options: Mapping[str, Any]) -> None:
    """Refuse what the library would drop without a word, and what the losses cannot take."""
    parameters = inspect.signature(smp.MODEL_ARCHITECTURES_MAPPING[arch]).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    # Anything else goes to timm, which refuses what it does not know; the library's own encoders do not.
    if not encoder_name.startswith(("tu-", "timm-")):
        for key in options:
            if key not in known:
                raise InputError(f"network.{key} is not an option of {arch}; use one of: {', '.join(known)}")
    if options.get("activation") is not None:
        raise InputError(f"network.activation={options['activation']!r}: the losses need logits; leave it null")


@dataclasses.dataclass
class Pixels:
    """One pass of a segmentation network.

    Attributes:
        logits: ``[B, C, H, W]`` at the input's size.
        features: ``[B, D, h, w]`` what the head is given.
        stages: ``[B, D_k, h_k, w_k]`` outputs of the encoder, shallow to deep, where asked for.
    """

    logits: Tensor
    features: Tensor
    stages: list[Tensor] | None = None


class SegmentationNetwork(nn.Module):
    """A network that also gives what its head was fed, and takes inputs of any size.

    Any model with a ``segmentation_head`` module will do. The host's own ``forward`` runs; the features
    are caught on their way into the head, so the computation is the library's, unchanged. Its weights have the names
    that the model gives them, so that files of them load into the model itself.

    Args:
        model: A model of segmentation-models-pytorch, or alike.

    Raises:
        InputError: a model without ``segmentation_head``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if not isinstance(getattr(model, "segmentation_head", None), nn.Module):
            raise InputError(
                f"{type(model).__name__} has no segmentation_head; give a segmentation-models-pytorch model"
            )
        self.model = model
        self.register_state_dict_post_hook(_without_prefix)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_with_prefix)  # type: ignore[no-untyped-call]
        # By a hook, since no forward of the library gives it: we would have to copy those of all architectures.
        self._caught: Tensor | None = None
        self._stages: list[Tensor] | None = None
        model.segmentation_head.register_forward_pre_hook(self._catch)  # type: ignore[union-attr,operator]

    def _catch(self, head: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        self._caught = arguments[0]

    def keep_stages(self) -> None:
        """From now on :meth:`pixels` gives the encoder's stages too.

        Raises:
            InputError: a model whose encoder does not give a list of feature maps.
        """
        self._encoder_of_maps().register_forward_hook(self._catch_stages)

    @property
    def in_channels(self) -> int:
        """Bands of the images that it takes, as its first layer has them."""
        found = (getattr(module, "in_channels", None) for module in self.model.modules())
        return next((bands for bands in found if isinstance(bands, int)), 3)

    @property
    def encoder(self) -> nn.Module | None:
        """The model's, if it has one."""
        encoder = getattr(self.model, "encoder", None)
        return encoder if isinstance(encoder, nn.Module) else None

    def encode(self, images: Tensor) -> Tensor:
        """The encoder's deepest feature map ``[B, D, h, w]`` of images whose sides :attr:`stride` divides.

        Raises:
            InputError: a model whose encoder does not give a list of feature maps.
        """
        return _with_channels(self._encoder_of_maps()(images))[-1]

    def _encoder_of_maps(self) -> nn.Module:
        encoder = self.encoder
        if encoder is None or isinstance(self.model, smp.DPT):
            raise InputError(f"{type(self.model).__name__} has no encoder of feature maps; use another architecture")
        return encoder

    def _catch_stages(self, encoder: nn.Module, arguments: tuple[Tensor, ...], output: list[Tensor]) -> None:
        self._stages = _with_channels(output)

    @property
    def stride(self) -> int:
        """Input sizes are padded to a multiple of this."""
        if not getattr(self.model, "requires_divisible_input_shape", True):
            return 1
        stride = int(getattr(getattr(self.model, "encoder", None), "output_stride", 1))
        if isinstance(self.model, smp.DPT):
            # Its decoder works on 1/4, 1/8, ... of the input, the last of which is coarser than the patches.
            stride = math.lcm(stride, 2 ** (len(self.model.encoder.out_channels) + 1))
        return stride

    def head(self) -> Callable[[Tensor], Tensor]:
        """The head without its upsampling where it is the library's usual one: fewer pixels, same classes."""
        head = self.model.segmentation_head
        if isinstance(head, SegmentationHead):
            head = head[0]  # convolution, upsampling, activation
        assert isinstance(head, nn.Module)
        return head

    def pixels(self, images: Tensor) -> Pixels:
        """Logits and features of images whose sides :attr:`stride` divides."""
        answer = self.model(images)
        # A model built with aux_params also gives labels of whole images.
        logits = answer[0] if isinstance(answer, tuple) else answer
        features, self._caught = self._caught, None
        stages, self._stages = self._stages, None
        assert features is not None
        if logits.shape[-2:] != images.shape[-2:]:
            sizes = ["x".join(str(side) for side in tensor.shape[-2:]) for tensor in (logits, images)]
            raise InputError(
                f"network: the logits are {sizes[0]} for images of {sizes[1]} pixels; options such as encoder_depth"
                " and upsampling must fit together"
            )
        return Pixels(logits, features, stages)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B, C, H, W]`` of images ``[B, bands, H, W]`` of any size, padded by their edges inside."""
        height, width = images.shape[-2:]
        return self.pixels(pad_to_multiple(images, self.stride)).logits[..., :height, :width]


def _with_channels(stages: list[Tensor]) -> list[Tensor]:
    """Without the first, which is the image itself, and such as some encoders have, without channels."""
    return [stage for stage in stages[1:] if stage.shape[1] > 0]


class Renormalized(nn.Module):
    """A network that was trained on images of one normalisation, for images of another.

    Args:
        network: From images normalised by ``theirs`` to logits.
        ours: Mean and standard deviation a channel, of pixels in [0, 1], that the images have.
        theirs: Those that the network knows.
    """

    def __init__(
        self,
        network: nn.Module,
        ours: tuple[Sequence[float], Sequence[float]],
        theirs: tuple[Sequence[float], Sequence[float]],
    ) -> None:
        super().__init__()
        self.network = network
        (mean, std), (their_mean, their_std) = (
            tuple(torch.tensor(list(values), dtype=torch.float64).view(1, -1, 1, 1) for values in pair)
            for pair in (ours, theirs)
        )
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", (std / their_std).float())
        self.register_buffer("shift", ((mean - their_mean) / their_std).float())

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B, C, H, W]`` of images ``[B, bands, H, W]``."""
        logits: Tensor = self.network(images * self.scale + self.shift)
        return logits

    def encode(self, images: Tensor) -> Tensor:
        """As :meth:`SegmentationNetwork.encode`."""
        features: Tensor = self.network.encode(images * self.scale + self.shift)  # type: ignore[operator]
        return features


_OURS = "model."


def _without_prefix(network: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Name weights as the model alone would."""
    _rename(state, prefix + _OURS, prefix)


def _with_prefix(network: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Take such weights, and those of earlier versions, whose names all began with our attribute's."""
    if not all(key.startswith(prefix + _OURS) for key in state if key.startswith(prefix)):
        _rename(state, prefix, prefix + _OURS)


def _rename(state: dict[str, Any], old: str, new: str) -> None:
    """Begin keys otherwise; all at once, for a new key may be another's old one."""
    renamed = {key: state.pop(key) for key in [key for key in state if key.startswith(old)]}
    state.update({new + key.removeprefix(old): value for key, value in renamed.items()})


@torch.no_grad()
def check_sizes(network: SegmentationNetwork, sizes: Iterable[tuple[int, int]]) -> None:
    """Run the network, in eval mode, on an image of each size (height, width).

    Raises:
        InputError: a size that the network cannot take.
    """
    training = network.training
    network.eval()
    like = next(network.parameters())
    for height, width in sizes:
        try:
            network(torch.zeros(1, network.in_channels, height, width, device=like.device, dtype=like.dtype))
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                f"network: {type(network.model).__name__} cannot take images of {height}x{width} pixels "
                f"({' '.join(str(error).split())}); give larger ones, or another network"
            ) from error
    network.train(training)


def pad_to_multiple(images: Tensor, stride: int, value: int | None = None) -> Tensor:
    """Pad the last two dimensions at their ends to multiples of ``stride``.

    Args:
        images: ``[B, ..., H, W]``.
        stride: Both sides become multiples of it.
        value: What to pad with; ``None`` repeats the edge.
    """
    height, width = images.shape[-2:]
    padding = (0, -width % stride, 0, -height % stride)
    if not any(padding):
        return images
    return F.pad(images, padding, mode="replicate") if value is None else F.pad(images, padding, value=value)
