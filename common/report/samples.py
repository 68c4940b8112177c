"""A picture of AuG-KD's samples."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from common.runs.items import PANELS


def draw(samples: Mapping[str, NDArray[Any]]) -> Figure:
    """The samples, a column each, a row a panel, with the teacher's confidence above each picture."""
    images, confidence = samples["images"], samples["confidence"]
    count, panels = images.shape[:2]
    figure = Figure(figsize=(1.3 * count + 0.8, 1.6 * panels), layout="constrained")
    grid = figure.subplots(panels, count, squeeze=False)
    for row in range(panels):
        for column in range(count):
            axes = grid[row, column]
            axes.imshow(images[column, row], interpolation="nearest")
            axes.set_title(f"{confidence[column, row]:.2f}", fontsize=8)
            axes.set_xticks([])
            axes.set_yticks([])
        grid[row, 0].set_ylabel(PANELS[row], fontsize=8)
    return figure
