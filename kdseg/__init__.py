"""Distillation for segmentation networks that are judged on a domain training has not shown."""

from common.distillation import Distillation
from common.terms import SDDropout
from kdseg.domains.folder import FolderData
from kdseg.module import SegmentationModule
from kdseg.networks import create_network

__all__ = ["Distillation", "FolderData", "SDDropout", "SegmentationModule", "create_network"]
