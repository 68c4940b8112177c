"""Weight averagers by name; any of them goes with any method."""

from common.averaging.base import Averager
from common.averaging.batch_norm import has_batch_statistics, reestimate_batch_norm
from common.averaging.configured import AVERAGERS, AVERAGING, NO_AVERAGING, make_averager
from common.averaging.ema import EMA
from common.averaging.running_mean import RunningMean
from common.averaging.sma import SMA
from common.averaging.swad import SWAD
from common.averaging.wakd import WAKD

__all__ = [
    "AVERAGERS",
    "AVERAGING",
    "EMA",
    "NO_AVERAGING",
    "SMA",
    "SWAD",
    "WAKD",
    "Averager",
    "RunningMean",
    "has_batch_statistics",
    "make_averager",
    "reestimate_batch_norm",
]
