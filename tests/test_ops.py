"""A table of ops and their domains, against numeric differences in float64."""

import numpy as np
import pytest
from oracles import difference_blocks, run

import batchhess
from batchhess.compat import tf

UNIT, POSITIVE, REAL, ABOVE_ONE = (-0.9, 0.9), (0.3, 2.0), (-2.0, 2.0), (1.2, 3.0)


def image(x):
    return tf.reshape(x, [-1, 4, 4, 1])


def kernel(*shape):
    return tf.constant(np.random.RandomState(3).randn(*shape))


def positive_definite(x):
    a = tf.reshape(x, [-1, 4, 4])
    return tf.matmul(a, a, transpose_b=True) + 4 * tf.eye(4, dtype=tf.float64)


# name: (op on x of shape [N, 16], domain). Kinks and poles are kept off the domain.
OPS = {
    "exp": (tf.exp, REAL),
    "expm1": (tf.math.expm1, REAL),
    "log": (tf.math.log, POSITIVE),
    "log1p": (tf.math.log1p, POSITIVE),
    "sqrt": (tf.sqrt, POSITIVE),
    "rsqrt": (tf.math.rsqrt, POSITIVE),
    "square": (tf.square, REAL),
    "reciprocal": (tf.math.reciprocal, POSITIVE),
    "sin": (tf.sin, REAL),
    "cos": (tf.cos, REAL),
    "tan": (tf.tan, UNIT),
    "asin": (tf.asin, UNIT),
    "acos": (tf.acos, UNIT),
    "atan": (tf.atan, REAL),
    "sinh": (tf.sinh, REAL),
    "cosh": (tf.cosh, REAL),
    "tanh": (tf.tanh, REAL),
    "asinh": (tf.asinh, REAL),
    "acosh": (tf.acosh, ABOVE_ONE),
    "atanh": (tf.atanh, UNIT),
    "erf": (tf.math.erf, REAL),
    "lgamma": (tf.lgamma, POSITIVE),
    "digamma": (tf.digamma, POSITIVE),
    "sigmoid": (tf.sigmoid, REAL),
    "log_sigmoid": (tf.math.log_sigmoid, REAL),
    "softplus": (tf.nn.softplus, REAL),
    "elu": (tf.nn.elu, REAL),
    "selu": (tf.nn.selu, REAL),
    "relu_cubed": (lambda x: tf.nn.relu(x) ** 3, POSITIVE),
    "leaky_relu_cubed": (lambda x: tf.nn.leaky_relu(x) ** 3, POSITIVE),
    "abs_cubed": (lambda x: tf.abs(x) ** 3, POSITIVE),
    "pow": (lambda x: tf.pow(x, x), POSITIVE),
    "division": (lambda x: x[:, :8] / x[:, 8:], POSITIVE),
    "atan2": (lambda x: tf.atan2(x[:, :8], x[:, 8:]), POSITIVE),
    "squared_difference": (
        lambda x: tf.math.squared_difference(x[:, :8], x[:, 8:]),
        REAL,
    ),
    "softmax": (tf.nn.softmax, REAL),
    "log_softmax": (tf.nn.log_softmax, REAL),
    "logsumexp": (lambda x: tf.reduce_logsumexp(x, 1, keepdims=True), REAL),
    "l2_normalize": (lambda x: tf.nn.l2_normalize(x, 1), POSITIVE),
    "reduce_mean": (lambda x: tf.reduce_mean(x, 1, keepdims=True) ** 3, REAL),
    "reduce_prod": (lambda x: tf.reduce_prod(x, 1, keepdims=True), ABOVE_ONE),
    "cumsum": (lambda x: tf.cumsum(x, 1) ** 2, REAL),
    "cumprod": (lambda x: tf.math.cumprod(x, 1), ABOVE_ONE),
    "reduce_variance": (
        lambda x: tf.math.reduce_variance(x, 1, keepdims=True),
        REAL,
    ),
    "reduce_max_cubed": (lambda x: tf.reduce_max(x, 1, keepdims=True) ** 3, REAL),
    "segment": (
        lambda x: tf.transpose(tf.gather(tf.transpose(x), [1, 1, 3])) ** 2,
        REAL,
    ),
    "matmul": (lambda x: tf.tanh(tf.matmul(x, kernel(16, 3))), REAL),
    "einsum": (
        lambda x: tf.einsum("nij,njk->nik", image(x)[..., 0], image(x)[..., 0]),
        UNIT,
    ),
    "conv2d": (
        lambda x: tf.nn.conv2d(image(x), kernel(3, 3, 1, 2), [1, 1, 1, 1], "SAME") ** 2,
        REAL,
    ),
    "depthwise_conv2d": (
        lambda x: (
            tf.nn.depthwise_conv2d(image(x), kernel(2, 2, 1, 2), [1, 1, 1, 1], "VALID")
            ** 2
        ),
        REAL,
    ),
    "max_pool": (lambda x: tf.nn.max_pool(image(x), 2, 2, "VALID") ** 2, REAL),
    "avg_pool": (lambda x: tf.nn.avg_pool(image(x), 2, 2, "VALID") ** 2, REAL),
    "cholesky": (lambda x: tf.cholesky(positive_definite(x)), UNIT),
    "matrix_inverse": (lambda x: tf.linalg.inv(positive_definite(x)), UNIT),
    "slogdet": (lambda x: tf.linalg.slogdet(positive_definite(x))[1][:, None], UNIT),
    "concat_split": (lambda x: tf.concat(tf.split(x, 4, 1)[:3], 1) ** 3, REAL),
    "stack_unstack": (lambda x: tf.stack(tf.unstack(x, axis=1)[:3], 1) ** 3, REAL),
    "pad_slice": (lambda x: tf.pad(x, [[0, 0], [1, 2]])[:, 2:9] ** 3, REAL),
    "tile": (lambda x: tf.tile(x, [1, 2]) ** 3, REAL),
    "reverse": (lambda x: x * tf.reverse(x, [1]), REAL),
    "top_k": (lambda x: tf.nn.top_k(x, 3)[0] ** 3, REAL),
    "where": (lambda x: tf.where(x > 0, x**3, tf.exp(x)), REAL),
    "clip_by_value": (lambda x: tf.clip_by_value(x, -5.0, 5.0) ** 3, REAL),
    "cast": (lambda x: tf.cast(x, tf.float64) ** 3, REAL),
    "check_numerics": (lambda x: tf.check_numerics(x, "x") ** 3, REAL),
    "softmax_cross_entropy": (
        lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
            labels=tf.ones_like(x) / 16, logits=x
        )[:, None],
        REAL,
    ),
    "sigmoid_cross_entropy": (
        lambda x: tf.nn.sigmoid_cross_entropy_with_logits(
            labels=tf.ones_like(x) / 3, logits=x
        ),
        REAL,
    ),
    "inference_batch_norm": (
        lambda x: tf.nn.batch_normalization(x, 0.5, 2.0, None, None, 1e-3) ** 3,
        REAL,
    ),
    "layer_norm_by_hand": (
        lambda x: (
            (x - tf.reduce_mean(x, 1, keepdims=True))
            / tf.sqrt(tf.math.reduce_variance(x, 1, keepdims=True) + 0.1)
        ),
        REAL,
    ),
    "attention": (
        lambda x: tf.matmul(
            tf.nn.softmax(
                tf.matmul(image(x)[..., 0], image(x)[..., 0], transpose_b=True)
            ),
            image(x)[..., 0],
        ),
        UNIT,
    ),
    "piecewise_constant_factors": (lambda x: x**2 * tf.sign(x) * tf.floor(x), POSITIVE),
}


@pytest.mark.parametrize("name", sorted(OPS))
def test_second_derivative_equals_differences(name):
    op, (low, high) = OPS[name]
    value = np.random.RandomState(5).uniform(low, high, (2, 16))
    x = tf.placeholder(tf.float64, (None, 16))
    terms = op(x)
    terms = tf.reshape(terms, tf.stack([tf.shape(x)[0], -1]))
    # Weights, and products with one term, fill the blocks: an op alone may leave them
    # diagonal, and a sum of softmax zero.
    weights = 1 + tf.cast(tf.range(tf.shape(terms)[1]), tf.float64) / 10
    y = tf.reduce_sum(terms * weights * (1 + 0.1 * terms[:, :1]), 1)
    expected = difference_blocks(y, x, value)
    result = run(batchhess.hessians(y, x)[0], {x: value})
    scale = np.abs(expected).max()
    assert scale > 1e-4
    np.testing.assert_allclose(result, expected, atol=1e-7 * scale)


def test_sparse_softmax_cross_entropy():
    """On 1.15 too, where TensorFlow has no such second derivative."""
    x = tf.placeholder(tf.float64, (None, 4))
    y = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[3, 0, 1], logits=x)
    logits = np.array(
        [[0.3, 0.4, 0.1, 1.2], [0.1, 1.9, 0.1, 0.7], [0.8, 0.2, 1.3, 1.3]]
    )
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.stack([np.diag(row) - np.outer(row, row) for row in p])
    for method in ("symmetric", "columns"):
        result = run(batchhess.hessians(y, x, method=method)[0], {x: logits})
        np.testing.assert_allclose(result, expected, atol=1e-12)


def test_labels_out_of_range_are_never_silent():
    x = tf.placeholder(tf.float64, (None, 4))
    labels = tf.placeholder(tf.int32, (None,))
    y = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=x)
    result = batchhess.hessians(y, x)[0]
    try:
        result = run(result, {x: np.ones((2, 4)), labels: [4, 0]})
    except tf.errors.InvalidArgumentError as error:
        assert "label value" in error.message
    else:
        assert np.isnan(result[0]).all() and np.isfinite(result[1]).all()
