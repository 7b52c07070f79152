"""One element of y after another: exact blocks of any y, N M reverse passes."""

from batchhess.compat import tf
from batchhess.graph.layout import Layout


def elements(problem, passes):
    """Differentiates each element y[n, m]; keeps observation n of its gradient.

    dy[n, m] / dx[n] is row m of the diagonal block of observation n, coupled
    observations or not. What y[n, m] changes with other observations is dropped.

    Args:
      problem: a `Problem` with outputs.
      passes: the `Passes` to differentiate with.

    Returns:
      a Tensor [N, M, C], of the C coordinates asked for.
    """
    (y,), x, layout = problem.ys, problem.x, problem.layout
    rows = Layout(y, 0).flatten(y)  # [N, M]
    count, outputs = layout.num_observations, problem.outputs

    def row(i):
        n, m = i // tf.maximum(outputs, 1), i % tf.maximum(outputs, 1)
        e_n = tf.cast(tf.equal(tf.range(count), n), rows.dtype)  # [N]
        e_m = tf.cast(tf.equal(tf.range(outputs), m), rows.dtype)  # [M]
        found = passes.gradient([rows], x, [e_n[:, None] * e_m[None, :]])
        # The slice is one row, or none where N = 0: there the sum is still [K].
        one = tf.reduce_sum(layout.flatten(found)[n : n + 1], axis=0)
        return problem.chosen(one)

    dtype, unrolled = x.dtype.base_dtype, problem.unrolled
    by_row = passes.stack(row, count * outputs, dtype, unrolled=unrolled)  # [N M, C]
    return tf.reshape(by_row, tf.stack([count] + problem.shape))
