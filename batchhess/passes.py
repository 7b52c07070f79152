"""The one primitive: a reverse pass with a seed; and a loop over many of them."""

import collections
import contextlib
import operator

from batchhess.analysis import audit
from batchhess.analysis.local import Local
from batchhess.compat import (
    differentiable_control_flow,
    know_functions_around,
    read_instead,
    tf,
)
from batchhess.graph.tensors import tensor_key
from batchhess.ops.shapes import summed_over_none

# So many passes are built one by one rather than in a loop.
UNROLLED = 4


class Passes(
    collections.namedtuple(
        "Passes",
        [
            "colocate_gradients_with_ops",
            "gate_gradients",
            "aggregation_method",
            "parallel_iterations",
            "swap_memory",
            "jit_compile",
        ],
        defaults=(False, False, None, None, False, False),
    )
):
    """How to run reverse passes: the options of tf.gradients and tf.while_loop."""

    def gradients(self, ys, xs, seeds=None, stop=None):
        """tf.gradients with these options: for each of `xs` a Tensor, or None.

        Args:
          ys: list of Tensors.
          xs: list of Tensors or Variables.
          seeds: list of Tensors of the shapes of `ys`; ones if None.
          stop: list of Tensors to take for constants, `xs` among them or not.

        Raises:
          UndefinedDerivativeError: TensorFlow does not define a derivative.
        """
        if not ys or not xs:
            return [None] * len(xs)
        know_functions_around()
        with self._defined(), tf.name_scope("gradients") as scope:
            gradients = tf.gradients(
                ys,
                xs,
                grad_ys=seeds,
                name=scope,
                stop_gradients=stop,
                colocate_gradients_with_ops=self.colocate_gradients_with_ops,
                gate_gradients=self.gate_gradients,
                aggregation_method=self.aggregation_method,
            )
        gradients = without_idle_sums(gradients, _built_in(scope, gradients))
        for i, x in enumerate(xs):
            if gradients[i] is not None:
                # A gather from x makes the gradient an IndexedSlices.
                gradients[i] = tf.convert_to_tensor(gradients[i])
                gradients[i].set_shape(x.shape)
        return gradients

    def locally(self, ys, xs, seeds, held):
        """The same through one op and its derivatives alone.

        Args:
          ys: list of Tensors.
          xs: list of Tensors, some of `held`.
          seeds: list of Tensors of the shapes of `ys`.
          held: list of Tensors to take for constants: all that ys are computed from.

        Returns:
          list with a Tensor for each of `xs`; None where it is zero.

        Raises:
          UndefinedDerivativeError: TensorFlow does not define a derivative.
          SecondDerivativeError: it answers None although ys depend on an x.
        """
        local = Local(ys, held)
        with self._defined():
            found = local.gradients(xs, seeds)
        for x, value in zip(xs, found):
            if value is not None:
                value.set_shape(x.shape)
            elif local.depends(x):
                raise audit.lost("second derivative", ys, x)
        return found

    @contextlib.contextmanager
    def _defined(self):
        """Turns what the gradient of an op of TensorFlow raises into our error."""
        try:
            yield
        except Exception as error:
            undefined = audit.undefined(error)
            if undefined is None:
                raise
            raise undefined from error

    def gradient(self, ys, x, seeds=None):
        """The gradient of `ys` with respect to `x`, as `gradients`."""
        return self.gradients(ys, [x], seeds)[0]

    def hvp(self, rows, x, seed):
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
            raise audit.lost("second derivative", [rows], x)
        return column

    def stack(self, function, count, dtype, axis=0, unrolled=False):
        """Calls `function(i)` for i = 0 .. count - 1, and stacks the answers.

        A few are built one after the other, so that no loop stands between the model
        and what is built from the answers; many in a loop.

        Args:
          function: from an int or a scalar int32 Tensor to a Tensor of known rank, of
            one shape for all i. In a loop it is traced once; where count is 0 it still
            runs once, and the answer is dropped.
          count: int or scalar int32 Tensor.
          dtype: of the answers.
          axis: int, the axis of the result along which i runs.
          unrolled: bool, whether to build many one after the other too; count is an
            int then.

        Returns:
          a Tensor, with `count` along `axis`.
        """
        if isinstance(count, int) and count > 0 and (unrolled or count <= UNROLLED):
            return tf.stack([function(i) for i in range(count)], axis=axis)
        stacked = self._loop(function, count, dtype)
        order = list(range(1, stacked.shape.ndims))
        order.insert(axis, 0)
        return tf.transpose(stacked, order) if axis else stacked

    def _loop(self, function, count, dtype):
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


def without_idle_sums(gradients, ops, alike=operator.eq):
    """Lets what tf.gradients has built read past sums of nothing.

    Of a term that was perhaps broadcast it sums the gradient over axes that only a run
    tells, and gives it its shape again; TensorFlow 1.15 does so of each bias. Where the
    graph tells that the term was not, that is four ops for nothing, and a dozen in the
    next derivative.

    Args:
      gradients: list of what tf.gradients has answered.
      ops: list of the Operations that it has built for that.
      alike: as of `summed_over_none`.

    Returns:
      `gradients`, or what they are equal to.
    """
    found = {}

    def before_sums(tensor):
        """The first Tensor that `tensor` equals; None if itself."""
        key, before = tensor_key(tensor), None
        if key not in found:
            after = summed_over_none(tensor, alike)
            while after is not None:
                before, after = after, summed_over_none(after, alike)
            found[key] = before
        return found[key]

    for op in ops:
        for place, tensor in enumerate(op.inputs):
            before = before_sums(tensor)
            if before is not None:
                read_instead(op, place, before)
    befores = [before_sums(g) if isinstance(g, tf.Tensor) else None for g in gradients]
    return [g if before is None else before for g, before in zip(gradients, befores)]


def _built_in(scope, gradients):
    """The ops in a name scope that `gradients` are computed by."""
    tensors = [g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients]
    pending = [t.op for t in tensors if t is not None]
    seen = set(pending)
    while pending:
        op = pending.pop()
        if not op.name.startswith(scope):
            continue
        yield op
        for parent in [t.op for t in op.inputs]:
            if parent not in seen:
                seen.add(parent)
                pending.append(parent)
