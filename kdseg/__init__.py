"""Distillation for segmentation networks that are judged on a domain training has not shown."""

from common.distillation import Distillation
from common.teacher import Teacher
from common.terms import KD, KDDG, SDDropout
from kdseg.domains.folder import FolderData
from kdseg.module import SegmentationModule
from kdseg.networks import create_network

__all__ = [
    "KD",
    "KDDG",
    "Distillation",
    "FolderData",
    "SDDropout",
    "SegmentationModule",
    "Teacher",
    "create_network",
]
