"""Colours and lettering of the figures, light and dark, and how a figure enters the page."""

import base64
import io
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import matplotlib
from matplotlib.figure import Figure

Mode = Literal["light", "dark"]
Draw = Callable[[], Figure | None]
"""Draws a figure in the colours then in force, or ``None`` if there is nothing to show."""

RESOLUTION = 150
"""Dots per inch."""

_BASE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": matplotlib.rcParamsDefault["axes.prop_cycle"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # names may hold dollars
}


def _colours(background: str, ink: str, faint: str) -> dict[Any, Any]:
    names = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
    surfaces = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
    return {
        **dict.fromkeys(names, ink),
        **dict.fromkeys(surfaces, background),
        "axes.edgecolor": faint,
        "grid.color": faint,
    }


THEMES: Mapping[Mode, dict[Any, Any]] = {
    "light": {**_BASE, **_colours("#ffffff", "#1f2328", "#d8dee4")},
    "dark": {**_BASE, **_colours("#16181d", "#e6e8eb", "#3a3f47")},
}

# Okabe and Ito's colours, told apart by colour-blind readers, without black and yellow, which vanish on one of the
# two backgrounds. The reference is grey in every figure.
_PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
_REFERENCE_COLOUR = "#8b949e"


def method_colours(labels: Collection[str], references: Collection[str]) -> dict[str, str]:
    """A colour per method, references always grey."""
    others = sorted(label for label in labels if label not in references)
    colours = {label: _PALETTE[index % len(_PALETTE)] for index, label in enumerate(others)}
    return {**dict.fromkeys(references, _REFERENCE_COLOUR), **colours}


def class_colours(count: int) -> list[tuple[float, float, float]]:
    """A colour per class, bright enough to be seen on a grey picture."""
    qualitative = [index for index in range(10) if index != 3]  # its red is taken by wrong pixels
    if count <= len(qualitative):
        return [matplotlib.colormaps["tab10"](index)[:3] for index in qualitative[:count]]
    palette = matplotlib.colormaps["hsv"]
    return [palette(index / count)[:3] for index in range(count)]


def figure_html(draw: Draw, caption: str, alternative: str) -> str:
    """A figure as HTML: PNG inside the page, drawn once for light and once for dark screens.

    Args:
        draw: Called under each theme.
        caption: HTML below the figure.
        alternative: HTML-escaped text for those who cannot see it.

    Returns:
        The HTML, empty if nothing was drawn.
    """
    light, dark = _png(draw, "light"), _png(draw, "dark")
    if light is None or dark is None:
        return ""
    return (
        f'<figure><picture><source srcset="{dark}" media="(prefers-color-scheme: dark)">'
        f'<img src="{light}" alt="{alternative}"></picture><figcaption>{caption}</figcaption></figure>'
    )


def _png(draw: Draw, mode: Mode) -> str | None:
    data = io.BytesIO()
    with matplotlib.rc_context(THEMES[mode]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # names in scripts that the font lacks
        figure = draw()  # without pyplot: it needs no display and is freed with its last reference
        if figure is None:
            return None
        figure.savefig(data, format="png", dpi=RESOLUTION, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"
