"""Per-observation Hessians for TensorFlow 1 graphs."""

import importlib

__version__ = "0.2.0"

# Where each public name is. They come in when they are first asked for, and TensorFlow
# with them: `batchhess -h` need not wait for it.
_HOMES = {
    "Derivatives": "results",
    "Explanation": "explanation",
    "HessianError": "verification",
    "Model": "models",
    "SecondDerivativeError": "errors",
    "SparseMatrices": "sparsity",
    "UndefinedDerivativeError": "errors",
    "compute_hessian_error": "verification",
    "derivatives": "operators",
    "detect_sparsity": "detection",
    "evaluate": "streaming",
    "explain": "explanation",
    "export": "exporting",
    "gauss_newton_products": "operators",
    "hessian_blocks": "operators",
    "hessian_diagonals": "operators",
    "hessian_vector_products": "operators",
    "hessians": "operators",
    "jacobians": "operators",
    "laplacians": "operators",
    "load": "models",
}
__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError("module 'batchhess' has no attribute '{}'".format(name))
    home = importlib.import_module("batchhess." + _HOMES[name])
    globals()[name] = getattr(home, name)
    return globals()[name]


def __dir__():
    return sorted(set(globals()) | set(__all__))
