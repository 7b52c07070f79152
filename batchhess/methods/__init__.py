"""The ways to a Hessian: one file each, all with the signature of `columns`."""

from batchhess.methods.columns import columns
from batchhess.methods.differences import differences
from batchhess.methods.observations import observations
from batchhess.methods.symmetric import symmetric

METHODS = {
    "columns": columns,
    "observations": observations,
    "symmetric": symmetric,
    "differences": differences,
}
