"""Jacobians of outputs by each observation of x."""

import inspect

import numpy as np
import pytest
from oracles import count_ops, difference_jacobians, run

import batchhess
from batchhess.compat import tf

METHODS = ["auto", "forward", "reverse", "observations"]
COUPLED = tf.errors.InvalidArgumentError
by_method = pytest.mark.parametrize("method", METHODS)


def constant(seed, *shape):
    return tf.constant(np.random.RandomState(seed).randn(*shape))


def dense(x, width, seed=0):
    return tf.matmul(x, constant(seed, x.shape.as_list()[1], width))


def image(x):
    """Of x [N, 4]: two channels of 3 by 3."""
    grown = tf.reshape(dense(x, 18), [-1, 3, 3, 2])
    filtered = tf.nn.conv2d(grown, constant(5, 2, 2, 2, 3), [1, 1, 1, 1], "SAME")
    return tf.nn.softplus(filtered)


def mixture(x):
    """A product of two that depend on x, minus what is broadcast."""
    a, b = tf.reshape(dense(x, 6), [-1, 2, 3]), tf.reshape(dense(x, 6, 1), [-1, 3, 2])
    return tf.matmul(tf.sin(a), b) - tf.exp(x[:, :2, None] / 3)


def branches(x):
    return tf.cond(tf.constant(True), lambda: tf.tanh(dense(x, 3)), lambda: x[:, :3])


# Of x [None, 4] in float64.
MODELS = {
    "network": lambda x: tf.sigmoid(dense(tf.tanh(dense(x, 6)), 5, 1)),
    "images": image,
    "products": mixture,
    "linear": lambda x: dense(x, 3),
    "x itself": lambda x: x,
    "softmax": lambda x: tf.nn.softmax(dense(tf.nn.elu(x), 5)),
    "log softmax": lambda x: tf.nn.log_softmax(dense(x, 5)),
    "one output": lambda x: tf.reduce_sum(tf.sin(x) * x[:, ::-1], 1),
    "three axes": lambda x: tf.stack([tf.sin(x), x**3, 2 * x], 2),
    "a constant column": lambda x: tf.concat([x**2, tf.ones_like(x)], 1),
    "gather": lambda x: tf.gather(x, [3, 0, 0], axis=1) ** 2,
    "cumulative": lambda x: tf.math.cumprod(tf.cos(x), axis=1),
    "cholesky": lambda x: tf.linalg.cholesky(
        tf.eye(3, dtype=tf.float64) * 3
        + tf.exp(x[:, :3, None] / 4) * tf.exp(x[:, None, :3] / 4)
    ),
    "layer normalization": lambda x: dense(
        (x - tf.nn.moments(x, [1], keep_dims=True)[0])
        / tf.sqrt(1 + tf.nn.moments(x, [1], keep_dims=True)[1]),
        5,
    ),
    "single precision inside": lambda x: tf.cast(
        tf.sin(tf.cast(dense(x, 5), tf.float32)), tf.float64
    ),
    "norms": lambda x: tf.stack([tf.norm(x, axis=1), tf.reduce_max(x, 1)], 1),
    "branches": branches,
    "top two": lambda x: tf.nn.top_k(x, 2)[0] ** 2,
    "einsum": lambda x: tf.einsum("ni,nj,ijk->nk", x, tf.sin(x), constant(3, 4, 4, 5)),
    "gradient of softmax": lambda x: tf.gradients(
        tf.nn.softmax(dense(x, 4)) * constant(8, 4), x
    )[0],
}


def assert_equal(found, expected, tolerance=1e-8):
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 1e-2, "zeros prove nothing"
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@by_method
@pytest.mark.parametrize("name", sorted(MODELS))
def test_jacobians_equal_differences(name, method, random, control_flow):
    x = tf.placeholder(tf.float64, [None, 4], name="x")
    y, value = MODELS[name](x), random.randn(3, 4)
    if method == "forward" and name == "branches":
        with pytest.raises(ValueError, match="method='forward' cannot follow"):
            batchhess.jacobians(y, x, method=method)
        return
    (result,) = batchhess.jacobians(y, x, method=method)
    assert result.shape.as_list() == y.shape.as_list() + [4]
    tolerance = 1e-3 if "single" in name else 1e-8
    expected = difference_jacobians(
        y, x, value, step=1e-1 if "single" in name else 1e-3
    )
    assert_equal(run(result, {x: value}), expected, tolerance)


@by_method
@pytest.mark.parametrize("width, events", [(3, (4,)), (9, (2, 2)), (7, (6,))])
@pytest.mark.parametrize("count", [0, 1, 7, 131])
def test_many_coordinates_go_block_by_block(method, width, events, count, random):
    x = tf.placeholder(tf.float64, (None,) + events)
    size = int(np.prod(events))
    weights, more = random.randn(size, width), random.randn(size, 2000)
    flat = tf.reshape(x, [-1, size])
    wide = tf.reduce_sum(tf.sin(tf.matmul(flat, tf.constant(more))), 1, keepdims=True)
    y = tf.tanh(tf.matmul(flat, tf.constant(weights))) * wide
    value = random.randn(count, *events)
    found = run(batchhess.jacobians(y, x, method=method)[0], {x: value})
    rows = value.reshape(count, size)
    outer, inner = np.tanh(rows @ weights), np.sin(rows @ more).sum(1)
    expected = ((1 - outer**2) * inner[:, None])[:, :, None] * weights.T
    expected += outer[:, :, None] * (np.cos(rows @ more) @ more.T)[:, None]
    assert found.shape == (count, width) + events
    np.testing.assert_allclose(
        found.reshape(expected.shape), expected, rtol=1e-9, atol=1e-9
    )


@by_method
def test_nothing_known_of_the_shapes(method, random):
    x = tf.placeholder(tf.float64, [None, None])
    w = tf.placeholder(tf.float64, [None, None])
    y = tf.tanh(tf.matmul(x, w))
    weights, value = random.randn(3, 5), random.randn(4, 3)
    feed = {x: value, w: weights}
    if method == "forward":
        with pytest.raises(ValueError, match="coordinates whose number"):
            batchhess.jacobians(y, x, method=method)
        return
    found = run(batchhess.jacobians(y, x, method=method)[0], feed)
    slopes = 1 - np.tanh(value @ weights) ** 2
    assert_equal(found, slopes[:, :, None] * weights.T, 1e-12)
    empty = {x: np.zeros((2, 3)), w: np.zeros((3, 0))}
    assert run(batchhess.jacobians(y, x, method=method)[0], empty).shape == (2, 0, 3)


@by_method
@pytest.mark.parametrize("width, size", [(0, 3), (3, 0), (1, 1)])
@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("check", ["auto", "always"])
def test_no_outputs_or_no_coordinates(method, width, size, count, check, random):
    x = tf.placeholder(tf.float64, [None, size])
    weights, value = random.randn(size, width), random.randn(count, size)
    y = tf.exp(tf.matmul(x, tf.constant(weights)))
    (result,) = batchhess.jacobians(y, x, method=method, check=check)
    expected = np.exp(value @ weights)[:, :, None] * weights.T
    found = run(result, {x: value})
    assert found.shape == (count, width, size)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@by_method
@pytest.mark.parametrize("batch_axis", [1, 2, -1])
def test_another_observation_axis(method, batch_axis, random):
    x = tf.placeholder(tf.float64, [2, 5, 5], name="x")  # As many on each axis.
    order = {1: [1, 0, 2], 2: [2, 0, 1], -1: [2, 0, 1]}[batch_axis]
    rows = tf.transpose(x, order)
    y = tf.sin(rows[:, :1] * rows) * constant(4, 2, 5)  # [5, 2, 5]
    value = random.randn(2, 5, 5)
    (result,) = batchhess.jacobians(y, x, method=method, batch_axis=batch_axis)
    expected = difference_jacobians(y, x, value, axis=batch_axis)
    assert_equal(run(result, {x: value}), expected)


@by_method
@pytest.mark.parametrize("chosen", [[0], [3, 1], [-1, 2, 0]])
def test_columns_of_some_coordinates(method, chosen, random):
    x = tf.placeholder(tf.float64, [None, 2, 2], name="x")
    y = tf.tanh(dense(tf.reshape(x, [-1, 4]), 5))
    value = random.randn(3, 2, 2)
    options = {"method": method, "coordinates": chosen, "check": "always"}
    (result,) = batchhess.jacobians(y, x, **options)
    expected = difference_jacobians(y, x, value).reshape(3, 5, 4)
    assert result.shape.as_list() == [None, 5, len(chosen)]
    assert_equal(run(result, {x: value}), expected[:, :, chosen])


@by_method
def test_several_xs_and_their_name(method, random):
    x, t = (tf.placeholder(tf.float64, [None, k], name="xt"[k % 2]) for k in (4, 1))
    y = tf.sin(dense(x, 5)) * tf.exp(t)
    feed = {x: random.randn(3, 4), t: random.randn(3, 1)}
    batchhess.jacobians(y, [x, t], name="slopes", method=method)
    found = run(["slopes:0", "slopes/slopes:0"], feed)
    for one, z in zip(found, (x, t)):
        other = t if z is x else x
        assert_equal(
            one, difference_jacobians(y, z, feed[z], {other.name: feed[other]})
        )


@by_method
@pytest.mark.parametrize(
    "dtype, tolerance", [("float16", 2e-2), ("float32", 1e-5), ("float64", 1e-12)]
)
def test_dtypes_are_kept(dtype, tolerance, method, random):
    x = tf.placeholder(dtype, [None, 3])
    weights, value = random.randn(3, 4), random.randn(5, 3)
    y = tf.tanh(tf.matmul(x, tf.constant(weights, dtype)))
    (result,) = batchhess.jacobians(y, x, method=method)
    found = run(result, {x: value})
    assert found.dtype == dtype
    expected = (1 - np.tanh(value @ weights) ** 2)[:, :, None] * weights.T
    np.testing.assert_allclose(found, expected, atol=3 * tolerance)


@by_method
@pytest.mark.parametrize("pair", [("float32", "float64"), ("float64", "float32")])
def test_the_dtype_is_that_of_x(pair, method, random):
    x = tf.placeholder(pair[0], [None, 3])
    y = tf.sin(tf.cast(x, pair[1])) * tf.constant([1.0, 2, 3], pair[1])
    value = random.randn(4, 3)
    (result,) = batchhess.jacobians(y, x, method=method, check="always")
    found = run(result, {x: value})
    assert found.dtype == pair[0]
    expected = np.cos(value)[:, :, None] * np.diag([1.0, 2, 3])
    np.testing.assert_allclose(found, expected, atol=1e-6)


@by_method
@pytest.mark.parametrize("use_resource", [False, True])
def test_x_is_a_variable(use_resource, method, random):
    value = random.randn(5, 4)
    x = tf.Variable(value, use_resource=use_resource, dtype=tf.float64)
    y = tf.tanh(dense(x * 1.0, 3))
    found = run(batchhess.jacobians(y, x, method=method)[0])
    twin = tf.placeholder(tf.float64, [None, 4], name="twin")
    assert_equal(found, difference_jacobians(tf.tanh(dense(twin, 3)), twin, value))


@by_method
def test_x_is_an_intermediate_tensor(method, random):
    z = tf.placeholder(tf.float64, [None, 4], name="z")
    x = tf.sin(z)
    y = tf.exp(dense(x, 5)) * tf.stop_gradient(z[:, :1])
    value = random.randn(3, 4)
    found = run(batchhess.jacobians(y, x, method=method)[0], {z: value})
    inner = np.sin(value)
    weights = np.random.RandomState(0).randn(4, 5)
    expected = (np.exp(inner @ weights) * value[:, :1])[:, :, None] * weights.T
    assert_equal(found, expected, 1e-12)


@by_method
def test_a_gather_from_x_makes_indexed_slices(method, random, control_flow):
    x = tf.placeholder(tf.float64, [4, 3], name="x")
    y = tf.gather(x, [0, 1, 2, 3]) ** 2
    value = random.randn(4, 3)
    expected = difference_jacobians(y, x, value)
    if method == "forward":  # The graph does not tell whose rows were taken.
        with pytest.raises(ValueError, match="cannot follow"):
            batchhess.jacobians(y, x, method=method)
        return
    assert_equal(run(batchhess.jacobians(y, x, method=method)[0], {x: value}), expected)


@by_method
def test_what_is_stopped_is_obeyed(method, random):
    x = tf.placeholder(tf.float64, [None, 3])
    y = tf.concat([x * tf.stop_gradient(x**2), tf.sin(x)], 1)
    value = random.randn(4, 3)
    (result,) = batchhess.jacobians(y, x, method=method, check="always")
    expected = [np.concatenate([np.diag(v**2), np.diag(np.cos(v))]) for v in value]
    assert_equal(run(result, {x: value}), np.stack(expected), 1e-12)


@by_method
@pytest.mark.parametrize("name", ["network", "products", "softmax", "images"])
def test_what_is_built_from_a_jacobian_is_differentiated_again(name, method, random):
    x = tf.placeholder(tf.float64, [None, 4], name="x")
    y, value = MODELS[name](x), random.randn(2, 4)
    options = {"method": method}
    (first,) = batchhess.jacobians(y, x, **options)
    flat = tf.reshape(first, [-1, int(np.prod(first.shape.as_list()[1:]))])
    flat.set_shape([None, int(np.prod(first.shape.as_list()[1:]))])
    loss = tf.reduce_sum(flat * constant(9, *flat.shape.as_list()[1:]), 1)
    (slope,) = tf.gradients(loss, x)
    expected = difference_jacobians(loss, x, value)
    assert_equal(run(slope, {x: value}), expected, 1e-7)


def test_a_jacobian_of_gradients_is_a_hessian(random):
    x = tf.placeholder(tf.float64, [None, 4])
    f = tf.reduce_sum(tf.exp(tf.tanh(dense(x, 4)) * x / 2))
    (gradient,) = tf.gradients(f, x)
    value = random.randn(3, 4)
    methods = [m for m in METHODS if m != "forward"]  # It is not proven.
    found = [batchhess.jacobians(gradient, x, method=m)[0] for m in methods]
    expected = difference_jacobians(gradient, x, value)
    for one in run(found, {x: value}):
        assert_equal(one, expected)


@pytest.mark.parametrize("method", ["auto", "forward", "reverse"])
@pytest.mark.parametrize("width", [2, 7])
def test_compiled(method, width, random):
    x = tf.placeholder(tf.float64, [None, 6])
    y = tf.tanh(dense(tf.sin(dense(x, 5)), width, 1))
    value = random.randn(9, 6)
    (result,) = batchhess.jacobians(y, x, method=method, jit_compile=True)
    expected = run(batchhess.jacobians(y, x, method="observations")[0], {x: value})
    np.testing.assert_allclose(run(result, {x: value}), expected, atol=1e-12)


def test_the_ops_do_not_follow_n_m_or_k():
    def count(n, m, k, method):
        with tf.Graph().as_default() as graph:
            x = tf.placeholder(tf.float64, [n, k])
            batchhess.jacobians(tf.tanh(dense(x, m)), x, method=method)
            return count_ops(graph)

    for method in METHODS:
        assert count(None, 60, 70, method) == count(None, 600, 700, method)


def test_the_signature_is_that_of_hessians():
    ours = list(inspect.signature(batchhess.jacobians).parameters)
    theirs = list(inspect.signature(batchhess.hessians).parameters)
    theirs.remove("per_output")
    assert ours == theirs
