"""Second-order adjoint contraction: all columns at once, and no pass back.

With tangents T_u = du/dx, adjoints df/du, and for each op v = p(u) the curvature C_u of
sum(df/dv * p(u)): H is the sum over ops of T_u' C_u T_u. (Griewank & Walther 2008,
Evaluating Derivatives, chapters 5 and 10; Gower & Mello 2012 for edge pushing.)
"""

import collections

from batchhess.analysis import audit
from batchhess.analysis.alignment import alignment
from batchhess.analysis.observation_axis import FREE, ROWS
from batchhess.analysis.partition import (
    ELEMENTS,
    GENERAL,
    IDENTITY,
    LINEAR,
    depending,
    kind_of,
    partition,
)
from batchhess.analysis.region import depends, tensor_key
from batchhess.analysis.sizes import shape_of
from batchhess.compat import static_value, tf
from batchhess.corrections import take_apart
from batchhess.layout import product
from batchhess.rebuild import copy, on_observations, shape_with, tile_along

# du/dx, where u is `of`. The value has u's shape, but R K places along the observation
# axis: place r K + k holds the derivative of observation r by coordinate k. R is N; or
# 1, if `shared`: what is linear in x changes alike for all observations.
Tangent = collections.namedtuple("Tangent", "of value shared")


def symmetric(problem, passes):
    """Adds up the curvature that each op between x and the frontier brings in.

    The tangents of all K coordinates go forward through the model together, and nothing
    goes back: about half the work of `columns`. Every derivative is tf.gradients', of
    one op at a time; an op that works element by element needs it once, not K times.

    Args:
      problem: a `Problem` whose x is a Tensor; `partition` has gone through.
      passes: the `Passes` to differentiate with.

    Returns:
      a Tensor [N, K, K], exactly symmetric.
    """
    sweep = _Sweep(problem, passes)
    for op in sweep.ops:
        sweep.enter(op)
    if not sweep.terms:
        return tf.zeros([sweep.count, sweep.size, sweep.size], problem.x.dtype)
    half = 0.5 * tf.add_n(sweep.terms)
    return half + tf.linalg.matrix_transpose(half)


class _Sweep:
    """One walk from x to the frontier.

    Attributes:
      ops: list of Operations, in the order of the walk.
      terms: list of Tensors [N, K, K]: the symmetric part of their sum is the Hessian.
    """

    def __init__(self, problem, passes):
        ys = take_apart(problem.ys, problem.x)
        parts = partition(ys, problem.x, problem.layout.axis)
        self.ops, self._state_of = parts.ops, parts.state_of
        self.count, self.size = problem.layout.num_observations, problem.layout.size
        self.terms = []
        self._passes, self._x = passes, problem.x
        self._kinds = {op: self._kind(op) for op in self.ops}
        self._needed = self._find_needed()
        self._adjoints = self._find_adjoints(ys, problem.seeds)
        self._unit = self._unit_tangents()
        self._tangents = {}
        self._set(self._x, self._unit, shared=True)
        self._repeated = {}

    def enter(self, op):
        """Adds what `op` brings in to `terms`, and finds its tangents if needed."""
        kind = self._kinds[op]
        if kind not in (ELEMENTS, GENERAL) and not self._is_needed(op):
            return
        if all(self._tangent(t) is None for t in depending(op, self._state_of)):
            return
        {
            IDENTITY: self._pass_on,
            LINEAR: self._map,
            ELEMENTS: self._each_element,
            GENERAL: self._any,
        }[kind](op)

    # What the walk needs to know before it starts.

    def _kind(self, op):
        kind = kind_of(op, self._state_of)
        if kind == LINEAR and op.type in ("Mul", "RealDiv"):
            # By what differs between observations, factors must be repeated K times.
            free = [axis for _, axis in self._boundary(op) if axis is not None]
            return ELEMENTS if free else LINEAR
        return kind

    def _boundary(self, op):
        """The inputs of `op` that do not depend on x, each with its alignment."""
        aligned = zip(op.inputs, alignment(op, self._state_of))
        return [(t, axis) for t, axis in aligned if self._state_of(t).kind == FREE]

    def _find_needed(self):
        """The keys of tensors whose tangents something nonlinear will read."""
        needed = set()
        for op in reversed(self.ops):
            nonlinear = self._kinds[op] in (ELEMENTS, GENERAL)
            if nonlinear or any(tensor_key(t) in needed for t in op.outputs):
                needed.update(tensor_key(t) for t in depending(op, self._state_of))
        return needed

    def _is_needed(self, op):
        return any(tensor_key(t) in self._needed for t in op.outputs)

    def _find_adjoints(self, ys, seeds):
        nonlinear = [op for op in self.ops if self._kinds[op] in (ELEMENTS, GENERAL)]
        outputs = [t for op in nonlinear for t in op.outputs]
        outputs = [t for t in outputs if self._state_of(t).kind != FREE]
        adjoints = self._passes.gradients(ys, outputs, seeds)
        # A name of its own, at which differentiation can stop.
        return {
            tensor_key(t): tf.identity(adjoint)
            for t, adjoint in zip(outputs, adjoints)
            if adjoint is not None
        }

    def _unit_tangents(self):
        axis, shape = self._axis(self._x), self._x.shape.as_list()
        event = shape[:axis] + shape[axis + 1 :]
        eye = tf.eye(self.size, dtype=self._x.dtype.base_dtype)
        eye = tf.reshape(eye, [self.size] + event)
        places = list(range(1, len(shape)))
        return _transposed(eye, places[:axis] + [0] + places[axis:])

    # The ways of an op.

    def _pass_on(self, op):
        tangent = self._tangent(op.inputs[0])
        self._set(op.outputs[0], tangent.value, tangent.shared)

    def _map(self, op):
        """What is linear does to the tangents what it does to values."""
        inputs = depending(op, self._state_of)
        tangents = [self._tangent(t) for t in inputs]
        boundary = self._boundary(op)
        shared = all(t is None or t.shared for t in tangents)
        if op.type in _ADDITIVE:
            parts = [
                self._spread(self._tangent(t), op.outputs[0], shared)
                for t in op.inputs
                if self._tangent(t) is not None
            ]
            if op.type == "Sub" and self._tangent(op.inputs[1]) is not None:
                parts[-1] = -parts[-1]
            value = parts[0] if len(parts) == 1 else tf.add_n(parts)
            self._set(op.outputs[0], value, shared)
            return
        joins = op.type in ("ConcatV2", "Pack")
        shared = shared and (joins or all(axis is None for _, axis in boundary))
        rows, values = self._rows(shared), {}
        parts = [(t, self._axis(t)) for t in inputs]
        parts += [(t, a) for t, a in boundary if joins and a is not None]
        for tensor, axis in parts:
            tangent = self._tangent(tensor)
            if tangent is None:
                value = tf.zeros(shape_with(tensor, axis, rows), tensor.dtype)
            else:
                value = self._spread(tangent, tensor, shared)
            values[tensor_key(tensor)] = value
        outputs = [t for t in op.outputs if self._state_of(t).kind == ROWS]
        copies = self._copy(op, values, outputs, rows)
        for tensor, value in zip(outputs, copies):
            self._set(tensor, value, shared)

    def _each_element(self, op):
        """Slopes and curvatures are tensors of the output's shape: no K in them."""
        output = op.outputs[0]
        inputs = depending(op, self._state_of)
        tangents = [self._tangent(t) for t in inputs]
        same = self._same_sizes(output, *inputs)
        shape = shape_with(output, self._axis(output), self.count)
        here, wide = output, inputs
        if not same:
            wide = [tf.broadcast_to(t, shape) for t in inputs]
            values = {tensor_key(t): w for t, w in zip(inputs, wide)}
            (here,) = self._copy(op, values, [output], self.count, repeat=False)
        ones = tf.ones(shape, output.dtype)
        axis = self._axis(output)
        if self._is_needed(op):
            slopes = self._passes.gradients([here], wide, [ones], stop=wide)
            parts = [
                tf.expand_dims(slope, axis + 1) * self._split(tangent)
                for slope, tangent in zip(slopes, tangents)
                if slope is not None and tangent is not None
            ]
            if parts:
                value = parts[0] if len(parts) == 1 else tf.add_n(parts)
                value = tf.reshape(
                    value, shape_with(output, axis, self.count * self.size)
                )
                self._set(output, value, False)
        adjoint = self._adjoints.get(tensor_key(output))
        if adjoint is None:
            return
        pulled = self._passes.gradients([here], wide, [adjoint], stop=wide)
        for i, part in enumerate(pulled):
            if part is None or tangents[i] is None:
                continue
            curvatures = self._second([part], wide[i:], [ones], wide + [adjoint])
            for j, curvature in enumerate(curvatures, i):
                if curvature is None or tangents[j] is None or _is_zeros(curvature):
                    continue
                if j > i:
                    curvature *= 2  # For the term of j and i as well.
                weighted = tf.expand_dims(curvature, axis + 1) * self._split(
                    tangents[i]
                )
                self._add(weighted, tangents[j], output)

    def _any(self, op):
        """Repeats each observation K times, and differentiates along its tangents."""
        rows = self._rows(False)
        values = {
            tensor_key(t): self._repeat(t, self._axis(t))
            for t in depending(op, self._state_of)
        }
        inputs = [
            t for t in depending(op, self._state_of) if self._tangent(t) is not None
        ]
        here = [values[tensor_key(t)] for t in inputs]
        outputs = [t for t in op.outputs if tensor_key(t) in self._adjoints]
        if not outputs:
            return
        copies = self._copy(op, values, outputs, rows)
        adjoints = []
        for tensor in outputs:
            adjoint = self._adjoints[tensor_key(tensor)]
            if self._state_of(tensor).kind == ROWS:
                adjoint = self._repeat(adjoint, self._axis(tensor))
            adjoints.append(tf.identity(adjoint))
        pulled = self._passes.gradients(copies, here, adjoints, stop=here)
        seeds = [self._spread(self._tangent(t), t, False) for t in inputs]
        pairs = [(p, s) for p, s in zip(pulled, seeds) if p is not None]
        if not pairs:
            return
        pulled, pushed = [p for p, _ in pairs], [s for _, s in pairs]
        second = self._second(pulled, here, pushed, here + adjoints)
        for tensor, value in zip(inputs, second):
            if value is not None and not _is_zeros(value):
                value = self._split(Tangent(tensor, value, False))
                self._add(value, self._tangent(tensor), tensor)
        if self._is_needed(op):
            slopes = self._passes.gradients(pulled, adjoints, pushed, stop=here)
            for tensor, value in zip(outputs, slopes):
                if value is not None:
                    self._set(tensor, value, False)

    # Their common steps.

    def _tangent(self, tensor):
        """The `Tangent` of `tensor`; None if it is zero."""
        return self._tangents.get(tensor_key(tensor))

    def _set(self, tensor, value, shared):
        self._tangents[tensor_key(tensor)] = Tangent(tensor, value, shared)

    def _axis(self, tensor):
        return self._state_of(tensor).axis

    def _rows(self, shared):
        return self.size if shared else self.count * self.size

    def _split(self, tangent):
        """Its value [..., R K, ...] as [..., R, K, ...]."""
        axis, shape = self._axis(tangent.of), shape_of(tangent.of)
        rows = [1 if tangent.shared else self.count, self.size]
        return tf.reshape(
            tangent.value, tf.stack(shape[:axis] + rows + shape[axis + 1 :])
        )

    def _spread(self, tangent, tensor, shared):
        """Its value broadcast to the shape of `tensor`, shared or for each."""
        value, axis = tangent.value, self._axis(tangent.of)
        if tangent.shared and not shared:
            value = tile_along(value, axis, self.count)
        if not self._same_sizes(tangent.of, tensor):
            shape = shape_with(tensor, self._axis(tensor), self._rows(shared))
            value = tf.broadcast_to(value, shape)
        return value

    def _same_sizes(self, *tensors):
        """Whether tensors have the same shape but for their observation axes."""
        shapes = []
        for tensor in tensors:
            shape = shape_of(tensor)
            shape[self._axis(tensor)] = "observations"
            shapes.append(shape)
        return all(shape == shapes[0] for shape in shapes)

    def _repeat(self, tensor, axis):
        """Each observation of `tensor` K times, one after the other."""
        key = tensor_key(tensor), axis
        if key not in self._repeated:
            value = tile_along(tf.expand_dims(tensor, axis + 1), axis + 1, self.size)
            if tensor.shape.as_list()[axis] in (None, 1):  # 1 is broadcast.
                one = tf.equal(tf.shape(tensor)[axis], 1)
                value = tile_along(value, axis, tf.where(one, self.count, 1))
            shape = [d if d is not None else -1 for d in tensor.shape.as_list()]
            shape[axis] = self._rows(False)
            self._repeated[key] = tf.reshape(value, tf.stack(shape))
        return self._repeated[key]

    def _copy(self, op, values, outputs, rows, repeat=True):
        pick = self._repeat if repeat else lambda tensor, axis: tensor
        replaced = on_observations([op], self._state_of, values, pick, rows)
        return copy([op], replaced, outputs)

    def _second(self, pulled, inputs, seeds, stop):
        second = self._passes.gradients(pulled, inputs, seeds, stop=stop)
        for tensor, value in zip(inputs, second):
            if value is None and depends(pulled, tensor, stop):
                raise audit.lost(
                    self._passes.caller, "second derivative", pulled, tensor
                )
        return second

    def _add(self, weighted, tangent, tensor):
        """Adds the product of `weighted`, [..., N, K, ...], with `tangent`, over all
        places of `tensor`, to `terms`.
        """
        axis, shape = self._axis(tensor), shape_of(tensor)
        others = shape[:axis] + shape[axis + 1 :]
        order = [axis, axis + 1]
        order += [a for a in range(len(shape) + 1) if a not in order]
        left = _transposed(weighted, order)
        if tangent.value is self._unit and self._same_sizes(tangent.of, tensor):
            shape = tf.stack([self.count, self.size, self.size])
            self._append(tf.reshape(left, shape))
            return
        right = self._spread(tangent, tensor, tangent.shared)
        right = self._split(Tangent(tensor, right, tangent.shared))
        right = _transposed(right, order)
        places = product(others)
        if tangent.shared:
            left = tf.reshape(left, [self.count * self.size, places])
            right = tf.reshape(right, [self.size, places])
            term = tf.matmul(left, right, transpose_b=True)
            term = tf.reshape(term, [self.count, self.size, self.size])
        else:
            left = tf.reshape(left, [self.count, self.size, places])
            right = tf.reshape(right, [self.count, self.size, places])
            term = tf.matmul(left, right, transpose_b=True)
        self._append(term)

    def _append(self, term):
        self.terms.append(tf.cast(term, self._x.dtype.base_dtype))


_ADDITIVE = frozenset(["Add", "AddN", "AddV2", "BiasAdd", "Sub"])


def _transposed(tensor, order):
    return tensor if order == sorted(order) else tf.transpose(tensor, order)


def _is_zeros(tensor):
    if tensor.op.type == "ZerosLike":
        return True
    value = static_value(tensor.op.inputs[1] if tensor.op.type == "Fill" else tensor)
    return value is not None and not value.any()
