"""Checks that run with a Jacobian: are observations coupled, are derivatives right?"""

from batchhess.analysis import audit, moving
from batchhess.calling import assert_that
from batchhess.checks import (
    BLUR,
    DIFFERENCE,
    Claim,
    assert_right,
    judge_steps,
    named_suspects,
    random_direction,
)
from batchhess.compat import tf
from batchhess.coupling import count_coupled, cure_of_coupling
from batchhess.graph.layout import Layout
from batchhess.graph.tensors import name_of, original, placed
from batchhess.methods.differences import EPSILON, largest
from batchhess.ops.states import SUM
from batchhess.rebuild import rebuild

_NOT_RIGHT = (
    "the Jacobian of {} with respect to {} is not what differences of {} say: "
    "TensorFlow differentiates a part of it wrongly, {}or observations are coupled, or "
    "a part is stopped or has a gradient of its author's own. Write that part with "
    "other ops; where observations are coupled, pass method=observations. The worst "
    "observation:",
    "{} is itself not finite at some observations of {}, so its Jacobian cannot be "
    "checked; the others are right. Mend the model or its input there, or pass "
    "check='{}'. How many observations, and the first:",
)


def assert_apart(passes, y, x, layout, state):
    """Builds a check that fails the run where y[n] depends on another x[m] than x[n].

    Three reverse passes, as `checks.count_coupled` tells. They find observations that
    lie on another axis of y, or in another order, too.

    Args:
      passes: the `Passes` to differentiate with.
      y: Tensor [N, *F].
      x: a Tensor or Variable.
      layout: the `Layout` of `x`.
      state: the `State` of `y`, which is not proven.

    Returns:
      an Operation that fails with InvalidArgumentError.
    """
    rows = Layout(y, 0).flatten(y)  # [N, M]

    def pull(seed):
        return layout.flatten(passes.gradient([rows], x, [seed]))

    precision = audit.precision_in([y], x).name
    count = count_coupled(rows, pull, layout, precision)
    where = "it sums up some" if state.kind == SUM else "they are not followed there"
    if state.op is not None:
        where = "at {} it {}".format(placed(state.op, ""), state.reason)
    message = (
        "observations of {} are coupled in {}, or are not in their order along its "
        "axis 0: {}. The Jacobian of one would hold terms of others. {} Observations "
        "affected, of all:"
    ).format(name_of(x), original(y.op).name, where, cure_of_coupling("jacobians"))
    return assert_that(tf.equal(count, 0), message, count, layout.num_observations)


def assert_along(y, x, layout, along, coordinates, checks):
    """Builds a check that fails the run where J[n] v[n] is not the change of y[n].

    Args:
      y: Tensor [N, *F], float32 or float64.
      x: a Tensor, float32 or float64.
      layout: the `Layout` of `x`.
      along: function from v, [N, K], to the terms whose sum over the last axis is
        J[n] v[n]: a Tensor [N, M, terms].
      coordinates: tuple of int, those along which v may be; None for all.
      checks: the `Checks`.

    Returns:
      an Operation that fails with InvalidArgumentError and names an observation: the
      worst of those whose Jacobian is wrong, or else one whose y is not finite.

    Raises:
      ValueError: something between x and y has 16 bits only.
      SecondDerivativeError: the model cannot be built again on a moved x.
    """
    precision = audit.precision_in([y], x)
    if precision.name not in ("float32", "float64"):
        raise ValueError(
            "differences need float32 or float64, and between '{}' and '{}' something "
            "is {}.".format(name_of(x), y.name, precision.name)
        )
    outputs = Layout(y, 0)
    values = layout.flatten(tf.convert_to_tensor(x))  # [N, K]
    v, _ = random_direction(values, layout.size, False, coordinates)
    at = moved_outputs(y, x, layout)
    terms = tf.cast(along(v), tf.float64)  # [N, M, terms]
    here = tf.cast(outputs.flatten(y), tf.float64)
    claim = Claim(
        here,
        tf.reduce_sum(terms, axis=2),
        largest(tf.reduce_sum(tf.abs(terms), axis=2)),
        BLUR
        * EPSILON[precision.name]
        * largest(tf.cast(values, tf.float64))
        / largest(tf.cast(v, tf.float64)),
    )
    defined = largest(here) < float("inf")

    def sides(step):
        step = tf.cast(step, values.dtype)
        moved = at(values + step * v), at(values - step * v)
        return [tf.cast(outputs.flatten(side), tf.float64) for side in moved]

    judgement = judge_steps(sides, claim, defined, precision)
    wrong = judgement.condemned & defined & tf.logical_not(judgement.agreed)
    names = original(y.op).name, name_of(x)
    messages = (
        _NOT_RIGHT[0].format(*names, names[0], named_suspects(checks.suspects)),
        _NOT_RIGHT[1].format(*names, "never" if checks.suspects else "auto"),
    )
    return assert_right(wrong, judgement.error, defined, messages)


def assert_adjoint(rows, x, layout, push, pull, outputs):
    """Builds a check that fails the run where w[n] J[n] v[n] differs from both sides.

    Args:
      rows: Tensor [N, M], y.
      x: a Tensor or Variable.
      layout: the `Layout` of `x`.
      push: function from v, of the shape of `x`, to J v, [N, M].
      pull: function from w, of the shape of y, to J' w, [N, K].
      outputs: the `Layout` of y.

    Returns:
      an Operation that fails with InvalidArgumentError.
    """
    values = layout.flatten(tf.convert_to_tensor(x))
    v, w = (
        tf.cast(tf.random_uniform(tf.shape(t), 0.5, 1.5), t.dtype)
        for t in (values, rows)
    )
    pairs = [(w, push(layout.unflatten(v))), (v, pull(outputs.unflatten(w)))]
    terms = [tf.cast(a, tf.float64) * tf.cast(b, tf.float64) for a, b in pairs]
    first, second = (tf.reduce_sum(t, 1) for t in terms)  # [N]
    scale = sum(tf.reduce_sum(tf.abs(t), 1) for t in terms)
    precision = audit.precision_in([rows], x).name
    wrong = tf.abs(first - second) > DIFFERENCE[precision] * scale
    count = tf.reduce_sum(tf.cast(wrong, tf.int32))
    message = (
        "products of the Jacobian by {} with a vector, and of its transpose, do not "
        "agree: TensorFlow differentiates a gradient of the model wrongly. Write that "
        "part with other ops. Observations affected, of all:"
    ).format(name_of(x))
    return assert_that(tf.equal(count, 0), message, count, layout.num_observations)


def moved_outputs(y, x, layout):
    """A function from a moved x, [N, K], to y there, what is stopped as it is at x.

    Args:
      y: Tensor.
      x: a Tensor.
      layout: the `Layout` of `x`.

    Returns:
      a function that raises SecondDerivativeError where y cannot be built again.

    Raises:
      SecondDerivativeError: a part of the model is stopped inside a function, where it
        cannot be held still.
    """
    stopped = moving.stops_to_hold([y], x)

    def at(rows):
        news = [layout.unflatten(rows)] + stopped
        rebuilt = rebuild([y], [x] + stopped, news, for_values=True)
        if rebuilt is None:
            raise moving.not_rebuilt(y, x, "reverse")
        return rebuilt[0]

    return at
