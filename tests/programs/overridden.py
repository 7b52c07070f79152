"""Gradients that the author has overridden: his wish, as tf.hessians has it."""

from batchhess.compat import tf
from programs.registry import RIGHT, SAFE, WISH, add, layer_norm, repeat


def _custom(value, gradient):
    """An op of `value(t)` with `gradient(dy, t)`."""

    @tf.custom_gradient
    def f(t):
        return value(t), lambda dy: gradient(dy, t)

    return f


COUNT = [0]


def _register(gradient):
    """A name under which `gradient(op, dy)` is registered."""
    COUNT[0] += 1
    name = "SecondRound{}".format(COUNT[0])
    tf.RegisterGradient(name)(gradient)
    return name


def _override(kind, gradient):
    """Builds an op in whose place `gradient(op, dy)` is differentiated."""
    name = _register(gradient)

    def apply(build, t):
        with tf.get_default_graph().gradient_override_map({kind: name}):
            return build(t)

    return apply


def _clip_all(dy):
    return dy / (1 + tf.sqrt(tf.reduce_sum(dy**2)))


def _less_mean(dy):
    return dy - tf.reduce_mean(dy, 0)


COUPLING = {
    "clipped by the norm of all": _clip_all,
    "less the batch's mean": _less_mean,
    "rolled": lambda dy: dy + tf.roll(dy, 1, 0),
    "with a total": lambda dy: dy * tf.reduce_sum(dy),
}
for what, change in COUPLING.items():
    add(
        "a custom gradient " + what,
        lambda x, g=change: (
            tf.tanh(_custom(tf.identity, lambda dy, t: g(dy))(tf.sin(x))) ** 2
        ),
        WISH,
    )
    overridden = _override("Identity", lambda op, dy, g=change: g(dy))
    add(
        "an overridden gradient " + what,
        lambda x, f=overridden: tf.tanh(f(tf.identity, tf.sin(x))) ** 2,
        WISH,
    )

KEEPING = {
    "straight through": lambda dy, t: dy,
    "scaled": lambda dy, t: 3 * dy,
    "of another function": lambda dy, t: dy * tf.sin(t),
    "clipped by value": lambda dy, t: tf.clip_by_value(dy, -0.3, 0.3),
    "clipped by the norm of each": lambda dy, t: tf.clip_by_norm(dy, 0.5, axes=[1]),
    "stopped": lambda dy, t: tf.stop_gradient(dy * t),
    "reversed": lambda dy, t: -dy,
}
VALUES = {"round": tf.round, "sign": tf.sign, "tanh": tf.tanh}
for what, gradient in KEEPING.items():
    for kind, value in VALUES.items():
        if kind != "round" and what not in ("straight through", "of another function"):
            continue
        add(
            "a custom gradient of {} {}".format(kind, what),
            lambda x, v=value, g=gradient: tf.reduce_sum(
                tf.sin(_custom(v, g)(x * 2)) * x
            ),
            WISH,
        )
        op = {"round": "Round", "sign": "Sign", "tanh": "Tanh"}[kind]
        apply = _override(op, lambda op, dy, g=gradient: g(dy, op.inputs[0]))
        add(
            "{} overridden {}".format(kind, what),
            lambda x, v=value, f=apply: tf.reduce_sum(tf.sin(f(v, x * 2)) * x),
            WISH,
        )

STRAIGHT = _custom(tf.round, lambda dy, t: dy)
STEP = _custom(lambda t: tf.cast(t > 0, t.dtype), lambda dy, t: dy * tf.exp(-(t**2)))


def _batch_norm(t):
    return (t - tf.reduce_mean(t, 0)) / tf.sqrt(0.1 + tf.math.reduce_variance(t, 0))


def _sum_of_cubes(t):
    return tf.reduce_sum(t**3)


BEHIND = {
    "batch norm behind a step": lambda x: _sum_of_cubes(_batch_norm(STEP(x))),
    "batch norm behind a round": lambda x: _sum_of_cubes(_batch_norm(STRAIGHT(3 * x))),
    "a step alone": STEP,
    "a step times x": lambda x: STEP(x) * x,
    "a loop of steps": lambda x: repeat(lambda a: STEP(a - 0.2) + x, x),
    "a step in map_fn": lambda x: tf.map_fn(lambda row: STEP(row) * row, x),
    "layer norm behind a round": lambda x: layer_norm(STRAIGHT(x * 3) / 3 + x),
    "a round into integers": lambda x: (
        STRAIGHT(x) * tf.cast(tf.cast(STRAIGHT(x), tf.int32), x.dtype)
    ),
}
for what, build in BEHIND.items():
    # TensorFlow's moments are wrong behind whatever gradient: nothing to compare with.
    if what != "layer norm behind a round":
        add(what, build, WISH)

STOPS = {
    "a stop": lambda x: tf.stop_gradient(tf.sin(x)) * x**3,
    "a straight-through estimator": lambda x: (
        (x + tf.stop_gradient(tf.round(x) - x)) ** 3
    ),
    "a stopped softmax": lambda x: (
        tf.stop_gradient(tf.nn.softmax(x)) * tf.nn.log_softmax(x)
    ),
    "a stop in map_fn": lambda x: tf.map_fn(
        lambda row: tf.stop_gradient(row) * row**3, x
    ),
    "a stop in a loop": lambda x: repeat(lambda a: a * tf.stop_gradient(a) + x**2, x),
    "a stopped batch mean": lambda x: (x - tf.stop_gradient(tf.reduce_mean(x, 0))) ** 3,
    "a prevented gradient of a batch mean": lambda x: (
        x**3 * tf.stop_gradient(tf.reduce_sum(x))
    ),
}
# In a v1 loop tf.hessians itself fails.
for what, build in STOPS.items():
    add(what, build, WISH, flows=("v2",))

# Gradients that are right, though given by hand.
SAME = {
    "log1pexp": _custom(
        lambda t: tf.log(1 + tf.exp(t)), lambda dy, t: dy * (1 - 1 / (1 + tf.exp(t)))
    ),
    "a square": _custom(tf.square, lambda dy, t: 2 * t * dy),
}
for what, build in SAME.items():
    add("the right custom gradient of " + what, lambda x, f=build: f(tf.sin(x)), RIGHT)
    add(
        "the right custom gradient of {} in map_fn".format(what),
        lambda x, f=build: tf.map_fn(f, tf.sin(x)),
        SAFE,
    )
