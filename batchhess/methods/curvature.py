"""Adds up the curvature of all ops between the tangents: T_u' C_u T_v."""

from batchhess.analysis.region import tensor_key
from batchhess.compat import tf
from batchhess.methods.tangents import Base, added


class Curvature:
    """A Hessian in the making.

    What works element by element has its curvature between two bases in numbers without
    K. Those of all ops between the same two bases are added up first: then each pair of
    bases is multiplied once.
    """

    def __init__(self, frame, largest):
        """`largest`: the elements that a product of shared bases may have."""
        self._frame, self._largest = frame, largest
        self._terms, self._between = [], {}

    def add_elements(self, tensor, first, second, curvature):
        """Adds the sum over places of curvature * (du_first/dx) * (du_second/dx).

        Args:
          tensor: Tensor to whose shape both bases are broadcast.
          first: `Base`.
          second: `Base`.
          curvature: Tensor of the shape of `tensor`.
        """
        frame = self._frame
        if not frame.same_sizes(first.of, second.of):
            if frame.places(first.of) > frame.places(second.of):
                first, second = second, first
            self._add_unlike(tensor, first, second, curvature)
            return
        curvature = frame.summed_to(curvature, tensor, first.of, frame.count)
        pair = tensor_key(first.value), tensor_key(second.value)
        if pair[::-1] in self._between:
            pair = pair[::-1]
        self._between.setdefault(pair, (first, second, []))[2].append(curvature)

    def add_weighted(self, tensor, weighted, base):
        """Adds the sum over places of weighted * base.

        Args:
          tensor: Tensor.
          weighted: Tensor of the shape of `tensor`, but N K places for N.
          base: a `Base` of `tensor`.
        """
        frame, size = self._frame, self._frame.size
        left = frame.split(Base(tensor, weighted, False, False))
        left = frame.flat(left, tensor, [frame.count, size])
        if base.unit:
            self._add(left)
            return
        rows = [] if base.shared else [frame.count]
        right = base.value if base.shared else frame.split(base)
        right = frame.flat(right, base.of, rows + [size])  # [K, places] if shared
        if base.shared:
            left = tf.reshape(
                left, tf.stack([frame.count * size, frame.places(tensor)])
            )
        self._add(tf.matmul(left, right, transpose_b=True))

    def total(self, dtype):
        """What was added, and its transpose: [N, K, K] of `dtype`, None if nothing."""
        for first, second, curvatures in self._between.values():
            self._multiply(first, second, added(curvatures))
        if not self._terms:
            return None
        total = added([tf.cast(term, dtype) for term in self._terms])
        return total + tf.linalg.matrix_transpose(total)

    def _add(self, term):
        shape = tf.stack([self._frame.count, self._frame.size, self._frame.size])
        self._terms.append(tf.reshape(term, shape))

    def _multiply(self, first, second, curvature):
        frame, size = self._frame, self._frame.size
        places = frame.places(first.of)
        if first.unit or first.shared and not second.shared:
            first, second = second, first
        if not (first.shared and size * size * places <= self._largest):
            weighted = tf.expand_dims(curvature, frame.axis(first.of) + 1)
            weighted = frame.merged(weighted * frame.split(first), first.of)
            self.add_weighted(first.of, weighted, second)
            return
        # The products of the bases are the same for all observations: [K, K, places].
        left = frame.flat(first.value, first.of, [size])  # [K, places]
        right = frame.flat(second.value, second.of, [size])
        products = tf.reshape(left[:, None] * right[None], [size * size, places])
        weights = frame.flat(curvature, first.of, [frame.count])  # [N, places]
        self._add(tf.matmul(weights, products, transpose_b=True))

    def _add_unlike(self, tensor, narrow, wide, curvature):
        frame = self._frame
        weighted = tf.expand_dims(curvature, frame.axis(tensor) + 1)
        whole = wide._replace(value=frame.spread(wide, tensor, wide.shared), of=tensor)
        weighted = frame.merged(weighted * frame.split(whole), tensor)
        weighted = frame.summed_to(weighted, tensor, narrow.of, frame.rows(False))
        self.add_weighted(narrow.of, weighted, narrow)
