"""Steps of random models with an inner tensor that is fed, and what is fed for it.

Each maps a RandomState and t, of shape [N, width], to: the step's value; a Tensor to be
fed; and a Tensor that tells, before it is fed, with what. An op whose gradient is told
by its own value is fed what it would be of another input, so that f of what is fed is a
function whose derivatives are TensorFlow's: the oracle moves what is fed with x.
"""

import numpy as np
import tensorflow
from random_library import _repeat
from random_steps import _weights, _width

from batchhess.compat import tf


def _by(random):
    return random.choice([-1, 1]) * random.uniform(0.1, 0.4)


def _moved(random, tensor):
    return tensor, tensor + tf.cast(_by(random), tensor.dtype)


def _moments(axis, fed):
    def step(random, t):
        keep = bool(random.rand() < 0.5)
        both = mean, variance = tf.nn.moments(t, [axis], keep_dims=keep)
        mean, variance = both if keep else [tf.expand_dims(part, axis) for part in both]
        fed_one, value = _moved(random, both[fed])
        if fed:
            value = tf.abs(value)
        return (t - mean) / tf.sqrt(variance + 0.3), fed_one, value

    return step


def _mean(random, t):
    if random.rand() < 0.5:
        mean = tf.reduce_mean(t, 1, keepdims=True)
        return ((t - mean) * mean, *_moved(random, mean))
    mean = tf.reduce_mean(t, 1)
    return (tf.sin(t - mean[:, None]), *_moved(random, mean))


# Whether TensorFlow tells the derivatives of it by its value, and not by its input.
_ACTIVATIONS = {
    "tanh": (tf.tanh, True),
    "sigmoid": (tf.sigmoid, True),
    "exp": (tf.exp, True),
    "elu": (tf.nn.elu, True),
    "relu": (tf.nn.relu, True),
    "softmax": (tf.nn.softmax, True),
    "log_softmax": (tf.nn.log_softmax, True),
    "sqrt": (lambda t: tf.sqrt(1.5 + tf.sin(t)), None),
    "softplus": (tf.nn.softplus, False),
    "sin": (tf.sin, False),
    "square": (tf.square, False),
}


def _layer(random, t):
    """A hidden layer, used twice."""
    name = sorted(_ACTIVATIONS)[random.randint(len(_ACTIVATIONS))]
    activation, by_value = _ACTIVATIONS[name]
    before = tf.matmul(t, _weights(_width(t), 3, t.dtype)) + 0.1
    if name == "sqrt":
        before = 1.5 + tf.sin(before)
        h = tf.sqrt(before)
        value = tf.sqrt(before + abs(_by(random)))
    else:
        h = activation(before)
        by = tf.constant(_by(random) * np.array([1, 0.5, -1]), t.dtype)
        value = activation(before + by) if by_value else h + by
    return h * tf.sin(h) if random.rand() < 0.5 else h, h, value


def _default(random, t):
    width = t.shape.as_list()[-1]
    h = tf.placeholder_with_default(tf.sin(t) * t, [None, width])
    return h * t[:, :1], h, tf.sin(t) * t + tf.cast(_by(random), t.dtype)


def _loop(random, t):
    def one(a):
        return tf.sin(a) + t / 2

    if random.rand() < 0.5:
        h = tf.map_fn(lambda r: tf.sin(r) * r, t)
    else:
        h = _repeat(one, t)
    h = tf.ensure_shape(h, [None, _width(t)]) if h.shape.ndims is None else h
    return (h * tf.cos(h), *_moved(random, h))


def _cond(random, t):
    branch = tf.sin if random.rand() < 0.5 else tf.tanh
    h = tf.cond(tf.shape(t)[0] > 0, lambda: branch(t) * t, lambda: t)
    return (h * h, *_moved(random, h))


def _call(random, t):
    inner = (lambda t: tf.tanh(t)) if random.rand() < 0.5 else (lambda t: tf.sin(t) * t)
    h = tensorflow.function(inner, autograph=False)(t)
    return (h * tf.sin(h), *_moved(random, h))


def _part(random, t):
    if random.rand() < 0.5:
        first, second = tf.split(tf.concat([tf.sin(t), t * t], 1), 2, 1)
    else:
        first, second = tf.unstack(tf.stack([tf.sin(t), t * t]), num=2)
    return (first * second, *_moved(random, first))


def _largest(random, t):
    values, _ = tf.nn.top_k(t, _width(t))
    return (values * tf.sin(values), *_moved(random, values))


def _variable(random, t):
    name = "fed{}".format(len(tf.global_variables()))
    w = tf.get_variable(
        name, initializer=tf.constant(0.8, t.dtype), use_resource=random.rand() < 0.5
    )
    read = w.read_value()
    return (tf.sin(t * read), *_moved(random, read))


def _constant(random, t):
    c = _known(random, t.dtype.as_numpy_dtype([0.0, 1.0, 0.7][random.randint(3)]))
    uses = [
        lambda: t + c * tf.square(t),
        lambda: tf.sin(c * t) + t,
        lambda: t / (1.5 + c),
        lambda: tf.pow(tf.square(t) + 1.0, c + 1),
        lambda: tf.maximum(t, c) * t,
    ]
    return (uses[random.randint(len(uses))](), *_moved(random, c))


def _known(random, value):
    """A Tensor of a value that the graph tells, if it is not fed.

    TensorFlow forbids to feed a constant that it has read, and what is read through an
    op it does not.
    """
    constant = tf.constant(value)
    return [
        lambda: constant,
        lambda: tf.identity(constant),
        lambda: tf.placeholder_with_default(constant, constant.shape),
        lambda: tf.stack([constant])[0],
    ][random.randint(4)]()


def _predicate(random, t):
    p = _known(random, bool(random.rand() < 0.5))
    value = tf.cond(p, lambda: tf.sin(t) * t, lambda: tf.exp(t / 2))
    if random.rand() < 0.5:
        value = tf.where(t > 0, value, t)
    return value, p, tf.logical_not(p)


def _count(random, t):
    steps = _known(random, 2)
    h = tf.while_loop(
        lambda i, _: i < steps, lambda i, a: (i + 1, tf.sin(a) + t), (0, t)
    )[1]
    return h, steps, steps + 1


def _columns(random, t):
    index = _known(random, np.arange(_width(t)).astype(np.int32))
    return t * tf.gather(t, index, axis=1), index, tf.reverse(index, [0])


def _mask(random, t):
    mask = tf.constant(np.arange(_width(t)) % 2 == 0)
    mask = tf.logical_and(tf.ones_like(t, tf.bool), mask)
    mask = tf.identity(mask)
    return tf.where(mask, tf.sin(t), t * t), mask, tf.logical_not(mask)


def _axis(random, t):
    """One that is fed as the axis of the observations."""
    axis = _known(random, 1)
    uses = [
        lambda: tf.cumsum(t, axis=axis),
        lambda: tf.reverse(t, axis[None]),
        lambda: tf.roll(t, 1, axis),
        lambda: tf.expand_dims(tf.reduce_sum(t, axis), axis),
    ]
    part = uses[random.randint(len(uses))]()
    part.set_shape([None, None])
    return t * part, axis, axis - 1


def _rows(random, t):
    """Rows as they are, which are fed in another order."""
    first = _known(random, 0)
    count = tf.shape(t)[0]
    rows = tf.range(first, count + first) % count
    return t * tf.gather(t, rows), first, first + 1


def _compared(random, t):
    mask = t > 0
    return tf.where(mask, tf.sin(t), t * t), mask, tf.logical_not(mask)


FEEDS = {
    "fed mean of moments": _moments(1, 0),
    "fed variance of moments": _moments(1, 1),
    "fed mean of a batch": _moments(0, 0),
    "fed mean": _mean,
    "fed layer": _layer,
    "fed default": _default,
    "fed loop": _loop,
    "fed cond": _cond,
    "fed call": _call,
    "fed part": _part,
    "fed top_k": _largest,
    "fed variable": _variable,
    "fed constant": _constant,
    "fed predicate": _predicate,
    "fed count": _count,
    "fed columns": _columns,
    "fed mask": _mask,
    "fed comparison": _compared,
    "fed axis": _axis,
    "fed rows": _rows,
}

COUPLING_FEEDS = {"fed mean of a batch", "fed axis", "fed rows"}
