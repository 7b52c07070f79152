"""One output of several, and a single observation that is known when built."""

import numpy as np

from batchhess.compat import tf
from programs.registry import RIGHT, VALUE, Setup, add

ONE = VALUE[:1]


# One output of several: y is [N, M], M = N in the run.
def _outputs(y, **options):
    def build(x):
        return Setup(y(x), options=dict(per_output=True, **options))

    return build


def _three(x):
    w = tf.constant(np.random.RandomState(2).randn(4, 3), x.dtype)
    return tf.tanh(tf.matmul(x, w)) * tf.reduce_sum(x, 1, keepdims=True)


add("per_output, M = N", _outputs(_three), RIGHT)
add("per_output, M = N, N known", _outputs(_three), RIGHT, static=True)
add("per_output, y of [M, N]", _outputs(lambda x: tf.transpose(_three(x))))
add(
    "per_output, y of [M, N], N known",
    _outputs(lambda x: tf.transpose(_three(x))),
    static=True,
)
add("per_output, a Gram matrix", _outputs(lambda x: tf.matmul(x**2, x, False, True)))
add("per_output, a stack", _outputs(lambda x: tf.stack([x[:, i] ** 3 for i in (0, 2)])))
add(
    "per_output, a batch mean",
    _outputs(lambda x: (x - tf.reduce_mean(x, 0)) ** 3),
)
add(
    "per_output, moments",
    _outputs(lambda x: tf.nn.moments(x**2, [1], None)[1][:, None] ** 2),
)

# A single observation, known when built.
SINGLE = {
    "einsum": lambda x: tf.einsum("ni,nij,nj->n", x, tf.ones([1, 4, 4], x.dtype), x),
    "einsum of two": lambda x: tf.einsum("ni,nj->nij", tf.sin(x), x) ** 2,
    "matmul": lambda x: tf.matmul(tf.tanh(x), tf.ones([4, 2], x.dtype)) ** 2,
    "solve": lambda x: (
        tf.linalg.solve(
            tf.reshape(x, [-1, 2, 2]), tf.constant([[[1.0], [0.3]]], x.dtype)
        )
        ** 2
    ),
    "triangular_solve": lambda x: (
        tf.linalg.triangular_solve(
            tf.reshape(x, [-1, 2, 2]), tf.constant([[[1.0], [0.3]]], x.dtype)
        )
        ** 2
    ),
    "constant triangular_solve": lambda x: (
        tf.linalg.triangular_solve(
            tf.constant([[[2.0, 0.0], [0.4, 1.0]]], x.dtype),
            tf.reshape(tf.sin(x), [-1, 2, 2]),
        )
        ** 2
    ),
    "add_n": lambda x: tf.add_n([x**3, tf.sin(x), x]) ** 2,
    "add_n with a constant": lambda x: (
        tf.add_n([tf.sin(x), tf.ones([1, 4], x.dtype), x]) ** 2
    ),
    "where": lambda x: tf.where(x > 0, x**3, tf.ones([1, 4], x.dtype)) ** 2,
    "where of a constant condition": lambda x: tf.where(
        tf.constant([[True, False, True, False]]), x**3, tf.sin(x)
    ),
    "a batch mean": lambda x: (x - tf.reduce_mean(x, 1, keepdims=True)) ** 3,
    "concat": lambda x: tf.concat([x, tf.ones([1, 2], x.dtype)], 1) ** 3,
    "stack": lambda x: tf.stack([x, tf.ones([1, 4], x.dtype)]) ** 3,
    "a bias": lambda x: (tf.sin(x) + tf.ones([1, 4], x.dtype)) ** 2,
    "squeeze": lambda x: tf.squeeze(x, 0) ** 3,
    "select": lambda x: x[0] ** 3,
    "reduce_all": lambda x: tf.reduce_sum(x) ** 3,
    "map_fn": lambda x: tf.map_fn(lambda row: tf.sin(row) * row, x),
    "conv": lambda x: (
        tf.nn.conv1d(tf.sin(x)[:, :, None], tf.ones([2, 1, 2], x.dtype), 1, "SAME") ** 2
    ),
    "batch matmul": lambda x: (
        tf.matmul(tf.reshape(x, [-1, 2, 2]), tf.ones([1, 2, 2], x.dtype)) ** 3
    ),
    "cross entropy": lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.constant([[0.1, 0.2, 0.3, 0.4]], x.dtype), logits=x
    ),
    "layer by gather_nd": lambda x: tf.gather_nd(x, [[0, 1], [0, 3]]) ** 3,
}
for what, build in SINGLE.items():
    scalar = lambda x, f=build: tf.reduce_sum(f(x))  # noqa: E731
    if what not in ("einsum of two", "matmul", "cross entropy"):
        build = scalar
    add("one observation: " + what, build, RIGHT, value=ONE, static=True, step=0.02)
