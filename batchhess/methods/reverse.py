"""All observations at once, one output after another: M reverse passes."""

from batchhess.compat import tf
from batchhess.graph.layout import Layout


def reverse(problem, passes):
    """Differentiates y, summed over observations, output by output.

    Where observation n of y depends on observation n of x alone,
    d(sum_i y[i, m]) / dx[n] = dy[n, m] / dx[n]: one reverse pass with the seed e_m
    answers a row of every observation's Jacobian. Elsewhere it adds rows up.

    Args:
      problem: a `Problem` with outputs.
      passes: the `Passes` to differentiate with.

    Returns:
      a Tensor [N, M, C], of the C coordinates asked for.
    """
    (y,), x, layout = problem.ys, problem.x, problem.layout
    rows = Layout(y, 0).flatten(y)  # [N, M]

    def row(m):
        e_m = tf.cast(problem.is_in_row(m), rows.dtype)  # [M]
        found = passes.gradient([rows], x, [tf.zeros_like(rows) + e_m])
        return problem.chosen(layout.flatten(found))  # [N, C]

    dtype, unrolled = x.dtype.base_dtype, problem.unrolled
    return passes.stack(row, problem.rows, dtype, axis=1, unrolled=unrolled)
