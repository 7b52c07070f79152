"""Per-observation Hessians for TensorFlow 1 graphs."""

from batchhess.errors import SecondDerivativeError, UndefinedDerivativeError
from batchhess.explanation import Explanation, explain
from batchhess.operators import (
    Derivatives,
    derivatives,
    hessian_blocks,
    hessian_diagonals,
    hessian_vector_products,
    hessians,
    laplacians,
)
from batchhess.streaming import evaluate
from batchhess.verification import HessianError, compute_hessian_error

__version__ = "0.1.0"
__all__ = [
    "Derivatives",
    "Explanation",
    "HessianError",
    "SecondDerivativeError",
    "UndefinedDerivativeError",
    "compute_hessian_error",
    "derivatives",
    "evaluate",
    "explain",
    "hessian_blocks",
    "hessian_diagonals",
    "hessian_vector_products",
    "hessians",
    "laplacians",
]
