"""Colours and lettering of the figures, and how a figure enters the page.

Charts are SVG inside the page, whose ink is the page's: they follow light and dark screens and print, stay sharp, and
their words can be searched and read aloud. Pictures are WebP, and the words around them the page's.
"""

import base64
import contextlib
import io
import warnings
from collections.abc import Callable, Collection, Iterator
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

Draw = Callable[[], Figure | None]
"""Draws a figure in the colours then in force, or ``None`` if there is nothing to show."""

SIDE = 176
"""Longer side of a picture in dots, unless it is smaller."""
CLIP_SIDE, CLIP_MILLISECONDS = 128, 130

# Stand for the page's own colours until the chart is text.
_INK, _FAINT = "#010203", "#040506"
_CHART: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": matplotlib.rcParamsDefault["axes.prop_cycle"],
    "axes.edgecolor": _FAINT,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # names may hold dollars
    "svg.fonttype": "none",
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
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


def class_colours(count: int) -> NDArray[np.uint8]:
    """A colour per class ``[count, 3]``, bright enough to be seen on a grey picture."""
    qualitative = [index for index in range(10) if index != 3]  # its red is taken by wrong pixels
    if count <= len(qualitative):
        found = matplotlib.colormaps["tab10"](qualitative[:count])
    else:
        found = matplotlib.colormaps["hsv"](np.arange(count) / count)
    colours: NDArray[np.uint8] = np.round(255 * found[:, :3]).astype(np.uint8)
    return colours


def chart_html(draw: Draw, caption: str, alternative: str) -> str:
    """A chart as SVG inside the page.

    Args:
        draw: Called once.
        caption: HTML below it.
        alternative: HTML-escaped text for those who cannot see it.

    Returns:
        The HTML, empty if nothing was drawn.
    """
    content = io.StringIO()
    # Names of clipping paths must differ between the charts of a page.
    with _drawing({**_CHART, "svg.hashsalt": caption + alternative}):
        figure = draw()  # without pyplot: it needs no display and is freed with its last reference
        if figure is None:
            return ""
        # Not by savefig, which draws everything twice.
        unsigned = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(content, metadata=unsigned)  # type: ignore[no-untyped-call]
    drawn = content.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace(_INK, "var(--ink)").replace(_FAINT, "var(--line)")
    drawn = drawn.replace("<svg", f'<svg role="img" aria-label="{alternative}"', 1)
    return f"<figure>{drawn.strip()}<figcaption>{caption}</figcaption></figure>"


def picture(image: NDArray[Any], words: str) -> str:
    """A picture ``uint8 [H, W, 3]`` and, HTML-escaped, what it shows to those who cannot see it."""
    shown, content = Image.fromarray(image), io.BytesIO()
    if max(shown.size) > SIDE:
        shown.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    elif (times := SIDE // max(shown.size)) > 1:
        shown = shown.resize((times * shown.width, times * shown.height), Image.Resampling.NEAREST)
    shown.save(content, format="webp", quality=80, method=2)
    data = base64.b64encode(content.getvalue()).decode("ascii")
    return f'<img src="data:image/webp;base64,{data}" alt="{words}">'


def clip_html(frames: NDArray[Any], caption: str) -> str:
    """An animated picture of frames ``uint8 [K, H, W, 3]``; the first alone for who has asked for less motion."""
    pictures = [Image.fromarray(frame).resize((CLIP_SIDE, CLIP_SIDE), Image.Resampling.NEAREST) for frame in frames]
    moving, still = io.BytesIO(), io.BytesIO()
    options: dict[str, Any] = {"format": "webp", "quality": 60, "method": 2}
    pictures[0].save(moving, save_all=True, append_images=pictures[1:], duration=CLIP_MILLISECONDS, loop=0, **options)
    pictures[0].save(still, **options)
    source, first = (f"data:image/webp;base64,{base64.b64encode(one.getvalue()).decode()}" for one in (moving, still))
    calm = f'<source srcset="{first}" media="(prefers-reduced-motion: reduce)">'
    picture = f'<picture>{calm}<img src="{source}" alt="{caption}"></picture>'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


@contextlib.contextmanager
def _drawing(settings: dict[Any, Any]) -> Iterator[None]:
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # names in scripts that the font lacks
        yield
