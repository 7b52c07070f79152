"""A check that runs with the graph: does an observation's gradient see another?"""

import numpy as np

from batchhess.analysis.audit import precision_in, with_authors_gradient
from batchhess.analysis.region import Region
from batchhess.calling import assert_that, caller, takes
from batchhess.compat import tf, where
from batchhess.graph.tensors import name_of, original, placed

# What two runs of the same arithmetic may differ by, relative to their size.
_ROUNDING = {"float16": 2e-2, "bfloat16": 1e-1, "float32": 1e-5, "float64": 1e-12}

# Below this, what underflows on the way may be all of an answer.
_UNDERFLOW = {
    "float16": 2.0**-16,
    "bfloat16": 2.0**-100,
    "float32": 2.0**-100,
    "float64": 2.0**-990,
}


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

    precision = precision_in([gradient], x).name
    coupled = count_coupled(rows, pull, layout, precision)
    message = (
        "observations of {} are coupled in {}{}, at {}: it {}. The Hessian of "
        "one would hold terms of others. {} Observations affected, of all:"
    ).format(
        name_of(x),
        original(ys[0].op).name,
        _or_not_linear(ys, x),
        placed(proof.op, ""),
        proof.reason,
        cure_of_coupling("hessians"),
    )
    return assert_that(tf.equal(coupled, 0), message, coupled, layout.num_observations)


def _or_not_linear(ys, x):
    """What else may be: an author's gradient that clips what it is given, say."""
    own = with_authors_gradient(Region(ys, x))
    if not own:
        return ""
    name = original(own[0]).name
    return ", or the gradient of {} is not linear in what it is given".format(name)


def cure_of_coupling(function):
    """What to do about it; `function` answers blocks, if the one called does not."""
    exact = "Pass method=observations for the exact diagonal blocks"
    if not takes("method") or caller() == "hessian_vector_products":
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
        s = where(largest < 1, powers, 1 / powers)  # [N, 1]
        scaled = answer(s)
        apart = tf.abs(scaled / s - alike) > tolerance
        # A NaN is no coupling: it stands in the result for all to see. Nor does an Inf
        # tell of one, where the scaled seed has overflowed.
        coupled |= apart & tf.math.is_finite(scaled)
    return tf.reduce_sum(tf.cast(tf.reduce_any(coupled, axis=1), tf.int32))


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
