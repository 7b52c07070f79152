"""Some columns alone: `coordinates`."""

import numpy as np
import pytest
from cases import wrong_cube
from oracles import run, sliced_hessians

import batchhess
from batchhess.compat import tf


def model(x):
    """Of x [N, 5]: every pair of coordinates meets, each with other weights."""
    weights = tf.constant(np.random.RandomState(3).randn(5, 4))
    hidden = tf.tanh(tf.matmul(x, weights))
    return tf.reduce_sum(hidden * tf.exp(hidden[:, ::-1]), 1)


@pytest.fixture
def problem(random):
    x = tf.placeholder(tf.float64, [None, 5], name="x")
    y = model(x)
    feed = {x: random.randn(3, 5)}
    return x, y, feed, sliced_hessians(y, x, feed)


METHODS = ["auto", "columns", "symmetric", "observations", "differences"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chosen", [[0], [4, 1], [-1], list(range(5))])
def test_columns_of_some_coordinates(problem, method, chosen):
    x, y, feed, expected = problem
    result = batchhess.hessians(y, x, coordinates=chosen, method=method)[0]
    assert result.shape.as_list() == [None, 5, len(chosen)]
    np.testing.assert_allclose(
        run(result, feed), expected[:, :, chosen], atol=1e-7, rtol=1e-6
    )


@pytest.mark.parametrize("method", METHODS)
def test_diagonals_and_their_sums_at_some_coordinates(problem, method):
    x, y, feed, expected = problem
    options = {"coordinates": [3, 0], "method": method}
    diagonal = expected[:, [3, 0], [3, 0]]
    found = run(
        [
            batchhess.hessian_diagonals(y, x, **options)[0],
            batchhess.laplacians(y, x, **options)[0],
        ],
        feed,
    )
    np.testing.assert_allclose(found[0], diagonal, atol=1e-7)
    np.testing.assert_allclose(found[1], diagonal.sum(1), atol=1e-7)


def test_derivatives_answer_whole_gradients_and_some_columns(problem):
    x, y, feed, expected = problem
    built = batchhess.derivatives(y, x, coordinates=[2])
    gradient, hessian = run([built.gradients[0], built.hessians[0]], feed)
    assert gradient.shape == (3, 5)
    np.testing.assert_allclose(hessian, expected[:, :, [2]], atol=1e-12)


def test_events_and_outputs_come_before_the_chosen_columns(random):
    x = tf.placeholder(tf.float64, [None, 2, 3])
    flat = tf.reshape(x, [-1, 6])
    y = tf.stack([tf.reduce_sum(flat**3, 1), tf.reduce_prod(flat, 1)], 1)  # [N, 2]
    feed = {x: random.uniform(0.5, 1.5, (4, 2, 3))}
    result = run(batchhess.hessians(y, x, coordinates=[5], per_output=True)[0], feed)
    assert result.shape == (4, 2, 2, 3, 1)
    for m in range(2):
        whole = sliced_hessians(y[:, m], x, feed).reshape(4, 2, 3, 6)
        np.testing.assert_allclose(result[:, m], whole[..., [5]], atol=1e-12)


def test_one_column_takes_one_pass(problem):
    x, y, _, _ = problem
    explained = len(tf.get_default_graph().get_operations())
    batchhess.hessians(y, x, coordinates=[0])
    types = [op.type for op in tf.get_default_graph().get_operations()[explained:]]
    assert not {"While", "StatelessWhile", "Enter"} & set(types)


@pytest.mark.parametrize("chosen", [[3], [0, 4, 2]])
def test_compiled_columns_of_some_coordinates(problem, chosen):
    x, y, feed, expected = problem
    options = {"coordinates": chosen, "jit_compile": True}
    found = run(
        [
            batchhess.hessians(y, x, **options)[0],
            batchhess.hessian_diagonals(y, x, **options)[0],
        ],
        feed,
    )
    np.testing.assert_allclose(found[0], expected[:, :, chosen], atol=1e-12)
    np.testing.assert_allclose(found[1], expected[:, chosen, chosen], atol=1e-12)


def test_linear_f_gives_zeros_for_the_chosen(random):
    x = tf.placeholder(tf.float64, [None, 3])
    result = batchhess.hessians(tf.reduce_sum(x), x, coordinates=[1, 2])[0]
    assert run(result, {x: random.randn(2, 3)}).shape == (2, 3, 2)


@pytest.mark.parametrize(
    "chosen, listed",
    [
        (np.array([1, 2]), [1, 2]),
        (np.array([2]), [2]),
        (range(1, 3), [1, 2]),
        ((4, 0), [4, 0]),
        (np.int64(2), [2]),
        (2, [2]),
        (iter([1]), [1]),
    ],
)
def test_coordinates_may_be_any_ints(problem, chosen, listed):
    x, y, feed, expected = problem
    found = run(batchhess.hessians(y, x, coordinates=chosen)[0], feed)
    np.testing.assert_allclose(found, expected[:, :, listed], atol=1e-7, rtol=1e-6)


def test_coordinates_in_the_graph_are_refused(problem):
    x, y, _, _ = problem
    with pytest.raises(TypeError, match="known when the graph is built: .*'one:0'"):
        batchhess.hessians(y, x, coordinates=tf.constant([1], name="one"))


@pytest.mark.parametrize(
    "chosen, error, phrase",
    [
        ([5], ValueError, "does not fit 'x:0', whose observations have 5"),
        ([], ValueError, "empty"),
        ([1.5], TypeError, "must be an int, not 1.5"),
        ([True], TypeError, "must be an int"),
        (np.array([True, False]), TypeError, "must be an int"),
        (np.array([[1, 2]]), TypeError, "must be an int"),
        (np.array([1.0]), TypeError, "must be an int"),
        ("1", TypeError, "must be an int, not '1'"),
    ],
)
def test_coordinates_that_do_not_fit_are_refused(problem, chosen, error, phrase):
    x, y, _, _ = problem
    with pytest.raises(error, match=phrase):
        batchhess.hessians(y, x, coordinates=chosen)


@pytest.mark.parametrize("chosen", [[3], [1, 1, 4]])
def test_chosen_columns_are_held_against_differences(problem, chosen):
    x, y, feed, expected = problem
    options = {"coordinates": chosen, "check": "always"}
    found = run(
        [
            batchhess.hessians(y, x, **options)[0],
            batchhess.hessian_diagonals(y, x, **options)[0],
        ],
        feed,
    )
    np.testing.assert_allclose(found[0], expected[:, :, chosen], atol=1e-12)
    np.testing.assert_allclose(found[1], expected[:, chosen, chosen], atol=1e-12)


def test_a_wrong_chosen_column_fails_the_run(random):
    x = tf.placeholder(tf.float64, [None, 2])
    y = tf.reduce_sum(wrong_cube(x) * tf.constant([0.0, 1.0], tf.float64))
    feed = {x: random.uniform(1, 2, (3, 2))}
    right = batchhess.hessians(y, x, coordinates=[0], check="always")[0]
    wrong = batchhess.hessians(y, x, coordinates=[1], check="always")[0]
    assert run(right, feed).shape == (3, 2, 1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="differences"):
        run(wrong, feed)


@pytest.mark.parametrize("method", ["forward", "reverse"])
def test_columns_of_sixteen_bits(method):
    x = tf.placeholder(tf.bfloat16, [None, 3])
    y = tf.matmul(x, tf.cast([[1.0, 2], [3, 4], [5, 6]], x.dtype))
    (found,) = batchhess.jacobians(y, x, coordinates=[1], method=method)
    found = run(tf.cast(found, tf.float32), {x: np.ones((2, 3))})
    np.testing.assert_array_equal(found, [[[3], [4]]] * 2)
