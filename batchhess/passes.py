"""The one primitive: a reverse pass with a seed; and a loop over many of them."""

import collections

from batchhess.analysis import audit
from batchhess.compat import differentiable_control_flow, tf


class Passes(
    collections.namedtuple(
        "Passes",
        [
            "caller",
            "colocate_gradients_with_ops",
            "gate_gradients",
            "aggregation_method",
            "parallel_iterations",
            "swap_memory",
        ],
    )
):
    """How to run reverse passes: the options of tf.gradients and tf.while_loop.

    `caller` is the public function that they serve, named in errors.
    """

    def gradient(self, ys, x, seeds=None):
        """The gradient of `ys` with respect to `x`, of the shape of `x`, or None.

        Args:
          ys: list of Tensors.
          x: a Tensor or Variable.
          seeds: list of Tensors of the shapes of `ys`; ones if None.
        """
        (gradient,) = tf.gradients(
            ys,
            [x],
            grad_ys=seeds,
            colocate_gradients_with_ops=self.colocate_gradients_with_ops,
            gate_gradients=self.gate_gradients,
            aggregation_method=self.aggregation_method,
        )
        if gradient is None:
            return None
        # A gather from x makes the gradient an IndexedSlices.
        gradient = tf.convert_to_tensor(gradient)
        gradient.set_shape(x.shape)
        return gradient

    def second(self, rows, x, seed):
        """One reverse pass through the gradient: d(sum(seed * rows)) / dx.

        Args:
          rows: the gradient as [N, K]; depends on `x`.
          x: a Tensor or Variable.
          seed: [N, K].

        Returns:
          a Tensor of the shape of `x`.

        Raises:
          SecondDerivativeError: TensorFlow answers None although `rows` depends on `x`.
        """
        column = self.gradient([rows], x, [seed])
        if column is None:
            raise audit.lost(self.caller, "second derivative", [rows], x)
        return column

    def stack(self, function, count, dtype):
        """Calls `function(i)` for i = 0 .. count - 1 in a loop, and stacks the answers.

        Args:
          function: from a scalar int32 Tensor to a Tensor of one shape for all i. It is
            traced once; where count is 0 it still runs once, and the answer is dropped.
          count: int or scalar int32 Tensor.
          dtype: of the answers.

        Returns:
          a Tensor [count, ...].
        """
        never_empty = isinstance(count, int) and count > 0
        # An empty TensorArray cannot be stacked unless its shape is known.
        steps = count if never_empty else tf.maximum(count, 1)
        with differentiable_control_flow():
            _, answers = tf.while_loop(
                lambda i, _: i < steps,
                lambda i, array: (i + 1, array.write(i, function(i))),
                (tf.constant(0), tf.TensorArray(dtype, size=steps)),
                parallel_iterations=self.parallel_iterations or 10,
                swap_memory=self.swap_memory,
            )
            stacked = answers.stack()
        return stacked if never_empty else stacked[:count]
