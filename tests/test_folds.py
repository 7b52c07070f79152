"""Models of [N, T, d] seen as [N T, d]: networks of electrons, tokens, pixels."""

import numpy as np
import pytest
from oracles import difference_blocks, run, sliced_hessians

import batchhess
from batchhess.compat import IS_V1, tf
from batchhess.methods import sweep

T, D = 4, 3
K = T * D


def array(*shape):
    random = np.random.RandomState(sum(shape))
    return random.randn(*shape) / np.sqrt(shape[0])


def network(rows, *sizes):
    for a, b in zip(sizes, sizes[1:]):
        rows = tf.tanh(tf.matmul(rows, tf.constant(array(a, b))) + array(b))
    return rows


def rows_of(x, d=D):
    return tf.reshape(x, [-1, d])


def product(rows, width):
    """[N], in which all rows of an observation meet."""
    return tf.reduce_prod(tf.reshape(rows, [-1, width]) + 1.5, 1)


def attention(x):
    rows = tf.nn.l2_normalize(rows_of(x), 1)
    tokens = tf.reshape(network(rows, D, 4), [-1, T, 4])
    query, key, value = (
        tf.einsum("ntd,de->nte", tokens, tf.constant(array(4, e))) for e in (2, 2, 5)
    )
    weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True))
    mixed = tf.reshape(tf.matmul(weights, value), [-1, 5])
    return tf.reduce_sum(tf.reshape(network(mixed, 5, 4, 1), [-1, T]), 1)


def two_widths(x):
    wide = tf.reshape(network(rows_of(x, 6), 6, 4), [-1, 8])
    return tf.reduce_sum(wide * tf.reshape(network(rows_of(x), D, 2), [-1, 8]), 1)


def folded_again(x):
    rows = network(rows_of(x, 6), 6, 6)
    return product(network(rows_of(rows), D, 2), 2 * T)


# Each from x, [N, K], to [N] or a scalar.
MODELS = {
    "sum": lambda x: tf.reduce_sum(network(rows_of(x), D, 5, 2) ** 2),
    "product": lambda x: product(network(rows_of(x), D, 5, 2), 2 * T),
    "determinant": lambda x: tf.linalg.slogdet(
        tf.reshape(network(rows_of(x), D, 5, T), [-1, T, T]) / 3 + np.eye(T)
    )[1],
    "softmax": lambda x: product(tf.nn.softmax(network(rows_of(x), D, 5)), 5 * T),
    "logsumexp": lambda x: product(
        tf.reduce_logsumexp(network(rows_of(x), D, 5), 1), T
    ),
    "normalized": lambda x: product(tf.nn.l2_normalize(rows_of(tf.exp(x)), 1), K),
    "joined": lambda x: product(
        tf.concat([network(rows_of(x), D, 2), rows_of(x) ** 2], 1), T * (2 + D)
    ),
    "beside x": lambda x: (
        product(network(rows_of(x), D, 4) * rows_of(x)[:, :1], 4 * T)
        * tf.reduce_sum(x**2, 1)
    ),
    "outer product": lambda x: tf.reduce_sum(
        tf.reshape(
            tf.matmul(network(rows_of(x), D, 4)[:, :, None], rows_of(x)[:, None]),
            [-1, 4 * K],
        )
        ** 3,
        1,
    ),
    "product of networks": lambda x: tf.reduce_sum(
        tf.matmul(
            tf.reshape(network(rows_of(x), D, T), [-1, T, T]),
            tf.reshape(network(rows_of(x), D, 2), [-1, T, 2]),
        )
        ** 2,
        [1, 2],
    ),
    "behind a layer": lambda x: product(
        network(rows_of(tf.matmul(x, tf.constant(array(K, 6)))), D, 4), 8
    ),
    "linear in the fold": lambda x: product(
        tf.matmul(rows_of(x), tf.constant(array(D, 2))), 2 * T
    ),
    "reshaped in the fold": lambda x: product(
        tf.squeeze(tf.tanh(tf.expand_dims(rows_of(x), 1)) ** 3, [1]), K
    ),
    "narrow in the fold": lambda x: product(
        tf.exp(tf.reduce_logsumexp(network(rows_of(x), D, 5), 1)[:, None]), T
    ),
    "attention": attention,
    "two widths": two_widths,
    "folded again": folded_again,
}


def answers(y, x, axis=0):
    """Hessians and their diagonals by `symmetric`."""
    return [
        operator(y, x, method="symmetric", batch_axis=axis)[0]
        for operator in (batchhess.hessians, batchhess.hessian_diagonals)
    ]


def check(y, x, feed, name=None):
    found, diagonals = run(answers(y, x), feed)
    if IS_V1 and name == "determinant":  # Wrong in its tf.hessians.
        expected, close = difference_blocks(y, x, feed[x]), 1e-8
    else:
        expected, close = sliced_hessians(y, x, feed), 1e-12
    size = np.abs(expected).max()
    assert size > 1e-6
    np.testing.assert_allclose(found, expected, atol=close * size)
    expected = np.einsum("nkk->nk", expected)
    np.testing.assert_allclose(diagonals, expected, atol=close * size)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_folds_are_followed(name, small_blocks):
    x = tf.placeholder(tf.float64, [None, K])
    y = MODELS[name](x)
    assert "symmetric" in str(batchhess.explain(y, x))
    check(y, x, {x: array(5, K)}, name)


def test_of_many_coordinates_factorizations_are_repeated(monkeypatch, small_blocks):
    monkeypatch.setattr(sweep, "_FEW", K - 1)
    x = tf.placeholder(tf.float64, [None, K])
    check(MODELS["determinant"](x), x, {x: array(5, K)}, "determinant")


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_any_number_of_observations(count, small_blocks):
    x = tf.placeholder(tf.float64, [None, K])
    y = attention(x)
    found = run(
        batchhess.hessians(y, x, method="symmetric")[0], {x: array(4, K)[:count]}
    )
    expected = sliced_hessians(y, x, {x: array(4, K)})[:count]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_known_number_of_observations():
    x = tf.placeholder(tf.float64, [5, K])
    check(MODELS["product"](x), x, {x: array(5, K)})


@pytest.mark.parametrize("count", [1, 5 * T])
def test_a_factor_for_each_row_or_one_for_all(count, small_blocks):
    x = tf.placeholder(tf.float64, [None, K])
    factor = tf.placeholder(tf.float64, [None, 1])
    rows = tf.nn.softmax(network(rows_of(x), D, 4) * factor)
    feed = {x: array(5, K), factor: 1 + array(count, 1) ** 2}
    check(product(rows, 4 * T), x, feed)


def test_a_factor_for_another_number_of_rows_fails_the_run(small_blocks):
    x = tf.placeholder(tf.float64, [None, K])
    factor = tf.placeholder(tf.float64, [None, 1])
    y = tf.reduce_sum(tf.reshape(tf.tanh(rows_of(x) * factor), [-1, K]) ** 2, 1)
    hessian = batchhess.hessians(y, x, method="symmetric")[0]
    for count in (7, 2 * T):
        with pytest.raises(tf.errors.InvalidArgumentError):
            run(hessian, {x: array(7, K), factor: array(count, 1)})


def test_observations_on_the_last_axis(small_blocks):
    """[D, N, T] as [D, N T]: the rows of an observation do not lie in its order."""
    x = tf.placeholder(tf.float64, [D, None, T])
    folded = tf.reshape(x, [D, -1])
    rows = tf.transpose(folded * tf.sin(folded))
    y = product(network(rows, D, 5, 2), 2 * T)
    value = array(7, D, T).transpose(1, 0, 2)
    found, diagonals = run(answers(y, x, axis=1), {x: value})
    slopes = tf.gradients(y, x)[0]
    columns = [tf.gradients(slopes[d, :, t], x)[0] for d, t in np.ndindex(D, T)]
    expected = np.stack(run(columns, {x: value}))  # [K, D, N, T]
    expected = expected.transpose(2, 0, 1, 3).reshape(found.shape)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-12)
    expected = np.einsum("nkk->nk", expected.reshape(7, K, K))
    np.testing.assert_allclose(diagonals.reshape(7, K), expected, atol=1e-12)


def test_training_through_the_laplacian_of_a_fold():
    x = tf.placeholder(tf.float64, [None, K])
    weight = tf.placeholder_with_default(np.float64(1.1), [])
    y = tf.linalg.slogdet(
        tf.reshape(network(rows_of(x) * weight, D, 5, T), [-1, T, T])
    )[1]
    found = batchhess.laplacians(y, x, method="symmetric")[0]
    slope = tf.gradients(found, weight)[0]
    feed = {x: array(5, K)}
    ends = [run(found, {**feed, weight: 1.1 + h}).sum() for h in (-1e-6, 1e-6)]
    expected = (ends[1] - ends[0]) / 2e-6
    assert abs(expected) > 0.1
    np.testing.assert_allclose(run(slope, feed), expected, rtol=1e-6)


def test_jacobians_go_forward_through_a_fold(small_blocks):
    x = tf.placeholder(tf.float64, [None, K])
    y = tf.reshape(network(rows_of(x), D, 5, T), [-1, T * T])
    found = run(batchhess.jacobians(y, x, method="forward")[0], {x: array(7, K)})
    slopes = [tf.gradients(y[:, m], x)[0] for m in range(T * T)]
    expected = np.stack(run(slopes, {x: array(7, K)}), 1)
    np.testing.assert_allclose(found, expected, atol=1e-13)


def test_coordinates_of_two_rows_do_not_meet():
    x = tf.placeholder(tf.float64, [None, K])
    apart = batchhess.detect_sparsity(tf.reduce_sum(network(rows_of(x), D, 4)), x)[0]
    np.testing.assert_array_equal(apart, np.kron(np.eye(T), np.ones([D, D])) > 0)
    assert batchhess.detect_sparsity(MODELS["softmax"](x), x)[0].all()


def turned(x):
    """[N, T, D] as [T N, D]: row n of all T is of observation n."""
    return tf.reshape(tf.transpose(x, [1, 0, 2]), [-1, D])


TURNED = {
    "einsum": (lambda x: tf.einsum("nij,jk->nik", x, tf.constant(array(D, 2))), True),
    "einsum of the first": (
        lambda x: tf.einsum("nij,ik->nkj", x, tf.constant(array(T, 2))),
        True,
    ),
    "turned back": (
        lambda x: tf.transpose(
            tf.reshape(network(turned(x), D, 2), [T, tf.shape(x)[0], 2]), [1, 0, 2]
        ),
        True,
    ),
    "in two steps": (
        lambda x: tf.reshape(
            tf.reshape(network(turned(x), D, 2), [2, 2 * tf.shape(x)[0], 2]),
            [T, tf.shape(x)[0], 2],
        )[1][:, None],
        True,
    ),
    "beside rows in order": (lambda x: tf.sin(turned(x) * rows_of(x))[None], False),
    "along the rows": (lambda x: tf.cumsum(turned(x), 0)[None] ** 2, False),
    "by other parts": (
        lambda x: (
            tf.reshape(turned(x), [-1, T, D])[:, 0, None] ** 2
            * tf.reshape(turned(x), [-1, T, D])[:, 1, None]
        ),
        False,
    ),
}


@pytest.mark.parametrize("name", sorted(TURNED))
def test_axes_before_that_of_the_observations_are_taken_in(name):
    x = tf.placeholder(tf.float64, [None, T, D])
    f, is_separable = TURNED[name]
    y, value = tf.reduce_sum(tf.tanh(f(x))), array(8, T, D)
    assert batchhess.explain(y, x)[0].separable == is_separable
    (result,) = batchhess.hessians(y, x)
    if is_separable:
        expected = difference_blocks(y, x, value)
        np.testing.assert_allclose(run(result, {x: value}), expected, atol=1e-7)
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="coupled"):
            run(result, {x: value})
