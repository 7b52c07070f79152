"""A walk through the model with the tangents of all K coordinates, forward, at once.

Each op turns the tangents of its inputs into those of its outputs. Every derivative is
tf.gradients', of one op at a time; an op that works element by element needs it once,
not K times.
"""

import collections

from batchhess.analysis.partition import BILINEAR, ELEMENTS, GENERAL, IDENTITY, LINEAR
from batchhess.compat import tf, where
from batchhess.graph.tensors import tensor_key
from batchhess.methods.bilinear import bilinear
from batchhess.methods.tangents import Base, Frame, Tangent, added
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
SMALL = 1 << 19

# An op that works element by element, at its inputs broadcast to its output. wide: list
# of the Tensors that it is differentiated by; here: its output there; held: list of all
# that it reads.
Elements = collections.namedtuple("Elements", "wide here held")

# An op with each observation repeated K times. inputs: list of those with tangents, and
# bases: the `Base` of each; outputs: list of Tensors. here, copies: both repeated.
# adjoints: list of Tensors, of the copies. pulled: list of the adjoints of `inputs`
# that are not zero, and pushed: their tangents. held: list of all that the op reads.
Pulled = collections.namedtuple(
    "Pulled", "inputs bases outputs here copies adjoints pulled pushed held"
)


class Sweep:
    """One walk from a Tensor on, with the tangents of its coordinates.

    What is read besides is for a class above: it is told of each op that it meets.

    Args:
      parts: the `Partition` of the model.
      count: N, an int or scalar Tensor.
      passes: the `Passes` to differentiate with.
      start: the Tensor to start from.
      directions: Tensor [C, K], what to go along from `start`; None for each of the
        coordinates.
    """

    def __init__(self, parts, count, passes, start, directions=None):
        self._parts, self._passes, self._repeated = parts, passes, {}
        self._frame = Frame(parts, count, start, directions)
        self._tangents = {tensor_key(start): self._frame.unit(start)}

    # What a class above tells.

    def is_needed(self, tensor):
        """Whether the tangent of `tensor` is to be found."""
        raise NotImplementedError

    def meets_elements(self, op, elements, tangents):
        """Called of an op that works element by element, with the inputs' tangents."""

    def meets_product(self, op, product, bases):
        """Called of a product of two factors, with the `Base` of each, or None."""

    # What it calls.

    def enter(self, op):
        """Finds the tangents of the outputs of `op`, if they are needed."""
        {
            IDENTITY: self._pass_on,
            LINEAR: self._map,
            ELEMENTS: self._each_element,
            BILINEAR: self._product,
            GENERAL: self.any,
        }[self._parts.kinds[op]](op)

    def is_reached(self, op):
        """Whether an input of `op` has a tangent that is not zero."""
        return any(self.tangent(t) is not None for t in self._parts.depending(op))

    def _needs(self, op):
        return any(self.is_needed(t) for t in op.outputs)

    # The ways of an op.

    def _pass_on(self, op):
        self._set(op.outputs[0], self.tangent(op.inputs[0]))

    def _map(self, op):
        """What is linear does to the tangents what it does to values."""
        way = declared(op).tangents
        if way in (ADDED, SUBTRACTED):
            self._add_up(op)
        elif way in (RESHAPED, TRANSPOSED):
            self._rearrange(op)
        elif way == SCALED and self._is_scaled(op):
            (tensor,), output = self._parts.depending(op), op.outputs[0]
            tangent = self.tangent(tensor)
            scale = self._ones(tensor) if tangent.scale is None else tangent.scale
            (scale,) = self._copy(op, {tensor_key(tensor): scale}, [output])
            self._set(output, Tangent(tangent.base, scale))
        elif not (way in (TOTALLED, MULTIPLIED) and self._fold(op)):
            self._map_whole(op)

    def _is_scaled(self, op):
        """Whether the output's tangent is better told by another scale."""
        (tensor,) = self._parts.depending(op)
        tangent = self.tangent(tensor)
        if not self._frame.same_sizes(tensor, op.outputs[0]):
            return False
        alike = all(axis is None for _, axis in self._parts.boundary(op))
        return not (tangent.base.shared and tangent.scale is None and alike)

    def _add_up(self, op):
        output, frame = op.outputs[0], self._frame
        tangents = [(t, self.tangent(t)) for t in op.inputs]
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
        base, scale = self.tangent(tensor)
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
        base, scale = self.tangent(tensor)
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
        if scale is None or size * places * outcomes > SMALL // 8:
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
            tensor_key(t): frame.whole(t, self.tangent(t))
            for t in inputs
            if self.tangent(t) is not None
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
        """Slopes are tensors of the output's shape: no K in them."""
        output, frame = op.outputs[0], self._frame
        inputs = self._parts.depending(op)
        tangents = [self.tangent(t) for t in inputs]
        here, wide = output, inputs
        if not frame.same_sizes(output, *inputs):
            wide = [tf.broadcast_to(t, frame.shape(output)) for t in inputs]
            values = {tensor_key(t): w for t, w in zip(inputs, wide)}
            (here,) = self._copy(op, values, [output])
        held = wide + list(op.inputs)
        if self._needs(op):
            slopes = self._passes.locally([here], wide, [self._ones(output)], held)
            terms = zip(inputs, slopes, tangents)
            terms = [(t, s, tangent) for t, s, tangent in terms if s is not None]
            self._scale(output, [term for term in terms if term[2] is not None])
        self.meets_elements(op, Elements(wide, here, held), tangents)

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
            self.any(op)
            return
        (left, right), output = op.inputs, op.outputs[0]
        bases = [self._base(t) for t in op.inputs]
        factors = [base and (frame.split(base), base.shared) for base in bases]
        if self._needs(op):
            parts = [
                product.output(*pair)
                for pair in ((factors[0], right), (left, factors[1]))
                if None not in pair
            ]
            value = frame.merged(added(parts), output)
            self._set(output, Tangent(Base(output, value, False, False), None))
        self.meets_product(op, product, bases)

    def any(self, op):
        """Repeats each observation K times, and differentiates along its tangents."""
        outputs = [t for t in op.outputs if self._parts.is_batched(t)]
        outputs = [t for t in outputs if self.is_needed(t)]
        if outputs:
            pulled = self.pull(op, outputs, lambda tensor, copy: tf.zeros_like(copy))
            self.push(pulled)

    def pull(self, op, outputs, adjoint_of):
        """Repeats each observation K times, and takes adjoints back there.

        Args:
          op: an Operation.
          outputs: list of Tensors, of its outputs.
          adjoint_of: function from one of `outputs` and its copy to the adjoint of the
            copy, a Tensor of its shape.

        Returns:
          `Pulled`.
        """
        frame, depending = self._frame, self._parts.depending(op)
        values = {tensor_key(t): self._repeat(t, frame.axis(t)) for t in depending}
        inputs = [t for t in depending if self.tangent(t) is not None]
        here = [values[tensor_key(t)] for t in inputs]
        copies = self._copy(op, values, outputs, frame.rows(False))
        adjoints = [tf.identity(adjoint_of(*pair)) for pair in zip(outputs, copies)]
        held = here + list(copies[0].op.inputs)
        found = self._passes.locally(copies, here, adjoints, held)
        bases = [self._base(t) for t in inputs]
        seeds = [frame.spread(base, base.of, False) for base in bases]
        pairs = [(p, s) for p, s in zip(found, seeds) if p is not None]
        pulled, pushed = [p for p, _ in pairs], [s for _, s in pairs]
        return Pulled(
            inputs, bases, outputs, here, copies, adjoints, pulled, pushed, held
        )

    def push(self, it):
        """Sets the tangents of the outputs of `it`, which is `Pulled`.

        Its adjoints are linear in those of the outputs: what they vary with them times
        the tangents of the inputs is the tangents of the outputs.
        """
        if not it.pulled:
            return
        slopes = self._passes.locally(
            it.pulled, it.adjoints, it.pushed, it.held + it.adjoints
        )
        for tensor, value in zip(it.outputs, slopes):
            if value is not None:
                self._set(tensor, Tangent(Base(tensor, value, False, False), None))

    # Their common steps.

    def tangent(self, tensor):
        """The `Tangent` of `tensor`; None if it is zero."""
        return self._tangents.get(tensor_key(tensor))

    def _set(self, tensor, tangent):
        self._tangents[tensor_key(tensor)] = tangent

    def _base(self, tensor):
        """The `Base` of `tensor`, multiplied out; None if its tangent is zero."""
        tangent = self.tangent(tensor)
        return None if tangent is None else self._frame.whole(tensor, tangent)

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
                value = tile_along(value, axis, where(one, frame.count, 1))
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
