"""Softmax and cross entropies, read in other ops by `symmetric`: what is fed inside."""

import numpy as np
import pytest
from oracles import unoptimized

import batchhess
from batchhess.compat import tf

# Labels of four observations, and four classes of each model.
LABELS = np.eye(4)[[0, 3, 1, 0]]


def loss(logits):
    return tf.nn.softmax_cross_entropy_with_logits_v2(labels=LABELS, logits=logits)


MODELS = {
    "a loss of each": lambda z: loss(z),
    "a mean": lambda z: 2 * tf.reduce_mean(loss(z) * [1.0, 2, 3, 4]),
    "a square": lambda z: tf.reduce_sum(loss(z) ** 2),
    "softmax": lambda z: tf.reduce_sum(tf.nn.softmax(z) * [1.0, 2, 4, 8]),
    "a logarithm": lambda z: tf.nn.log_softmax(z) * [1.0, 2, 4, 8],
    "one in another": lambda z: tf.nn.log_softmax(3 * tf.nn.softmax(z))[:, 1],
    "of one in part": lambda z: tf.reduce_sum(tf.tanh(tf.nn.softmax(z)[:, 0])) * 3,
}


@pytest.mark.parametrize("size", [3, 9])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_what_is_fed_inside_counts_as_for_tensorflow_or_fails_the_run(
    name, size, random
):
    x = tf.placeholder(tf.float64, [None, size])
    value, weights = random.randn(4, size), random.randn(size, 4)
    y = MODELS[name](tf.matmul(x, weights) * 1.0)
    inside = [
        op.outputs[0]
        for op in x.graph.get_operations()
        if op.outputs
        and op.outputs[0].dtype == x.dtype
        and op.type not in ("Const", "Placeholder", "Cast")
    ]
    result = batchhess.hessians(y, x, method="symmetric")[0]
    whole = tf.hessians(y, x)[0]
    behind = [y] if y.shape.ndims == 0 else []  # All that follows is linear.
    with unoptimized() as session:
        for tensor in inside:
            feed = {x: value, tensor: 1.1 * session.run(tensor, {x: value})}
            try:
                found = session.run(result, feed)
            except tf.errors.InvalidArgumentError as error:
                assert "was fed" in str(error) and tensor not in behind
            else:
                full = session.run(whole, feed)  # [N, K, N, K]
                rows = [full[n, :, n] for n in range(len(value))]
                np.testing.assert_allclose(found, rows, atol=1e-9)
