"""What is asked for, and what a method is given to differentiate."""

import collections

from batchhess.compat import tf

# What is asked of the Hessian of each observation.
# axes: how often K stands in the shape of the answer. diagonal: bool, whether only the
# diagonals are needed. is_product: bool, whether it is one product with a vector.
# along: from what a method answers, and v of shape [N, K], to the terms whose sum over
# the last axis is H[n] v[n]: a Tensor [N, K, terms]; None for a product. finish: from
# what a method answers to the answer.
Wanted = collections.namedtuple("Wanted", "axes diagonal is_product along finish")


def _as_it_is(found):
    return found


def _times_diagonal(found, v):
    return (found * v)[:, :, None]


WHOLE = Wanted(2, False, False, lambda found, v: found * v[:, None, :], _as_it_is)
DIAGONAL = Wanted(1, True, False, _times_diagonal, _as_it_is)
TRACE = Wanted(0, True, False, _times_diagonal, lambda found: tf.reduce_sum(found, 1))
PRODUCT = Wanted(1, False, True, None, _as_it_is)


class Request(
    collections.namedtuple(
        "Request",
        "ys xs name wanted passes vs batch_axis method check per_output coordinates "
        "unconnected_gradients with_gradients",
        defaults=(
            (None, 0, "auto", "auto", False, None)
            + (tf.UnconnectedGradients.NONE, False)
        ),
    )
):
    """What a public function was asked for.

    Attributes:
      wanted: the `Wanted`.
      passes: the `Passes`.
      with_gradients: bool, whether the gradients are wanted too, so that what computes
        both is taken for both.
      The others: as in the public functions.
    """


# ys: list of Tensors, and seeds: list of Tensors that weigh them, or None for ones.
# gradient: Tensor, the gradient of ys, of the shape of x.
# x: a Tensor or Variable, and layout its `Layout`.
# partition: the `Partition` of ys, or None where there is none.
# adjoints: dict from the key of a Tensor between x and ys to the gradient by it, or to
# None if that is zero; None where only the gradient by x was asked for.
# diagonal: bool, whether only the diagonals are asked for.
# coordinates: tuple of int, those whose columns are asked for; None for all.
# outputs: M, the outputs of the one y whose Jacobian is asked for, an int or a scalar
# Tensor; None where it is a Hessian.
# unrolled: bool, whether passes are to be built one by one.
class Problem(
    collections.namedtuple(
        "Problem",
        "ys seeds gradient x layout partition adjoints diagonal coordinates outputs "
        "unrolled",
        defaults=(None, None, False, None, None, False),
    )
):
    """What a method is given to differentiate."""

    @property
    def count(self):
        """C, how many columns are asked for: an int or a scalar Tensor."""
        chosen = self.coordinates
        return self.layout.size if chosen is None else len(chosen)

    @property
    def shape(self):
        """The sizes after N of what a method answers, block by block."""
        if self.outputs is not None:
            return [self.outputs, self.count]
        return ([] if self.diagonal else [self.layout.size]) + [self.count]

    def chosen(self, rows):
        """The columns that are asked for, of `rows`, [N, K] or [K]."""
        if self.coordinates is None:
            return rows
        return tf.gather(rows, list(self.coordinates), axis=rows.shape.ndims - 1)

    def coordinate(self, c):
        """The coordinate of column `c`, an int or a scalar Tensor."""
        if self.coordinates is None:
            return c
        if isinstance(c, int):
            return self.coordinates[c]
        return tf.gather(tf.constant(self.coordinates), c)
