"""The ways to a Hessian: one file each, all with the signature of `columns`."""

from batchhess.methods.columns import columns
from batchhess.methods.differences import differences
from batchhess.methods.observations import observations

METHODS = {
    "auto": columns,
    "columns": columns,
    "observations": observations,
    "differences": differences,
}
