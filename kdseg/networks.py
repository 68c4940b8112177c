"""Segmentation networks by name; wrong names are refused before the library is asked."""

import difflib
import inspect
import string
from collections.abc import Mapping
from typing import Any

import segmentation_models_pytorch as smp
import timm
from torch import nn

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
