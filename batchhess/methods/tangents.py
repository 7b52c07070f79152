"""Tangents of all K coordinates at once, kept in as few numbers as they are made of."""

import collections

from batchhess.compat import tf
from batchhess.graph.tensors import tensor_key
from batchhess.ops.sizes import shape_of
from batchhess.rebuild import packed, sizes_with, tile_along

# du/dx of the tensor `of`. `value` has the shape of `of`, but R K places along the
# observation axis: place r K + k holds the derivative of observation r by coordinate k.
# R is N; or 1, if `shared`: what is linear in x changes alike for all observations.
# Where an observation has T indices there, each place does: R K T in all.
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
        self._parts, self.count, self._whole, self._shapes = parts, count, {}, {}
        self._directions, places = directions, self.places(start)
        self.size = places if directions is None else directions.shape.as_list()[-2]
        self._all_rows = count * self.size

    def axis(self, tensor):
        """The observation axis of `tensor`."""
        return self._parts.state(tensor).axis

    def each(self, tensor):
        """T, the indices that an observation has along that axis."""
        return self._parts.state(tensor).each

    def shape(self, tensor, count=None):
        """The shape of `tensor`, as a Tensor; with `count` observations, or N."""
        count = self.count if count is None else count
        return self._packed(sizes_with(tensor, self._parts.state(tensor), count))

    def shaped(self, value, sizes):
        """`value` in a shape of ints and scalar Tensors."""
        return tf.reshape(value, self._packed(sizes))

    def _packed(self, sizes):
        """`sizes` as one Tensor, the same for the same sizes: most come again."""
        key = tuple(s if isinstance(s, int) else tensor_key(s) for s in sizes)
        if key not in self._shapes:
            self._shapes[key] = packed(sizes)
        return self._shapes[key]

    def rows(self, shared):
        """The places along the observation axis of a base."""
        return self.size if shared else self._all_rows

    def unit(self, x):
        """The `Tangent` of the start, `x`, itself."""
        axis, shape = self.axis(x), shape_of(x)
        event = shape[:axis] + shape[axis + 1 :]
        along, is_unit = self._directions, self._directions is None
        if is_unit:
            along = tf.eye(self.size, dtype=x.dtype.base_dtype)
        shared = along.shape.ndims == 2
        along = self.shaped(along, [self.rows(shared)] + event)
        places = list(range(1, len(shape)))
        along = transposed(along, places[:axis] + [0] + places[axis:])
        return Tangent(Base(x, along, shared, is_unit), None)

    def whole(self, tensor, tangent):
        """The `Base` of `tensor` whose tangent is `tangent`, multiplied out."""
        if tangent.scale is None:
            return tangent.base._replace(of=tensor)
        key = tensor_key(tangent.base.value), tensor_key(tangent.scale)
        if key not in self._whole:
            value = self.beside_k(tangent.scale, tensor) * self.split(tangent.base)
            self._whole[key] = self.merged(value, tensor)
        return Base(tensor, self._whole[key], False, False)

    def of_rows(self, base):
        """The `Base` for all coordinates, of one for each row of a tensor [N T, ...].

        Row t of an observation depends on the coordinates of part t alone.
        """
        each, places = self.each(base.of), self.places(base.of)
        rows = [1, 1] if base.shared else [self.count, each]
        rows += [self.size // each, 1, places // each]
        value = blocks(self.shaped(base.value, rows), each)
        shape = self.shape(base.of, self.rows(base.shared))
        return Base(base.of, tf.reshape(value, shape), base.shared, False)

    def split(self, base):
        """The value of `base`, [..., R K T, ...], as [..., R, K, (T,) ...]."""
        rows = 1 if base.shared else self.count
        return self._split(base.value, base.of, [rows, self.size])

    def beside_k(self, value, tensor):
        """`value`, of the shape of `tensor`, as [..., N, 1, (T,) ...]."""
        if self.each(tensor) == 1:
            return tf.expand_dims(value, self.axis(tensor) + 1)
        return self._split(value, tensor, [self.count, 1])

    def _split(self, value, tensor, rows):
        axis, shape, each = self.axis(tensor), shape_of(tensor), self.each(tensor)
        rows = rows + ([each] if each > 1 else [])
        return self.shaped(value, shape[:axis] + rows + shape[axis + 1 :])

    def each_k(self, base):
        """`base` as a list of K Tensors of the shape of its tensor."""
        value = self.spread(base, base.of, False)
        apart = self._split(value, base.of, [self.count, self.size])
        found = tf.unstack(apart, self.size, axis=self.axis(base.of) + 1)
        return [tf.reshape(value, self.shape(base.of)) for value in found]

    def first_k(self, base):
        """What `base`, not shared, has for the first coordinate."""
        apart = self._split(base.value, base.of, [self.count, self.size])
        first = tf.gather(apart, 0, axis=self.axis(base.of) + 1)
        return tf.reshape(first, self.shape(base.of))

    def of_each_k(self, values, tensor):
        """The value of a base of `tensor` from K Tensors of its shape."""
        apart = [self.beside_k(value, tensor) for value in values]
        return self.merged(tf.concat(apart, self.axis(tensor) + 1), tensor)

    def merged(self, value, tensor):
        """[..., N, K, (T,) ...] as the value of a base of `tensor`."""
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
            shape[self.axis(tensor)] = "observations", self.each(tensor)
            shapes.append(shape)
        return all(shape == shapes[0] for shape in shapes)

    def places(self, tensor):
        """The elements that an observation has in `tensor`."""
        return self._parts.places(tensor)

    def flat(self, value, tensor, rows):
        """`value` with the axis of its observations first, all other axes as one.

        Args:
          value: Tensor of the shape of `tensor`, but with the product of `rows` for N.
          tensor: Tensor.
          rows: list of int or scalar Tensors.

        Returns:
          a Tensor [*rows, places].
        """
        axis = self.axis(tensor)
        others = [a for a in range(len(shape_of(tensor))) if a != axis]
        value = transposed(value, [axis] + others)
        return self.shaped(value, rows + [self.places(tensor)])

    def flat_base(self, base):
        """The value of `base` as [N, K, places], or [K, places] if it is shared."""
        rows = [] if base.shared else [self.count]
        return self.flat(base.value, base.of, rows + [self.size])

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


def blocks(rows, each):
    """[R, T, D, 1, P] as [R, T, D, T, P]: zero where the first T is not the second.

    T is `each`; the first may be 1 in `rows`, which are then alike.
    """
    return rows * tf.reshape(tf.eye(each, dtype=rows.dtype), [each, 1, each, 1])


def added(tensors):
    """The sum of `tensors`, which are at least one."""
    return tensors[0] if len(tensors) == 1 else tf.add_n(tensors)


def transposed(tensor, order):
    """`tensor` with its axes in another order, if it is another."""
    return tensor if order == sorted(order) else tf.transpose(tensor, order)
