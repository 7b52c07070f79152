"""Steps of random models that draw random numbers, mostly in branches and functions.

Each is two functions. The first maps t, of shape [N, width], to the step's value and to
what it has drawn, a Tensor of t's dtype which can be fetched in the run that answers.
The second maps t and a placeholder for what was drawn to the same value: the oracle.
"""

import tensorflow
from random_functions import _compiled
from random_library import _function
from random_steps import _width

from batchhess.compat import tf


def _uniform(t):
    return tf.random_uniform(tf.shape(t), 0.5, 1.5, t.dtype)


def _normal(t):
    return 1 + tf.random_normal(tf.shape(t), dtype=t.dtype) / 3


def _dropped(t):
    return tf.nn.dropout(tf.ones_like(t), rate=0.4)


def _stateless(t):
    noise = tf.random.stateless_uniform(tf.shape(t), [1, 2], dtype=t.dtype)
    return 0.5 + noise


def _of_each(t):
    """One number for each observation."""
    return tf.random_uniform(tf.stack([tf.shape(t)[0], 1]), 0.5, 1.5, t.dtype) + 0 * t


def _used(t, mask):
    return tf.sin(t * mask) * t


def _both(draw):
    def f(t):
        mask = draw(t)
        return _used(t, mask), mask

    return f


def _flags(t):
    """Ways to say that a model is in training."""
    return {
        "a constant": tf.constant(True),
        "a placeholder": tf.placeholder_with_default(tf.constant(True), []),
        "a switched placeholder": tf.placeholder_with_default(tf.constant(False), []),
        "a size": tf.shape(t)[0] > 0,
        "a size that is not": tf.shape(t)[0] < 0,
    }


def _in_cond(draw, flag):
    def live(t):
        ones = tf.ones_like(t)
        return tf.cond(
            _flags(t)[flag], lambda: _both(draw)(t), lambda: (_used(t, ones), ones)
        )

    return live, _used


def _mask_in_cond(t):
    mask = tf.cond(
        tf.shape(t)[0] > 0, lambda: tf.nn.dropout(t * 0 + 1, rate=0.4), lambda: t
    )
    return _used(t, tf.stop_gradient(mask)), tf.stop_gradient(mask)


def _switch(t):
    ones = tf.ones_like(t)
    which = tf.minimum(tf.shape(t)[0], 1)
    value, mask = tf.switch_case(
        which, [lambda: (_used(t, ones), ones), lambda: _both(_uniform)(t)]
    )
    value = tf.ensure_shape(value, [None, _width(t)])
    return value, mask


def _loop(t):
    def body(i, a, last, _):
        mask = _uniform(t)
        return i + 1, _used(a, mask), mask, last

    ones = tf.ones_like(t)
    _, value, last, before = tf.while_loop(
        lambda i, *_: i < 2, body, (0, t, ones, ones)
    )
    return value, tf.stack([before, last])


def _of_loop(t, masks):
    return _used(_used(t, masks[0]), masks[1])


def _map(t):
    rows = tf.map_fn(_both(_uniform), t, dtype=(t.dtype, t.dtype))
    return tuple(tf.ensure_shape(r, [None, _width(t)]) for r in rows)


def _categorical(t):
    chosen = tf.random.categorical(tf.cast(t, tf.float32), 1)[:, 0]
    mask = tf.one_hot(chosen, _width(t), dtype=t.dtype)
    return _used(t, mask), mask


def _poisson(t):
    counts = tf.random_poisson(tf.stop_gradient(tf.exp(t / 2)), [], t.dtype)
    return _of_counts(t, counts), counts


def _of_counts(t, counts):
    return counts * t / 2 - tf.exp(t / 2)


def _step(draw):
    return _both(draw), _used


def _called(draw, function=_function):
    return (lambda t: function(_both(draw))(t)), _used


def _nested(t):
    ones = tf.ones_like(t)

    def inner(t):
        return tf.cond(
            tf.shape(t)[0] > 0, lambda: _both(_dropped)(t), lambda: (t, ones)
        )

    return tensorflow.function(inner, autograph=False)(t)


DRAWS = {
    "uniform": _step(_uniform),
    "dropout": _step(_dropped),
    "stateless": _step(_stateless),
    "uniform of each": _step(_of_each),
    "uniform if a constant": _in_cond(_uniform, "a constant"),
    "dropout if a constant": _in_cond(_dropped, "a constant"),
    "dropout if a placeholder": _in_cond(_dropped, "a placeholder"),
    "dropout if switched": _in_cond(_dropped, "a switched placeholder"),
    "normal if a placeholder": _in_cond(_normal, "a placeholder"),
    "uniform if a size": _in_cond(_uniform, "a size"),
    "uniform if never": _in_cond(_uniform, "a size that is not"),
    "stateless if a size": _in_cond(_stateless, "a size"),
    "of each if a size": _in_cond(_of_each, "a size"),
    "mask in a cond": (_mask_in_cond, _used),
    "uniform in a switch": (_switch, _used),
    "uniform in a function": _called(_uniform),
    "dropout in a function": _called(_dropped),
    "normal in a function": _called(_normal),
    "stateless in a function": _called(_stateless),
    "stateless, compiled": _called(_stateless, _compiled),
    "uniform, compiled": _called(_uniform, _compiled),
    "dropout in a cond in a function": (_nested, _used),
    "uniform in a loop": (_loop, _of_loop),
    "uniform in a map_fn": (_map, _used),
    "categorical of x": (_categorical, _used),
    "poisson of x": (_poisson, _of_counts),
}
