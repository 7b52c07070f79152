"""Which entries of a Hessian or Jacobian the graph proves to be zero."""

import functools
from typing import Any, List

import numpy as np

from batchhess import arguments, jacobian_planning, planning
from batchhess.analysis.partition import BILINEAR, IDENTITY, LINEAR
from batchhess.building import building_in
from batchhess.calling import public
from batchhess.compat import static_value, tf
from batchhess.graph.tensors import product_of, tensor_key
from batchhess.methods import JACOBIAN_METHODS, METHODS
from batchhess.ops.inputs import SHAPE
from batchhess.ops.sizes import shape_of
from batchhess.ops.table import IN_EACH, JOINED, declared, linearity
from batchhess.passes import Passes
from batchhess.problem import WHOLE, Request
from batchhess.rebuild import copy_op, shape_with


@public()
def detect_sparsity(
    ys: Any, xs: Any, *, batch_axis: int = 0, of: str = "hessians"
) -> List[np.ndarray]:
    """Tells which entries the graph does not prove to be zero, for `sparsity=`.

    Two coordinates of an observation have an entry in the Hessian where they meet in an
    op that is not linear. It adds a gradient to the graph, as `hessians` does, and runs
    nothing of it.

    Args:
      ys: as in `hessians`, or in `jacobians`.
      xs: as in `hessians`.
      batch_axis: as in `hessians`.
      of: "hessians" or "jacobians".

    Returns:
      A list of bool arrays, one for each x, of shape `[K, K]`, or `[M, K]` of a
      Jacobian. All of it is true where the observations cannot be followed through the
      graph.

    Raises:
      RuntimeError: as `hessians`.
      TypeError: as `hessians`.
      ValueError: as `hessians`, or the graph does not tell K or M.
    """
    asked = Request(ys, xs, "detect_sparsity", WHOLE, Passes(), batch_axis=batch_axis)
    if of not in ("hessians", "jacobians"):
        raise ValueError("of must be 'hessians' or 'jacobians', not {!r}.".format(of))
    if of == "hessians":  # By the method that follows observations.
        request, graph = arguments.checked(asked._replace(method="symmetric"), METHODS)
        with building_in(graph), tf.name_scope(request.name):
            return [_of_hessian(made) for made in planning.plan(request)]
    request, graph = arguments.checked(
        asked._replace(method="forward"), JACOBIAN_METHODS
    )
    arguments.check_one_y(request.ys, request.xs, batch_axis)
    with building_in(graph), tf.name_scope(request.name):
        return [_of_jacobian(jacobian_planning.plan(request, x)) for x in request.xs]


def _of_hessian(made):
    size = _known(made.layout.size, made.x)
    if made.gradient is None and made.refusal is not None:
        raise made.refusal
    if made.is_linear:
        return np.zeros([size, size], bool)
    found = made.parts and _followed(made.x, made.parts[1], [])
    return np.ones([size, size], bool) if not found else found[0]


def _of_jacobian(made):
    size, outputs = (
        _known(made.layout.size, made.x),
        _known(made.outputs.size, made.request.ys[0]),
    )
    if made.state is None and made.refusal is not None:
        raise made.refusal
    if made.is_zero:
        return np.zeros([outputs, size], bool)
    found = made.parts and _followed(made.x, made.parts[1], made.parts[0])
    return np.ones([outputs, size], bool) if not found else found[1][0]


def _known(size, tensor):
    if not isinstance(size, int):
        raise ValueError(
            "the graph does not tell the sizes of '{}' but for the observations. Give "
            "it its shape with set_shape.".format(tensor.name)
        )
    return size


def _followed(x, parts, ys):
    """Follows each coordinate of `x`, in a graph and a Session of its own.

    Returns:
      bool array [K, K], which coordinates meet; and list of bool arrays [places, K],
      which of them each place of each of `ys` depends on. None where an op cannot be
      applied to random numbers.
    """
    with tf.Graph().as_default():
        try:
            walk = _Walk(x, parts)
            for op in parts.ops:
                walk.enter(op)
            wanted = walk.meeting, [tf.transpose(walk.flat(y)) for y in ys]
            with tf.Session() as session:
                return session.run(wanted)
        except (TypeError, ValueError, tf.errors.OpError):
            return None


class _Walk:
    """A walk from x to the frontier, each coordinate in the place of an observation.

    Observation k of a tensor here is true where that tensor depends on coordinate k.
    What a linear op makes of it is asked from the op itself: it is applied to random
    numbers, whose sums are zero only where there is nothing to add up.

    Attributes:
      meeting: bool Tensor [K, K], which coordinates have met.
    """

    def __init__(self, x, parts):
        tf.set_random_seed(1)
        self._parts, self._met = parts, set()
        axis, shape = parts.state(x).axis, shape_of(x)
        event = shape[:axis] + shape[axis + 1 :]
        self._size = product_of(event)
        unit = tf.reshape(tf.eye(self._size), [self._size] + event)
        order = list(range(1, len(shape)))
        unit = tf.transpose(unit, order[:axis] + [0] + order[axis:])
        self._found = {tensor_key(x): tf.greater(unit, 0)}
        self.meeting = tf.zeros([self._size] * 2, tf.bool)

    def flat(self, tensor):
        """Which coordinates each place of `tensor` depends on, [K, places]."""
        found, axis = self._found[tensor_key(tensor)], self._parts.state(tensor).axis
        return self._rows(found, axis)

    def enter(self, op):
        """Finds what the outputs of `op` depend on, and what meets in it."""
        kind = self._parts.kinds[op]
        outputs = [t for t in op.outputs if self._parts.is_batched(t)]
        elementwise = declared(op).elementwise
        if kind == IDENTITY:
            self._found[tensor_key(outputs[0])] = self._found[tensor_key(op.inputs[0])]
        elif elementwise:
            self._each_element(op, kind)
        elif kind == LINEAR:
            self._apply(op, outputs)
        else:
            self._mix(op, kind, outputs)

    def _each_element(self, op, kind):
        (output,) = op.outputs
        axis, shape = self._parts.state(output).axis, self._shape(output)
        found = [self._found[tensor_key(t)] for t in self._parts.depending(op)]
        wide = [
            t
            if t.shape.as_list() == shape
            else tf.logical_or(t, tf.zeros(shape, tf.bool))
            for t in found
        ]
        either = functools.reduce(tf.logical_or, wide)
        if linearity(op) == IN_EACH and len(wide) == 2:
            self._meet(*wide, axis)
        elif kind != LINEAR:
            self._meet(either, either, axis)
        self._found[tensor_key(output)] = either

    def _apply(self, op, outputs):
        """What is linear, on random numbers."""
        states = self._parts.alignments[op]
        values = [self._value(op, *each) for each in enumerate(states)]
        if any(value is None for value in values):
            self._spread(self._any(op), outputs)
            return
        made = copy_op(op, values)
        for tensor in outputs:
            value = tf.not_equal(made.outputs[tensor.value_index], 0)
            self._found[tensor_key(tensor)] = tf.ensure_shape(
                value, self._shape(tensor)
            )

    def _value(self, op, place, state):
        """What to give `op` for an input; None if only a run tells."""
        tensor = op.inputs[place]
        dtype = tensor.dtype.base_dtype
        if self._parts.depends(tensor):
            found = self._found[tensor_key(tensor)]
            return tf.cast(found, dtype) * self._numbers(found.shape.as_list(), dtype)
        if state is SHAPE:
            state = self._parts.state(op.outputs[0])
            return shape_with(op.outputs[0], state, self._size, tensor.dtype)
        known = static_value(tensor) if state is None else None
        if not dtype.is_floating:
            return None if known is None else tf.constant(known, dtype)
        shape = tensor.shape.as_list()
        if state is not None:
            shape[state.axis] = state.indices(self._size)
        if declared(op).tangents == JOINED:
            return tf.zeros(shape, dtype)
        known = 1 if known is None else known != 0
        return tf.cast(known, dtype) * self._numbers(shape, dtype)

    def _mix(self, op, kind, outputs):
        """What may read all places for each."""
        inputs, either = self._parts.depending(op), self._any(op)
        if kind == BILINEAR and len(inputs) == 2:
            self._meet(*[self._any(op, [t]) for t in inputs])
        else:
            self._meet(either, either)
        self._spread(either, outputs)

    def _any(self, op, inputs=None):
        """What all places of `inputs` depend on, [K, 1]; of all inputs if None."""
        rows = [self.flat(t) for t in inputs or self._parts.depending(op)]
        return tf.reduce_any(tf.concat(rows, 1), 1, keepdims=True)

    def _spread(self, either, outputs):
        """Lets every place of `outputs` depend on the same."""
        for tensor in outputs:
            state, shape = self._parts.state(tensor), self._shape(tensor)
            ones = [d if a == state.axis else 1 for a, d in enumerate(shape)]
            each = tf.tile(either, [1, state.each])
            self._found[tensor_key(tensor)] = tf.broadcast_to(
                tf.reshape(each, ones), shape
            )

    def _meet(self, some, others, axis=0):
        """What `some` and `others` depend on meets, place by place."""
        if (some.name, others.name, axis) in self._met:
            return
        self._met.add((some.name, others.name, axis))
        pair = [tf.cast(self._rows(t, axis), tf.float32) for t in (some, others)]
        met = tf.greater(tf.matmul(*pair, transpose_b=True), 0)
        self.meeting = self.meeting | met | tf.transpose(met)

    def _rows(self, found, axis):
        rank = found.shape.ndims
        order = [axis] + [a for a in range(rank) if a != axis]
        return tf.reshape(tf.transpose(found, order), [self._size, -1])

    def _shape(self, tensor):
        state, shape = self._parts.state(tensor), shape_of(tensor)
        shape[state.axis] = state.indices(self._size)
        return shape

    def _numbers(self, shape, dtype):
        return tf.cast(tf.random_uniform(shape, 1, 2, tf.float64), dtype)
