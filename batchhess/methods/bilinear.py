"""Products of two tensors that both depend on x, with all K tangents of one of them."""

import string

from batchhess.compat import tf
from batchhess.ops.products import einsum_labels
from batchhess.ops.sizes import shape_of
from batchhess.ops.states import NotProvenError
from batchhess.ops.table import LETTERS, MATRICES, declared

# To multiply so few rows from the left, K times, is slower than to transpose twice.
_FEW = 32


def bilinear(op, parts):
    """How to multiply as `op` does.

    Args:
      op: an Operation that is linear in each of its two inputs.
      parts: the `Partition` that it is of.

    Returns:
      an object with two methods, or None where there is none for `op`:
      output(left, right): the product. left(adjoint, right): the adjoint of the left
      input, given that of the output. Each argument is a Tensor of the shape of that
      input or output; or, to be done for each coordinate, a pair of (Tensor, shared)
      with an axis of K after the observation axis, which is 1 long if `shared`. The
      answer has that axis.
    """
    tensors = list(op.inputs) + [op.outputs[0]]
    states = [parts.state(t) for t in tensors]
    if not all(state.is_own for state in states) or len(tensors) != 3:
        return None
    axes = [s.axis for s in states]
    if declared(op).product == MATRICES:
        shapes = [shape_of(t) for t in tensors]
        batches = [shape[:-2] for shape in shapes]
        for batch, axis in zip(batches, axes):
            batch[axis : axis + 1] = ["observations"]
        # With the observations among the matrices' own axes the lists differ.
        if batches[0] == batches[1] == batches[2] and axes[0] < len(batches[0]):
            return _Matrices(op.get_attr("adj_x"), op.get_attr("adj_y"), axes[0])
    if declared(op).product == LETTERS:
        try:
            terms, output = einsum_labels(op)
        except NotProvenError:
            return None
        known = all(isinstance(letter, str) for term in terms for letter in term)
        # An adjoint's term must not name one of its letters twice.
        once = len(set(terms[0])) == len(terms[0])
        if known and once and set(terms[0]) <= set(terms[1]) | set(output):
            return _Letters(terms, output, output[axes[2]])
    return None


def times(axis):
    """Products of matrices, with the observations along `axis`: (left, right, flip)."""

    def product(left, right, flip):
        return _Matrices(False, flip, axis).output(left, right)

    return product


class _Matrices:
    """BatchMatMul, whose observations lie before the last two axes."""

    def __init__(self, flip_left, flip_right, axis):
        self._flip_left, self._flip_right, self._axis = flip_left, flip_right, axis

    def output(self, left, right):
        return self._matmul(left, right, self._flip_left, self._flip_right)

    def left(self, adjoint, right):
        if self._flip_left:
            return self._matmul(right, adjoint, self._flip_right, True)
        return self._matmul(adjoint, right, False, not self._flip_right)

    def _matmul(self, left, right, flip_left, flip_right):
        if self._k_by_rows(left) and not (flip_left or isinstance(right, tuple)):
            return self._of_many_rows(left[0], right, flip_right)
        if self._k_by_rows(right) and not isinstance(left, tuple):
            few = left.shape[-1 if flip_left else -2] <= _FEW
            if few and (flip_right or right[1]):
                rows = right[0] if flip_right else tf.linalg.matrix_transpose(right[0])
                flipped = self._of_many_rows(rows, left, not flip_left)
                return tf.linalg.matrix_transpose(flipped)
        return tf.matmul(self._with_k(left), self._with_k(right), flip_left, flip_right)

    def _of_many_rows(self, left, right, flip_right):
        """One product of [K T, d] for each observation, not K of [T, d]."""
        before, (k, rows), depth = _split(tf.shape(left))
        left = tf.reshape(left, tf.concat([before, [k * rows], depth], 0))
        value = tf.matmul(left, right, transpose_b=flip_right)
        before, _, width = _split(tf.shape(value), rows=1)
        return tf.reshape(value, tf.concat([before, [k, rows], width], 0))

    def _k_by_rows(self, factor):
        """Whether the axis of K comes right before those of the matrix."""
        return isinstance(factor, tuple) and self._axis == factor[0].shape.ndims - 4

    def _with_k(self, factor):
        if isinstance(factor, tuple):
            return factor[0]
        return tf.expand_dims(factor, self._axis + 1)


def _split(shape, rows=2):
    """The sizes before the `rows` last but one, those, and the last."""
    return shape[: -rows - 1], tf.unstack(shape[-rows - 1 : -1], rows), shape[-1:]


class _Letters:
    """Einsum of two inputs."""

    def __init__(self, terms, output, observation):
        self._left, self._right, self._output = terms[0], terms[1], output
        self._observation = observation
        used = set(self._left) | set(self._right)
        self._k = next(c for c in string.ascii_letters if c not in used)

    def output(self, left, right):
        return self._einsum((self._left, left), (self._right, right), self._output)

    def left(self, adjoint, right):
        return self._einsum((self._output, adjoint), (self._right, right), self._left)

    def _einsum(self, first, second, output):
        terms, values = [], []
        for term, value in (first, second):
            if isinstance(value, tuple):
                value, shared = value
                place = term.index(self._observation)
                value = tf.squeeze(value, place) if shared else value
                term = self._with_k(term, shared)
            terms.append("".join(term))
            values.append(value)
        equation = "{},{}->{}".format(*terms, "".join(self._with_k(output, False)))
        return tf.einsum(equation, *values)

    def _with_k(self, term, shared):
        place = term.index(self._observation)
        kept = [] if shared else [self._observation]
        return term[:place] + kept + [self._k] + term[place + 1 :]
