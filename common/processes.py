"""Several processes that train one network."""

import os


def is_first_process() -> bool:
    """Whether this process is the one that writes, where several train one network."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"
