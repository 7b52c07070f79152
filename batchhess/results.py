"""What is answered together."""

from typing import Any, List, NamedTuple

from batchhess.compat import tf


class Derivatives(NamedTuple):
    """Value, gradient and Hessian of each observation.

    Attributes:
      values: `ys` as given.
      gradients: list with one for each x.
      hessians: list with one for each x.
    """

    values: Any
    gradients: List[tf.Tensor]
    hessians: List[tf.Tensor]

    def __repr__(self):
        lines = [
            "{}: {}".format(field, ", ".join(map(_described, tf.nest.flatten(tensors))))
            for field, tensors in zip(self._fields, self)
        ]
        return "\n".join(lines)


def _described(value):
    """A Tensor, or what a run has answered for it, in words."""
    if not hasattr(value, "dtype"):
        return repr(value)
    name = getattr(value, "name", type(value).__name__)
    return "{} {} {}".format(name, value.dtype.name, value.shape)
