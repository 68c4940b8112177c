"""What the grids hold out: name of a target → the overrides that make it one."""

from benchmarks.effect.microcolonies import DOMAINS


def stains(*names: str, folder: str = "thinned") -> dict[str, tuple[str, ...]]:
    images = ("data=nuclei", f"data.root={{{folder}}}", "data.batch_size=8")
    return {name: (*images, f"data.target={name}") for name in names}


def microcolonies() -> dict[str, tuple[str, ...]]:
    classes = ("data.class_names=[background,cell]", "data.mask_values={0: background, 255: cell}")
    images = ("data=folder", "data.root={data}", "data.batch_size=8", *classes)
    return {name: (*images, f"data.target={name}") for name in DOMAINS}


def looks(**games: str) -> dict[str, tuple[str, ...]]:
    """Name → game, of whose looks the generated one is held out."""
    frames = ("data=procgen", "data.target=generated", "data.batch_size=16", "data.crop_size=null")
    return {name: (*frames, f"data.game={game}") for name, game in games.items()}


def games(*names: str) -> dict[str, tuple[str, ...]]:
    return {name: (f"env={name}",) for name in names}
