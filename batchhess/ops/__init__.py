"""The table of ops: all that the library knows of an op, in one declaration each."""

from batchhess.ops import (  # noqa: F401  Each declares the ops of its family.
    arrays,
    elementwise,
    flow,
    images,
    integers,
    losses,
    matrices,
    products,
    reductions,
    selections,
    shapes,
)
