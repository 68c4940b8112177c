"""Where files of this package lie."""

from pathlib import Path

import common


def config_directory() -> Path:
    """The folder of the configuration files, in an installed wheel or a checkout."""
    package = Path(common.__file__).parent
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no configs folder beside {package}; the installation is broken")
