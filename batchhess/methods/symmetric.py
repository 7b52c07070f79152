"""Second-order adjoint contraction: all columns at once, and no pass back.

With tangents T_u = du/dx, adjoints df/du, and for each op v = p(u) the curvature C_u of
sum(df/dv * p(u)): H is the sum over ops of T_u' C_u T_u. (Griewank & Walther 2008,
Evaluating Derivatives, chapters 5 and 10; Gower & Mello 2012 for edge pushing.) Where
what follows sees x only through some z of fewer coordinates, their sum is T_z' Z T_z,
with Z the Hessian by z.
"""

import copy

from batchhess.analysis.dominators import narrows
from batchhess.analysis.folds import folds
from batchhess.analysis.partition import IDENTITY, LINEAR
from batchhess.compat import tf
from batchhess.graph.tensors import tensor_key
from batchhess.methods.bilinear import times
from batchhess.methods.curvature import Curvature, Diagonal
from batchhess.methods.sweep import SMALL, Sweep
from batchhess.methods.tangents import Tangent
from batchhess.ops.integers import is_zeros
from batchhess.ops.table import declared


def symmetric(problem, passes):
    """Adds up the curvature that each op between x and the frontier brings in.

    The tangents of all K coordinates go forward through the model together, and nothing
    goes back: about half the work of `columns`. Every derivative is tf.gradients', of
    one op at a time; an op that works element by element needs it once, not K times.

    Args:
      problem: a `Problem` with adjoints; `partition` has gone through.
      passes: the `Passes` to differentiate with.

    Returns:
      a Tensor [N, K, K], symmetric to rounding; or [N, K] of the diagonals.
    """
    total = _Sweep(_Model(problem, passes), problem.x, problem.diagonal).total()
    if total is None:
        shape = [problem.layout.num_observations, problem.layout.size]
        shape += [] if problem.diagonal else shape[1:]
        return tf.zeros(tf.stack(shape), problem.x.dtype.base_dtype)
    return total


class _Model:
    """What every sweep reads of the model.

    Attributes:
      ops: list of the Operations from x to the frontier, in order.
      parts: the `Partition` of the model.
      count: N, an int or scalar Tensor.
      passes: the `Passes`.
      needed: set of the keys of Tensors whose tangents something nonlinear will read.
      adjoints: dict from the key of a Tensor to df/du.
      copied: list for what is built again, as of a `Problem`.
    """

    def __init__(self, problem, passes):
        self.parts, self.passes = problem.partition, passes
        self.copied = problem.copied
        self.count = problem.layout.num_observations
        self.needed = set()
        for op in reversed(self.parts.ops):
            if self.is_read_by(op):
                self.needed.update(tensor_key(t) for t in self.parts.depending(op))
        # Of a name of their own, at which differentiation can stop. tf.gradients tells
        # zeros of an output that nothing reads, which need not even have the shape that
        # TensorFlow tells (the vectors of eigvalsh have not).
        self.adjoints = {
            key: tf.identity(adjoint)
            for key, adjoint in problem.adjoints.items()
            if self.is_nonlinear(key[0]) and not _is_nothing(adjoint)
        }

    def is_nonlinear(self, op):
        return self.parts.kinds[op] not in (IDENTITY, LINEAR)

    def is_needed(self, op):
        """Whether the tangents of its outputs are."""
        return any(tensor_key(t) in self.needed for t in op.outputs)

    def is_read_by(self, op):
        """Whether `op` needs the tangents of its inputs."""
        return self.is_nonlinear(op) or self.is_needed(op)

    def by_rows(self, fold):
        """The same with the rows of a `Fold` for observations."""
        rows = copy.copy(self)
        rows.parts, rows.count = fold.parts, self.count * fold.each
        return rows


def _is_nothing(adjoint):
    return adjoint is None or is_zeros(adjoint)


class _Sweep(Sweep):
    """One walk from a Tensor to the frontier, which adds up the curvature on the way.

    Args:
      model: the `_Model`.
      start: the Tensor to start from.
      diagonal: bool, whether to answer diagonals alone.
      ops: list of the Operations to visit, in order; all of the model's if None.
      wanted: the keys of the Tensors whose tangents others than `ops` need.
    """

    def __init__(self, model, start, diagonal=False, ops=None, wanted=()):
        super().__init__(
            model.parts, model.count, model.passes, start, copied=model.copied
        )
        self._model, self._adjoints, self._diagonal = model, model.adjoints, diagonal
        self._narrows, self._ops = [], model.parts.ops if ops is None else ops
        dtype = start.dtype.base_dtype
        found = folds(start, self._ops, model.parts, model.is_nonlinear)
        self._folds = {fold.tensor.op: fold for fold in found}
        if diagonal:
            self._curvature = Diagonal(self._frame, dtype)
        else:
            self._curvature = Curvature(self._frame, dtype, SMALL)
            self._narrows, self._ops = narrows(
                start,
                self._ops,
                model.parts,
                model.is_nonlinear,
                model.is_read_by,
                wanted,
            )

    def total(self):
        """The Hessians by `start`, [N, K, K]; None if they are zero."""
        inside = {op for fold in self._folds.values() for op in fold.ops}
        outside = [op for op in self._ops if op not in inside]
        readers = [op for op in outside if self._model.is_read_by(op)]
        read = {tensor_key(t) for op in readers for t in op.inputs}
        for op in outside:
            if self._model.is_read_by(op) and self.is_reached(op):
                self.enter(op)
            if op in self._folds:
                self._enter_fold(self._folds[op], read)
        for tensor, after in self._narrows:
            base = self.base(tensor)
            inner = base and _Sweep(self._model, tensor, ops=after).total()
            if inner is not None:
                self._curvature.add_pulled_back(inner, base)
        return self._curvature.total()

    def _enter_fold(self, fold, read):
        """Goes through `fold` row by row, with the coordinates of a row alone.

        Args:
          fold: a `Fold`.
          read: set of the keys of Tensors whose tangents what is outside needs.
        """
        model = self._model.by_rows(fold)
        rows = _Sweep(model, fold.tensor, self._diagonal, fold.ops, read)
        inner = rows.total()
        if inner is not None:
            self._curvature.add_rows(inner, fold.each)
        for tensor in [t for op in fold.ops for t in op.outputs]:
            if tensor_key(tensor) in read and rows.tangent(tensor) is not None:
                base = self._frame.of_rows(rows.base(tensor))
                self._set(tensor, Tangent(base, None))

    def is_needed(self, tensor):
        return self._model.is_needed(tensor.op)

    def meets_elements(self, op, elements, tangents):
        """Adds curvatures: tensors of the output's shape, with no K in them."""
        output, frame, passes = op.outputs[0], self._frame, self._passes
        adjoint = self._adjoints.get(tensor_key(output))
        if adjoint is None:
            return
        here, wide, held = elements.here, elements.wide, elements.held
        first = tangents[0].scale if len(tangents) == 1 and tangents[0] else None
        if first is not None:  # 1 / p**2, of log p, would overflow; p / p does not.
            adjoint *= first
        pulled = passes.locally([here], wide, [adjoint], held)
        halves = tf.fill(frame.shape(output), tf.constant(0.5, output.dtype.base_dtype))
        for i, part in enumerate(pulled):
            if part is None or tangents[i] is None:
                continue
            curvatures = passes.locally([part], wide[i:], [halves], held + [adjoint])
            for j, curvature in enumerate(curvatures, i):
                if curvature is None or tangents[j] is None or is_zeros(curvature):
                    continue
                if j > i:
                    curvature *= 2  # For the term of j and i as well.
                scales = [tangents[i].scale, tangents[j].scale]
                for scale in scales if first is None else scales[1:]:
                    if scale is not None:
                        curvature *= scale
                self._curvature.add_elements(
                    output, tangents[i].base, tangents[j].base, curvature
                )

    def meets_product(self, op, product, bases):
        """Adds the term of left and right, and of right and left: not half of it."""
        adjoint = self._adjoints.get(tensor_key(op.outputs[0]))
        if adjoint is not None and None not in bases:
            left, frame = op.inputs[0], self._frame
            right = frame.split(bases[1]), bases[1].shared
            weighted = frame.merged(product.left(adjoint, right), left)
            self._curvature.add_weighted(left, weighted, bases[0])

    def any(self, op):
        """Differentiates the adjoints of the inputs along the tangents, too."""
        outputs = [t for t in op.outputs if tensor_key(t) in self._adjoints]
        if not outputs:
            return
        if declared(op).bend is not None and self._frame.each(op.inputs[0]) == 1:
            self._bend(op)
            super().any(op)
            return
        it = self.pull(op, outputs, self._half_adjoint)
        if not it.pulled:
            return
        second = self.along(it, it.here, it.inputs)
        for base, value in zip(it.bases, second):
            if value is not None and not is_zeros(value):
                self._curvature.add_weighted(base.of, value, base)
        if self._needs(op):
            self.push(it)

    def _bend(self, op):
        """The same where the table tells what the adjoint of the input does."""
        (tensor,), frame = op.inputs, self._frame
        base = self.base(tensor)
        adjoints = [self._adjoints.get(tensor_key(t)) for t in op.outputs]
        halves = [
            a if a is None else frame.beside_k(0.5 * a, t)
            for a, t in zip(adjoints, op.outputs)
        ]
        tangents = frame.split(base), base.shared
        bent = declared(op).bend(op, halves, tangents, times(frame.axis(tensor)))
        if bent is not None:
            self._curvature.add_weighted(tensor, frame.merged(bent, tensor), base)

    def _half_adjoint(self, tensor, copied):
        adjoint = 0.5 * self._adjoints[tensor_key(tensor)]
        if self._parts.is_batched(tensor) and copied is not tensor:
            adjoint = self._repeat(adjoint, self._parts.state(tensor))
        return adjoint
