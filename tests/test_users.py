"""Whole cases of those who use it: physics, quantum chemistry, networks."""

import numpy as np
import pytest
import tensorflow
from oracles import difference_blocks, run, sliced_hessians

import batchhess
from batchhess.compat import tf

PI = np.pi


def test_heat_equation_on_an_exact_solution(random):
    """u_t = a u_xx, with x and t as separate [N, 1] placeholders."""
    a, n, length = 0.4, 2, 1.5
    x = tf.placeholder(tf.float64, (None, 1))
    t = tf.placeholder(tf.float64, (None, 1))
    decay = tf.exp(-((n * PI / length) ** 2) * a * t)
    u = decay * tf.sin(n * PI * x / length)
    answer = batchhess.derivatives(u, [x, t])
    u_t, u_xx = answer.gradients[1], answer.hessians[0][:, 0]
    feed = {x: random.uniform(0, 1.5, (50, 1)), t: random.uniform(0, 1, (50, 1))}
    residual, u_xx = run([u_t - a * u_xx, u_xx], feed)
    assert np.abs(u_xx).max() > 0.1
    np.testing.assert_allclose(residual, 0, atol=1e-12)


def test_kovasznay_flow_has_no_momentum_residual(random):
    """Navier and Stokes at Re = 20: u u_x + v u_y + p_x - nu (u_xx + u_yy) = 0."""
    nu = 1 / 20
    lam = 1 / (2 * nu) - np.sqrt(1 / (4 * nu**2) + 4 * PI**2)
    xy = tf.placeholder(tf.float64, (None, 2))
    x, y = xy[:, 0], xy[:, 1]
    u = 1 - tf.exp(lam * x) * tf.cos(2 * PI * y)
    v = lam / (2 * PI) * tf.exp(lam * x) * tf.sin(2 * PI * y)
    p = 0.5 * (1 - tf.exp(2 * lam * x))
    flow = batchhess.derivatives(tf.stack([u, v], 1), xy, per_output=True)
    slope, curvature = flow.gradients[0], flow.hessians[0]
    laplacian = tf.linalg.trace(curvature)  # [N, 2]
    convection = tf.einsum("ni,noi->no", tf.stack([u, v], 1), slope)
    residual = convection + tf.gradients(p, xy)[0] - nu * laplacian
    feed = {xy: random.uniform(-0.5, 1, (40, 2))}
    residual, laplacian = run([residual, laplacian], feed)
    assert np.abs(laplacian).max() > 1
    np.testing.assert_allclose(residual, 0, atol=1e-9)


def test_the_local_energy_of_hydrogen_is_minus_a_half_everywhere(random):
    x = tf.placeholder(tf.float64, (None, 3))
    r = tf.norm(x, axis=1)
    answer = batchhess.derivatives(-r, x)
    laplacian = tf.linalg.trace(answer.hessians[0])
    energy = -0.5 * (laplacian + tf.reduce_sum(answer.gradients[0] ** 2, 1)) - 1 / r
    np.testing.assert_allclose(run(energy, {x: random.randn(100, 3)}), -0.5, rtol=1e-10)


def test_local_energies_by_laplacians(random):
    """Hydrogen again: psi = exp(-r) has the energy -1/2 everywhere."""
    x = tf.placeholder(tf.float64, (None, 3))
    r = tf.norm(x, axis=1)
    (laplacian,) = batchhess.laplacians(-r, x)
    energy = -0.5 * (laplacian + tf.reduce_sum(tf.gradients(-r, x)[0] ** 2, 1)) - 1 / r
    np.testing.assert_allclose(run(energy, {x: random.randn(100, 3)}), -0.5, rtol=1e-10)


@pytest.mark.parametrize("follows_act", [False, True])
def test_costs_of_states_and_controls(follows_act, random):
    """iLQR: obs is three steps of a model, of the same act or not."""
    start = tf.placeholder(tf.float64, (None, 3))
    act = tf.placeholder(tf.float64, (None, 1))
    obs, weights = start, random.randn(4, 3)
    for _ in range(3):
        pushed = act if follows_act else tf.ones_like(act)
        obs = tf.tanh(tf.matmul(tf.concat([obs, pushed], 1), tf.constant(weights)))
    if follows_act:
        cost = tf.reduce_sum(tf.concat([obs, act], 1), 1)
        with pytest.raises(ValueError, match="build the model on tf.stop_gradient of"):
            batchhess.hessian_blocks(cost, [obs, act])
        obs = tf.stop_gradient(obs)
    x = tf.concat([obs, act], 1)
    cost = tf.reduce_sum(tf.sin(tf.matmul(x, tf.constant(random.randn(4, 5)))), 1)
    feed = {start: random.randn(4, 3), act: random.randn(4, 1)}
    whole = sliced_hessians(cost, x, feed)
    (l_xx, l_xu), (l_ux, l_uu) = run(batchhess.hessian_blocks(cost, [obs, act]), feed)
    close = {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(l_xx, whole[:, :3, :3], **close)
    np.testing.assert_allclose(l_xu, whole[:, :3, 3:], **close)
    np.testing.assert_allclose(l_ux, whole[:, 3:, :3], **close)
    np.testing.assert_allclose(l_uu, whole[:, 3:, 3:], **close)


def test_a_pinn_network_per_output_equals_chained_gradients(random):
    """tanh 3-8x20-2 at 5,000 points."""
    x = tf.placeholder(tf.float64, (None, 3))
    h = x
    for rows, columns in zip([3] + [20] * 8, [20] * 8 + [2]):
        weights = tf.constant(random.randn(rows, columns) / np.sqrt(rows))
        h = tf.matmul(h, weights)
        h = tf.tanh(h) if columns == 20 else h
    result = batchhess.hessians(h, x, per_output=True)[0]
    chained = []
    for m in range(2):
        (slope,) = tf.gradients(h[:, m], x)
        columns = [tf.gradients(slope[:, k], x)[0] for k in range(3)]
        chained.append(tf.stack(columns, 1))
    value = random.randn(5000, 3)
    result, expected = run([result, tf.stack(chained, 1)], {x: value})
    assert result.shape == (5000, 2, 3, 3)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_a_softplus_network_on_100_rows(random):
    x = tf.placeholder(tf.float64, (None, 5))
    hidden = tf.nn.softplus(tf.matmul(x, tf.constant(random.randn(5, 16))))
    y = tf.reduce_sum(tf.matmul(hidden, tf.constant(random.randn(16, 1))))
    value = random.randn(100, 5)
    expected = sliced_hessians(y, x, {x: value})
    np.testing.assert_allclose(
        run(batchhess.hessians(y, x)[0], {x: value}), expected, atol=1e-12
    )


@pytest.mark.parametrize("axis", [-1, 1])
def test_keras_layer_normalization(axis, random):
    """Its variance is of tf.nn.moments: plain TensorFlow has it wrong."""
    x = tf.placeholder(tf.float64, (None, 4))
    layer = tensorflow.keras.layers.LayerNormalization(axis=axis, dtype="float64")
    y = tf.reduce_sum(layer(x) ** 3, 1)
    value = random.randn(3, 4)
    expected = difference_blocks(y, x, value)
    np.testing.assert_allclose(
        run(batchhess.hessians(y, x)[0], {x: value}), expected, atol=1e-8
    )
    plain = run(batchhess.hessians(y, x, check="never")[0], {x: value})
    assert np.abs(plain - expected).max() > 0.1


def test_rank_one_x_has_one_coordinate_an_observation(random):
    x = tf.placeholder(tf.float64, (None,))
    value = random.randn(7)
    result = run(batchhess.hessians(tf.reduce_sum(tf.sin(x)), x)[0], {x: value})
    np.testing.assert_allclose(result, -np.sin(value), rtol=1e-12)


def test_ten_thousand_observations_of_five_on_axis_1(random):
    """Parameters (5, 10000) give 10,000 Hessians of 5 x 5."""
    x = tf.placeholder(tf.float32, (5, None))
    design = random.randn(30, 5)
    y = tf.reduce_sum(tf.nn.softplus(tf.matmul(tf.constant(design, tf.float32), x)))
    value = random.randn(5, 10000)
    result = run(batchhess.hessians(y, x, batch_axis=1)[0], {x: value})
    assert result.shape == (10000, 5, 5)
    mean = 1 / (1 + np.exp(-design @ value))
    expected = np.einsum("sf,si,sj->fij", mean * (1 - mean), design, design)
    np.testing.assert_allclose(result, expected, atol=2e-5)
