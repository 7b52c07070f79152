"""Tangents of all K coordinates at once, kept in as few numbers as they are made of."""

import collections

from batchhess.analysis.dominators import places
from batchhess.compat import tf
from batchhess.graph.tensors import tensor_key
from batchhess.ops.sizes import shape_of
from batchhess.rebuild import shape_with, tile_along

# du/dx of the tensor `of`. `value` has the shape of `of`, but R K places along the
# observation axis: place r K + k holds the derivative of observation r by coordinate k.
# R is N; or 1, if `shared`: what is linear in x changes alike for all observations.
# `unit` if place k is coordinate k itself, all places counted in order.
Base = collections.namedtuple("Base", "of value shared unit")

# du/dx = scale * base, place by place, for each k: what works element by element leaves
# `base` as it is, and changes `scale`, which has no K in it. None stands for ones.
Tangent = collections.namedtuple("Tangent", "base scale")


class Frame:
    """The sizes and axes in which the tangents of one sweep lie.

    Attributes:
      count: N, an int or scalar Tensor.
      size: K, an int: the coordinates of an observation of `start`, or how many
        directions are gone along.
    """

    def __init__(self, parts, count, start, directions=None):
        self._parts, self.count, self._whole = parts, count, {}
        self._directions, places = directions, self.places(start)
        self.size = places if directions is None else directions.shape.as_list()[0]

    def axis(self, tensor):
        """The observation axis of `tensor`."""
        return self._parts.state(tensor).axis

    def shape(self, tensor, count=None):
        """The shape of `tensor`, as a Tensor; with `count` observations, or N."""
        count = self.count if count is None else count
        return shape_with(tensor, self.axis(tensor), count)

    def rows(self, shared):
        """The places along the observation axis of a base."""
        return self.size if shared else self.count * self.size

    def unit(self, x):
        """The `Tangent` of the start, `x`, itself."""
        axis, shape = self.axis(x), shape_of(x)
        event = shape[:axis] + shape[axis + 1 :]
        along, is_unit = self._directions, self._directions is None
        if is_unit:
            along = tf.eye(self.size, dtype=x.dtype.base_dtype)
        along = tf.reshape(along, [self.size] + event)
        places = list(range(1, len(shape)))
        along = transposed(along, places[:axis] + [0] + places[axis:])
        return Tangent(Base(x, along, True, is_unit), None)

    def whole(self, tensor, tangent):
        """The `Base` of `tensor` whose tangent is `tangent`, multiplied out."""
        if tangent.scale is None:
            return tangent.base._replace(of=tensor)
        key = tensor_key(tangent.base.value), tensor_key(tangent.scale)
        if key not in self._whole:
            value = tf.expand_dims(tangent.scale, self.axis(tensor) + 1)
            value *= self.split(tangent.base)
            self._whole[key] = self.merged(value, tensor)
        return Base(tensor, self._whole[key], False, False)

    def split(self, base):
        """The value of `base`, [..., R K, ...], as [..., R, K, ...]."""
        axis, shape = self.axis(base.of), shape_of(base.of)
        rows = [1 if base.shared else self.count, self.size]
        return tf.reshape(base.value, tf.stack(shape[:axis] + rows + shape[axis + 1 :]))

    def merged(self, value, tensor):
        """[..., N, K, ...] as the value of a base of `tensor`."""
        return tf.reshape(value, self.shape(tensor, self.rows(False)))

    def spread(self, base, tensor, shared):
        """The value of `base` broadcast to the shape of `tensor`."""
        value, axis = base.value, self.axis(base.of)
        if base.shared and not shared:
            value = tile_along(value, axis, self.count)
        if not self.same_sizes(base.of, tensor):
            value = tf.broadcast_to(value, self.shape(tensor, self.rows(shared)))
        return value

    def broadcast(self, base, tensor):
        """The `Base` of `tensor` that `base` is broadcast to."""
        # With more places than coordinates it is no unit any more.
        unit = base.unit and self.places(base.of) == self.places(tensor)
        value = self.spread(base, tensor, base.shared)
        return Base(tensor, value, base.shared, unit)

    def same_sizes(self, *tensors):
        """Whether tensors have the same shape but for their observation axes."""
        shapes = []
        for tensor in tensors:
            shape = shape_of(tensor)
            shape[self.axis(tensor)] = "observations"
            shapes.append(shape)
        return all(shape == shapes[0] for shape in shapes)

    def places(self, tensor):
        """The elements that an observation has in `tensor`."""
        return places(tensor, self._parts)

    def flat(self, value, tensor, rows):
        """`value` with the axes of its observations first, all other axes as one.

        Args:
          value: Tensor of the shape of `tensor`, but with the axes `rows` in the place
            of its observation axis.
          tensor: Tensor.
          rows: list of int or scalar Tensors.

        Returns:
          a Tensor [*rows, places].
        """
        first = list(range(self.axis(tensor), self.axis(tensor) + len(rows)))
        others = range(len(shape_of(tensor)) - 1 + len(rows))
        value = transposed(value, first + [a for a in others if a not in first])
        return tf.reshape(value, tf.stack(rows + [self.places(tensor)]))

    def flat_base(self, base):
        """The value of `base` as [N, K, places], or [K, places] if it is shared."""
        rows = [] if base.shared else [self.count]
        value = base.value if base.shared else self.split(base)
        return self.flat(value, base.of, rows + [self.size])

    def summed_to(self, value, wide, narrow, rows):
        """Adds up `value`, of the shape of `wide`, where `narrow` is broadcast to it.

        Args:
          value: Tensor with `rows` places along the observation axis.
          wide: Tensor, to whose shape `narrow` is broadcast.
          narrow: Tensor.
          rows: int or scalar Tensor.

        Returns:
          a Tensor of the shape of `narrow`, but with `rows` places.
        """
        if self.same_sizes(wide, narrow):
            return value
        whole, part = shape_of(wide), shape_of(narrow)
        part = [1] * (len(whole) - len(part)) + part
        observations = self.axis(wide)
        axes = [
            a
            for a, (many, few) in enumerate(zip(whole, part))
            if a != observations and few == 1 != many
        ]
        if axes:
            value = tf.reduce_sum(value, axes, keepdims=True)
        return tf.reshape(value, self.shape(narrow, rows))


def added(tensors):
    """The sum of `tensors`, which are at least one."""
    return tensors[0] if len(tensors) == 1 else tf.add_n(tensors)


def transposed(tensor, order):
    """`tensor` with its axes in another order, if it is another."""
    return tensor if order == sorted(order) else tf.transpose(tensor, order)
