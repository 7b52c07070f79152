"""Small programs to hold the library against, and what it may answer to each."""

import collections
import sys

import numpy as np
import tensorflow

from batchhess.compat import VERSION, tf

# What a program's answer has to be. RIGHT: the Hessian. SAFE: the Hessian, or an error
# that names an op or tensor and a cure. REFUSED: such an error. WISH: what the author
# has asked for by a stop or a gradient of his own, as tf.hessians has it, or an error.
RIGHT, SAFE, REFUSED, WISH = "right", "safe", "refused", "wish"

# name: of the test. build: from the placeholder to ys or a `Setup`. flow: control flow,
# "v1" or "v2". static: whether N is known when built. step: of the differences. here:
# whether this TensorFlow has what the program is made of. family: its module.
Program = collections.namedtuple(
    "Program", "name build expected value dtype flow static step here family"
)
Program.__new__.__defaults__ = (RIGHT, None, "float64", "v1", False, 0.04, True, None)

# What only some programs need. x: where it is not the placeholder. feed: of inner
# tensors, for every run. run_feed: for the library's run, where x is not fed there.
# options: of the operator. initializers: ops to run first. also: ops that run along.
# witness, truth: Tensors of the same run, and the function from their values to the
# Hessians, where a run draws numbers. repeats: of the library's run. call: from ys and
# x to the Tensor to run, where it is not of `hessians`.
Setup = collections.namedtuple(
    "Setup",
    "ys x feed run_feed options initializers also witness truth repeats call",
)
Setup.__new__.__defaults__ = (None, {}, None, {}, (), (), (), None, 1, None)

# Rows whose coordinates are well apart, so that no sort or maximum is near a tie.
VALUE = np.array([[0.5, -1.2, 0.8, 0.3], [1.5, 0.2, -0.4, -0.9], [-0.7, 1.1, 0.6, 1.9]])

# Those of every TensorFlow, in one order.
EVERY = []
ON_1 = VERSION.startswith("1.")


def add(
    name,
    build,
    expected=SAFE,
    value=VALUE,
    dtype="float64",
    flows=("v1",),
    static=False,
    step=0.04,
    only=True,
):
    """Enters a program, once for each control flow; `only`: where it can be built."""
    family = sys._getframe(1).f_globals["__name__"]  # that of the module that calls
    for flow in flows:
        label = name if len(flows) == 1 else "{}, {}".format(name, flow)
        assert all(label != p.name for p in EVERY), label
        value = np.asarray(value, np.float64)
        how = (value, dtype, flow, static, step, only, family)
        EVERY.append(Program(label, build, expected, *how))


BOTH = ("v1", "v2")


def function(f):
    """`f` as a tf.function."""
    return tensorflow.function(f, autograph=False)


def repeat(body, start, steps=2):
    """`body` applied `steps` times, by a while loop."""
    return tf.while_loop(
        lambda i, _: i < steps, lambda i, a: (i + 1, body(a)), (0, start)
    )[1]


def layer_norm(t, cube=True):
    """Cubes, since the squares of what is normalized have a constant sum."""
    mean, variance = tf.nn.moments(t, [1], keep_dims=True)
    normal = (t - mean) / tf.sqrt(variance + 0.1)
    return normal**3 if cube else normal


def entropy(t):
    """A cross entropy whose labels depend on x."""
    return tf.nn.softmax_cross_entropy_with_logits_v2(labels=tf.nn.softmax(t), logits=t)


def weights(rows, columns, dtype=tf.float64):
    values = np.random.RandomState(rows * 31 + columns).randn(rows, columns)
    return tf.constant(values / np.sqrt(rows), dtype)
