"""Checks that run with the graph: are Hessians what differences say?"""

import collections

from batchhess.analysis.audit import precision_in
from batchhess.calling import assert_that
from batchhess.compat import differentiable_control_flow, tf, where
from batchhess.graph.tensors import name_of, original
from batchhess.methods.differences import (
    EPSILON,
    LEVELS,
    ROUNDINGS,
    extrapolate,
    first_step,
    largest,
    like,
    moved_gradient,
)

# What a Hessian may differ by from differences of the gradient, relative to its terms,
# and what those of two steps may differ by to be trusted.
DIFFERENCE = {"float16": 0.3, "bfloat16": 0.5, "float32": 3e-2, "float64": 1e-5}
_SPREAD = {"float16": 0.1, "bfloat16": 0.2, "float32": 1e-2, "float64": 5e-7}

# How many roundings of x a model may take: of sums and products with it.
BLUR = 16

# Gradients of less than this have lost their precision.
_SUBNORMAL = {"float32": 1e-31, "float64": 1e-292}

# In the first steps, which are large, rounding hides little: where it hides the Hessian
# all the same, that is small beside the gradient, and is let pass.
LARGE_STEPS = 6

# What is judged, of each observation. here: [N, K], the gradient at x; product: [N, K],
# H v; terms: [N], the largest of the sums of the sizes of its terms, Inf where one is
# not finite; blur: [N], the share of v that the rounding of x takes at a step of 1.
Claim = collections.namedtuple("Claim", "here product terms blur")

# What the steps so far say. central, fourth: [N, K], differences at the last one; bend:
# [N], by how much those to either side differ. agreed, condemned: [N], whether
# differences to be trusted have said the same as the Hessian, and whether they said
# otherwise three times in a row, and not the contrary since; `streak` counts both, the
# contrary below zero. error, doubt: [N], the relative error by the best of them, and
# what these are good for.
Judgement = collections.namedtuple(
    "Judgement", "central fourth bend agreed condemned streak error doubt"
)


def assert_differences(
    passes,
    ys,
    gradient,
    x,
    layout,
    along,
    one_coordinate,
    seeds=None,
    coordinates=None,
    suspects=(),
):
    """Builds a check that fails the run where H[n] v[n] is not the gradient's change.

    Args:
      passes: the `Passes`, for errors.
      ys: list of Tensors.
      gradient: Tensor, the gradient of `ys`, of the shape of `x`.
      x: a Tensor, float32 or float64.
      layout: the `Layout` of `x`.
      along: function from v, [N, K], to the terms whose sum over the last axis is
        H[n] v[n]: a Tensor [N, K, terms].
      one_coordinate: bool, whether v is to be zero but for one coordinate, of which
        alone H[n] v[n] is known.
      seeds: list of Tensors that weigh `ys` in `gradient`, or None for ones.
      coordinates: list of int, those whose columns alone are known; None for all.
      suspects: list of Operations whose second derivative no test has seen right.

    Returns:
      an Operation that fails with InvalidArgumentError and names an observation: the
      worst of those whose Hessian is wrong, or else one whose gradient is not finite.

    Raises:
      ValueError: something is computed from x in 16 bits only.
      SecondDerivativeError: the model cannot be built again on a moved x.
    """
    precision = precision_in([gradient], x)
    if precision.name not in ("float32", "float64"):
        raise ValueError(
            "check='always' needs float32 or float64, and what is computed from '{}' "
            "is {}.".format(name_of(x), precision.name)
        )
    values, rows = layout.flatten(tf.convert_to_tensor(x)), layout.flatten(gradient)
    v, known = random_direction(values, layout.size, one_coordinate, coordinates)
    at = moved_gradient(gradient, x, layout, passes, ys, seeds)

    def sides(step):  # The gradient a step up and a step down, float64 [N, K].
        step = tf.cast(step, values.dtype)
        moved = at(values + step * v), at(values - step * v)
        return [tf.cast(known * side, tf.float64) for side in moved]

    terms = tf.cast(known[:, None] * along(v), tf.float64)
    claim = Claim(
        tf.cast(known * rows, tf.float64),
        tf.reduce_sum(terms, axis=2),
        largest(tf.reduce_sum(tf.abs(terms), axis=2)),
        BLUR
        * EPSILON[precision.name]
        * largest(tf.cast(values, tf.float64))
        / largest(tf.cast(v, tf.float64)),
    )
    defined = largest(rows) < float("inf")
    judgement = judge_steps(sides, claim, defined, precision)
    wrong = judgement.condemned & defined & tf.logical_not(judgement.agreed)
    names = ys[0].name, name_of(x)
    messages = (
        _NOT_RIGHT[0].format(*names, named_suspects(suspects)),
        _NOT_RIGHT[1].format(*names, "never" if suspects else "auto"),
    )
    return assert_right(wrong, judgement.error, defined, messages)


def assert_of_a_function(ys, gradient, x, hessians, suspects):
    """Builds a check that fails the run where `hessians` are not symmetric.

    Then the gradient is that of no function: TensorFlow differentiates a part of the
    model wrongly once, which no differences of the gradient can show.

    Args:
      ys: list of Tensors.
      gradient: Tensor, the gradient of `ys` by `x`, for its precision.
      x: a Tensor or Variable.
      hessians: Tensor [N, K, K].
      suspects: list of Operations whose derivatives no test has seen right.

    Returns:
      an Operation that fails with InvalidArgumentError, and names the worst.
    """
    rows = tf.stack([tf.shape(hessians)[0], tf.size(hessians[:1])])
    apart = tf.reshape(hessians - tf.linalg.matrix_transpose(hessians), rows)
    scale, apart = largest(tf.reshape(hessians, rows)), largest(apart)
    limit = DIFFERENCE[precision_in([gradient], x).name]
    # What is not finite stands in the result for all to see.
    wrong = (apart > tf.cast(limit, scale.dtype) * scale) & tf.math.is_finite(scale)
    message = (
        "the Hessian of {} with respect to {} is not symmetric: TensorFlow's gradient "
        "of a part of it is not that of what it computes, {}so that no derivative of "
        "it is right. Write that part with other ops. The worst observation:"
    ).format(ys[0].name, name_of(x), named_suspects(suspects))
    nothing = tf.zeros([1], apart.dtype)  # N may be 0.
    worst = tf.argmax(tf.concat([where(wrong, apart, 0 * apart), nothing], 0))
    return assert_that(tf.logical_not(tf.reduce_any(wrong)), message, worst)


# The messages where Hessians are wrong, and where nothing can be told of them.
_NOT_RIGHT = (
    "the Hessian of {} with respect to {} is not what differences of the "
    "gradient say: TensorFlow differentiates a part of it wrongly, {}or "
    "observations are coupled. Write that part with other ops, or pass "
    "method=differences; where observations are coupled, pass "
    "method=observations. The worst observation:",
    "the gradient of {} with respect to {} is itself not finite, so its "
    "Hessian cannot be checked; the others are right. Mend the model or its "
    "input there, or pass check='{}'. How many observations, and the first:",
)


def assert_right(wrong, error, defined, messages):
    """Fails where one is `wrong`, [N], then where one is not `defined`, [N].

    Args:
      wrong: bool Tensor [N].
      error: Tensor [N], to name the observation of the largest.
      defined: bool Tensor [N].
      messages: str for the first, and str for the second.
    """
    nothing = tf.constant([-1.0], tf.float64)  # N may be 0.
    error = tf.concat([where(wrong, error, -tf.ones_like(error)), nothing], 0)
    worst = tf.argmax(error)
    right = assert_that(
        tf.logical_not(tf.reduce_any(wrong)),
        messages[0],
        worst,
        "Its relative error:",
        tf.gather(error, worst),
    )
    undefined = tf.logical_not(defined)
    first = tf.argmax(tf.concat([tf.cast(undefined, tf.int32), [0]], 0))
    count = tf.reduce_sum(tf.cast(undefined, tf.int32))
    with tf.control_dependencies([right]):
        return assert_that(tf.equal(count, 0), messages[1], count, first)


def named_suspects(suspects):
    """The ops of `suspects` nearest f, for a message; nothing if there are none."""
    names = ["{} ({})".format(original(op).name, op.type) for op in suspects[-3:]]
    return "most likely at {}, ".format(" or ".join(names)) if names else ""


def random_direction(values, size, one_coordinate, coordinates=None):
    """v of the size of x, [N, K], and [K], 1 where H v is known and 0 elsewhere.

    v is zero but for `coordinates`, if these are given.
    """
    dtype = values.dtype
    v = tf.random_uniform(tf.shape(values), 0.5, 1, dtype)
    v *= tf.sign(tf.random_uniform(tf.shape(values), -1, 1, dtype))
    known = moved = tf.ones([size], dtype)
    if coordinates is not None:
        moved = tf.reduce_max(tf.one_hot(coordinates, size, dtype=dtype), 0)
    if one_coordinate:
        count = size if coordinates is None else len(coordinates)
        k = tf.random_uniform([], 0, tf.maximum(count, 1), tf.int32)
        k = k if coordinates is None else tf.gather(list(coordinates), k)
        known = moved = tf.cast(tf.equal(tf.range(size), k), dtype)
    # With all K, f varies about sqrt(K) times as fast as along one.
    v *= moved / tf.sqrt(tf.reduce_sum(moved))
    scale = tf.maximum(tf.reduce_max(tf.abs(moved * values), 1, keepdims=True), 1)
    return v * scale, known


def judge_steps(sides, claim, defined, dtype):
    """Halves the step until each observation has agreed, and answers the `Judgement`.

    Args:
      sides: function from a step to the gradients on either side, float64 [N, K].
      claim: the `Claim`.
      defined: [N], where there is something to judge.
      dtype: the least precise that the gradient is computed in.
    """

    def level(number, step, last):
        above, below = sides(step)
        large = tf.fill(tf.shape(defined), number < LARGE_STEPS)
        wide = tf.cast(step, tf.float64)
        new = judge(tf, largest, dtype.name, claim, last, above, below, wide, large)
        return number + 1, step / 2, like(new, last)

    def going_on(number, _, last):
        return (number < LEVELS) & tf.reduce_any(defined & ~last.agreed)

    start = unjudged(tf, claim)
    with differentiable_control_flow():
        return tf.while_loop(
            going_on,
            level,
            (tf.constant(0), tf.constant(first_step(dtype), dtype), start),
        )[2]


def unjudged(xp, claim):
    """The `Judgement` before the first step; `xp` as in `judge`."""
    nowhere = xp.zeros_like(claim.here) + float("nan")
    zero = xp.zeros_like(claim.terms)
    endless, no = zero + float("inf"), zero > 0
    return Judgement(nowhere, nowhere, endless, no, no, zero, zero, endless)


def judge(xp, largest, dtype_name, claim, last, above, below, step, large):
    """What the gradients at one more step, half the last one, say of a Hessian.

    Differences are trusted where those of two steps agree, beyond what rounding makes
    of them. A Hessian is condemned by those alone that rounding leaves precise enough,
    and where it is none of what differences to either side say: beside a kink of the
    gradient TensorFlow takes one of the sides. Each observation is judged by itself.

    Args:
      xp: `numpy`, or `tf`: what it computes with.
      largest: function from [N, K] to the largest absolute value of each row, Inf where
        there is a NaN.
      dtype_name: str, of the least precise that the gradient is computed in.
      claim: the `Claim`.
      last: the `Judgement` so far.
      above: float64 [N, K], the gradient at x + step * v.
      below: float64 [N, K], the gradient at x - step * v.
      step: float64 scalar.
      large: [N], bools, whether this is one of the first steps.

    Returns:
      the `Judgement`.
    """
    tolerance, close = DIFFERENCE[dtype_name], _SPREAD[dtype_name]
    central = (above - below) / (2 * step)
    fourth, sixth = extrapolate(central, last.central, last.fourth)
    found = largest(fourth)
    steepest = xp.maximum(largest(claim.here), largest(above))
    steepest = xp.maximum(steepest, largest(below)) + _SUBNORMAL.get(dtype_name, 0)
    noise = ROUNDINGS * EPSILON[dtype_name] * steepest / step
    spread = largest(fourth - last.fourth)
    bend = largest(above + below - 2 * claim.here) / step

    scale = xp.maximum(claim.terms, largest(sixth))
    excess = largest(claim.product - sixth)
    finite = claim.terms < float("inf")
    trusted = (spread < float("inf")) & (spread <= close * found + noise)
    unsure = noise + claim.blur / step * scale
    precise, fair = unsure <= close * scale, unsure <= tolerance * scale
    beside = ROUNDINGS * EPSILON[dtype_name] * largest(claim.here) / step
    allowed = xp.where(large, tolerance * scale + beside, tolerance * scale)
    agrees = trusted & finite & (fair | large) & (excess <= allowed)
    # A bend that is small beside the excess explains none of it, whatever it does.
    stays = (bend > 0.75 * last.bend + noise) & (bend > 0.1 * excess)
    one_sided = (excess <= 0.75 * bend) | stays
    # Where H alone would change the gradient by more than all of it, f varies faster
    # than the step, or H is wrong: smaller steps will tell.
    seen = claim.terms * step <= 4 * steepest
    wrong = precise & seen & ~one_sided & (excess > tolerance * scale + noise)
    # A sum that has lost digits rounds more than `noise` tells.
    clear = (trusted | (spread <= 0.1 * excess)) & wrong
    wrong = clear | trusted & ~finite & (large | (noise <= close * found))

    zero = xp.zeros_like(last.streak)
    up, down = xp.maximum(last.streak, zero) + 1, xp.minimum(last.streak, zero) - 1
    streak = xp.where(wrong, up, down)
    # To the smallest of the precise steps: what is finer than large steps might lie
    # between them. One step alone may be a fluke of rounding.
    often, pardoned = streak >= 3, precise & finite & (streak <= -3)
    condemned = (last.condemned & ~pardoned) | (often & (precise | ~finite))
    doubt = (spread + unsure) / xp.where(scale > 0, scale, xp.ones_like(scale))
    error = xp.maximum(excess - noise, xp.zeros_like(noise))
    error = error / xp.where(scale > 0, scale, xp.ones_like(scale))
    error = xp.where(finite, error, xp.zeros_like(error) + float("inf"))
    # What agrees replaces what did not, and stays.
    better = ~last.agreed & (agrees | (wrong & ((doubt < last.doubt) | ~finite)))
    return Judgement(
        central,
        fourth,
        bend,
        last.agreed | agrees,
        condemned,
        streak,
        xp.where(better, error, last.error),
        xp.where(better, doubt, last.doubt),
    )
