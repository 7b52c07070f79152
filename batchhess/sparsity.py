"""Hessians and Jacobians whose pattern of zeros is known: from passes to entries."""

from typing import NamedTuple

import numpy as np

from batchhess.calling import assert_that
from batchhess.colouring import Pattern, count
from batchhess.compat import tf, where
from batchhess.graph.tensors import name_of
from batchhess.problem import Wanted

# What two ways to sum the same products may differ by, relative to the root of the sum
# of their squares; relative to the largest of all observations; and what moves that by
# which they are differentiated by no more than its own rounding, as x moves by its own
# size.
_ROUNDING = {
    "float32": (1e-3, 1e-5, 3e-5),
    "complex64": (1e-3, 1e-5, 3e-5),
    "float64": (1e-9, 1e-12, 3e-14),
    "complex128": (1e-9, 1e-12, 3e-14),
}

# In these an entry that is left out cannot be told from rounding.
_COARSE = "bfloat16", "float16"

# What is left out may have no more than this of the largest entry of all observations.
_SMALL = 1e-4


class SparseMatrices(NamedTuple):
    """The entries of one pattern, of each observation.

    Attributes:
      indices: int64 array [entries, 2], the rows and columns, row by row.
      values: Tensor [N, entries], or [N, M, entries] with `per_output`.
    """

    indices: np.ndarray
    values: tf.Tensor


def patterns(sparsity, xs):
    """The `Pattern` of each of `xs`.

    Args:
      sparsity: matrix, of numpy or scipy, that is not zero where an entry may be other
        than zero; or a list with one for each of `xs`.
      xs: list of Tensors or Variables.

    Raises:
      TypeError: it is a Tensor.
      ValueError: it is no matrix, or there are not as many as `xs`.
    """
    if not are_several_matrices(sparsity):
        return [_pattern(sparsity)] * len(xs)
    if len(sparsity) != len(xs):
        raise ValueError(
            "sparsity has {} matrices, and xs has {} tensors.".format(
                len(sparsity), len(xs)
            )
        )
    return [_pattern(matrix) for matrix in sparsity]


def are_several_matrices(sparsity):
    """Whether `sparsity` is a list of matrices, and not of the rows of one."""
    is_list = isinstance(sparsity, (list, tuple)) and len(sparsity) > 0
    return is_list and np.ndim(_array(sparsity[0])) == 2


def _array(matrix):
    if isinstance(matrix, (tf.Tensor, tf.SparseTensor)):
        raise TypeError(
            "sparsity must be a matrix of numpy or scipy, and not a Tensor: it decides "
            "which ops are built."
        )
    return matrix if hasattr(matrix, "nonzero") else np.asarray(matrix)


def _pattern(matrix):
    matrix = _array(matrix)
    if len(matrix.shape) != 2:
        raise ValueError(
            "sparsity must be a matrix, and has shape {}.".format(matrix.shape)
        )
    shape = tuple(int(size) for size in matrix.shape)
    rows, columns = (np.asarray(axis, np.int64) for axis in matrix.nonzero())
    places = np.unique(rows * shape[1] + columns)  # scipy may tell of one twice.
    return Pattern(places // max(shape[1], 1), places % max(shape[1], 1), shape)


def assert_fits(pattern, rows, columns, tensors):
    """Raises ValueError unless `pattern` is of `rows` by `columns`.

    Args:
      pattern: a `Pattern`.
      rows: int, or a scalar Tensor where the graph does not tell; `columns`: likewise.
      tensors: list of the Tensors or Variables whose sizes these are.
    """
    if not (isinstance(rows, int) and isinstance(columns, int)):
        raise ValueError(
            "sparsity needs to know the sizes of {}. Give them their shapes, but for "
            "the observations, with set_shape.".format(_names(tensors))
        )
    if pattern.shape != (rows, columns):
        raise ValueError(
            "sparsity has shape {}, and for {} it must be {}.".format(
                pattern.shape, _names(tensors), (rows, columns)
            )
        )


def assert_symmetric(pattern):
    """Raises ValueError unless the mirror image of each entry is in the pattern."""
    here = pattern.rows * pattern.shape[1] + pattern.columns
    there = pattern.columns * pattern.shape[1] + pattern.rows
    (wrong,) = np.nonzero(~np.isin(there, here))
    if wrong.size:
        i, j = (int(axis[wrong[0]]) for axis in (pattern.rows, pattern.columns))
        raise ValueError(
            "sparsity has [{}, {}] and not [{}, {}], and a Hessian is symmetric. Pass "
            "sparsity | sparsity.T.".format(i, j, j, i)
        )


def _names(tensors):
    return " and ".join("'{}'".format(name_of(t)) for t in tensors)


class Compressed:
    """A pattern, and how its entries are found among sums of rows or columns.

    Attributes:
      pattern: the `Pattern`.
      colouring: its `Colouring`.
      entries: int, how many the pattern has.
      passes: int, how many sums are to be found.
    """

    def __init__(self, pattern, colouring):
        self.pattern, self.colouring = pattern, colouring
        self.entries = len(pattern.rows)
        labels = colouring.coordinates
        self.passes = count(colouring.outputs if labels is None else labels)

    def precision_in(self, ops, x):
        """The name of the least precise dtype of `ops` between `x` and ys.

        None if the pattern has every entry, so that no other can be found.
        """
        if self.entries == self.pattern.shape[0] * self.pattern.shape[1]:
            return None
        tensors = [x] + [t for op in ops for t in op.outputs]
        names = {t.dtype.base_dtype.name for t in tensors}
        coarse = names.intersection(_COARSE)
        return min(coarse) if coarse else max(names & set(_ROUNDING), key=_ROUNDING.get)

    def given_to(self, problem):
        """`problem`, for a method to answer the sums."""
        labels = self.colouring
        return problem._replace(added=labels.coordinates, added_outputs=labels.outputs)

    def sparse(self, values):
        """`SparseMatrices` of `values`."""
        indices = np.stack([self.pattern.rows, self.pattern.columns], axis=1)
        return SparseMatrices(indices, values)

    def wanted(self, dense):
        """What is asked of the Hessian: the `Wanted`, for the values of its entries."""
        finish = self.dense if dense else lambda values: values
        return Wanted(2 if dense else 1, False, False, self._along, finish)

    def values(self, sums):
        """The entries [N, entries] of what a method answers, [N, rows, columns]."""
        rows, columns = self.pattern.shape
        width = self.passes * (rows if self.colouring.outputs is None else columns)
        flat = tf.reshape(sums, tf.stack([tf.shape(sums)[0], width]))
        return tf.gather(flat, self.colouring.places, axis=1)

    def dense(self, values):
        """The matrices [N, rows, columns] of `values`."""
        pattern, (rows, columns) = self.pattern, self.pattern.shape
        places = (pattern.rows * columns + pattern.columns)[:, None]
        number = np.arange(1, len(places) + 1)
        index = tf.scatter_nd(places, number, [rows * columns])  # 0 for what is zero.
        flat = tf.gather(tf.pad(values, [[0, 0], [1, 0]]), index, axis=1)
        return tf.reshape(flat, tf.stack([tf.shape(values)[0], rows, columns]))

    def times(self, values, v):
        """The products [N, rows] with `v`, [N, columns]."""
        terms = tf.transpose(values * tf.gather(v, self.pattern.columns, axis=1))
        return tf.transpose(_added(terms, self.pattern.rows, self.pattern.shape[0]))

    def _along(self, values, v):
        return self.times(values, v)[:, :, None]


def _far_apart(compressed, count, dtype):
    """Random numbers [count, rows] of size 0.5 to 1.5; no two of a colour meet.

    Those of a colour are as far from each other as they can be, from a random start;
    where their signs, which are random, differ, by 1 at least.
    """
    (rows, columns), colouring = compressed.pattern.shape, compressed.colouring
    labels = colouring.outputs
    if labels is None and rows == columns:  # By symmetry: of rows and columns alike.
        labels = colouring.coordinates
    places = np.zeros(rows)
    for label in [] if labels is None else np.unique(labels):
        (members,) = np.nonzero(labels == label)
        places[members] = np.arange(len(members)) / len(members)
    start = tf.random_uniform(tf.stack([count, 1]), dtype=dtype)
    sizes = 0.5 + tf.math.floormod(tf.constant(places, dtype) + start, 1)
    signs = tf.random_uniform(tf.stack([count, rows]), -1, 1, dtype)
    return where(signs < 0, -sizes, sizes)


def _added(terms, places, size):
    """[size, N], the sums of `terms`, [entries, N], that have the same place."""
    return tf.math.unsorted_segment_sum(terms, places, size)


def too_coarse(precision):
    """The refusal where no run can tell whether an entry was left out, or None."""
    if precision not in _COARSE:
        return None
    return ValueError(
        "sparsity= is held against each run, and of {} no run can tell an entry that "
        "was left out from rounding. Compute that part of the model in float32, leave "
        "sparsity= out, or pass check='never' if the pattern is right.".format(
            precision
        )
    )


def assert_covered(compressed, values, pull, x, flat, rows, precision):
    """Builds a check that fails the run where an entry outside the pattern is not zero.

    The product of a random vector, one of each observation's own, with the entries is
    held against a reverse pass with the vector for its seed, which knows of no pattern.
    An entry left out stands where that of another row of its colour does, and what
    tells is by how much the two numbers of the vector differ: they never are the same.

    Args:
      compressed: the `Compressed`.
      values: Tensor [N, entries].
      pull: function from a seed, [N, rows], to the answer of the pass, [N, columns].
      x: the Tensor or Variable.
      flat: Tensor [N, columns], `x`.
      rows: Tensor [N, rows], of which `values` are the derivatives.
      precision: the name of the least precise dtype on the way.

    Returns:
      an Operation that fails with InvalidArgumentError.
    """
    pattern, dtype = compressed.pattern, values.dtype
    count = tf.shape(values)[0]
    u = _far_apart(compressed, count, dtype)
    found = tf.transpose(pull(u))
    terms = tf.transpose(values * tf.gather(u, pattern.rows, axis=1))
    expected = _added(terms, pattern.columns, pattern.shape[1])  # [columns, N]
    squares = _added(tf.square(terms), pattern.columns, pattern.shape[1])
    scale = tf.sqrt(squares) + tf.abs(found)
    # What is not finite in one column hides nothing in another.
    finite = where(tf.math.is_finite(scale), scale, tf.zeros_like(scale))
    largest = tf.reduce_max(finite)
    here, anywhere, unseen = _ROUNDING[precision]
    sizes = [tf.reduce_max(tf.abs(tf.cast(t, dtype)), 1) for t in (rows, flat)]
    unseen = tf.minimum(unseen * sizes[0] / sizes[1], _SMALL * largest)
    allowed = here * scale + anywhere * largest
    allowed += where(unseen > 0, unseen, tf.zeros_like(unseen))
    near = tf.abs(found - expected) <= allowed
    wrong = tf.reduce_any(~near & tf.math.is_finite(expected), axis=0)
    message = (
        "the matrices of {} have entries that are not zero outside of sparsity, whose "
        "sums with others would stand in their place. Add them to sparsity; "
        "batchhess.detect_sparsity tells which there may be. Observations affected, of "
        "all:"
    ).format(name_of(x))
    number = tf.reduce_sum(tf.cast(wrong, tf.int32))
    return assert_that(tf.equal(number, 0), message, number, count)
