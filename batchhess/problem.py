"""What a method is given to differentiate."""

import collections

# ys: list of Tensors, and seeds: list of Tensors that weigh them, or None for ones.
# gradient: Tensor, the gradient of ys, of the shape of x.
# x: a Tensor or Variable, and layout its `Layout`.
# partition: the `Partition` of ys, or None where there is none.
# adjoints: dict from the key of a Tensor between x and ys to the gradient by it, or to
# None if that is zero; None where only the gradient by x was asked for.
# diagonal: bool, whether only the diagonals are asked for.
Problem = collections.namedtuple(
    "Problem",
    "ys seeds gradient x layout partition adjoints diagonal",
    defaults=(None, None, False),
)
