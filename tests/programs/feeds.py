"""Values fed into the middle of a model: obeyed, and derivatives pass on."""

import numpy as np

from batchhess.compat import tf
from programs.registry import (
    BOTH,
    RIGHT,
    SAFE,
    VALUE,
    WISH,
    Setup,
    add,
    function,
    layer_norm,
    repeat,
)

FED = np.random.RandomState(8).uniform(0.2, 0.9, VALUE.shape)

# What stands behind the fed tensor.
BEHIND = {
    "a square": lambda h, x: h**2 * x,
    "map_fn": lambda h, x: tf.map_fn(lambda row: tf.sin(row) * row, h) * x,
    "a loop": lambda h, x: repeat(lambda a: tf.tanh(a) * h + x, x),
    "a function": lambda h, x: function(lambda t: tf.sin(t) * t)(h * x),
}
for what, f in BEHIND.items():

    def _tanh_fed(x, f=f):
        h = tf.tanh(x)
        return Setup(f(h, x), feed={h: FED})

    def _default_fed(x, f=f):
        h = tf.placeholder_with_default(tf.tanh(x), [None, 4])
        return Setup(f(h, x), feed={h: FED})

    def _default_kept(x, f=f):
        return f(tf.placeholder_with_default(tf.tanh(x), [None, 4]), x)

    def _mean_fed(x, f=f):
        mean = tf.reduce_mean(x, 1, keepdims=True)
        return Setup(f(x - mean, x), feed={mean: FED[:, :1]})

    def _constant_fed(x, f=f):
        scale = tf.constant(2.0, x.dtype)
        return Setup(f(tf.sin(x * scale), x), feed={scale: 0.7})

    def _stopped_fed(x, f=f):
        h = tf.stop_gradient(tf.tanh(x))
        return Setup(f(h * x, x), feed={h: FED})

    flows = BOTH if what == "a loop" else ("v1",)
    add("a fed tanh before " + what, _tanh_fed, WISH, flows=flows)
    add("a fed default before " + what, _default_fed, WISH, flows=flows)
    add("a default kept before " + what, _default_kept, WISH)
    if what == "map_fn":
        continue
    add("a fed mean before " + what, _mean_fed, WISH, flows=flows)
    add("a fed constant before " + what, _constant_fed, WISH, flows=flows)
    add("a fed stop before " + what, _stopped_fed, WISH)


def _loop_result_fed(x):
    h = repeat(lambda a: tf.tanh(a) + x, x)
    return Setup(h**2 * x + tf.map_fn(tf.sin, x), feed={h: FED})


def _map_result_fed(x):
    h = tf.map_fn(lambda row: tf.sin(row) * row, x)
    return Setup(h**2 * x, feed={h: FED})


def _fed_after(x):
    """The fed tensor stands after all that is built anew."""
    h = tf.tanh(tf.map_fn(tf.sin, x))
    return Setup(tf.reduce_sum(h**3) ** 1 * 2, feed={h: FED})


def _gradient_fed(x):
    (g,) = tf.gradients(tf.reduce_sum(tf.sin(x) ** 2), x)
    return Setup(g * x**2, feed={g: FED})


def _sum_fed(x):
    total = tf.reduce_sum(x**2)
    return Setup(tf.log(1 + total) * 2 + total, feed={total: 0.3})


def _mask_fed(x):
    mask = tf.cast(x > 0, x.dtype)
    return Setup(repeat(lambda a: tf.tanh(a) * mask + x, x), feed={mask: FED})


def _predicate_fed(x):
    large = tf.reduce_sum(x[0]) > 0
    y = tf.cond(large, lambda: tf.sin(x) * x, lambda: x**3)
    return Setup(y, feed={large: False})


for what, build in {
    "a fed result of a loop": _loop_result_fed,
    "a fed result of map_fn": _map_result_fed,
    "a fed tanh after map_fn": _fed_after,
    "a fed gradient": _gradient_fed,
    "a fed sum": _sum_fed,
    "a fed mask": _mask_fed,
    "a fed predicate": _predicate_fed,
}.items():
    add(what, build, WISH, flows=BOTH if "loop" in what else ("v1",))


def _moments_fed(which):
    def build(x):
        mean, variance = tf.nn.moments(x, [1], keep_dims=True)
        fed = (mean, variance)[which]
        y = ((x - mean) / tf.sqrt(variance + 0.1)) ** 3
        return Setup(y, feed={fed: FED[:, :1]})

    return build


# A fed mean or variance is a number to f's own differences: a convention of its own.
# What may not happen is that the feed is ignored without a word.
def _ignores(build):
    def with_truth(x):
        setup = build(x)
        h = tf.hessians(setup.ys, x)[0]
        blocks = tf.stack([h[n, :, n] for n in range(len(VALUE))])
        return setup._replace(witness=(blocks,), truth=lambda found: found)

    return with_truth


add("a fed variance", _ignores(_moments_fed(1)), SAFE)
add(
    "a fed mean of moments before a function",
    _ignores(
        lambda x: (lambda s: s._replace(ys=function(tf.sin)(s.ys)))(_moments_fed(0)(x))
    ),
    SAFE,
)
add(
    "moments after a fed default",
    lambda x: layer_norm(tf.placeholder_with_default(tf.sin(x), [None, 4])),
    RIGHT,
)
