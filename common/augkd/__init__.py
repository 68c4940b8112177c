"""AuG-KD's preparation: a generator of what a teacher knows, an encoder and an anchor, for the term of that name."""

from common.augkd.artefact import Artefact
from common.augkd.data_free import DENSE, PLAIN, DataFreeWeights
from common.augkd.networks import Layout
from common.augkd.preparation import Domain, Preparation, prepare
from common.augkd.stages import Sample

__all__ = ["DENSE", "PLAIN", "Artefact", "DataFreeWeights", "Domain", "Layout", "Preparation", "Sample", "prepare"]
