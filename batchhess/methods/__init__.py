"""The ways to a Hessian: one file each, all with the signature of `columns`."""

import collections

from batchhess.methods.columns import columns
from batchhess.methods.differences import differences
from batchhess.methods.observations import observations
from batchhess.methods.symmetric import symmetric

# build: (problem, passes) -> [N, K, K], or [N, K] where only diagonals are asked for.
# The rest are the assumptions that it makes; what is not said is taken to be so that
# nothing goes unchecked. needs_separable: coupled observations spoil the answer.
# differentiates_twice: it takes second derivatives from TensorFlow. by_blocks: it works
# on a `Partition`, one block of observations after another. compiles: XLA can.
# by_columns: it answers the columns of the coordinates asked for, and no others.
Method = collections.namedtuple(
    "Method",
    "build needs_separable differentiates_twice by_blocks compiles by_columns",
    defaults=(True, True, False, False, False),
)

METHODS = {
    "columns": Method(columns, compiles=True, by_columns=True),
    "observations": Method(observations, needs_separable=False),
    "symmetric": Method(symmetric, by_blocks=True, compiles=True),
    "differences": Method(differences, differentiates_twice=False),
}

# What "auto" takes: the first one that can go through the model.
AUTO = ("symmetric", "columns")
