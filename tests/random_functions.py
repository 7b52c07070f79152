"""Steps of random models in functions: nested, compiled by XLA, with gradients."""

import tensorflow
from random_library import (
    ON_1,
    _custom,
    _function,
    _layer_norm,
    _overridden,
    _repeat,
)
from random_steps import _width
from tensorflow.python.framework.function import Defun

from batchhess.compat import tf


def _defun(f, t):
    """A function of the first kind, whose call is an op of its own name."""

    def inner(t):
        return f(t)

    h = Defun(t.dtype)(inner)(t)
    h.set_shape([None, _width(t)])
    return h


def _compiled(f):
    option = "experimental_compile" if ON_1 else "jit_compile"
    return tensorflow.function(f, autograph=False, **{option: True})


def _scoped(f, t):
    with tf.xla.experimental.jit_scope():
        return f(t)


def _sine(t):
    return tf.sin(t) * t


def _products(t):
    return tf.reduce_prod(t, 1, keepdims=True) + tf.cumprod(t, axis=1)


def _entropy(t):
    labels = tf.nn.softmax(t)
    entropy = tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=t)
    return entropy[:, None] * t


def _conditional(t):
    return tf.cond(tf.shape(t)[0] > 0, lambda: _layer_norm(t), lambda: t)


def _soft(t):
    return _custom(lambda t: tf.log(1 + tf.exp(t)), tf.sigmoid)(t)


def _doubled(t):
    """Its gradient reads nothing of the graph."""

    @tf.custom_gradient
    def f(t):
        return 2 * t, lambda dy: 2 * dy

    return tf.sin(f(t))


def _with_signature(t):
    signature = [tf.TensorSpec([None, _width(t)], t.dtype)]
    return tensorflow.function(_sine, input_signature=signature, autograph=False)(t)


def _twice(t):
    f = _function(_sine)
    return f(f(t) / 2)


def _reads(t):
    name = "read{}".format(len(tf.global_variables()))
    w = tf.get_variable(name, initializer=tf.constant(0.8, t.dtype), use_resource=True)
    return _function(lambda t: tf.sin(t * w) * t)(t)


def _batch_mean(t):
    return t - tf.reduce_mean(t, 0)


def _inner_gradient(t):
    """A function that differentiates, as a PINN does."""

    def f(t):
        return t + tf.gradients(tf.reduce_sum(tf.sin(t) * t * t), t)[0]

    return _function(f)(t)


FUNCTIONS = {
    "defun": lambda t, x: _defun(_sine, t),
    "function of products": lambda t, x: _function(_products)(t),
    "function of an entropy": lambda t, x: _function(_entropy)(t),
    "function of a cond": lambda t, x: _function(_conditional)(t),
    "function of a loop of moments": lambda t, x: _function(
        lambda t: _repeat(_layer_norm, t)
    )(t),
    "function of a map_fn": lambda t, x: _function(
        lambda t: tf.ensure_shape(tf.map_fn(_sine, t), [None, _width(t)])
    )(t),
    "function of a custom gradient": lambda t, x: _function(_soft)(t),
    "function of an overridden one": lambda t, x: _function(_overridden)(t),
    "function in a function": lambda t, x: _function(
        lambda t: _function(_layer_norm)(t) * t
    )(t),
    "function in a loop": lambda t, x: _repeat(_function(_sine), t / 2),
    "function in a cond": lambda t, x: tf.cond(
        tf.shape(t)[0] > 0, lambda: _function(_layer_norm)(t), lambda: t
    ),
    "function with a signature": lambda t, x: _with_signature(t),
    "function called twice": lambda t, x: _twice(t),
    "function that reads": lambda t, x: _reads(t),
    "function of a gradient": lambda t, x: _inner_gradient(t),
    "doubled with a gradient": lambda t, x: _doubled(t),
    "compiled": lambda t, x: _compiled(_sine)(t),
    "compiled moments": lambda t, x: _compiled(_layer_norm)(t),
    "compiled products": lambda t, x: _compiled(_products)(t),
    "compiled entropy": lambda t, x: _compiled(_entropy)(t),
    "compiled loop": lambda t, x: _compiled(lambda t: _repeat(tf.tanh, t))(t),
    "compiled cond": lambda t, x: _compiled(_conditional)(t),
    "compiled custom gradient": lambda t, x: _compiled(_soft)(t),
    "compiled in a function": lambda t, x: _function(lambda t: _compiled(_sine)(t) * t)(
        t
    ),
    "compiled batch mean": lambda t, x: _compiled(_batch_mean)(t),
    "scope of XLA": lambda t, x: _scoped(_layer_norm, t),
}

COUPLING_FUNCTIONS = {"compiled batch mean"}
