"""Differences of the first gradient: an answer where there is no second derivative."""

from batchhess.analysis import audit
from batchhess.compat import tf
from batchhess.rebuild import rebuild

# Fourth-order central differences: offsets in steps, and their weights.
STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))

# The step that makes rounding and truncation errors alike: epsilon ** (1 / 5).
_STEPS = {"float32": 4e-2, "float64": 7e-4}


def differences(problem, passes):
    """Moves coordinate k of every observation, and watches the gradient change.

    The gradient is built again on a moved x, four times. For functions that vary on a
    scale of 1 or more the error is about 1e-11 of the gradient in float64, and 1e-5 in
    float32. (Fornberg 1988, Mathematics of Computation 51, gives the weights.)

    Args:
      problem: the `Problem`; x is a Tensor, float32 or float64.
      passes: the `Passes`, of which the loop is used.

    Returns:
      a Tensor [N, K, K], symmetric; or [N, K] of the diagonals.

    Raises:
      ValueError: x has 16 bits only.
      SecondDerivativeError: the model cannot be built again on a moved x.
    """
    gradient, x, layout = problem.gradient, problem.x, problem.layout
    dtype = gradient.dtype.base_dtype
    if dtype.name not in _STEPS:
        raise ValueError(
            "{}: method='differences' needs float32 or float64, and '{}' is {}.".format(
                passes.caller, x.name, dtype.name
            )
        )
    values = layout.rows(tf.convert_to_tensor(x))  # [N, K]
    steps = _STEPS[dtype.name] * tf.maximum(tf.abs(values), 1)

    def column(k):
        e_k = tf.cast(tf.equal(tf.range(layout.size), k), dtype)  # [K]
        own_step = tf.reduce_sum(steps * e_k, axis=1, keepdims=True)  # [N, 1]
        change = change_along(steps * e_k, gradient, x, layout, passes) / own_step
        return change[:, k] if problem.diagonal else change

    by_column = passes.stack(column, layout.size, dtype)  # [K, N, K] or [K, N]
    if problem.diagonal:
        return tf.transpose(by_column)
    return (tf.transpose(by_column, [1, 0, 2]) + tf.transpose(by_column, [1, 2, 0])) / 2


def change_along(direction, gradient, x, layout, passes):
    """The derivative of the gradient along `direction`, as [N, K], by differences.

    Args:
      direction: [N, K], of the length of one step.
      gradient: Tensor of the shape of `x`.
      x: a Tensor.
      layout: the `Layout` of `x`.
      passes: the `Passes`.

    Returns:
      a Tensor [N, K].

    Raises:
      SecondDerivativeError: the model cannot be built again on a moved x.
    """
    values = layout.rows(tf.convert_to_tensor(x))
    change = tf.zeros_like(values)
    for offset, weight in STENCIL:
        rebuilt = rebuild([gradient], [x], [layout.like_x(values + offset * direction)])
        if rebuilt is None:
            raise audit.not_rebuilt(passes.caller, gradient, x)
        change += weight * layout.rows(rebuilt[0])
    return change
