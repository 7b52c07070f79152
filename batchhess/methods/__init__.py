"""The ways to a Hessian or a Jacobian: one file each, all with one signature."""

import collections

from batchhess.colouring import by_columns, by_rows, by_symmetry
from batchhess.methods.columns import columns
from batchhess.methods.differences import differences
from batchhess.methods.elements import elements
from batchhess.methods.forward import forward, pushed
from batchhess.methods.observations import observations
from batchhess.methods.reverse import reverse
from batchhess.methods.symmetric import symmetric

# build: (problem, passes) -> [N, K, K], or [N, K] where only diagonals are asked for;
# of a Jacobian [N, M, C].
# The rest are the assumptions that it makes; what is not said is taken to be so that
# nothing goes unchecked. needs_separable: coupled observations spoil the answer.
# differentiates_twice: it takes second derivatives from TensorFlow. by_blocks: it works
# on a `Partition`, one block of observations after another. compiles: XLA can.
# by_columns: it answers the columns of the coordinates asked for, and no others.
# colours: from a `Pattern` to the `Colouring` of the sums of columns or rows that it
# answers; None if it answers none.
Method = collections.namedtuple(
    "Method",
    "build needs_separable differentiates_twice by_blocks compiles by_columns colours",
    defaults=(True, True, False, False, False, None),
)

METHODS = {
    "columns": Method(columns, compiles=True, by_columns=True, colours=by_symmetry),
    "observations": Method(observations, needs_separable=False),
    "symmetric": Method(symmetric, by_blocks=True, compiles=True),
    "differences": Method(differences, differentiates_twice=False),
}

# What "auto" takes: the first one that can go through the model.
AUTO = ("symmetric", "columns")

# Those of products with vectors: whole Hessians first, or all vectors at once, or a
# pass for each.
PRODUCT_METHODS = {
    "symmetric": METHODS["symmetric"],
    "forward": Method(pushed, by_blocks=True),
    "columns": METHODS["columns"],
}


def methods_for(wanted):
    """The methods that what is `Wanted` can be found by: a dict from their names."""
    return PRODUCT_METHODS if wanted.is_product else METHODS


# Those of Jacobians. Forward takes derivatives of gradients where an op is neither
# linear nor element by element.
JACOBIAN_METHODS = {
    "forward": Method(
        forward, by_blocks=True, compiles=True, by_columns=True, colours=by_columns
    ),
    "reverse": Method(
        reverse,
        differentiates_twice=False,
        compiles=True,
        by_columns=True,
        colours=by_rows,
    ),
    "observations": Method(
        elements, needs_separable=False, differentiates_twice=False, by_columns=True
    ),
}
