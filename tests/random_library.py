"""More steps of random programs: library code, control flow, gradients of one's own.

Each maps t, of shape [N, width], and the program's own x, [N, K], to [N, other width].
"""

import numpy as np
import tensorflow
from random_steps import _weights, _width

from batchhess.compat import VERSION, tf

ON_1 = VERSION.startswith("1.")


def _pairs(t):
    """[N, width] as [N, 2, 2]."""
    return tf.reshape(tf.tile(t, [1, 4])[:, :4], [-1, 2, 2])


def _flat(t, width):
    return tf.reshape(t, [-1, width])


def _image(t):
    """[N, width] as [N, 3, 3, 1]."""
    return tf.reshape(tf.tile(t, [1, 9])[:, :9], [-1, 3, 3, 1])


def _spd(t):
    m = _pairs(t)
    return tf.matmul(m, m, transpose_b=True) + tf.eye(2, dtype=t.dtype)


def _layer_norm(t):
    mean, variance = tf.nn.moments(t, [1], keep_dims=True)
    return (t - mean) / tf.sqrt(variance + 0.3)


def _repeat(body, start, steps=2):
    return tf.while_loop(
        lambda i, _: i < steps, lambda i, a: (i + 1, body(a)), (0, start)
    )[1]


def _function(f):
    return tensorflow.function(f, autograph=False)


def _custom(value, slope):
    @tf.custom_gradient
    def f(t):
        return value(t), lambda dy: dy * slope(t)

    return f


@tf.RegisterGradient("RandomProgramsTanh")
def _tanh_gradient(op, dy):
    return dy * (1 - tf.square(tf.tanh(op.inputs[0])))


def _overridden(t):
    override = {"Tanh": "RandomProgramsTanh"}
    with tf.get_default_graph().gradient_override_map(override):
        return tf.tanh(t)


def _last(values):
    return values[-1] if isinstance(values, (list, tuple)) else values


def _gradient_term(t, x):
    u = tf.reduce_sum(tf.sin(t) * t, 1)
    g = tf.gradients(u, x)[0]
    g = tf.zeros_like(x) if g is None else tf.convert_to_tensor(g)
    return u[:, None] * g / 3


def _by_array(t):
    array = tf.TensorArray(t.dtype, _width(t)).unstack(tf.transpose(t))
    out = tf.TensorArray(t.dtype, _width(t))
    body = lambda i, o: (i + 1, o.write(i, tf.sin(array.read(i)) * t[:, 0]))  # noqa: E731
    loop = tf.while_loop(lambda i, _: i < _width(t), body, (0, out))
    return tf.ensure_shape(tf.transpose(loop[1].stack()), [None, _width(t)])


def _same_shape(f):
    """`f(t)`, which has lost its static width."""
    return lambda t, x: tf.ensure_shape(f(t), [None, _width(t)])


def _large(t):
    return tf.reduce_sum(tf.square(t)) > 1


LOOPS = {
    "map_fn": _same_shape(lambda t: tf.map_fn(lambda r: tf.sin(r) * r, t)),
    "map_fn of moments": _same_shape(
        lambda t: tf.map_fn(lambda r: _layer_norm(r[None])[0], t)
    ),
    "map_fn of products": lambda t, x: tf.map_fn(tf.reduce_prod, t)[:, None] + t,
    "while": lambda t, x: _repeat(lambda a: tf.tanh(a) + t / 2, t),
    "while of moments": lambda t, x: _repeat(_layer_norm, t),
    "while by x": lambda t, x: _repeat(lambda a: a * x[:, :1] / 2, t),
    "scan of columns": _same_shape(
        lambda t: tf.transpose(
            tf.scan(lambda a, c: tf.tanh(a * 0.5 + c), tf.transpose(t))
        )
    ),
    "foldl of columns": lambda t, x: tf.foldl(
        lambda a, c: tf.sin(a + c), tf.transpose(t), tf.ones_like(t[:, 0])
    )[:, None],
    "array": lambda t, x: _by_array(t),
    "cond in while": lambda t, x: _repeat(
        lambda a: tf.cond(tf.shape(t)[0] > 1, lambda: tf.sin(a), lambda: a * a), t
    ),
    "scan of rows": _same_shape(lambda t: tf.scan(lambda a, r: tf.tanh(a * r + r), t)),
}

FLOW = {
    "cond on N": lambda t, x: tf.cond(
        tf.shape(t)[0] > 1, lambda: tf.sin(t) * t, lambda: tf.exp(t)
    ),
    "cond of moments": lambda t, x: tf.cond(
        tf.shape(t)[0] > 0, lambda: _layer_norm(t), lambda: t
    ),
    "cond on value": lambda t, x: tf.cond(_large(t), lambda: 3 * t, lambda: tf.sin(t)),
    "switch_case": lambda t, x: tf.ensure_shape(
        tf.switch_case(
            tf.minimum(tf.shape(t)[0], 1), [lambda: t, lambda: tf.sin(t) * t]
        ),
        [None, _width(t)],
    ),
    "switch_case of moments": lambda t, x: tf.ensure_shape(
        tf.switch_case(
            tf.minimum(tf.shape(t)[0], 1), [lambda: t, lambda: _layer_norm(t)]
        ),
        [None, _width(t)],
    ),
    "function of moments": lambda t, x: _function(_layer_norm)(t),
    "function of a loop": lambda t, x: _function(lambda t: _repeat(tf.tanh, t))(t),
    "function with a capture": lambda t, x: _function(lambda: tf.sin(t) * x[:, :1])(),
    "function of two": lambda t, x: _last(
        _function(lambda t: (tf.exp(t), tf.sin(t) * t))(t)
    ),
    "function of a batch mean": lambda t, x: _function(
        lambda t: t - tf.reduce_mean(t, 0)
    )(t),
}

MATHEMATICS = {
    "moments": lambda t, x: _layer_norm(t),
    "gradient_term": _gradient_term,
    "custom gradient": lambda t, x: _custom(
        lambda t: tf.log(1 + tf.exp(t)), tf.sigmoid
    )(t),
    "overridden": lambda t, x: _overridden(t),
    "det": lambda t, x: tf.linalg.det(_pairs(t))[:, None] + t,
    "slogdet": lambda t, x: tf.linalg.slogdet(_pairs(t))[1][:, None] / 3 + t,
    "inverse": lambda t, x: _flat(
        tf.linalg.inv(_pairs(t) + 2.0 * tf.eye(2, dtype=t.dtype)), 4
    ),
    "adjoint inverse": lambda t, x: _flat(
        tf.linalg.inv(_pairs(t) + 2.0 * tf.eye(2, dtype=t.dtype), adjoint=True), 4
    ),
    "solve": lambda t, x: _flat(tf.linalg.solve(_spd(t), _pairs(tf.sin(t))), 4),
    "adjoint solve": lambda t, x: _flat(
        tf.linalg.solve(
            _pairs(t) + 2.0 * tf.eye(2, dtype=t.dtype), _pairs(tf.sin(t)), adjoint=True
        ),
        4,
    ),
    "cholesky": lambda t, x: _flat(tf.linalg.cholesky(_spd(t)), 4),
    "logdet": lambda t, x: tf.linalg.logdet(_spd(t))[:, None] * t,
    "eigenvalues": lambda t, x: tf.linalg.eigvalsh(_spd(t)) / 2,
    "singular values": lambda t, x: tf.linalg.svd(
        _pairs(t) + 2.0 * tf.eye(2, dtype=t.dtype), compute_uv=False
    ),
    "band part": lambda t, x: _flat(tf.linalg.band_part(_pairs(t), 0, -1), 4) ** 2,
    "diag": lambda t, x: (
        _flat(tf.matmul(tf.linalg.diag(t[:, :2]), _pairs(tf.sin(t))), 4)
        if _width(t) > 1
        else t
    ),
    "entropy": lambda t, x: (
        tf.nn.softmax_cross_entropy_with_logits_v2(labels=tf.nn.softmax(t), logits=t)[
            :, None
        ]
        * t
    ),
    "cross entropy": lambda t, x: (
        tf.nn.softmax_cross_entropy_with_logits_v2(
            labels=tf.ones_like(t) / _width(t), logits=t
        )[:, None]
        + t
    ),
    "sparse cross entropy": lambda t, x: (
        tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.zeros_like(t[:, 0], tf.int32), logits=t
        )[:, None]
        + t
    ),
    "sigmoid cross entropy": lambda t, x: tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.sigmoid(x[:, :1]) + 0 * t, logits=t
    ),
    "reduce_prod": lambda t, x: tf.reduce_prod(t, 1, keepdims=True) + t,
    "cumprod": lambda t, x: tf.cumprod(t, axis=1),
    "exclusive cumprod": lambda t, x: tf.cumprod(t, axis=1, exclusive=True) + t,
    "reverse cumprod": lambda t, x: tf.cumprod(t, axis=1, reverse=True),
    "xlogy": lambda t, x: tf.math.xlogy(t, tf.square(t) + 1.5),
    "xdivy": lambda t, x: tf.math.xdivy(t, tf.square(t) + 1.5),
    "div_no_nan": lambda t, x: tf.math.divide_no_nan(t, 1.5 + tf.square(t)),
    "mean of weights": lambda t, x: (
        t * tf.math.divide_no_nan(tf.reduce_sum(t), tf.reduce_sum(tf.ones_like(t)))
    ),
    "lgamma": lambda t, x: tf.math.lgamma(2 + tf.nn.softplus(t)) / 3,
    "erf": lambda t, x: tf.math.erf(t) * t,
    "igamma": lambda t, x: tf.math.igamma(2 + 0 * t, tf.nn.softplus(t)),
    "pow": lambda t, x: tf.pow(1.5 + tf.square(t), tf.sin(x[:, :1])),
    "atan2": lambda t, x: tf.atan2(t, 1.5 + tf.square(x[:, :1])),
    "maximum": lambda t, x: tf.maximum(t, tf.sin(t) * x[:, :1]) * t,
    "clip": lambda t, x: tf.clip_by_value(t, -1.0, 1.0) * t,
    "clip_by_norm": lambda t, x: tf.clip_by_norm(t, 1.0, axes=[1]) * t,
    "reduce_max": lambda t, x: tf.reduce_max(t, 1, keepdims=True) * t,
    "top_k": lambda t, x: tf.nn.top_k(t, _width(t))[0] * tf.sin(t),
    "sort": lambda t, x: (
        tf.ensure_shape(tf.sort(t, axis=1), [None, _width(t)]) * tf.cos(t)
    ),
    "one-hot maximum": lambda t, x: (
        t * tf.one_hot(tf.argmax(t, 1), _width(t), dtype=t.dtype) + tf.sin(t)
    ),
    "segment_sum": lambda t, x: (
        tf.transpose(
            tf.math.unsorted_segment_sum(tf.transpose(t), np.arange(_width(t)) % 2, 2)
        )
        ** 2
        / 3
    ),
    "scatter": lambda t, x: tf.transpose(
        tf.scatter_nd(
            (np.arange(_width(t))[:, None] % 3).astype(np.int32),
            tf.transpose(t),
            tf.stack([3, tf.shape(t)[0]]),
        )
    ),
    "gather batch": lambda t, x: (
        tf.gather(t, tf.argsort(tf.stop_gradient(t), axis=1), batch_dims=1) * t
    ),
    "fft": lambda t, x: (
        tf.square(tf.abs(tf.signal.fft(tf.complex(t, tf.zeros_like(t))))) / 5
    ),
    "logsumexp": lambda t, x: tf.reduce_logsumexp(t, 1, keepdims=True) * t,
    "std": lambda t, x: (
        t / (1 + tf.math.reduce_std(t + x[:, :1], 1, keepdims=True))
        if _width(t) > 1
        else t
    ),
    "sum over computed axes": lambda t, x: (
        t * tf.reduce_sum(t, tf.range(1, tf.rank(t)), keepdims=True)
    ),
    "broadcast_to": lambda t, x: t * tf.broadcast_to(x[:, :1], tf.shape(t)),
    "softmax of rank 3": lambda t, x: _flat(tf.nn.softmax(_pairs(t), axis=1), 4) * 2,
    "boolean_mask of columns": lambda t, x: tf.ensure_shape(
        tf.boolean_mask(t, np.arange(_width(t)) % 2 == 0, axis=1),
        [None, (_width(t) + 1) // 2],
    ),
}

LIBRARY = {
    "elu": lambda t, x: tf.nn.elu(t) * t,
    "selu": lambda t, x: tf.nn.selu(t),
    "softsign": lambda t, x: tf.nn.softsign(t),
    "swish": lambda t, x: tf.nn.swish(t),
    "relu squared": lambda t, x: tf.nn.relu(t) * t,
    "leaky_relu": lambda t, x: tf.nn.leaky_relu(t) * t,
    "l2_normalize": lambda t, x: tf.nn.l2_normalize(t + 0.1, 1),
    "batch_normalization": lambda t, x: tf.nn.batch_normalization(
        t, *(tf.nn.moments(t, [1], keep_dims=True) + (0.1, 1.2, 0.3))
    ),
    "batch norm": lambda t, x: tf.nn.batch_normalization(
        t, *(tf.nn.moments(t, [0]) + (0.1, 1.2, 0.3))
    ),
    "conv1d": lambda t, x: (
        tf.reduce_sum(
            tf.nn.conv1d(
                t[:, :, None], tf.reshape(_weights(2, 3, t.dtype), [2, 1, 3]), 1, "SAME"
            ),
            2,
        )
        ** 2
    ),
    "conv2d": lambda t, x: (
        _flat(
            tf.nn.conv2d(
                _image(t), tf.reshape(_weights(4, 2, t.dtype), [2, 2, 1, 2]), 2, "VALID"
            ),
            2,
        )
        * t[:, :1]
    ),
    "max_pool": lambda t, x: (
        _flat(tf.nn.max_pool2d(_image(tf.sin(t) * t), 2, 1, padding="VALID"), 4) ** 2
    ),
    "avg_pool": lambda t, x: _flat(
        tf.nn.avg_pool2d(_image(tf.square(t)), 2, 1, padding="VALID"), 4
    ),
    "standardization": lambda t, x: _flat(
        tf.image.per_image_standardization(_image(t) + np.eye(3)[None, :, :, None]), 9
    ),
    "extract_patches": lambda t, x: _flat(
        tf.image.extract_patches(
            _image(t), [1, 2, 2, 1], [1, 1, 1, 1], [1, 1, 1, 1], padding="VALID"
        ),
        16,
    ),
    "total_variation": lambda t, x: (
        tf.image.total_variation(tf.square(_image(t)))[:, None] * t
    ),
    "mean_squared_error": lambda t, x: (
        t * tf.cast(tf.losses.mean_squared_error(tf.zeros_like(t), t), t.dtype)
    ),
    "dropout of none": lambda t, x: tf.nn.dropout(t, rate=0.0) * t,
    "bias_add": lambda t, x: tf.nn.bias_add(t, tf.ones([_width(t)], t.dtype)) ** 2 / 3,
    "layer": lambda t, x: _dense_layer(t),
}


def _dense_layer(t):
    if ON_1:
        return tf.layers.dense(t, 3, tf.tanh, kernel_initializer=tf.ones_initializer())
    layer = tf.keras.layers.Dense(
        3, "tanh", dtype=t.dtype.name, kernel_initializer="ones"
    )
    return layer(t)


ON_2 = {
    "gather one": lambda t, x: (
        tf.gather(t, tf.argmax(tf.stop_gradient(t), axis=1), batch_dims=1)[:, None] * t
    ),
}

STEPS = dict(LOOPS) if ON_1 else dict(LOOPS, **ON_2)
for family in (FLOW, MATHEMATICS, LIBRARY):
    STEPS.update(family)
