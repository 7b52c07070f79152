"""Runs that a check has to fail, or has to let pass."""

import numpy as np
from cases import wrong_cube

from batchhess.compat import tf
from programs.registry import REFUSED, RIGHT, SAFE, VALUE, Setup, add

WRONG_ROW = np.where(np.arange(3)[:, None] == 0, np.nan, VALUE)


def _always(y, repeats=3, method="auto"):
    return lambda x: Setup(
        y(x), options={"check": "always", "method": method}, repeats=repeats
    )


def _one_broken(first):
    """Wrong in all observations, and one of them, by `first(x)`, is not finite."""
    return lambda x: tf.concat([first(x[:1]), wrong_cube(x[1:])], 0)


BROKEN = {
    "a NaN": lambda x: tf.log(-(x**2) - 1) + wrong_cube(x),
    "an infinity": lambda x: 1 / (x - x) * x**2 + wrong_cube(x),
    "a very large gradient": lambda x: 1e12 * x + wrong_cube(x),
    "nothing": wrong_cube,
}
for what, first in BROKEN.items():
    add("a wrong cube and {} in one".format(what), _always(_one_broken(first)), REFUSED)
add("a wrong cube", _always(wrong_cube), REFUSED)
add(
    "a coupling and a NaN",
    lambda x: (
        tf.concat([tf.log(-(x[:1] ** 2) - 1), x[1:] * tf.roll(x[1:] ** 2, 1, 0)], 0)
        + 0 * tf.reduce_sum(x, 1, keepdims=True)
    ),
    REFUSED,
)

# No alarms where there is nothing wrong: x far from 1, and steep functions.
ALARMS = {
    "far from zero, float32": (
        lambda x: tf.sin(x / 300) * x,
        1e4 + 30 * VALUE,
        "float32",
        30.0,
    ),
    "near zero": (tf.log, 0.01 + 0.002 * VALUE, "float64", 2e-4),
    "near zero, float32": (tf.log, 0.01 + 0.002 * VALUE, "float32", 2e-4),
    "at a small scale": (lambda x: tf.exp(x * 1e4), 1e-4 * VALUE, "float64", 2e-6),
    "at a tiny scale": (lambda x: tf.sin(x * 1e6), 1e-6 * VALUE, "float64", 2e-8),
    "at a large scale": (lambda x: tf.sin(x / 1e6), 1e6 * VALUE, "float64", 2e4),
    "with a large slope": (lambda x: tf.sin(x) + 1e4 * x, VALUE, "float64", 0.04),
    "at the point": (lambda x: tf.sin(x) * x, VALUE, "float64", 0.04),
    "at the point, float32": (lambda x: tf.sin(x) * x, VALUE, "float32", 0.04),
}
for what, (y, value, dtype, step) in ALARMS.items():
    options = {"value": value, "dtype": dtype, "step": step}
    add("no alarm " + what, _always(y), RIGHT, **options)
    add(
        "differences " + what,
        lambda x, y=y: Setup(y(x), options={"method": "differences"}),
        SAFE,
        **options,
    )


def _in_order(x):
    """x by way of an order that no proof follows: the check has to decide."""
    backwards = tf.reverse(tf.range(tf.shape(x)[0]), [0])
    return tf.gather(x, tf.reverse(backwards, [0]))


OUTLIERS = {
    "a kernel at 13 sigma": (
        lambda x: tf.exp(-tf.reduce_sum(_in_order(x) ** 2, 1) / 2) * x[:, 0],
        13.0,
    ),
    "a softplus at -70": (lambda x: tf.nn.softplus(_in_order(x)), -70.0),
    "a sigmoid at 40": (lambda x: tf.sigmoid(_in_order(x)), 40.0),
    "a cube at 300": (lambda x: _in_order(x) ** 3, 300.0),
}
for what, (y, far) in OUTLIERS.items():
    value = VALUE.copy()
    value[1, 0] = far
    for dtype in ("float32", "float64"):
        add(
            "an outlier: {}, {}".format(what, dtype),
            lambda x, y=y: Setup(y(x), repeats=8),
            RIGHT,
            value=value,
            dtype=dtype,
            step=1.0 if far == 300 else 0.04,
        )


# One coupled pair among many observations.
def _one_pair(i, j):
    def build(x):
        y = tf.reduce_sum(tf.sin(x)) + tf.reduce_sum(x[i] * x[j] * tf.sin(x[j]))
        return Setup(y, repeats=30)

    return build


MANY = np.random.RandomState(3).randn(200, 1)
for i, j in ((0, 61), (3, 190)):
    add(
        "one pair of many, {} and {}".format(i, j), _one_pair(i, j), REFUSED, value=MANY
    )
    add(
        "one pair of many, {} and {}, float16".format(i, j),
        _one_pair(i, j),
        REFUSED,
        value=MANY,
        dtype="float16",
    )
