"""Models that are built anew: loops, branches, functions, what they stop and read."""

import numpy as np
import tensorflow

from batchhess.compat import tf
from programs.registry import (
    BOTH,
    ON_1,
    RIGHT,
    SAFE,
    VALUE,
    Setup,
    add,
    entropy,
    function,
    layer_norm,
    repeat,
    weights,
)

# From x to what a loop, a branch or a function has made of it.
BUILT_ANEW = {
    "map_fn": lambda x: tf.map_fn(lambda row: tf.sin(row) * row, x),
    "a loop": lambda x: repeat(lambda a: tf.tanh(a) * 1.3 + x, x),
    "scan": lambda x: tf.transpose(
        tf.scan(lambda a, c: tf.tanh(a + c), tf.transpose(x))
    ),
    "a cond": lambda x: tf.cond(
        tf.reduce_sum(tf.ones_like(x)) > 0, lambda: tf.sin(x), lambda: tf.exp(x)
    ),
    "a function": lambda x: function(lambda t: tf.sin(t) * t)(x),
    "a loop in a function": lambda x: function(lambda t: repeat(tf.tanh, t))(x),
}

STOPPED = {
    "moments": layer_norm,
    "entropy": entropy,
    "a product": lambda t: tf.reduce_prod(t, 1) + tf.reduce_sum(t**3, 1),
    "a stopped softmax": lambda t: tf.reduce_sum(
        t**2 * tf.nn.softmax(t - tf.stop_gradient(tf.reduce_max(t, 1, keepdims=True)))
    ),
    "a mask": lambda t: tf.where(t > 0.37, t**3, tf.sin(t)),
    "the largest": lambda t: t**2 * tf.reduce_max(t, 1, keepdims=True),
    "a sorted": lambda t: tf.reduce_sum(tf.nn.top_k(t, 2)[0] ** 3, 1),
    "a division into integers": lambda t: (
        t**3 * tf.cast(tf.argmax(t, 1)[:, None], t.dtype)
    ),
}

for place, before in BUILT_ANEW.items():
    for what, after in STOPPED.items():
        if what != "moments" and place not in ("a loop", "a cond"):
            continue
        add(
            "{} after {}".format(what, place),
            lambda x, before=before, after=after: after(before(x)),
            RIGHT if what in ("a mask", "the largest") else SAFE,
            flows=BOTH if (what, place) == ("moments", "a loop") else ("v1",),
        )

for place in ("a loop", "a function", "a cond"):
    # Turned and back, as by batch_axis=1: then the pattern is not at x itself.
    add(
        "moments of x, turned, before {}".format(place),
        lambda x, f=BUILT_ANEW[place]: tf.reduce_sum(
            f(layer_norm(tf.reshape(tf.transpose(tf.transpose(x)), [-1, 4]), False))
            ** 3
        ),
        flows=BOTH,
    )

for place in ("a loop", "a function"):
    add(
        "moments before and after {}".format(place),
        lambda x, f=BUILT_ANEW[place]: layer_norm(f(layer_norm(x, cube=False))),
    )
    add(
        "{} between the mean and its use".format(place),
        lambda x, f=BUILT_ANEW[place]: (
            (f(x) - tf.reduce_mean(f(x), 1, keepdims=True)) ** 3
        ),
        RIGHT,
    )


def _dynamic_rnn(x):
    with tf.variable_scope("rnn", initializer=tf.constant_initializer(0.4)):
        cell = tf.nn.rnn_cell.BasicRNNCell(4, dtype=tf.float64)
        return tf.nn.dynamic_rnn(cell, x[:, :, None], dtype=tf.float64)[1]


# TensorFlow 2.21 has no cells.
add("dynamic_rnn", lambda x: _dynamic_rnn(x) ** 2, only=ON_1)
add("moments after dynamic_rnn", lambda x: layer_norm(_dynamic_rnn(x) + x), only=ON_1)


# What a loop, branch or function reads of a variable that the same run assigns.
def _variable(resource):
    return tf.get_variable(
        "v", initializer=tf.constant(1.0, tf.float64), use_resource=resource
    )


READING = {
    "a loop": lambda x, v: repeat(lambda a: v * tf.sin(a) + x, x),
    "a scan": lambda x, v: tf.scan(lambda a, c: tf.tanh(a + c) * v, tf.transpose(x)),
    "map_fn": lambda x, v: tf.map_fn(lambda row: tf.sin(row * v), x),
    "a function": lambda x, v: function(lambda t: tf.sin(t * v))(x),
    "a cond": lambda x, v: tf.cond(
        tf.reduce_sum(tf.ones_like(x)) > 0, lambda: tf.sin(v * x), lambda: x
    ),
    "nothing built anew": lambda x, v: tf.sin(x * v),
}


def _assigned_before(read, resource):
    def build(x):
        v = _variable(resource)
        with tf.control_dependencies([tf.assign(v, 5.0)]):
            if resource:
                return tf.reduce_sum(read(tf.identity(x), v)) / 5
            # A ref variable is read by an op of the scope.
            return tf.reduce_sum(read(tf.identity(x), tf.identity(v))) / 5

    return build


def _trained_along(read, resource):
    def build(x):
        v = _variable(resource)
        y = tf.reduce_sum(read(x, v))
        (gradient,) = tf.gradients(y, v)
        gradient = tf.convert_to_tensor(gradient)
        train = tf.assign_add(v, 3 + 0 * gradient)
        return Setup(y, also=(train,), repeats=6)

    return build


for place, read in READING.items():
    for resource in (False, True):
        kind = "resource" if resource else "ref"
        flows = BOTH if place == "a loop" and not resource else ("v1",)
        add(
            "a {} variable assigned before {}".format(kind, place),
            _assigned_before(read, resource),
            flows=flows,
        )
        # A ref variable is read by reference: in TensorFlow itself its readers race.
        if resource:
            add(
                "a resource variable trained along with {}".format(place),
                _trained_along(read, resource),
            )


# Numbers drawn in the run: the witness tells which.
def _drawn(body):
    def build(x):
        drawn = tf.random_uniform([]) < 0.5
        y = body(x, drawn)
        return Setup(
            tf.reduce_sum(y),
            witness=(drawn,),
            truth=lambda drawn: np.stack(
                [np.diag((6 if drawn else 24) * row) for row in VALUE]
            ),
            repeats=12,
        )

    return build


def _either(drawn):
    one, four = (tf.constant(c, tf.float64) for c in (1.0, 4.0))
    return tf.cond(drawn, lambda: one + 0, lambda: four + 0)


def _constants(drawn):
    """The branches hold nothing but constants: only their context knows `drawn`."""
    return tf.cond(
        drawn,
        lambda: tf.constant(1.0, tf.float64),
        lambda: tf.constant(4.0, tf.float64),
    )


def _one_step(x, body):
    return repeat(lambda a: a + body(), tf.zeros_like(x), steps=1)


DRAWS = {
    "in a loop": lambda x, p: _one_step(x, lambda: _either(p) * x**3),
    "before a loop": lambda x, p: (lambda c: _one_step(x, lambda: c * x**3))(
        _either(p)
    ),
    "of constants in a loop": lambda x, p: _one_step(x, lambda: _constants(p) * x**3),
    "in map_fn": lambda x, p: tf.map_fn(lambda row: _either(p) * row**3, x),
    "in a function": lambda x, p: function(lambda t: _either(p) * t**3)(x),
    "of x": lambda x, p: tf.cond(p, lambda: x**3, lambda: 4 * x**3),
    "of x in a loop": lambda x, p: _one_step(
        x, lambda: tf.cond(p, lambda: x**3, lambda: 4 * x**3)
    ),
}
for place, body in DRAWS.items():
    add(
        "a branch drawn " + place,
        _drawn(body),
        flows=BOTH if "loop" in place else ("v1",),
    )


def _drawing_loop(x):
    """Two squares, each times a number that its step draws: x^4 times the witness."""

    def body(i, a, c):
        drawn = tf.random_uniform([], 1, 2, tf.float64)
        return i + 1, drawn * a * a, drawn * c * c

    one = tf.constant(1.0, tf.float64)
    _, last, factor = tf.while_loop(lambda i, *_: i < 2, body, (0, x, one))
    return Setup(
        tf.reduce_sum(last),
        witness=(factor,),
        truth=lambda c: np.stack([np.diag(12 * c * row**2) for row in VALUE]),
    )


add("a loop that draws numbers", _drawing_loop)


def _squares_and_exp(x):
    """Of v1 tf.hessians leaves the loop out, and answers the Hessian of exp alone."""
    return tf.reduce_sum(repeat(lambda a: a * a, x)) + tf.reduce_sum(tf.exp(x))


add("a loop of squares, and exp", _squares_and_exp, RIGHT)


# Behind the sum over observations the model may be no sum at all.
def _while_large(total):
    return tf.while_loop(lambda t: t < 20.0, lambda t: t * 3 + 1, (total,))


def _times_three(total):
    @tf.custom_gradient
    def f(t):
        return 3 * t, lambda dy: 3 * dy

    return f(total)


BEHIND_THE_SUM = {
    "cond": lambda t: tf.cond(t > 1, lambda: 3 * t, lambda: t),
    "switch_case": lambda t: tf.switch_case(
        tf.cast(t > 1, tf.int32), [lambda: t, lambda: 3 * t]
    ),
    "case": lambda t: tf.case([(t > 1, lambda: 3 * t)], default=lambda: t),
    "while": _while_large,
    "where": lambda t: tf.where(t > 1, 3 * t, t),
    "custom gradient": _times_three,
    "function": lambda t: function(lambda t: tf.where(t > 1, 3 * t, t))(t),
    "maximum": lambda t: tf.maximum(3 * t - 1, t),
    "clip": lambda t: 3 * tf.clip_by_value(t, 0.0, 100.0),
    "leaky relu": lambda t: tf.nn.leaky_relu(t) * 3,
    "floor": lambda t: t * tf.floor(t / 5),
    "sign": lambda t: t * (2 + tf.sign(t)),
}
for what, behind in BEHIND_THE_SUM.items():
    add(
        "{} on the value of the sum".format(what),
        lambda x, f=behind: f(tf.reduce_sum(x**2)),
        flows=BOTH if what in ("cond", "while") else ("v1",),
    )


# f holds a gradient, of which only the forward patterns are known.
def _u_times_its_gradient(u):
    def build(x):
        y = u(x)
        return tf.reduce_sum(tf.reduce_sum(y, 1) * tf.gradients(y, x)[0][:, 0])

    return build


GRADIENT_TERMS = {
    "moments": layer_norm,
    "an entropy": lambda x: entropy(x)[:, None],
    "a product": lambda x: tf.reduce_prod(tf.sin(x), 1, keepdims=True),
    "xlogy": lambda x: tf.math.xlogy(x, x + 3),
    "softsign": tf.nn.softsign,
    "a tanh": lambda x: tf.tanh(x) * x,
    "a dense layer": lambda x: tf.tanh(tf.matmul(tf.sin(x), weights(4, 3))),
}
for what, u in GRADIENT_TERMS.items():
    add(
        "a gradient term of " + what,
        _u_times_its_gradient(u),
        RIGHT if what in ("a tanh", "a dense layer") else SAFE,
    )


def _recompute(x):
    recompute = (
        tensorflow.contrib.layers.recompute_grad if ON_1 else tensorflow.recompute_grad
    )
    return tf.reduce_sum(recompute(lambda t: layer_norm(tf.sin(t)))(x))


add("recompute_grad around moments", _recompute)
