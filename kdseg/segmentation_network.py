"""A segmentation network with a look inside, just before the head, for images of any size and normalisation."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationHead
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import InputError


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
