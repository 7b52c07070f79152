"""One observation after another: exact diagonal blocks of any f, N K reverse passes."""

from batchhess.compat import tf


def observations(problem, passes):
    """Differentiates each element g[n, k] of the gradient; keeps observation n of it.

    d g[n, k] / dx[n] is row k of the diagonal block H[n], coupled observations or not.
    The off-diagonal blocks are computed too, and dropped one after another: memory
    is O(N K K), never N K N K, but each of the N K passes costs a whole batch.

    Args:
      problem: the `Problem`.
      passes: the `Passes` to differentiate with.

    Returns:
      a Tensor [N, K, K], or [N, K] of the diagonals.
    """
    x, layout = problem.x, problem.layout
    rows = layout.flatten(problem.gradient)  # [N, K]
    count, size = layout.num_observations, layout.size

    def block_row(i):
        n, k = i // tf.maximum(size, 1), i % tf.maximum(size, 1)
        e_n = tf.cast(tf.equal(tf.range(count), n), rows.dtype)  # [N]
        e_k = tf.cast(tf.equal(tf.range(size), k), rows.dtype)  # [K]
        row = layout.flatten(passes.hvp(rows, x, e_n[:, None] * e_k[None, :]))
        # The slice is one row, or none where N = 0: there the sum is still [K].
        row = tf.reduce_sum(row[n : n + 1], axis=0)
        return tf.reduce_sum(row[k : k + 1]) if problem.diagonal else row

    by_row = passes.stack(block_row, count * size, rows.dtype)  # [N K, K] or [N K]
    shape = [count, size] if problem.diagonal else [count, size, size]
    return tf.reshape(by_row, tf.stack(shape))
