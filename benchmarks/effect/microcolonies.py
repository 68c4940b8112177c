"""A second data set with domains, made rather than found: bacteria as CellSium draws them, in four kinds of images.

Its own environment, since CellSium wants old libraries; then any folder, about 40 s, 7 MB, the same for everyone:

    pip install "cellsium==1.0.0" "numpy<2" "matplotlib<3.10" "opencv-python-headless<4.11"
    python benchmarks/effect/microcolonies.py DIR
    kdseg-train data=folder data.root=DIR data.target=fluorescence

CellSium: Sachs et al. 2022, doi 10.1093/bioadv/vbac053, BSD-2. Every domain has colonies of its own, so that none shows
in two. ``phase_contrast`` has dark cells with a halo of light; ``uneven_light`` the same under stronger, uneven light
and noise; ``low_magnification`` the same from further away, twice as many cells of half the size; ``fluorescence``
glowing cells, of which some hardly do, on a dark and noisy ground.
"""

import argparse
import subprocess
import sys
from pathlib import Path

IMAGES, PIXELS = 120, 128
NOISY = "NoisyUnevenIlluminationPhaseContrast"
# Domain → what draws it, and what differs from the defaults.
DOMAINS = {
    "phase_contrast": ("PhaseContrastRenderer", {}),
    "uneven_light": (NOISY, {"UnevenIlluminationMultiplicativeFactor": 0.75, "UnevenIlluminationAdditiveFactor": 0.1}),
    "low_magnification": (NOISY, {"Calibration": 0.13, "TrainingCellCount": 60}),
    "fluorescence": ("FluorescenceRenderer", {"FluorescenceNoiseStd": 0.03, "FluorescenceRatioBackground": 1.0}),
}


def generate(root: Path) -> None:
    """Write ``root/DOMAIN/images`` and ``root/DOMAIN/masks`` (0 ground, 255 cell), a fresh interpreter a domain."""
    for seed, (domain, (renderer, changed)) in enumerate(DOMAINS.items(), start=1):
        settings = {
            "RenderChannels": renderer,
            "Seed": seed,
            "TrainingDataCount": IMAGES,
            "TrainingImageWidth": PIXELS,
            "TrainingImageHeight": PIXELS,
            "TrainingCellCount": 30,
        }
        given = [part for name, value in (settings | changed).items() for part in ("-t", f"{name}={value}")]
        out = ("-o", str(root / domain), "--Output", "GenericMaskOutput", "-c", f"{__file__}:Cell")
        subprocess.run([sys.executable, "-m", "cellsium", "training", *out, *given], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    generate(parser.parse_args().root)
elif __name__ == "Cell":  # CellSium executes this file under that name for its cell
    from cellsium.model import BentRod, SizerCell, WithFluorescence, assemble_cell
    from cellsium.random import RRF

    class Glowing(WithFluorescence):
        """A cell's brightness, drawn once."""

        @staticmethod
        def random_sequences(sequence):
            return {"fluorescences": RRF.compose(lambda value: [float(value)], value=sequence.uniform(40, 400))}

    Cell = assemble_cell(SizerCell, BentRod, Glowing)
