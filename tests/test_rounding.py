"""Models that magnify rounding: what is built again is the same model, and answered."""

import numpy as np
import pytest

import batchhess
from batchhess.compat import IS_V1, tf

ROWS = 3 * np.random.RandomState(0).randn(1000, 8)
WEIGHTS = np.random.RandomState(1).randn(8, 8) / 2


def cross_entropy(h):
    """Of labels of 0.3, with the epsilon that keeps its logarithms finite."""
    p = tf.sigmoid(h)
    return -0.3 * tf.math.log(p + 1e-7) - 0.7 * tf.math.log(1 - p + 1e-7)


def normalized(x):
    mean, variance = tf.nn.moments(x, [1], keep_dims=True)
    return (x - mean) / tf.sqrt(variance + 1e-3)


MODELS = {
    "of each": cross_entropy,
    "of layer norms": lambda x: cross_entropy(
        6 * normalized(tf.matmul(x, tf.constant(WEIGHTS, x.dtype)))
    ),
    "of softmax": lambda x: cross_entropy(30 * tf.nn.softmax(x) - 5),
}
ANSWERS = {
    "hessians": lambda y, x: batchhess.hessians(y, x),
    "laplacians": lambda y, x: batchhess.laplacians(y, x),
    "jacobians": lambda y, x: batchhess.jacobians(y, x, method="forward"),
    "compiled": lambda y, x: batchhess.hessians(y, x, jit_compile=True),
}


@pytest.mark.parametrize("answer", sorted(ANSWERS))
@pytest.mark.parametrize("name", sorted(MODELS))
def test_what_saturates_is_answered_and_what_is_fed_inside_is_told(
    name, answer, control_flow
):
    x = tf.placeholder(tf.float32, [None, 8])
    y = MODELS[name](x)
    (result,) = ANSWERS[answer](y, x)
    (p,) = (
        op.outputs[0] for op in x.graph.get_operations() if op.name == "Sigmoid"
    )  # The caller's own.
    with tf.Session() as session:
        if (name, answer, IS_V1) == ("of softmax", "compiled", True):
            # XLA of TensorFlow 1.15 has sigmoids above 1, and so a NaN for a row.
            with pytest.raises(tf.errors.InvalidArgumentError, match="leave out jit"):
                session.run(result, {x: ROWS})
            return
        assert np.isfinite(session.run(result, {x: ROWS})).any()
        fed = session.run(p, {x: ROWS})
        fed[7] *= 0.9
        with pytest.raises(tf.errors.InvalidArgumentError, match="tensor .* was fed"):
            session.run(result, {x: ROWS, p: fed})


def test_hessians_equal_the_closed_form_where_nothing_saturates():
    x = tf.placeholder(tf.float32, [None, 8])
    (result,) = batchhess.hessian_diagonals(cross_entropy(x), x)
    with tf.Session() as session:
        found = session.run(result, {x: ROWS})
    p = 1 / (1 + np.exp(-ROWS))
    slope, bend = p * (1 - p), p * (1 - p) * (1 - 2 * p)
    a, b = p + 1e-7, 1 - p + 1e-7
    expected = 0.3 * (slope**2 / a**2 - bend / a) + 0.7 * (slope**2 / b**2 + bend / b)
    inner = np.abs(ROWS) < 5
    assert inner.mean() > 0.8
    np.testing.assert_allclose(found[inner], expected[inner], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("answer", sorted(ANSWERS))
@pytest.mark.parametrize("summed", [False, True])
def test_a_large_observation_hides_nothing_in_another(answer, summed):
    summed = summed and answer != "jacobians"
    x = tf.placeholder(tf.float32, [None, 8])
    eta = tf.reduce_sum(x * tf.range(1.0, 9.0), 1, keep_dims=True)
    y = tf.exp(eta) - 2 * eta
    (result,) = ANSWERS[answer](tf.reduce_sum(y) if summed else y, x)
    rows = ROWS[:50] / 30
    rows[0] = 0.6  # e to the 22nd.
    with tf.Session() as session:
        assert np.isfinite(session.run(result, {x: rows})).all()
        fed = session.run(eta, {x: rows})
        fed[7] += 0.1
        with pytest.raises(tf.errors.InvalidArgumentError, match="tensor .* was fed"):
            session.run(result, {x: rows, eta: fed})


def looped(h):
    return tf.while_loop(lambda i, z: i < 2, lambda i, z: (i + 1, z * z), [0, h])[1]


@pytest.mark.parametrize("name", ["joined", "in a loop"])
def test_one_observation_of_a_thousand_that_is_fed_is_told(name, control_flow):
    """In a sum over all it is lost."""
    x, u = (tf.placeholder(tf.float32, [None, k]) for k in (8, 2))
    h = tf.tanh(tf.matmul(x, tf.constant(WEIGHTS, tf.float32)))
    z = looped(h) if name == "in a loop" else h
    y = tf.reduce_sum(tf.exp(tf.reduce_sum(z, 1) + tf.reduce_sum(u * u, 1)))
    results = {
        "joined": lambda: batchhess.hessian_blocks(y, [x, u])[0][0],
        "in a loop": lambda: batchhess.hessians(y, x)[0],
    }
    result, feed = results[name](), {x: ROWS, u: ROWS[:, :2] / 3}
    with tf.Session() as session:
        assert np.isfinite(session.run(result, feed)).all()
        fed, before = session.run([z, y], feed)
        fed[7] += 0.1
        assert abs(session.run(y, {z: fed, **feed}) / before - 1) < 1e-4
        with pytest.raises(tf.errors.InvalidArgumentError, match="tensor .* was fed"):
            session.run(result, {z: fed, **feed})
