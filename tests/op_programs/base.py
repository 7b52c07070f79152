"""Programs for the ops of the table, each a function of its own 16 coordinates."""

import collections

import numpy as np
import tensorflow

from batchhess.compat import IS_V1, raw_ops, tf

UNIT, POSITIVE, REAL, ABOVE_ONE = (-0.9, 0.9), (0.3, 2.0), (-2.0, 2.0), (1.2, 3.0)

# build: function of x [N, 16] that answers [N, ...], or a scalar sum of all. domain:
# the interval that x is drawn from. special: values that stand in x once here and
# there, once everywhere, where the second derivative has a value. kinks: the same where
# it is a convention, TensorFlow's own. step: the distance of the differences.
# tolerance: relative to the largest element. blocks: whether method='symmetric' takes
# it. alike: the same, where TensorFlow's first derivative of `build` is wrong.
Program = collections.namedtuple(
    "Program", "build domain special kinks step tolerance blocks alike"
)

OPS = {}


def program(
    name,
    build,
    domain=REAL,
    special=(),
    kinks=(),
    step=1e-3,
    tolerance=1e-7,
    blocks=True,
    needs=None,
    since="1.15",
    alike=None,
):
    """Enters a program, if this TensorFlow has the op that it `needs`."""
    assert name not in OPS, name
    if needs is not None and not hasattr(raw_ops, needs):
        return
    if since == "2" and IS_V1:
        return
    OPS[name] = Program(
        build, domain, special, kinks, step, tolerance, blocks, alike or build
    )


def constant(*shape):
    return tf.constant(np.random.RandomState(3).randn(*shape))


def double(value):
    return tf.constant(value, tf.float64)


def image(x):
    return tf.reshape(x, [-1, 4, 4, 1])


def images(x):
    """[N, 2, 2, 4]."""
    return tf.reshape(x, [-1, 2, 2, 4])


def volume(x):
    return tf.reshape(x, [-1, 2, 4, 2, 1])


def matrix(x):
    return tf.reshape(x, [-1, 4, 4])


def pair(x):
    return x[:, :8], x[:, 8:]


def general(x):
    """Matrices that are not symmetric, and far from singular."""
    return matrix(x) + tf.constant(np.diag([3.0, 4.0, 5.0, 6.0]))


def positive_definite(x):
    a = matrix(x)
    return tf.matmul(a, a, transpose_b=True) + 4 * tf.eye(4, dtype=tf.float64)


def symmetric_matrix(x):
    a = general(x)
    return a + tf.linalg.matrix_transpose(a)


def slope(build):
    """The gradient of `build`, as a part of f."""
    return lambda x: tf.gradients(build(x), x)[0]


def under(v2, build):
    """`build` with that control flow."""

    def built(x):
        enabled = tf.control_flow_v2_enabled()
        (tf.enable_control_flow_v2 if v2 else tf.disable_control_flow_v2)()
        try:
            return build(x)
        finally:
            (tf.enable_control_flow_v2 if enabled else tf.disable_control_flow_v2)()

    return built


def called(build):
    return lambda x: tensorflow.function(build, autograph=False)(x)


FAR = (0.0, 30.0, -30.0)
