"""What the nineteen corruptions do to one image, as measured on an implementation that papers use.

Run, in an environment of its own with ``pip install imagecorruptions "numpy<2" "setuptools<81"``::

    python benchmarks/evaluation/corruption_statistics.py

It writes ``results/corruption_statistics.json``: corruption → five severities → mean, standard deviation, root mean
square change and mean step between neighbours, the mean over twenty draws. The package does not run with a present
scikit-image as it is (``multichannel`` has become ``channel_axis``); that is put right here. Its elastic transform has
parameters of its own and is left out.
"""

import json
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "corruption_statistics.json"
SIDE, DRAWS = 224, 20


def scene(side=SIDE):
    """Discs of different sizes and colours on a shaded ground, ``uint8 [side, side, 3]``."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side] / side
    image = np.stack([0.3 + 0.4 * columns, 0.5 + 0.2 * rows, 0.6 - 0.3 * columns * rows], axis=-1)
    for _ in range(40):
        y, x, radius = rng.random(), rng.random(), 0.02 + 0.08 * rng.random()
        image[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = rng.random(3)
    return (image * 255).astype(np.uint8)


def statistics(before, after):
    """Mean, standard deviation, root mean square change, mean step between neighbours; all of 1."""
    first, second = (image.astype(np.float64) / 255 for image in (before, after))
    change = np.sqrt(((second - first) ** 2).mean())
    return np.array([second.mean(), second.std(), change, np.abs(np.diff(second, axis=1)).mean()])


def main():
    import imagecorruptions
    from imagecorruptions import corruptions
    from skimage.filters import gaussian

    def patched(image, sigma=1, multichannel=False, **options):
        return gaussian(image, sigma=sigma, channel_axis=-1 if multichannel else None, **options)

    corruptions.gaussian = patched
    image, found = scene(), {}
    for name in imagecorruptions.get_corruption_names("all"):
        if name == "elastic_transform":
            continue
        found[name] = []
        for severity in range(1, 6):
            np.random.seed(severity)  # noqa: NPY002 - the package draws from the global generator
            drawn = [
                statistics(image, imagecorruptions.corrupt(image, corruption_name=name, severity=severity))
                for _ in range(DRAWS)
            ]
            found[name].append(np.mean(drawn, axis=0).round(4).tolist())
        print(name, found[name])
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
