"""Where f is smooth and TensorFlow's derivative is not: right, or the run fails."""

import numpy as np
import pytest
from cases import turned
from oracles import run
from value_differences import curvatures_of, value_curvatures, value_slopes

import batchhess
from batchhess.compat import IS_V1, tf

AT_ZERO = np.array([[0.0, 0.0, 0.0], [-1.0, 0.0, 1.0], [0.3, -0.2, 0.5]])
MATRICES = np.random.RandomState(0).randn(3, 3, 3) * 0.3


def moved(x):
    """[N, 3, 3]: twice the unit matrix where x is zero."""
    change = tf.tensordot(x, tf.constant(MATRICES), 1)
    return 2 * tf.eye(3, dtype=tf.float64) + change


def symmetric(x):
    return moved(x) + tf.linalg.matrix_transpose(moved(x))


def by_eigenvectors(x):
    values, vectors = tf.linalg.eigh(symmetric(x))
    whole = tf.matmul(vectors * tf.exp(values)[:, None], vectors, transpose_b=True)
    return tf.reduce_sum(whole * tf.constant(np.arange(9.0).reshape(3, 3)), [1, 2])


OF_EIGENVALUES = {
    "svd": lambda x: tf.reduce_sum(tf.linalg.svd(moved(x), compute_uv=False) ** 3, 1),
    "eigh": lambda x: tf.reduce_sum(tf.linalg.eigvalsh(symmetric(x)) ** 3, 1),
    "eigenvectors": by_eigenvectors,
}


@pytest.mark.parametrize("check", ["auto", "always"])
@pytest.mark.parametrize("name", sorted(OF_EIGENVALUES))
def test_equal_eigenvalues_are_never_answered_wrongly(name, check):
    """f is smooth there. 1.15 has no number, 2.x another one."""
    x = tf.placeholder(tf.float64, [None, 3])
    (result,) = batchhess.hessians(OF_EIGENVALUES[name](x), x, check=check)
    for _ in range(5):
        if IS_V1 and check == "auto":
            assert np.isnan(run(result, {x: AT_ZERO})[0]).any()
            continue
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            run(result, {x: AT_ZERO})
        assert IS_V1 or "two equal eigenvalues" in str(error.value)


def test_equal_eigenvalues_by_differences():
    x = tf.placeholder(tf.float64, [None, 3])
    y = OF_EIGENVALUES["eigh"](x)
    check(y, x, batchhess.hessians(y, x, method="differences")[0], AT_ZERO)


def check(y, x, result, rows):
    """Hessians are what differences of f say."""
    with tf.Session() as session:
        found = session.run(result, {x: rows})
        truth = value_curvatures(lambda r: session.run(y, {x: r}).sum(), rows)
    along = curvatures_of(found[None], truth.directions)
    limit = 1e-5 * np.abs(truth.along).max()
    np.testing.assert_allclose(along, truth.along, atol=limit)


SOFTPLUS = {
    "weighted": lambda z: tf.nn.weighted_cross_entropy_with_logits(
        labels=tf.constant([1.0, 0.0, 1.0], tf.float64), logits=z, pos_weight=2.0
    ),
    "relu": lambda z: tf.nn.relu(z) + tf.math.log1p(tf.exp(-tf.abs(z))),
    "maximum": lambda z: tf.maximum(z, 0.0) - 0.3 * z + tf.log1p(tf.exp(-tf.abs(z))),
    "logarithm": lambda z: (
        tf.maximum(tf.constant(0.0, z.dtype), -z) + tf.log(1 + tf.exp(-tf.abs(z)))
    ),
    "turned": lambda z: tf.math.log1p(tf.exp(-tf.abs(z))) + tf.nn.relu(-z),
    "of a sigmoid": lambda z: tf.minimum(z, 0.0) - tf.log1p(tf.exp(-tf.abs(z))),
    "less a minimum": lambda z: tf.log1p(tf.exp(-tf.abs(z))) - tf.minimum(z, 0.0),
    "of two": lambda z: _of_two(z, 3 * z),
    "of two, less the smaller": lambda z: _less_the_smaller(z, 2 * z),
    "of the larger and the smaller": lambda z: _of_larger_and_smaller(z, -3 * z),
}


def _of_two(p, q):
    return tf.maximum(p, q) + tf.log1p(tf.exp(-tf.abs(q - p)))


def _less_the_smaller(p, q):
    return tf.log1p(tf.exp(-tf.abs(p - q))) - tf.minimum(p, q)


def _of_larger_and_smaller(p, q):
    larger, smaller = tf.maximum(p, q), tf.minimum(p, q)
    return larger + tf.log(tf.exp(smaller - larger) + 1)


# Sums of which one term alone is known to have a kink.
APART = {
    "scaled": lambda z: 2 * tf.nn.relu(z) + 2 * tf.log1p(tf.exp(-tf.abs(z))),
    "with a third": lambda z: z**2 + tf.nn.relu(z) + tf.log1p(tf.exp(-tf.abs(z))),
    "of a list": lambda z: tf.add_n([tf.nn.relu(z), tf.log1p(tf.exp(-tf.abs(z)))]),
}


@pytest.mark.parametrize("name", sorted(SOFTPLUS))
def test_kinks_that_cancel(name):
    """Losses of logits that are zero, as where weights start at zero."""
    x = tf.placeholder(tf.float64, [None, 3])
    y = SOFTPLUS[name](tf.reduce_sum(x, 1))
    check(y, x, batchhess.hessians(y, x)[0], AT_ZERO)
    (slopes,) = batchhess.jacobians(y, x)
    with tf.Session() as session:
        found = session.run(slopes, {x: AT_ZERO})
        truth, _ = value_slopes(lambda r: session.run(y, {x: r})[:, None], AT_ZERO)
    np.testing.assert_allclose(found, truth[:, 0], atol=1e-7)


@pytest.mark.parametrize("name", sorted(APART))
def test_kinks_that_may_cancel_fail_the_run(name):
    x = tf.placeholder(tf.float64, [None, 3])
    (result,) = batchhess.hessians(APART[name](tf.reduce_sum(x, 1)), x)
    run(result, {x: AT_ZERO + 0.1})
    with pytest.raises(tf.errors.InvalidArgumentError, match="as tf.nn.softplus or"):
        run(result, {x: AT_ZERO})


@pytest.mark.parametrize("operator", [batchhess.hessians, batchhess.jacobians])
def test_zeros_that_a_sparse_tensor_leaves_out(operator):
    x = tf.placeholder(tf.float64, [None, 3])
    product = tf.sparse.sparse_dense_matmul(
        tf.sparse.from_dense(x), tf.constant(MATRICES[0])
    )
    y = tf.reduce_sum((product + 1) ** 3, 1)
    (result,) = operator(y, x)
    run(result, {x: AT_ZERO + 0.1})
    with pytest.raises(tf.errors.InvalidArgumentError, match="leaves out all|not what"):
        run(result, {x: AT_ZERO})


@pytest.mark.parametrize("operator", [batchhess.hessians, batchhess.jacobians])
def test_images_of_an_inverse_map(operator):
    x = tf.placeholder(tf.float64, [None, 9])
    images = turned(tf.reshape(x, [-1, 3, 3, 1]))
    with pytest.raises(batchhess.SecondDerivativeError, match="the inverse map"):
        operator(tf.reduce_sum(images**2, [1, 2, 3]), x)


def test_a_diagonal_is_built_again_on_a_moved_x():
    """Its op must know the number of rows when it is built."""
    x = tf.placeholder(tf.float64, [None, 3])
    matrix = tf.eye(3, dtype=tf.float64) + x[:, :, None] * x[:, None]
    y = tf.linalg.trace(matrix) ** 2
    check(y, x, batchhess.hessians(y, x, check="always")[0], AT_ZERO)
