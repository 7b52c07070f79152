"""Where the observations of x lie, and how x's shape becomes [N, K] and back."""

from batchhess.compat import tf
from batchhess.graph.tensors import product_of


class Layout:
    """The observation axis of `x` and the shapes around it.

    Attributes:
      axis: int, the observation axis, from 0.
      size: K, the coordinates of an observation: an int where the graph knows it,
        else a scalar int32 Tensor.
      num_observations: N: likewise.
    """

    def __init__(self, x, batch_axis):
        rank = x.shape.ndims
        self.axis = batch_axis % rank
        # [N, *E] from x's own order of axes.
        self._order = [self.axis] + [a for a in range(rank) if a != self.axis]
        shape = dimensions(x)
        self.num_observations = shape[self.axis]
        self._event = [shape[a] for a in self._order[1:]]
        self.size = product_of(self._event)

    def flatten(self, tensor):
        """Reshapes `tensor`, of x's shape, to [N, K]."""
        if self._order != sorted(self._order):
            tensor = tf.transpose(tensor, self._order)
        if len(self._order) != 2:
            tensor = tf.reshape(tensor, tf.stack([self.num_observations, self.size]))
        tensor.set_shape([_static(self.num_observations), _static(self.size)])
        return tensor

    def flatten_each(self, tensor):
        """Reshapes [N, V, *E] to [N, V, K]."""
        if len(self._order) != 2:
            sizes = [self.num_observations, dimensions(tensor)[1], self.size]
            tensor = tf.reshape(tensor, tf.stack(sizes))
        return tensor

    def nth(self, rows, i):
        """Vector `i` of [N, V, K], in the shape of `x`; zeros where V is 0."""
        return self.unflatten(tf.reduce_sum(rows[:, i : i + 1], 1))

    def unflatten(self, rows):
        """Reshapes [N, K] to the shape of `x`, as `flatten` undoes."""
        if len(self._order) != 2:
            shape = [self.num_observations] + self._event
            rows = tf.reshape(rows, tf.stack(shape))
        if self._order != sorted(self._order):
            rows = tf.transpose(
                rows, [self._order.index(a) for a in sorted(self._order)]
            )
        return rows

    def events(self, tensor, layouts, outer=None):
        """Reshapes [N, (M,) K, ...] to [N, *outer, *E, ...].

        Args:
          tensor: a Tensor.
          layouts: list with the `Layout` of each x whose K stands in its shape.
          outer: list of the sizes that the one axis after N stands for; None where K
            comes next.

        Returns:
          a Tensor of shape [N, *outer, *E, ...].
        """
        sizes = [self.num_observations] + list(outer or [])
        sizes += [d for layout in layouts for d in layout._event]
        axes = [len(layout._event) for layout in layouts]
        is_same = tensor.shape.ndims == len(sizes)
        each = axes + ([] if outer is None else [len(outer)])
        if not is_same or any(count != 1 for count in each):
            tensor = tf.reshape(tensor, tf.stack(sizes))
        tensor.set_shape([_static(d) for d in sizes])
        return tensor


class Chosen:
    """In the place of a `Layout` in `events`: some of the answer, along one axis.

    Attributes:
      size: int, of how many.
    """

    def __init__(self, size):
        self.size, self._event = size, [size]


def dimensions(x):
    """The shape of `x`: an int where the graph knows it, else a scalar Tensor."""
    static = x.shape.as_list()
    if None not in static:
        return static
    dynamic = tf.unstack(tf.shape(x), num=len(static))
    return [dynamic[a] if d is None else d for a, d in enumerate(static)]


def _static(dimension):
    return dimension if isinstance(dimension, int) else None
