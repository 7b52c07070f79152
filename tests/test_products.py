"""Products with vectors: of Hessians with several, and of Gauss and Newton."""

import numpy as np
import pytest
from cases import CASES
from oracles import difference_blocks, run

import batchhess
from batchhess.compat import tf

COUPLED = tf.errors.InvalidArgumentError


def network(x, *widths):
    for i, width in enumerate(widths):
        weights = np.random.RandomState(i).randn(x.shape.as_list()[1], width)
        x = tf.tanh(tf.matmul(x, tf.constant(weights)))
    return x


@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("case", CASES[::3], ids=lambda case: case.name)
def test_hessians_times_several_vectors(case, count, random):
    axis, value = case.batch_axis, case.value
    x = tf.placeholder(tf.float64, [None] * value.ndim)
    x.set_shape([None if a == axis else d for a, d in enumerate(value.shape)])
    rows = np.moveaxis(value, axis, 0)
    vs = random.randn(len(rows), count, *rows.shape[1:])
    for shape in (vs.shape, [None] * vs.ndim):
        v = tf.placeholder(tf.float64, shape)
        (result,) = batchhess.hessian_vector_products(
            case.build(x), x, v, batch_axis=axis
        )
        found = run(result, {x: value, v: vs})
        size = rows[0].size
        flat = vs.reshape(len(rows), count, size)
        blocks = case.expected.reshape(len(rows), size, size)
        expected = np.einsum("nij,nvj->nvi", blocks, flat).reshape(vs.shape)
        assert found.shape == vs.shape
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=20 * case.tolerance)


@pytest.mark.parametrize("count", [1, 6])
def test_several_vectors_for_each_output_and_for_several_xs(count, random):
    x = tf.placeholder(tf.float64, [None, 3], name="x")
    t = tf.placeholder(tf.float64, [None, 2, 1], name="t")
    z = tf.concat([x, tf.reshape(t, [-1, 2])], 1)
    y = network(z, 4, 2)
    feed = {x: random.randn(4, 3), t: random.randn(4, 2, 1)}
    vs = [random.randn(4, count, 3), random.randn(4, count, 2, 1)]
    both = tf.placeholder(tf.float64, [None, 5], name="both")
    value = np.concatenate([feed[x], feed[t][:, :, 0]], 1)
    flat = np.concatenate([vs[0], vs[1][..., 0]], 2)
    blocks = np.stack(
        [difference_blocks(network(both, 4, 2)[:, m], both, value) for m in (0, 1)], 1
    )
    expected = np.einsum("nmij,nvj->nmvi", blocks, flat)
    for per_output in (False, True):
        built = batchhess.hessian_vector_products(
            y, [x, t], vs, per_output=per_output, check="always"
        )
        found = run(built, feed)
        wish = expected if per_output else expected.sum(1)
        np.testing.assert_allclose(found[0], wish[..., :3], atol=1e-8)
        np.testing.assert_allclose(found[1], wish[..., 3:, None], atol=1e-8)


def test_several_vectors_of_a_linear_f_give_zeros():
    x = tf.placeholder(tf.float32, [None, 3])
    products = batchhess.hessian_vector_products(
        tf.reduce_sum(x), x, np.ones((2, 5, 3))
    )
    assert not run(products[0], {x: np.ones((2, 3))}).any()
    assert products[0].shape.as_list()[1:] == [5, 3]


@pytest.mark.parametrize("shape", [(4, 3, 2), (5, 2, 3), (4,), (4, 2, 3, 1)], ids=str)
def test_vectors_of_other_shapes_are_refused(shape):
    x = tf.placeholder(tf.float64, [4, 3])
    with pytest.raises(ValueError, match=r"vs has shape .* \[N, V, K\]"):
        batchhess.hessian_vector_products(tf.sin(x), x, np.ones(shape))
    x = tf.placeholder(tf.float64, [None, None])
    v = tf.placeholder(tf.float64, [None] * len(shape))
    try:
        (result,) = batchhess.hessian_vector_products(tf.sin(x), x, v)
    except ValueError:
        return
    with pytest.raises(COUPLED, match="not the shape"):
        run(result, {x: np.ones((4, 3)), v: np.ones(shape)})
