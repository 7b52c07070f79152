"""method="differences": where TensorFlow has a first derivative and no second."""

import numpy as np
import pytest
import tensorflow
import test_second_order_facts as facts
from cases import CASES, wrong_cube
from oracles import difference_blocks, run

import batchhess
from batchhess.compat import tf

# In distributional_boosting s passes through its pole at zero within a step.
SMOOTH = [case for case in CASES if case.name != "distributional_boosting"]


@pytest.mark.parametrize("case", SMOOTH, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype, limit", [(tf.float64, 1e-8), (tf.float32, 5e-3)])
def test_closed_forms_within_the_documented_error(case, dtype, limit):
    shape = [
        None if a == case.batch_axis else d for a, d in enumerate(case.value.shape)
    ]
    x = tf.placeholder(dtype, shape)
    ys = case.build(tf.cast(x, tf.float64))
    value = case.value.astype(dtype.as_numpy_dtype)
    answer = batchhess.derivatives(
        ys, x, method="differences", batch_axis=case.batch_axis
    )
    result, gradient = run([answer.hessians[0], answer.gradients[0]], {x: value})
    scale = max(np.abs(case.expected).max(), np.abs(gradient).max())
    np.testing.assert_allclose(result, case.expected, atol=limit * scale)


def test_sparse_cross_entropy_on_every_version(random, control_flow):
    x = tf.placeholder(tf.float64, (None, 4))
    y = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[3, 0, 1], logits=x)
    value = random.randn(3, 4)
    result = run(batchhess.hessians(y, x, method="differences")[0], {x: value})
    p = np.exp(value) / np.exp(value).sum(axis=1, keepdims=True)
    expected = np.stack([np.diag(row) - np.outer(row, row) for row in p])
    np.testing.assert_allclose(result, expected, atol=1e-9)
    np.testing.assert_array_equal(result, np.transpose(result, [0, 2, 1]))


def test_ctc_loss_along_axis_1(random):
    """One label in two steps: -log(a1 b2 + b1 a2 + a1 a2), differentiated by hand."""
    x = tf.placeholder(tf.float32, (2, None, 2))
    labels = tf.SparseTensor([[0, 0], [1, 0]], [0, 0], [2, 1])
    y = tf.nn.ctc_loss(labels, x, sequence_length=[2, 2])
    value = random.randn(2, 2, 2).astype(np.float32)
    (result,) = batchhess.hessians(y, x, method="differences", batch_axis=1)
    result = run(result, {x: value})
    z = tf.placeholder(tf.float64, (None, 2, 2))
    p = tf.nn.softmax(z)  # Class 0 is the label, class 1 the blank.
    a, b = p[:, :, 0], p[:, :, 1]
    by_hand = -tf.math.log(a[:, 0] * b[:, 1] + b[:, 0] * a[:, 1] + a[:, 0] * a[:, 1])
    rows = [
        tf.gradients(tf.gradients(by_hand, z)[0][:, i, j], z)[0]
        for i, j in np.ndindex(2, 2)
    ]
    expected = np.stack(run(rows, {z: np.moveaxis(value, 1, 0)}), 1)
    np.testing.assert_allclose(result, expected.reshape(2, 2, 2, 2, 2), atol=1e-3)


@pytest.mark.parametrize("v2", [False, True])
def test_loops(v2, random):
    """x^4 by two squarings."""
    (tf.enable_control_flow_v2 if v2 else tf.disable_control_flow_v2)()
    x = tf.placeholder(tf.float64, (None, 3))
    y = tf.while_loop(lambda i, _: i < 2, lambda i, a: (i + 1, a * a), (0, x))[1]
    value = random.uniform(1, 2, (2, 3))
    result = run(batchhess.hessians(y, x, method="differences")[0], {x: value})
    expected = 12 * value[:, :, None] ** 2 * np.eye(3)
    np.testing.assert_allclose(result, expected, atol=1e-8)


@pytest.mark.parametrize("row", ["rnn", "foldl", "nested loops", "expm"])
def test_control_flow_v1(row):
    x = tf.placeholder(tf.float64, (None, 3))
    y = facts.V1[row](x)
    result = run(batchhess.hessians(y, x, method="differences")[0], {x: facts.ROWS})
    expected = difference_blocks(y, x, facts.ROWS)
    np.testing.assert_allclose(result, expected, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("row", ["bicubic", "lrn", "nearest"])
def test_ops_without_a_second_derivative(row):
    """In float32, which these ops work in."""
    x = tf.placeholder(tf.float32, (None, 3))
    y = facts.UNDEFINED[row][0](x)
    result = run(batchhess.hessians(y, x, method="differences")[0], {x: facts.ROWS})
    expected = difference_blocks(y, x, facts.ROWS, step=5e-2)
    np.testing.assert_allclose(result, expected, atol=5e-3 * np.abs(expected).max())


def test_a_stopped_mean_moves_too(random):
    x = tf.placeholder(tf.float64, (None, 3))
    y = tf.nn.moments(x, [1])[1]
    result = run(
        batchhess.hessians(y, x, method="differences")[0], {x: random.randn(2, 3)}
    )
    expected = 2 / 3 * (np.eye(3) - 1 / 3)
    np.testing.assert_allclose(result, np.tile(expected, (2, 1, 1)), atol=1e-9)


def test_what_cannot_be_answered_is_refused(random):
    tf.disable_control_flow_v2()
    x = tf.placeholder(tf.float64, (None, 3))
    draw = lambda a: a * a * tf.random_uniform([], dtype=tf.float64)  # noqa: E731
    loop = tf.while_loop(lambda i, _: i < 2, lambda i, a: (i + 1, draw(a)), (0, x))[1]
    with pytest.raises(batchhess.SecondDerivativeError, match="while loop"):
        batchhess.hessians(loop, x, method="differences")
    coupled = tf.reduce_sum(tf.sin(x) * tf.reduce_mean(x))
    with pytest.raises(ValueError, match="all observations at once.*check='never'"):
        batchhess.hessians(coupled, x, method="differences")
    half = tf.placeholder(tf.float16, (None, 3))
    with pytest.raises(ValueError, match="needs float32 or float64"):
        batchhess.hessians(half**3, half, method="differences")
    v = tf.get_variable("v", initializer=np.ones((2, 3)), use_resource=True)
    gathered = tf.reduce_sum(tf.gather(v, [0, 1]) ** 3)
    with pytest.raises(batchhess.SecondDerivativeError, match="moved 'v:0'"):
        batchhess.hessians(gathered, v, method="differences", check="never")


@pytest.mark.parametrize("draws", [False, True])
@pytest.mark.parametrize(
    "options", [{"method": "differences"}, {"check": "always"}], ids=["method", "check"]
)
def test_what_cannot_be_moved_is_told_with_its_cure(options, draws, control_flow):
    x = tf.placeholder(tf.float64, (None, 3))
    scale = lambda: tf.random_uniform([], dtype=tf.float64) if draws else 2.0  # noqa: E731
    on = tf.placeholder_with_default(True, [])
    y = tf.cond(on, lambda: tf.sin(x) * scale(), lambda: tf.cos(x))
    if control_flow == "control_flow_v2" and not draws:
        assert run(batchhess.hessians(y, x, **options)[0], {x: [[1.0] * 3]}).any()
        return
    with pytest.raises(batchhess.SecondDerivativeError) as refusal:
        batchhess.hessians(y, x, **options)
    message = str(refusal.value)
    if control_flow == "control_flow_v2":
        assert "random numbers" in message and "'cond' (If)" in message
    else:
        assert "control flow v1 holds 'cond/" in message and ", built at" in message
        assert "Call tf.compat.v1.enable_control_flow_v2()" in message


@pytest.mark.parametrize("method", ["differences", "columns", "observations"])
@pytest.mark.parametrize("beside", [False, True])
def test_what_a_v1_loop_has_kept_is_not_taken_for_constant(method, beside):
    """Its sum has a seed of ones: no edge leads from the gradient back to x."""
    tf.disable_control_flow_v2()
    x = tf.placeholder(tf.float64, (None, 3))
    y = tf.while_loop(
        lambda i, *_: i < 3,
        lambda i, z, s: (i + 1, tf.tanh(z), s + tf.reduce_sum(z**2, 1)),
        (0, x, tf.zeros_like(x[:, 0])),
    )[2]
    ys = [y, x**3] if beside else y
    with pytest.raises(batchhess.SecondDerivativeError) as refusal:
        batchhess.hessians(ys, x, method=method, check="never")
    assert "loop" in str(refusal.value)


@pytest.mark.parametrize("dtype, limit", [(tf.float64, 1e-6), (tf.float32, 1e-3)])
def test_steps_follow_a_function_that_varies_fast(dtype, limit, random):
    """Two charges: 1 / r at distances down to 0.002."""
    x = tf.placeholder(dtype, (None, 3))
    y = 1 / tf.norm(x, axis=1)
    value = random.randn(40, 3)
    value *= (np.logspace(-2.7, 0, 40) / np.linalg.norm(value, axis=1))[:, None]
    value = value.astype(dtype.as_numpy_dtype)
    result = run(batchhess.hessians(y, x, method="differences")[0], {x: value})
    v = value.astype(float)
    r = np.linalg.norm(v, axis=1)[:, None, None]
    expected = 3 * v[:, :, None] * v[:, None, :] / r**5 - np.eye(3) / r**3
    entry = np.abs(expected).max((1, 2))
    assert (np.abs(result - expected).max((1, 2)) < limit * entry).all()


@pytest.mark.parametrize("dtype", [tf.float64, tf.float32])
def test_a_missed_accuracy_fails_the_run_and_names_the_observation(dtype, random):
    x = tf.placeholder(dtype, (None, 2))
    value = random.uniform(1, 2, (5, 2))
    value[3] = 0
    y = tf.nn.relu(x) ** 2 + x**3
    (result,) = batchhess.hessians(y, x, method="differences")
    with pytest.raises(tf.errors.InvalidArgumentError) as refusal:
        run(result, {x: value})
    assert "does not reach its accuracy" in refusal.value.message
    assert "[3]" in refusal.value.message


def stopped_sine(x):
    return tf.reduce_sum(x**3 * tf.stop_gradient(tf.sin(x)), 1)


def test_what_is_stopped_stands_still(random):
    """H = diag(6 x sin x), where a gradient that moves the sine would have more."""
    x = tf.placeholder(tf.float64, (None, 4))
    value = random.randn(3, 4)
    expected = (6 * value * np.sin(value))[:, :, None] * np.eye(4)
    y = stopped_sine(x)
    answers = [
        batchhess.hessians(y, x, method="differences")[0],
        batchhess.hessians(y, x, check="always")[0],
    ]
    with tf.Session() as session:
        for answer in session.run(answers, {x: value}):
            np.testing.assert_allclose(answer, expected, atol=1e-8)
        error = batchhess.compute_hessian_error(y, x, {x: value}, session)
        assert error < 1e-6 and not error.undecided


def test_a_stop_that_holds_another_stands_still(random):
    x = tf.placeholder(tf.float64, (None, 2))
    inner = tf.stop_gradient(tf.exp(x))
    y = tf.sin(x) * tf.stop_gradient(inner * x) + inner * x**2
    value = random.randn(3, 2)
    second = 2 * np.exp(value) - np.sin(value) * np.exp(value) * value
    result = run(batchhess.hessian_diagonals(y, x, method="differences")[0], {x: value})
    np.testing.assert_allclose(result, second, atol=1e-8)


def test_a_stop_inside_a_loop_is_refused(random):
    tf.enable_control_flow_v2()
    x = tf.placeholder(tf.float64, (None, 4))
    y = tf.while_loop(
        lambda i, y: i < 2,
        lambda i, y: (i + 1, y + stopped_sine(x)),
        (0, tf.zeros_like(x[:, 0])),
    )[1]
    with pytest.raises(batchhess.SecondDerivativeError, match="StopGradient.*inside"):
        batchhess.hessians(y, x, method="differences")
    with tf.Session() as session:
        with pytest.raises(batchhess.SecondDerivativeError, match="is stopped inside"):
            batchhess.compute_hessian_error(y, x, {x: random.randn(3, 4)}, session)


def test_a_stop_inside_a_function_stands_still(random):
    x = tf.placeholder(tf.float64, (None, 4))
    y = tensorflow.function(stopped_sine)(x)
    value = random.randn(3, 4)
    expected = (6 * value * np.sin(value))[:, :, None] * np.eye(4)
    result = run(batchhess.hessians(y, x, method="differences")[0], {x: value})
    np.testing.assert_allclose(result, expected, atol=1e-8)


def test_a_model_is_moved_by_steps_that_its_least_precise_part_can_see(random):
    """Of a float64 x that it computes with in float32."""
    x = tf.placeholder(tf.float64, (None, 3))
    y, value = tf.cast(tf.cast(x, tf.float32) ** 3, tf.float64), random.randn(5, 3)
    expected = (6 * value)[:, :, None] * np.eye(3)
    found = run(batchhess.hessians(y, x, method="differences")[0], {x: value})
    np.testing.assert_allclose(found, expected, atol=2e-2)
    right = batchhess.hessians(y, x, check="always")[0]
    np.testing.assert_allclose(run(right, {x: value}), expected, atol=1e-4)
    cube = tf.cast(wrong_cube(tf.cast(x, tf.float32)), tf.float64)
    wrong = batchhess.hessians(cube, x, check="always")[0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="is not what differences"):
        run(wrong, {x: value})
    with tf.Session() as session:
        error = batchhess.compute_hessian_error(y, x, {x: value}, session)
        assert error < 1e-2 and not error.undecided
        error = batchhess.compute_hessian_error(cube, x, {x: value}, session)
        assert error > 0.1


def test_what_is_computed_in_16_bits_is_not_moved():
    x = tf.placeholder(tf.float64, (None, 3))
    y = tf.cast(tf.cast(x, tf.float16) ** 3, tf.float64)
    with pytest.raises(ValueError, match="computed from 'Placeholder:0' is float16"):
        batchhess.hessians(y, x, method="differences")
