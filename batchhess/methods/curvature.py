"""Adds up the curvature of all ops between the tangents: T_u' C_u T_v."""

from batchhess.compat import tf
from batchhess.graph.tensors import tensor_key
from batchhess.methods.tangents import Base, added, blocks

# A symmetric product is computed up to its diagonal, in this many bands of rows; but
# not for a K of so few, where products so small cost more than they save.
_BANDS, _FEW = 4, 128


class Curvature:
    """A Hessian in the making.

    What works element by element has its curvature between two bases in numbers without
    K. Those of all ops between the same two bases are added up first: then each pair of
    bases is multiplied once.
    """

    def __init__(self, frame, dtype, largest):
        """`largest`: the elements that a product of shared bases may have."""
        self._frame, self._dtype, self._largest = frame, dtype, largest
        self._whole, self._halves, self._between, self._bands = [], [], {}, {}

    def add_elements(self, tensor, first, second, curvature):
        """Adds the sum over places of curvature * (du_first/dx) * (du_second/dx).

        And its transpose.

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
        """Adds the sum over places of weighted * base, and its transpose.

        Args:
          tensor: Tensor.
          weighted: Tensor of the shape of `tensor`, but N K places for N.
          base: a `Base` of `tensor`.
        """
        left = self._frame.flat_base(Base(tensor, weighted, False, False))
        right = None if base.unit else self._frame.flat_base(base)
        self._add(self._halves, left if right is None else self._product(left, right))

    def add_pulled_back(self, matrices, base):
        """Adds the product of `matrices` with `base` on each side.

        Args:
          matrices: Tensor [N, D, D], symmetric.
          base: a `Base` of a tensor with D places for each observation.
        """

        def weigh(rows):
            return tf.matmul(rows[None] if base.shared else rows, matrices)

        self._add_symmetric(self._frame.flat_base(base), weigh)

    def add_rows(self, matrices, each):
        """Adds `matrices`, [N T, D, D], of the T = `each` parts of each observation.

        The coordinates are those of the first part, those of the second, and so on.
        """
        own = self._frame.size // each
        rows = [self._frame.count, each, own, 1, own]
        self._add(self._whole, blocks(self._frame.shaped(matrices, rows), each))

    def total(self):
        """What was added, halves on both sides: [N, K, K]; None if nothing was."""
        for first, second, curvatures in self._between.values():
            self._multiply(first, second, added(curvatures))
        halves = self._halves + ([self._triangle()] if self._bands else [])
        terms = list(self._whole)
        if halves:
            half = added(halves)
            terms += [half, tf.linalg.matrix_transpose(half)]
        return added(terms) if terms else None

    def _add(self, terms, term):
        shape = [self._frame.count, self._frame.size, self._frame.size]
        terms.append(tf.cast(self._frame.shaped(term, shape), self._dtype))

    def _multiply(self, first, second, curvature):
        frame, size = self._frame, self._frame.size
        places = frame.places(first.of)
        if first.unit or first.shared and not second.shared:
            first, second = second, first
        is_symmetric = first.value is second.value
        if is_symmetric:
            curvature *= 2  # Nothing of K is in it yet, and no transpose is needed.
        if not (first.shared and size * size * places <= self._largest):
            if is_symmetric:
                # [N, 1, places]
                weights = frame.flat(curvature, first.of, [frame.count])[:, None]
                columns = frame.flat_base(first)
                if first.unit:
                    self._add(self._whole, weights * columns)
                else:
                    self._add_symmetric(columns, lambda rows: weights * rows)
                return
            weighted = frame.beside_k(curvature, first.of) * frame.split(first)
            weighted = frame.merged(weighted, first.of)
            self.add_weighted(first.of, weighted, second)
            return
        # The products of the bases are the same for all observations: [K, K, places].
        left, right = frame.flat_base(first), frame.flat_base(second)  # [K, places]
        products = tf.reshape(left[:, None] * right[None], [size * size, places])
        weights = frame.flat(curvature, first.of, [frame.count])  # [N, places]
        terms = self._whole if is_symmetric else self._halves
        self._add(terms, tf.matmul(weights, products, transpose_b=True))

    def _product(self, left, right):
        """[N, k, places] by [N, K, places], or by [K, places]: [N, k, K]."""
        if right.shape.ndims == 3:
            return tf.matmul(left, right, transpose_b=True)
        frame, (_, k, places) = self._frame, left.shape.as_list()
        rows = frame.rows(False) if k == frame.size else frame.count * k
        left = frame.shaped(left, [rows, places])
        product = tf.matmul(left, right, transpose_b=True)
        return frame.shaped(product, [frame.count, k, right.shape.as_list()[0]])

    def _add_symmetric(self, columns, weigh):
        """Adds weigh(columns) * columns', which is symmetric.

        Args:
          columns: Tensor [N, K, places] or [K, places].
          weigh: function from some rows, [N, k, places] or [k, places], to a Tensor
            [N, k, places].
        """
        size = self._frame.size
        if size < _FEW:
            self._add(self._whole, self._product(weigh(columns), columns))
            return
        for i in range(_BANDS):
            band = slice(i * size // _BANDS, (i + 1) * size // _BANDS)
            rows = weigh(columns[..., band, :])
            products = self._product(rows, columns[..., : band.stop, :])
            products = tf.cast(products, self._dtype)
            self._bands.setdefault((band.start, band.stop), []).append(products)

    def _triangle(self):
        """The bands as [N, K, K], whole below the diagonal, half of it, zeros above."""
        rows = []
        for (start, end), terms in sorted(self._bands.items()):
            band = added(terms)
            zeros = tf.zeros_like(band[:, :, :1])
            above = tf.tile(zeros, [1, 1, self._frame.size - end])
            square = 0.5 * band[:, :, start:]
            rows.append(tf.concat([band[:, :, :start], square, above], 2))
        return tf.concat(rows, 1)

    def _add_unlike(self, tensor, narrow, wide, curvature):
        frame = self._frame
        whole = frame.split(frame.broadcast(wide, tensor))
        weighted = frame.merged(frame.beside_k(curvature, tensor) * whole, tensor)
        weighted = frame.summed_to(weighted, tensor, narrow.of, frame.rows(False))
        self.add_weighted(narrow.of, weighted, narrow)


class Diagonal:
    """The same for diagonals alone: nothing of [K, K] is computed."""

    def __init__(self, frame, dtype):
        self._frame, self._dtype = frame, dtype
        self._terms, self._between = [], {}

    def add_elements(self, tensor, first, second, curvature):
        """As in `Curvature`."""
        frame, of = self._frame, first.of
        if frame.same_sizes(of, second.of):
            curvature = frame.summed_to(curvature, tensor, of, frame.count)
        else:
            first, second = (frame.broadcast(base, tensor) for base in (first, second))
            of = tensor
        weights = frame.flat(curvature, of, [frame.count])  # [N, places]
        pair = frozenset([tensor_key(first.value), tensor_key(second.value)])
        self._between.setdefault(pair, (first, second, []))[2].append(weights)

    def add_weighted(self, tensor, weighted, base):
        """As in `Curvature`."""
        left = self._frame.flat_base(Base(tensor, weighted, False, False))
        self._add(tf.reduce_sum(left * self._frame.flat_base(base), 2))

    def add_rows(self, rows, each):
        """As in `Curvature`, of diagonals alone: [N T, D]."""
        shape = [self._frame.count, self._frame.size]
        self._add(self._frame.shaped(0.5 * rows, shape))

    def total(self):
        """What was added, and once more: [N, K]; None if nothing was."""
        for first, second, weights in self._between.values():
            self._multiply(first, second, added(weights))
        return 2 * added(self._terms) if self._terms else None

    def _add(self, term):
        self._terms.append(tf.cast(term, self._dtype))

    def _multiply(self, first, second, weights):
        if first.unit and second.unit:
            self._add(weights)
            return
        products = self._frame.flat_base(first) * self._frame.flat_base(second)
        if first.shared and second.shared:  # [K, places]
            self._add(tf.matmul(weights, products, transpose_b=True))
        else:
            self._add(tf.matmul(products, weights[:, :, None])[:, :, 0])
