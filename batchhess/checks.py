"""Checks that run with the graph: are observations coupled, are Hessians right?"""

import collections

import numpy as np

from batchhess.calling import assert_that, takes
from batchhess.compat import differentiable_control_flow, tf
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

# What two runs of the same arithmetic may differ by, relative to their size.
_ROUNDING = {"float16": 2e-2, "bfloat16": 1e-1, "float32": 1e-5, "float64": 1e-12}

# Below this, what underflows on the way may be all of an answer.
_UNDERFLOW = {
    "float16": 2.0**-16,
    "bfloat16": 2.0**-100,
    "float32": 2.0**-100,
    "float64": 2.0**-990,
}

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
# otherwise three times in a row, which `streak` counts, and to the last. error, doubt:
# [N], the relative error by the best of them, and what these are good for.
Judgement = collections.namedtuple(
    "Judgement", "central fourth bend agreed condemned streak error doubt"
)


def assert_uncoupled(passes, ys, gradient, x, layout, proof):
    """Builds a check that fails the run where a gradient sees another observation.

    Three reverse passes: one with the same seed u for every observation, two with
    s[n] u, where s[n] is plus or minus a random power of two. Scaling by it is exact,
    so where observations are separable the answers differ by the factor s[n] alone, to
    the last bit. Where they are coupled, row n differs by
    sum_m H[n, m] u (s[m] - s[n]): not zero even if the off-diagonal blocks sum to zero,
    and above rounding even if they are small.

    Args:
      passes: the `Passes` to differentiate with.
      ys: list of Tensors.
      gradient: Tensor, the gradient of `ys`, of the shape of `x`.
      x: a Tensor or Variable.
      layout: the `Layout` of `x`.
      proof: the `State` that says which op is not proven separable.

    Returns:
      an Operation that fails with InvalidArgumentError. In each stretch of 1021
      observations (139 in float16) all pairs are told apart; a pair of two stretches
      but for a chance of 1 in 1021, drawn anew in each run.
    """
    rows = layout.flatten(gradient)  # [N, K]

    def pull(seed):
        return layout.flatten(passes.hvp(rows, x, seed))

    coupled = count_coupled(rows, pull, layout, rows.dtype.name)
    message = (
        "observations of {} are coupled in {}: {} ({}) {}. The Hessian of one "
        "would hold terms of others. {} Observations affected, of all:"
    ).format(
        name_of(x),
        original(ys[0].op).name,
        original(proof.op).name,
        proof.op.type,
        proof.reason,
        cure_of_coupling("hessians"),
    )
    return assert_that(tf.equal(coupled, 0), message, coupled, layout.num_observations)


def cure_of_coupling(function):
    """What to do about it; `function` answers blocks, if the one called does not."""
    exact = "Pass method=observations for the exact diagonal blocks"
    if not takes("method"):
        exact = "Multiply the blocks of {}(method='observations')".format(function)
    return exact + ", or pass check=never to let it pass."


def count_coupled(rows, pull, layout, precision):
    """How many observations of x a reverse pass does not answer to by themselves.

    Such a pass, with observation n of its seed scaled by s[n], answers what one without
    answers, with observation n scaled by s[n]. s[n] shrinks large answers and enlarges
    small ones, so it brings no observation nearer to where numbers overflow or
    underflow.

    Args:
      rows: Tensor of observations, to be differentiated: [N, D].
      pull: function from a seed, [N, D], to the answer of the pass, [N, K].
      layout: the `Layout` of x.
      precision: the name of a dtype, in which the passes are precise.

    Returns:
      a scalar int32 Tensor.
    """
    dtype = rows.dtype
    # What 16 bits answer is compared in 32: TensorFlow 1.15 lacks kernels for less.
    wide = tf.float64 if dtype == tf.float64 else tf.float32
    width = tf.shape(rows)[1]
    u = tf.cast(tf.random_uniform([width], 0.5, 1.5), dtype)  # [D]

    def answer(scale):  # [N, 1] -> [N, K]
        return tf.cast(pull(tf.zeros_like(rows) + tf.cast(scale, dtype) * u), wide)

    alike = answer(1.0)
    largest = tf.reduce_max(tf.abs(alike), axis=1, keepdims=True)  # [N, 1]
    tolerance = _ROUNDING[precision] * largest + _UNDERFLOW[precision]
    coupled = tf.zeros_like(alike, tf.bool)
    for powers in _draw_powers(layout.num_observations, precision):
        powers = tf.cast(powers, wide)[:, None]
        s = tf.where(largest < 1, powers, 1 / powers)  # [N, 1]
        scaled = answer(s)
        apart = tf.abs(scaled / s - alike) > tolerance
        # A NaN is no coupling: it stands in the result for all to see. Nor does an Inf
        # tell of one, where the scaled seed has overflowed.
        coupled |= apart & tf.math.is_finite(scaled)
    return tf.reduce_sum(tf.cast(tf.reduce_any(coupled, axis=1), tf.int32))


def less_precise(*dtypes):
    """The name of the least precise of `dtypes`."""
    return max((dtype.name for dtype in dtypes), key=_ROUNDING.get)


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
      ValueError: x has 16 bits only.
      SecondDerivativeError: the model cannot be built again on a moved x.
    """
    dtype = gradient.dtype.base_dtype
    if dtype.name not in ("float32", "float64"):
        raise ValueError(
            "check='always' needs float32 or float64, and '{}' is {}.".format(
                name_of(x), dtype.name
            )
        )
    values, rows = layout.flatten(tf.convert_to_tensor(x)), layout.flatten(gradient)
    v, known = random_direction(values, layout.size, one_coordinate, coordinates)
    at = moved_gradient(gradient, x, layout, passes, ys, seeds)

    def sides(step):  # The gradient a step up and a step down, float64 [N, K].
        moved = at(values + step * v), at(values - step * v)
        return [tf.cast(known * side, tf.float64) for side in moved]

    terms = tf.cast(known[:, None] * along(v), tf.float64)
    claim = Claim(
        tf.cast(known * rows, tf.float64),
        tf.reduce_sum(terms, axis=2),
        largest(tf.reduce_sum(tf.abs(terms), axis=2)),
        BLUR
        * EPSILON[dtype.name]
        * largest(tf.cast(values, tf.float64))
        / largest(tf.cast(v, tf.float64)),
    )
    defined = largest(rows) < float("inf")
    judgement = judge_steps(sides, claim, defined, dtype)
    wrong = judgement.condemned & defined & tf.logical_not(judgement.agreed)
    names = ys[0].name, name_of(x)
    messages = (
        _NOT_RIGHT[0].format(*names, named_suspects(suspects)),
        _NOT_RIGHT[1].format(*names),
    )
    return assert_right(wrong, judgement.error, defined, messages)


# The messages where Hessians are wrong, and where nothing can be told of them.
_NOT_RIGHT = (
    "the Hessian of {} with respect to {} is not what differences of the "
    "gradient say: TensorFlow differentiates a part of it wrongly, {}or "
    "observations are coupled. Write that part with other ops, or pass "
    "method=differences; where observations are coupled, pass "
    "method=observations. The worst observation:",
    "the gradient of {} with respect to {} is itself not finite, so its "
    "Hessian cannot be checked; the others are right. Mend the model or its "
    "input there, or pass check='auto'. How many observations, and the "
    "first:",
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
    error = tf.concat([tf.where(wrong, error, -tf.ones_like(error)), nothing], 0)
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
      dtype: of x.
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
      dtype_name: str, of x.
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
    one_sided = (excess <= 0.75 * bend) | (bend > 0.75 * last.bend + noise)
    # Where H alone would change the gradient by more than all of it, f varies faster
    # than the step, or H is wrong: smaller steps will tell.
    seen = claim.terms * step <= 4 * steepest
    wrong = precise & seen & ~one_sided & (excess > tolerance * scale + noise)
    wrong = trusted & (wrong | ~finite & (large | (noise <= close * found)))

    streak = xp.where(wrong, last.streak + 1, xp.zeros_like(last.streak))
    # To the smallest of the precise steps: what is finer than large steps might lie
    # between them.
    often = streak >= 3
    condemned = xp.where(precise & finite, often, last.condemned | (often & ~finite))
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


def _draw_powers(count, dtype_name):
    """Two draws of plus or minus a power of two for each of `count` observations.

    Args:
      count: int or scalar int32 Tensor, N.
      dtype_name: str.

    Returns:
      list of two float64 Tensors [N]. Together they are another pair for each
      observation of a stretch.
    """
    exponents, stretch = powers_for(dtype_name)
    stride = tf.random_uniform([], 1, stretch, tf.int32)
    shifts = tf.random_uniform([count // stretch + 1], 0, stretch, tf.int32)
    n = tf.range(count)
    labels = label(n, stretch, stride, tf.gather(shifts, n // stretch))
    table = tf.constant(signed_powers(exponents))
    return [tf.gather(table, place) for place in places(labels, 2 * exponents)]


def powers_for(dtype_name):
    """How many powers of two scale a seed, and how long a stretch is.

    That is the largest prime below the number of pairs of signed powers.
    """
    return (6, 139) if dtype_name == "float16" else (16, 1021)  # It has less room.


def label(n, stretch, stride, shift):
    """What tells observation n from others: `stretch` is prime, so from all of its own.

    Args:
      n: array or Tensor of integers.
      stretch: int, how many labels there are.
      stride: at random from 1 to `stretch` - 1, the same for all n.
      shift: at random from 0 to `stretch` - 1, the same for all n of a stretch.
    """
    return (n % stretch * stride + shift) % stretch


def places(labels, base):
    """`labels` as two digits of `base`."""
    return [labels % base, labels // base]


def signed_powers(exponents):
    """2 ** e and -2 ** e for e < `exponents`, as float64 array."""
    powers = 2.0 ** np.arange(exponents)
    return np.concatenate([powers, -powers])
