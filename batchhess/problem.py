"""What is asked for, and what a method is given to differentiate."""

import collections

import numpy as np

from batchhess.colouring import count as labels
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


def times(v):
    """The `Wanted` of whole Hessians, of which the answer is products with `v`.

    Args:
      v: Tensor [N, V, K].
    """
    return WHOLE._replace(axes=1, finish=lambda found: tf.matmul(v, found))


class Request(
    collections.namedtuple(
        "Request",
        "ys xs name wanted passes vs batch_axis method check per_output coordinates "
        "sparsity dense unconnected_gradients with_gradients stands_for sources",
        defaults=(
            (None, 0, "auto", "auto", False, None, None, True)
            + (tf.UnconnectedGradients.NONE, False, {}, None)
        ),
    )
):
    """What a public function was asked for.

    Attributes:
      wanted: the `Wanted`.
      passes: the `Passes`.
      with_gradients: bool, whether the gradients are wanted too, so that what computes
        both is taken for both.
      stands_for: dict from the key of a Tensor that was built to the caller's own.
      sources: list of the caller's own xs, if the one here holds all of them; or None.
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
# added: int array [K], the column of the answer that each coordinate's is added to, -1
# for none; None where each has its own. added_outputs: likewise the rows of a Jacobian.
# outputs: M, the outputs of the one y whose Jacobian is asked for, an int or a scalar
# Tensor; None where it is a Hessian.
# vectors: Tensor [N, V, K] of the directions of each observation, whose derivatives are
# asked for in the place of columns; None for those of coordinates.
# unrolled: bool, whether passes are to be built one by one.
# copied: list that a method adds pairs to, of a Tensor of the model and of what an op
# that it has built again answers for it: a run in which they differ must fail; None if
# nobody asks.
class Problem(
    collections.namedtuple(
        "Problem",
        "ys seeds gradient x layout partition adjoints diagonal coordinates added "
        "added_outputs outputs vectors unrolled copied",
        defaults=(None, None, False, None, None, None, None, None, False, None),
    )
):
    """What a method is given to differentiate."""

    @property
    def count(self):
        """C, how many columns are asked for: an int or a scalar Tensor."""
        if self.vectors is not None:
            return self.vectors.shape.as_list()[1]
        if self.added is not None:
            return labels(self.added)
        chosen = self.coordinates
        return self.layout.size if chosen is None else len(chosen)

    @property
    def rows(self):
        """How many rows of a Jacobian are asked for: an int or a scalar Tensor."""
        added = self.added_outputs
        return self.outputs if added is None else labels(added)

    @property
    def shape(self):
        """The sizes after N of what a method answers, block by block."""
        if self.vectors is not None:
            return [self.count, self.layout.size]
        if self.outputs is not None:
            return [self.rows, self.count]
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

    def is_in_column(self, c):
        """Which coordinates column `c` is of: a bool Tensor [K]."""
        if self.added is not None:
            return tf.equal(self.added.astype(np.int32), c)
        return tf.equal(tf.range(self.layout.size), self.coordinate(c))

    def is_in_row(self, m):
        """Which outputs row `m` of a Jacobian is of: a bool Tensor [M]."""
        added = self.added_outputs
        rows = tf.range(self.outputs) if added is None else added.astype(np.int32)
        return tf.equal(rows, m)

    @property
    def directions(self):
        """[C, K], the coordinates of each column; None where each has its own.

        Or [N, C, K], where each observation has others.
        """
        if self.vectors is not None:
            return self.vectors
        if self.added is not None:
            columns = np.arange(self.count)[:, None] == self.added
        elif self.coordinates is not None:
            columns = np.array(self.coordinates)[:, None] == np.arange(self.layout.size)
        else:
            return None
        return tf.cast(tf.constant(columns), self.x.dtype.base_dtype)
