"""Differences of the first gradient: an answer where there is no second derivative."""

import collections

from batchhess.analysis import audit, moving
from batchhess.analysis.region import Region
from batchhess.calling import assert_that
from batchhess.compat import differentiable_control_flow, tf, where
from batchhess.graph.tensors import name_of
from batchhess.rebuild import rebuild

# The precision in which a gradient of this dtype is worked out.
EPSILON = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1.2e-7, "float64": 2.3e-16}

# How many roundings a gradient is taken to hold.
ROUNDINGS = 10

# Steps are halved so often, from the first down to 1e-13 and less. That is no round
# number: a function of period 1 would look the same after each step.
LEVELS = 42
_FIRST_STEP = {"float64": 7.1e-3}

# What an estimated error may be: of the largest entry, and of the gradient beside it.
# And where halving the step stops, because there is nothing to gain.
_Accuracy = collections.namedtuple("_Accuracy", "stated beside aim")
_ACCURACY = {
    "float32": _Accuracy(1e-3, 1e-4, 1e-5),
    "float64": _Accuracy(1e-6, 1e-11, 1e-9),
}

# A column in the making. central, fourth: [N, K], differences at the last step, of
# second and fourth order; bend: [N], by how much those to either side differ.
# value: [N, K], the best so far; error, doubt: [N], its estimated error, without and
# with rounding; done: [N], whether smaller steps would gain nothing.
_Column = collections.namedtuple(
    "_Column", "central fourth bend value error doubt done"
)


def first_step(dtype):
    """The first and largest step, for an x of size 1 or less."""
    return _FIRST_STEP.get(dtype.name, 0.23)


def extrapolate(central, last_central, last_fourth):
    """Differences of fourth and sixth order, from central ones at halved steps.

    Richardson's: the errors go with the square of the step. Of arrays or Tensors.
    """
    fourth = central + (central - last_central) / 3
    return fourth, fourth + (fourth - last_fourth) / 15


def differences(problem, passes):
    """Moves coordinate k of every observation, and watches the gradient change.

    The gradient is built again on a moved x, in a loop over steps. The step is halved
    until the differences of two steps agree, for each observation by itself; a run in
    which they never do fails. An answer's estimated error is at most 1e-3 of the
    largest entry of its observation in float32, and 1e-6 in float64. To that comes the
    rounding of the gradient: 1e-4, or 1e-11, of its largest entry over max(|x|, 1).
    (Ridders 1982, Advances in Engineering Software 4: extrapolated differences whose
    tableau tells the error.)

    Args:
      problem: the `Problem`; x is a Tensor, float32 or float64.
      passes: the `Passes`, of which the loop is used.

    Returns:
      a Tensor [N, K, K], symmetric; or [N, K] of the diagonals. It fails the run with
      InvalidArgumentError where the estimated error is above the stated one.

    Raises:
      ValueError: something is computed from x in 16 bits only.
      SecondDerivativeError: the model cannot be built again on a moved x.
    """
    gradient, x, layout = problem.gradient, problem.x, problem.layout
    dtype, precision = gradient.dtype.base_dtype, audit.precision_in([gradient], x)
    if precision.name not in _ACCURACY:
        raise ValueError(
            "method='differences' needs float32 or float64, and what is computed from "
            "'{}' is {}.".format(name_of(x), precision.name)
        )
    values = layout.flatten(tf.convert_to_tensor(x))  # [N, K]
    at = moved_gradient(gradient, x, layout, passes, problem.ys, problem.seeds)
    here = tf.cast(layout.flatten(gradient), tf.float64)
    slope = largest(here)
    beside = slope * tf.constant(_ACCURACY[precision.name].beside, tf.float64)

    def column(k):  # -> [N, K + 1] or [N, 2]: the error last.
        e_k = tf.cast(tf.equal(tf.range(layout.size), k), dtype)  # [K]
        size = tf.reduce_sum(tf.maximum(tf.abs(values), 1) * e_k, 1, keepdims=True)
        value, error = _derivative(at, values, size * e_k, here, precision)
        if problem.diagonal:
            value = value[:, k][:, None]
        error -= beside / tf.cast(size[:, 0], tf.float64)
        return tf.concat([value, error[:, None]], 1)

    by_column = passes.stack(column, layout.size, tf.float64)  # [K, N, K + 1]
    found, errors = by_column[:, :, :-1], by_column[:, :, -1]
    found = tf.transpose(found, [1, 2, 0])
    found = found[:, 0] if problem.diagonal else (found + _transposed(found)) / 2
    checked = _assert_accurate(found, errors, precision, problem, passes)
    with tf.control_dependencies([checked]):
        return tf.identity(tf.cast(found, dtype))  # A cast may be no op at all.


def _transposed(blocks):
    return tf.transpose(blocks, [0, 2, 1])


def _assert_accurate(found, errors, dtype, problem, passes):
    """Fails the run where an error, [K, N], is above the stated accuracy of `found`."""
    axes = list(range(1, found.shape.ndims))
    entry = tf.maximum(tf.reduce_max(tf.abs(found), axes), 0)  # [N]
    error = tf.maximum(tf.reduce_max(errors, 0), 0)
    # Where x itself has no gradient, NaN stands in the result for all to see.
    excess = error - _ACCURACY[dtype.name].stated * entry
    worst = tf.argmax(tf.concat([excess, [float("-inf")]], 0))  # N may be 0.
    share = tf.concat([error / entry, [0.0]], 0)
    message = (
        "method='differences' does not reach its accuracy, {:.0e} of the largest "
        "entry, in the Hessian of {} with respect to {}: the gradient varies too fast "
        "or is too rough for {}, or has a kink at x. Pass {}move x off the kink, or "
        "write that part with ops that TensorFlow differentiates twice, for "
        "method='auto'. The worst observation, and its estimated error:"
    ).format(
        _ACCURACY[dtype.name].stated,
        problem.ys[0].name,
        name_of(problem.x),
        dtype.name,
        "x in float64, " if dtype == tf.float32 else "an x scaled to size 1, ",
    )
    return assert_that(
        tf.logical_not(tf.reduce_any(excess > 0)),
        message,
        worst,
        tf.gather(share, worst),
    )


def _derivative(at, values, direction, here, dtype):
    """The derivative of the gradient along one coordinate, by steps that adapt.

    Args:
      at: function from [N, K] to the gradient there, [N, K].
      values: [N, K], x.
      direction: [N, K], zero but for one coordinate.
      here: float64 [N, K], the gradient at x.
      dtype: the least precise that the gradient is computed in.

    Returns:
      float64 Tensors [N, K] and [N]: the derivative, and its estimated error.
    """
    aim = _ACCURACY[dtype.name].aim
    slope = largest(here)

    def level(number, step, last):
        move = tf.cast(step, values.dtype) * direction
        above, below = values + move, values - move
        # As it came out, [N, 1].
        width = tf.cast(tf.reduce_sum(above - below, 1, keepdims=True), tf.float64)
        above, below = tf.cast(at(above), tf.float64), tf.cast(at(below), tf.float64)
        central = (above - below) / width
        fourth, sixth = extrapolate(central, last.central, last.fourth)
        half = width[:, 0] / 2
        steepest = tf.maximum(slope, tf.maximum(largest(above), largest(below)))
        noise = ROUNDINGS * EPSILON[dtype.name] * steepest / half
        bend = largest(above + below - 2 * here) / half
        # Beside a kink of the gradient, the sides differ whatever the step.
        kink = where(bend > 0.75 * last.bend + noise, bend, tf.zeros_like(bend))
        error = largest(fourth - last.fourth) + kink / 2
        doubt = error + noise
        better = doubt < last.doubt
        best = tf.minimum(doubt, last.doubt)
        settled = error <= tf.maximum(noise, aim * largest(sixth))
        column = _Column(
            central,
            fourth,
            bend,
            where(better[:, None], sixth, last.value),
            where(better, error, last.error),
            best,
            last.done | settled & (doubt < float("inf")) | (noise >= best),
        )
        return number + 1, step / 2, like(column, last)

    nowhere = tf.fill(tf.shape(here), tf.constant(float("nan"), tf.float64))
    nowhere.set_shape(here.shape)
    endless = tf.fill(tf.shape(slope), tf.constant(float("inf"), tf.float64))
    undefined = tf.logical_not(slope < float("inf"))
    start = _Column(nowhere, nowhere, endless, nowhere, endless, endless, undefined)
    with differentiable_control_flow():
        column = tf.while_loop(
            lambda number, _, last: (
                (number < LEVELS) & tf.logical_not(tf.reduce_all(last.done))
            ),
            level,
            (tf.constant(0), tf.constant(first_step(dtype), dtype), start),
        )[2]
    return column.value, where(undefined, tf.zeros_like(slope), column.error)


def like(new, old):
    """The Tensors of `new`, a namedtuple, with the static shapes of those of `old`."""
    for ours, theirs in zip(new, old):
        ours.set_shape(theirs.shape)
    return new


def largest(rows):
    """The largest absolute value of each row, Inf where there is a NaN: [N, K] to [N].

    A maximum by itself may pass over a NaN.
    """
    rows = tf.abs(rows)
    infinite = tf.fill(tf.shape(rows), tf.constant(float("inf"), rows.dtype))
    rows = where(tf.math.is_nan(rows), infinite, rows)
    return tf.maximum(tf.reduce_max(rows, axis=1), 0)  # K may be 0.


def moved_gradient(gradient, x, layout, passes, ys=None, seeds=None):
    """A function from a moved x, [N, K], to the gradient there, [N, K].

    What the model's author has stopped keeps the value that it has at x.

    Args:
      gradient: Tensor of the shape of `x`.
      x: a Tensor.
      layout: the `Layout` of `x`.
      passes: the `Passes`.
      ys: list of the Tensors that `gradient` is of, and
      seeds: list of Tensors that weigh them, or None for ones. With these the model can
        be built again too where `gradient` is computed in a loop, from `ys` outside.

    Returns:
      a function that raises SecondDerivativeError where the model cannot be built again
      on a moved x.

    Raises:
      SecondDerivativeError: a part of the model is stopped inside a function, where it
        cannot be held still.
    """
    held = moving.stops_to_hold([gradient] + list(ys or []), x)

    def at(rows):
        moved = layout.unflatten(rows)
        olds, news = [x] + held, [moved] + held
        rebuilt = rebuild([gradient], olds, news, for_values=True)
        if rebuilt is None and ys and gradient.graph is not ys[0].graph:
            copies = rebuild(ys, olds, news)
            rebuilt = copies and [passes.gradient(copies, moved, seeds)]
        if rebuilt is None or moving.kept_by_loops(Region(rebuilt, x), x):
            raise moving.not_rebuilt(gradient, x)
        return layout.flatten(rebuilt[0])

    return at
