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

# What factorizes a matrix is not done K times, where K is this or less.
_FEW = 32

# An op with each observation repeated K times. inputs: list of those with tangents, and
# bases: the `Base` of each; outputs: list of Tensors. here, copies: both repeated; as
# they are, if not `repeated`. adjoints: list of Tensors, of the copies. pulled: list of
# the adjoints of `inputs` that are not zero, and pushed: the bases of these. held: list
# of all that the op and its adjoints read.
Pulled = collections.namedtuple(
    "Pulled", "inputs bases outputs here copies adjoints pulled pushed held repeated"
)


class Sweep:
    """One walk from a Tensor on, with the tangents of its coordinates.

    What is read besides is for a class above: it is told of each op that it meets.

    Args:
      parts: the `Partition` of the model.
      count: N, an int or scalar Tensor.
      passes: the `Passes` to differentiate with.
      start: the Tensor to start from.
      directions: Tensor [C, K], what to go along from `start`, or [N, C, K]; None for
        each of the coordinates.
      copied: list to add pairs to: a Tensor of the model, and its value as an op that
        was built again has it; None if nobody will compare them.
    """

    def __init__(self, parts, count, passes, start, directions=None, copied=None):
        self._parts, self._passes, self._repeated = parts, passes, {}
        self._copied = copied
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
        alike = all(state is None for _, state in self._parts.boundary(op))
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
        # What an axis takes in comes before the axes that were before it.
        in_order = self._frame.axis(output) == 0 or self._frame.each(output) == 1
        unit = base.unit and declared(op).tangents == RESHAPED and in_order
        self._set(output, Tangent(Base(output, value, base.shared, unit), scale))

    def _fold(self, op):
        """A sum over all places of scale times a shared base: one product of matrices.

        Returns:
          bool, whether it could be done.
        """
        (tensor,), output = self._parts.depending(op), op.outputs[0]
        base, scale = self.tangent(tensor)
        frame, size = self._frame, self._frame.size
        if not base.shared or frame.axis(tensor) != 0 or frame.each(tensor) > 1:
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
        alike = joins or all(state is None for _, state in boundary)
        shared = alike and all(base.shared for base in bases.values())
        rows, values = frame.rows(shared), {}
        parts = [(t, self._parts.state(t)) for t in inputs]
        parts += [(t, s) for t, s in boundary if joins and s is not None]
        for tensor, state in parts:
            base = bases.get(tensor_key(tensor))
            if base is None:
                value = tf.zeros(shape_with(tensor, state, rows), tensor.dtype)
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
            if self._copied is not None:
                self._copied.append((output, here))
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
            parts.append(frame.beside_k(scale, output) * frame.split(wide))
        value = frame.merged(added(parts), output)
        self._set(output, Tangent(Base(output, value, False, False), None))

    def _product(self, op):
        """Of two factors that both depend on x, each with its own tangents."""
        product, frame = bilinear(op, self._parts), self._frame
        if product is None:
            self.any(op)
            return
        (left, right), output = op.inputs, op.outputs[0]
        bases = [self.base(t) for t in op.inputs]
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
            # At zeros a gradient such as x / (norm / adjoint) has no derivative.
            pulled = self.pull(op, outputs, lambda tensor, copy: tf.ones_like(copy))
            self.push(pulled)

    def pull(self, op, outputs, adjoint_of):
        """Takes adjoints back through `op`, each observation repeated K times.

        Args:
          op: an Operation.
          outputs: list of Tensors, of its outputs.
          adjoint_of: function from one of `outputs` and its copy to the adjoint of the
            copy, a Tensor of its shape.

        Returns:
          `Pulled`.
        """
        frame, depending = self._frame, self._parts.depending(op)
        repeated = frame.size > _FEW or not declared(op).factorizes
        values, copies = {tensor_key(t): t for t in depending}, outputs
        if repeated:
            states = [self._parts.state(t) for t in depending]
            pairs = zip(depending, states)
            values = {tensor_key(t): self._repeat(t, s) for t, s in pairs}
            copies = self._copy(op, values, outputs, frame.rows(False))
            self._note_repeated(outputs, copies)
        inputs = [t for t in depending if self.tangent(t) is not None]
        here = [values[tensor_key(t)] for t in inputs]
        adjoints = [tf.identity(adjoint_of(*pair)) for pair in zip(outputs, copies)]
        held = here + list(copies[0].op.inputs)
        found = self._passes.locally(copies, here, adjoints, held)
        bases = [self.base(t) for t in inputs]
        pairs = [(p, base) for p, base in zip(found, bases) if p is not None]
        pulled, pushed = [p for p, _ in pairs], [base for _, base in pairs]
        held += adjoints
        return Pulled(
            inputs,
            bases,
            outputs,
            here,
            copies,
            adjoints,
            pulled,
            pushed,
            held,
            repeated,
        )

    def _note_repeated(self, outputs, copies):
        for tensor, value in zip(outputs, copies):
            # A sum over observations is one over all their repetitions.
            noted = self._copied is not None and self._frame.size
            if noted and self._parts.is_batched(tensor):
                base = Base(tensor, value, False, False)
                self._copied.append((tensor, self._frame.first_k(base)))

    def along(self, it, held, tensors):
        """What the adjoints of `it`, which is `Pulled`, vary with, along its tangents.

        Args:
          it: a `Pulled`.
          held: list of Tensors, to differentiate by.
          tensors: list of the Tensors whose repetitions, or which, these are.

        Returns:
          list with the value of a base of each of `tensors`; None where it is zero.
        """
        frame = self._frame
        if it.repeated:
            seeds = [frame.spread(base, base.of, False) for base in it.pushed]
            return self._passes.locally(it.pulled, held, seeds, it.held)
        rows = [
            self._passes.locally(it.pulled, held, list(seeds), it.held)
            for seeds in zip(*[frame.each_k(base) for base in it.pushed])
        ]
        return [
            None if any(v is None for v in values) else frame.of_each_k(values, tensor)
            for values, tensor in zip(zip(*rows), tensors)
        ]

    def push(self, it):
        """Sets the tangents of the outputs of `it`, which is `Pulled`.

        Its adjoints are linear in those of the outputs: what they vary with them times
        the tangents of the inputs is the tangents of the outputs.
        """
        if not it.pulled:
            return
        slopes = self.along(it, it.adjoints, it.outputs)
        for tensor, value in zip(it.outputs, slopes):
            if value is not None:
                self._set(tensor, Tangent(Base(tensor, value, False, False), None))

    # Their common steps.

    def tangent(self, tensor):
        """The `Tangent` of `tensor`; None if it is zero."""
        return self._tangents.get(tensor_key(tensor))

    def _set(self, tensor, tangent):
        self._tangents[tensor_key(tensor)] = tangent

    def base(self, tensor):
        """The `Base` of `tensor`, multiplied out; None if its tangent is zero."""
        tangent = self.tangent(tensor)
        return None if tangent is None else self._frame.whole(tensor, tangent)

    def _ones(self, tensor):
        return tf.ones(self._frame.shape(tensor), tensor.dtype.base_dtype)

    def _all_shared(self, tangents):
        return all(t.base.shared and t.scale is None for _, t in tangents)

    def _same_base(self, tangents):
        return len({tensor_key(tangent.base.value) for _, tangent in tangents}) == 1

    def _repeat(self, tensor, state):
        """Each observation of `tensor`, in that `State`, K times, one by one."""
        key = tensor_key(tensor), state
        if key not in self._repeated:
            frame, axis, each = self._frame, state.axis, state.each
            shape = [-1 if d is None else d for d in tensor.shape.as_list()]
            if shape[axis] in (-1, 1):  # 1 is broadcast.
                one = tf.equal(tf.shape(tensor)[axis], 1)
                tensor = tile_along(
                    tensor, axis, where(one, state.indices(frame.count), 1)
                )
            apart = [frame.count, 1] + ([each] if each > 1 else [])
            apart = frame.shaped(tensor, shape[:axis] + apart + shape[axis + 1 :])
            value = tile_along(apart, axis + 1, frame.size)
            shape[axis] = state.indices(frame.rows(False))
            self._repeated[key] = frame.shaped(value, shape)
        return self._repeated[key]

    def _copy(self, op, values, outputs, rows=None):
        """`op` again, with `values` for its inputs, on `rows` observations or N."""
        pick = self._repeat if rows is not None else lambda tensor, _: tensor
        rows = self._frame.count if rows is None else rows
        replaced = on_observations([op], self._parts, values, pick, rows)
        return copy([op], replaced, outputs)
