"""Published scores of Procgen's easy protocol, to stand beside ours.

Mean return over 200 training levels or over all levels after 25 million steps: PPO of Cobbe et al. 2020 (arXiv
1912.01588), prioritised level replay of Jiang et al. 2021 (arXiv 2010.03934), IDAAC of Raileanu and Fergus 2021 (arXiv
2102.10330). Between papers the same PPO differs by some points: compare with a baseline of your own.
"""

import csv
import functools
from collections.abc import Mapping
from importlib.resources import files

from common.report.settings import Setting


@functools.cache
def _scores() -> Mapping[str, Mapping[str, str]]:
    lines = files("common.report").joinpath("procgen_scores.csv").read_text(encoding="utf-8").splitlines()
    return {row["game"]: row for row in csv.DictReader(lines)}


def published(setting: Setting) -> str:
    """A sentence on the game of a setting; empty where nothing is known of it.

    >>> sorted(_scores()["coinrun"].items())[:2]
    [('game', 'coinrun'), ('idaac_test', '9.4')]
    """
    row = _scores().get(setting.target.split("/")[0]) if setting.task == "rl" else None
    if row is None:
        return ""
    return (
        "Published returns after 25 million steps on 200 easy levels (experiment=procgen_easy):"
        f" PPO {row['ppo_train']} on training levels and {row['ppo_test']} on all (Cobbe et al. 2020), prioritised"
        f" level replay {row['plr_test']} (Jiang et al. 2021), IDAAC {row['idaac_test']} (Raileanu and Fergus 2021)."
    )
