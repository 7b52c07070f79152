"""Second-order adjoint contraction: all columns at once, and no pass back.

With tangents T_u = du/dx, adjoints df/du, and for each op v = p(u) the curvature C_u of
sum(df/dv * p(u)): H is the sum over ops of T_u' C_u T_u. (Griewank & Walther 2008,
Evaluating Derivatives, chapters 5 and 10; Gower & Mello 2012 for edge pushing.) Where
what follows sees x only through some z of fewer coordinates, their sum is T_z' Z T_z,
with Z the Hessian by z.
"""

from batchhess.analysis.dominators import narrows
from batchhess.analysis.partition import BILINEAR, ELEMENTS, GENERAL, IDENTITY, LINEAR
from batchhess.compat import tf
from batchhess.graph.tensors import tensor_key
from batchhess.methods.bilinear import bilinear
from batchhess.methods.curvature import Curvature, Diagonal
from batchhess.methods.tangents import Base, Frame, Tangent, added
from batchhess.ops.integers import is_zeros
from batchhess.ops.table import (
    ADDED,
    JOINED,
    MULTIPLIED,
    RESHAPED,
    SCALED,
    SUBTRACTED,
    TOTALLED,
    TRANSPOSED,
    declared,
)
from batchhess.rebuild import copy, on_observations, shape_with, tile_along

# The elements that may be worked out anew in each block to save a pass over all
# tangents: a fraction of a processor's cache.
_SMALL = 1 << 19


def symmetric(problem, passes):
    """Adds up the curvature that each op between x and the frontier brings in.

    The tangents of all K coordinates go forward through the model together, and nothing
    goes back: about half the work of `columns`. Every derivative is tf.gradients', of
    one op at a time; an op that works element by element needs it once, not K times.

    Args:
      problem: a `Problem` with adjoints; `partition` has gone through.
      passes: the `Passes` to differentiate with.

    Returns:
      a Tensor [N, K, K], exactly symmetric; or [N, K] of the diagonals.
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
    """

    def __init__(self, problem, passes):
        self.parts, self.passes = problem.partition, passes
        self.count = problem.layout.num_observations
        self.needed = set()
        for op in reversed(self.parts.ops):
            if self.is_read_by(op):
                self.needed.update(tensor_key(t) for t in self.parts.depending(op))
        # Of a name of their own, at which differentiation can stop.
        self.adjoints = {
            key: tf.identity(adjoint)
            for key, adjoint in problem.adjoints.items()
            if adjoint is not None and self.is_nonlinear(key[0])
        }

    def is_nonlinear(self, op):
        return self.parts.kinds[op] not in (IDENTITY, LINEAR)

    def is_needed(self, op):
        """Whether the tangents of its outputs are."""
        return any(tensor_key(t) in self.needed for t in op.outputs)

    def is_read_by(self, op):
        """Whether `op` needs the tangents of its inputs."""
        return self.is_nonlinear(op) or self.is_needed(op)


class _Sweep:
    """One walk from a Tensor to the frontier, with the tangents of its coordinates.

    Args:
      model: the `_Model`.
      start: the Tensor to start from.
      diagonal: bool, whether to answer diagonals alone.
      ops: list of the Operations to visit, in order; all of the model's if None.
    """

    def __init__(self, model, start, diagonal=False, ops=None):
        self._model, self._parts = model, model.parts
        self._passes, self._adjoints = model.passes, model.adjoints
        self._is_needed = model.is_needed
        self._narrows, self._ops = [], model.parts.ops if ops is None else ops
        self._frame = Frame(model.parts, model.count, start)
        dtype = start.dtype.base_dtype
        if diagonal:
            self._curvature = Diagonal(self._frame, dtype)
        else:
            self._curvature = Curvature(self._frame, dtype, _SMALL)
            self._narrows, self._ops = narrows(
                start, self._ops, model.parts, model.is_nonlinear, model.is_read_by
            )
        self._tangents = {tensor_key(start): self._frame.unit(start)}
        self._repeated = {}

    def total(self):
        """The Hessians by `start`, [N, K, K]; None if they are zero."""
        for op in self._ops:
            self._enter(op)
        for tensor, after in self._narrows:
            tangent = self._tangent(tensor)
            inner = tangent and _Sweep(self._model, tensor, ops=after).total()
            if inner is not None:
                base = self._frame.whole(tensor, tangent)
                self._curvature.add_pulled_back(0.5 * inner, base)
        return self._curvature.total()

    def _enter(self, op):
        """Adds the curvature of `op`, and finds its tangents if they are needed."""
        if not self._model.is_read_by(op):
            return
        if all(self._tangent(t) is None for t in self._parts.depending(op)):
            return
        {
            IDENTITY: self._pass_on,
            LINEAR: self._map,
            ELEMENTS: self._each_element,
            BILINEAR: self._product,
            GENERAL: self._any,
        }[self._parts.kinds[op]](op)

    # The ways of an op.

    def _pass_on(self, op):
        self._set(op.outputs[0], self._tangent(op.inputs[0]))

    def _map(self, op):
        """What is linear does to the tangents what it does to values."""
        way = declared(op).tangents
        if way in (ADDED, SUBTRACTED):
            self._add_up(op)
        elif way in (RESHAPED, TRANSPOSED):
            self._rearrange(op)
        elif way == SCALED and self._is_scaled(op):
            (tensor,), output = self._parts.depending(op), op.outputs[0]
            tangent = self._tangent(tensor)
            scale = self._ones(tensor) if tangent.scale is None else tangent.scale
            (scale,) = self._copy(op, {tensor_key(tensor): scale}, [output])
            self._set(output, Tangent(tangent.base, scale))
        elif not (way in (TOTALLED, MULTIPLIED) and self._fold(op)):
            self._map_whole(op)

    def _is_scaled(self, op):
        """Whether the output's tangent is better told by another scale."""
        (tensor,) = self._parts.depending(op)
        tangent = self._tangent(tensor)
        if not self._frame.same_sizes(tensor, op.outputs[0]):
            return False
        alike = all(axis is None for _, axis in self._parts.boundary(op))
        return not (tangent.base.shared and tangent.scale is None and alike)

    def _add_up(self, op):
        output, frame = op.outputs[0], self._frame
        tangents = [(t, self._tangent(t)) for t in op.inputs]
        minus = declared(op).tangents == SUBTRACTED and tangents[1][1] is not None
        tangents = [(t, tangent) for t, tangent in tangents if tangent is not None]
        first = tangents[0][1]
        alike = frame.same_sizes(output, *[t for t, _ in tangents])
        if alike and len(tangents) == 1 and not minus:
            self._set(output, first)
        elif alike and self._same_base(tangents) and not self._all_shared(tangents):
            scales = [
                self._ones(output) if tangent.scale is None else tangent.scale
                for _, tangent in tangents
            ]
            if minus:
                scales[-1] = -scales[-1]
            self._set(output, Tangent(first.base, added(scales)))
        else:
            bases = [frame.whole(t, tangent) for t, tangent in tangents]
            shared = all(base.shared for base in bases)
            parts = [frame.spread(base, output, shared) for base in bases]
            if minus:
                parts[-1] = -parts[-1]
            self._set(output, Tangent(Base(output, added(parts), shared, False), None))

    def _rearrange(self, op):
        """Base and scale alike."""
        (tensor,), output = self._parts.depending(op), op.outputs[0]
        base, scale = self._tangent(tensor)
        rows = self._frame.rows(base.shared)
        (value,) = self._copy(op, {tensor_key(tensor): base.value}, [output], rows)
        if scale is not None:
            (scale,) = self._copy(op, {tensor_key(tensor): scale}, [output])
        unit = base.unit and declared(op).tangents == RESHAPED
        self._set(output, Tangent(Base(output, value, base.shared, unit), scale))

    def _fold(self, op):
        """A sum over all places of scale times a shared base: one product of matrices.

        Returns:
          bool, whether it could be done.
        """
        (tensor,), output = self._parts.depending(op), op.outputs[0]
        base, scale = self._tangent(tensor)
        frame, size = self._frame, self._frame.size
        if not base.shared or frame.axis(tensor) != 0:
            return False
        places, outcomes = frame.places(tensor), frame.places(output)
        weights = self._weights(op, tensor, outcomes)
        if weights is None:
            return False
        if scale is None and base.unit and declared(op).tangents == MULTIPLIED:
            self._set(output, Tangent(Base(output, weights, True, False), None))
            return True
        if scale is None or size * places * outcomes > _SMALL // 8:
            return False
        # [places, K, outcomes]
        folded = tf.transpose(frame.flat(base.value, tensor, [size]))[:, :, None]
        folded = tf.reshape(folded * weights[:, None], [places, size * outcomes])
        value = tf.matmul(frame.flat(scale, tensor, [frame.count]), folded)
        value = tf.reshape(value, frame.shape(output, frame.rows(False)))
        self._set(output, Tangent(Base(output, value, False, False), None))
        return True

    def _weights(self, op, tensor, outcomes):
        """The matrix [places, outcomes] by which `op` multiplies `tensor`, or None."""
        if declared(op).tangents == TOTALLED:
            shape = [self._frame.places(tensor), 1]
            return tf.ones(shape, tensor.dtype) if outcomes == 1 else None
        if op.inputs[0] is not tensor or op.get_attr("transpose_a"):
            return None
        flip = op.get_attr("transpose_b")
        return tf.transpose(op.inputs[1]) if flip else op.inputs[1]

    def _map_whole(self, op):
        frame = self._frame
        inputs = self._parts.depending(op)
        bases = {
            tensor_key(t): frame.whole(t, self._tangent(t))
            for t in inputs
            if self._tangent(t) is not None
        }
        boundary = self._parts.boundary(op)
        joins = declared(op).tangents == JOINED
        alike = joins or all(axis is None for _, axis in boundary)
        shared = alike and all(base.shared for base in bases.values())
        rows, values = frame.rows(shared), {}
        parts = [(t, frame.axis(t)) for t in inputs]
        parts += [(t, a) for t, a in boundary if joins and a is not None]
        for tensor, axis in parts:
            base = bases.get(tensor_key(tensor))
            if base is None:
                value = tf.zeros(shape_with(tensor, axis, rows), tensor.dtype)
            else:
                value = frame.spread(base, tensor, shared)
            values[tensor_key(tensor)] = value
        outputs = [t for t in op.outputs if self._parts.is_batched(t)]
        for tensor, value in zip(outputs, self._copy(op, values, outputs, rows)):
            self._set(tensor, Tangent(Base(tensor, value, shared, False), None))

    def _each_element(self, op):
        """Slopes and curvatures are tensors of the output's shape: no K in them."""
        output, frame = op.outputs[0], self._frame
        inputs = self._parts.depending(op)
        tangents = [self._tangent(t) for t in inputs]
        here, wide = output, inputs
        if not frame.same_sizes(output, *inputs):
            wide = [tf.broadcast_to(t, frame.shape(output)) for t in inputs]
            values = {tensor_key(t): w for t, w in zip(inputs, wide)}
            (here,) = self._copy(op, values, [output])
        held, passes = wide + list(op.inputs), self._passes
        if self._is_needed(op):
            slopes = passes.locally([here], wide, [self._ones(output)], held)
            terms = zip(inputs, slopes, tangents)
            terms = [(t, s, tangent) for t, s, tangent in terms if s is not None]
            self._scale(output, [term for term in terms if term[2] is not None])
        adjoint = self._adjoints.get(tensor_key(output))
        if adjoint is None:
            return
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
                for tangent in (tangents[i], tangents[j]):
                    if tangent.scale is not None:
                        curvature *= tangent.scale
                self._curvature.add_elements(
                    output, tangents[i].base, tangents[j].base, curvature
                )

    def _scale(self, output, terms):
        """The tangent of `output`: the sum of slope times tangent over the inputs."""
        frame = self._frame
        if not terms:
            return
        scales = [
            slope if tangent.scale is None else slope * tangent.scale
            for _, slope, tangent in terms
        ]
        alike = frame.same_sizes(output, *[tangent.base.of for _, _, tangent in terms])
        if alike and self._same_base([(t, tangent) for t, _, tangent in terms]):
            self._set(output, Tangent(terms[0][2].base, added(scales)))
            return
        parts = []
        for scale, (_, _, (base, _)) in zip(scales, terms):
            wide = frame.spread(base, output, base.shared)
            wide = Base(output, wide, base.shared, False)
            factor = tf.expand_dims(scale, frame.axis(output) + 1)
            parts.append(factor * frame.split(wide))
        value = frame.merged(added(parts), output)
        self._set(output, Tangent(Base(output, value, False, False), None))

    def _product(self, op):
        """Of two factors that both depend on x, each with its own tangents."""
        product, frame = bilinear(op, self._parts), self._frame
        if product is None:
            self._any(op)
            return
        (left, right), output = op.inputs, op.outputs[0]
        tangents = [self._tangent(t) for t in op.inputs]
        bases = [
            None if tangent is None else frame.whole(t, tangent)
            for t, tangent in zip(op.inputs, tangents)
        ]
        factors = [base and (frame.split(base), base.shared) for base in bases]
        if self._is_needed(op):
            parts = [
                product.output(*pair)
                for pair in ((factors[0], right), (left, factors[1]))
                if None not in pair
            ]
            value = frame.merged(added(parts), output)
            self._set(output, Tangent(Base(output, value, False, False), None))
        adjoint = self._adjoints.get(tensor_key(output))
        if adjoint is not None and None not in factors:
            # Not half of it: for the term of right and left as well.
            weighted = product.left(adjoint, factors[1])
            self._curvature.add_weighted(left, frame.merged(weighted, left), bases[0])

    def _any(self, op):
        """Repeats each observation K times, and differentiates along its tangents."""
        frame = self._frame
        values = {
            tensor_key(t): self._repeat(t, frame.axis(t))
            for t in self._parts.depending(op)
        }
        inputs = [t for t in self._parts.depending(op) if self._tangent(t) is not None]
        here = [values[tensor_key(t)] for t in inputs]
        outputs = [t for t in op.outputs if tensor_key(t) in self._adjoints]
        if not outputs:
            return
        copies = self._copy(op, values, outputs, frame.rows(False))
        adjoints = []
        for tensor in outputs:
            adjoint = 0.5 * self._adjoints[tensor_key(tensor)]
            if self._parts.is_batched(tensor):
                adjoint = self._repeat(adjoint, frame.axis(tensor))
            adjoints.append(tf.identity(adjoint))
        held, passes = here + list(copies[0].op.inputs), self._passes
        pulled = passes.locally(copies, here, adjoints, held)
        bases = [frame.whole(t, self._tangent(t)) for t in inputs]
        seeds = [frame.spread(base, base.of, False) for base in bases]
        pairs = [(p, s) for p, s in zip(pulled, seeds) if p is not None]
        if not pairs:
            return
        pulled, pushed = [p for p, _ in pairs], [s for _, s in pairs]
        second = passes.locally(pulled, here, pushed, held + adjoints)
        for base, value in zip(bases, second):
            if value is not None and not is_zeros(value):
                self._curvature.add_weighted(base.of, value, base)
        if self._is_needed(op):
            slopes = passes.locally(pulled, adjoints, pushed, held + adjoints)
            for tensor, value in zip(outputs, slopes):
                if value is not None:
                    self._set(tensor, Tangent(Base(tensor, value, False, False), None))

    # Their common steps.

    def _tangent(self, tensor):
        """The `Tangent` of `tensor`; None if it is zero."""
        return self._tangents.get(tensor_key(tensor))

    def _set(self, tensor, tangent):
        self._tangents[tensor_key(tensor)] = tangent

    def _ones(self, tensor):
        return tf.ones(self._frame.shape(tensor), tensor.dtype.base_dtype)

    def _all_shared(self, tangents):
        return all(t.base.shared and t.scale is None for _, t in tangents)

    def _same_base(self, tangents):
        return len({tensor_key(tangent.base.value) for _, tangent in tangents}) == 1

    def _repeat(self, tensor, axis):
        """Each observation of `tensor` K times, one after the other."""
        key = tensor_key(tensor), axis
        if key not in self._repeated:
            frame = self._frame
            value = tile_along(tf.expand_dims(tensor, axis + 1), axis + 1, frame.size)
            if tensor.shape.as_list()[axis] in (None, 1):  # 1 is broadcast.
                one = tf.equal(tf.shape(tensor)[axis], 1)
                value = tile_along(value, axis, tf.where(one, frame.count, 1))
            shape = [d if d is not None else -1 for d in tensor.shape.as_list()]
            shape[axis] = frame.rows(False)
            self._repeated[key] = tf.reshape(value, tf.stack(shape))
        return self._repeated[key]

    def _copy(self, op, values, outputs, rows=None):
        """`op` again, with `values` for its inputs, on `rows` observations or N."""
        pick = self._repeat if rows is not None else lambda tensor, axis: tensor
        rows = self._frame.count if rows is None else rows
        replaced = on_observations([op], self._parts, values, pick, rows)
        return copy([op], replaced, outputs)
