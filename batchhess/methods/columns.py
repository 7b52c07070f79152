"""All observations at once, one coordinate after another: K reverse passes."""

from batchhess.compat import tf


def columns(problem, passes):
    """Differentiates the gradient, summed over observations, column by column.

    Where f is separable, d(sum_m g[m, k]) / dx[n] = d g[n, k] / dx[n] = H[n, k, :]: the
    sum over m adds zeros, and one reverse pass with the seed e_k answers a row of every
    observation's Hessian, which is a column too. Where observations are coupled it adds
    their blocks up.

    Args:
      problem: the `Problem`.
      passes: the `Passes` to differentiate with.

    Returns:
      a Tensor [N, K, C], or [N, C] of the diagonals, of the C coordinates asked for.
    """
    x, layout = problem.x, problem.layout
    rows = layout.flatten(problem.gradient)  # [N, K]

    def column(c):
        e_c = tf.cast(problem.is_in_column(c), rows.dtype)  # [K]
        found = layout.flatten(passes.hvp(rows, x, tf.zeros_like(rows) + e_c))
        # [N] or [N, K].
        return found[:, problem.coordinate(c)] if problem.diagonal else found

    whole = problem.coordinates is None and problem.added is None
    axis = 1 if problem.diagonal or whole else 2
    return passes.stack(column, problem.count, rows.dtype, axis=axis)
