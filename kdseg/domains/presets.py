"""Augmentations by name: what a training image may look like beside itself.

What each assumes of the unseen domain, beside flips and turns:

- ``mild``: the same camera on another day.
- ``colour``: other dyes, lamps or sensors; no order of the colours, and no hue, is relied on.
- ``colour_invert``: also bright on dark where the sources are dark on bright. That anticipates one particular shift:
  report results with and without it.
- ``photographic``: another camera: blur, noise, compression, shadows.

Their parameters are ours; ``colour`` follows what photometric augmentation for domain generalisation has in common.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from common.errors import choice

Preset = Literal["mild", "colour", "colour_invert", "photographic"]
Entries = list[Mapping[str, Any]]

_MILD: Entries = [
    {
        "transform": "ColorJitter",
        "brightness": [0.8, 1.2],
        "contrast": [0.8, 1.2],
        "saturation": [0.8, 1.2],
        "hue": [-0.02, 0.02],
        "p": 0.5,
    }
]
_COLOUR: Entries = [
    {"transform": "RandomGamma", "gamma_limit": [50, 200], "p": 0.5},
    {"transform": "RandomBrightnessContrast", "brightness_limit": [-0.3, 0.3], "contrast_limit": [-0.4, 0.4], "p": 0.5},
    {"transform": "MultiplicativeNoise", "multiplier": [0.6, 1.4], "per_channel": True, "p": 0.5},
    {"transform": "ToGray", "p": 0.3},
    {"transform": "ChannelShuffle", "p": 0.5},
]
_INVERT: Entries = [{"transform": "InvertImg", "p": 0.4}]
_PHOTOGRAPHIC: Entries = [
    {"transform": "RandomShadow", "shadow_roi": [0, 0, 1, 1], "shadow_intensity_range": [0.3, 0.6], "p": 0.3},
    {"transform": "GaussianBlur", "sigma_limit": [0.3, 2.0], "p": 0.3},
    {"transform": "GaussNoise", "std_range": [0.01, 0.08], "p": 0.3},
    {"transform": "ImageCompression", "quality_range": [30, 95], "p": 0.3},
]
_PRESETS: Mapping[str, Entries] = {
    "mild": _MILD,
    "colour": _COLOUR,
    "colour_invert": [*_COLOUR, *_INVERT],
    "photographic": [*_MILD, *_PHOTOGRAPHIC],
}


# Of other bands than red, green and blue: light and contrast, for there is no hue and nothing that a camera does.
_OF_COLOURS = ("ColorJitter", "ToGray", "ImageCompression", "RandomShadow")
_MILD_OF_BANDS: Entries = [
    {"transform": "RandomBrightnessContrast", "brightness_limit": [-0.2, 0.2], "contrast_limit": [-0.2, 0.2], "p": 0.5}
]


def preset(name: str, upright: bool = False, square: bool = True, bands: int = 3) -> Entries:
    """The transforms of a preset: first those that move pixels, then those that change them.

    Args:
        name: Of the preset.
        upright: Whether up and down mean something in these images: they are mirrored left to right only.
        square: Whether images are squares, which may be turned by quarters.
        bands: Of the images; what only colours have is left out of others.

    Raises:
        InputError: there is no such preset.
    """
    entries = _PRESETS[choice(name, get_args(Preset), "augmentation")]
    moves: Entries = [{"transform": "HorizontalFlip", "p": 0.5}]
    if not upright:
        moves += [{"transform": "VerticalFlip", "p": 0.5}]
    if not upright and square:
        moves += [{"transform": "RandomRotate90", "p": 0.5}]
    if bands != 3:
        mild = _MILD_OF_BANDS if _MILD[0] in entries else []
        entries = [*mild, *(entry for entry in entries if entry["transform"] not in _OF_COLOURS)]
    return [*moves, *entries]
