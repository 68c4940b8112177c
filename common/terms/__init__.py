"""Distillation terms by name; one paper, one file."""

from common.terms.ai_kd import AIKD
from common.terms.augkd import AuGKD
from common.terms.base import Need, Term, TermOutput
from common.terms.beta_smoothing import BetaSmoothing
from common.terms.byot import BYOT
from common.terms.cross_fitted import CrossFittedKD
from common.terms.cs_kd import CSKD, CSKDTeacher
from common.terms.ddgsd import DDGSD
from common.terms.dlb import DLB
from common.terms.dps import DPS
from common.terms.drac import DrAC
from common.terms.gkd import GKD
from common.terms.kd import KD
from common.terms.kddg import KDDG
from common.terms.label_smoothing import LabelSmoothing
from common.terms.ppd import PPD
from common.terms.probability_mse import ProbabilityMSE
from common.terms.ps_kd import PSKD
from common.terms.r_drop import RDrop
from common.terms.sd_dropout import SDDropout
from common.terms.secant import Secant
from common.terms.subclass import Subclass
from common.terms.tf_kd import TFKDReg
from common.terms.value_distillation import ValueDistillation

TERMS: dict[str, type[Term]] = {
    "ai_kd": AIKD,
    "augkd": AuGKD,
    "beta_smoothing": BetaSmoothing,
    "byot": BYOT,
    "cross_fitted": CrossFittedKD,
    "cs_kd": CSKD,
    "cs_kd_teacher": CSKDTeacher,
    "ddgsd": DDGSD,
    "dlb": DLB,
    "dps": DPS,
    "drac": DrAC,
    "gkd": GKD,
    "kd": KD,
    "kddg": KDDG,
    "label_smoothing": LabelSmoothing,
    "ppd": PPD,
    "probability_mse": ProbabilityMSE,
    "ps_kd": PSKD,
    "r_drop": RDrop,
    "sd_dropout": SDDropout,
    "secant": Secant,
    "subclass": Subclass,
    "tf_kd_reg": TFKDReg,
    "value_distillation": ValueDistillation,
}

__all__ = [
    "AIKD",
    "BYOT",
    "CSKD",
    "DDGSD",
    "DLB",
    "DPS",
    "GKD",
    "KD",
    "KDDG",
    "PPD",
    "PSKD",
    "TERMS",
    "AuGKD",
    "BetaSmoothing",
    "CSKDTeacher",
    "CrossFittedKD",
    "DrAC",
    "LabelSmoothing",
    "Need",
    "ProbabilityMSE",
    "RDrop",
    "SDDropout",
    "Secant",
    "Subclass",
    "TFKDReg",
    "Term",
    "TermOutput",
    "ValueDistillation",
]
