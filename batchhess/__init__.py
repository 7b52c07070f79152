"""Per-observation Hessians for TensorFlow 1 graphs."""

from batchhess.errors import SecondDerivativeError
from batchhess.operators import Derivatives, derivatives, hessians

__version__ = "0.1.0"
__all__ = ["Derivatives", "SecondDerivativeError", "derivatives", "hessians"]
