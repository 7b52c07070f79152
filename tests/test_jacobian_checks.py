"""Jacobians are right, or refused, or fail the run: never silently wrong."""

import numpy as np
import pytest
from oracles import difference_jacobians, run
from tensorflow.python.framework.function import Defun

import batchhess
from batchhess.compat import tf

METHODS = ["auto", "forward", "reverse", "observations"]
COUPLED = tf.errors.InvalidArgumentError
by_method = pytest.mark.parametrize("method", METHODS)
N, K = 5, 3


def opaque(z):
    """z itself, with its own gradient, behind what no proof sees."""
    return tf.custom_gradient(lambda z: (tf.identity(z), lambda dy: dy))(z)


COUPLINGS = {
    "batch mean": lambda x: tf.sin(x) * tf.reduce_mean(x**2, 0),
    "cumulative rows": lambda x: tf.cumsum(x**2, axis=0),
    "normalized over the batch": lambda x: tf.nn.softmax(x, axis=0),
    "weakly": lambda x: tf.sin(x) + 1e-3 * tf.roll(x, 1, 0) ** 2,
    "opaque": lambda x: opaque(x) * tf.reduce_sum(opaque(x)),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", ["auto", "reverse", "forward"])
@pytest.mark.parametrize("name", sorted(COUPLINGS))
def test_coupled_observations_fail_the_run(name, method, dtype, random):
    x = tf.placeholder(dtype, [None, K], name="x")
    y = COUPLINGS[name](x)
    if method == "forward":
        with pytest.raises(ValueError, match="method='forward' cannot follow"):
            batchhess.jacobians(y, x, method=method)
        return
    (result,) = batchhess.jacobians(y, x, method=method)
    with pytest.raises(COUPLED, match="observations of x:0 are coupled"):
        run(result, {x: random.randn(N, K)})


@pytest.mark.parametrize("name", sorted(COUPLINGS))
def test_coupled_observations_are_exact_by_observations(name, random, control_flow):
    x = tf.placeholder(tf.float64, [None, K], name="x")
    y, value = COUPLINGS[name](x), random.randn(N, K)
    (result,) = batchhess.jacobians(y, x, method="observations")
    expected = difference_jacobians(y, x, value)
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(run(result, {x: value}), expected, atol=1e-8)


# y has as many outputs as observations, which are not along axis 0, or not in order.
MISPLACED = {
    "transposed": lambda x: tf.transpose(x**2),
    "transposed out of sight": lambda x: tf.transpose(opaque(x) ** 2),
    "reversed": lambda x: tf.reverse(x, [0]) ** 2,
    "shuffled": lambda x: tf.gather(x, [1, 2, 0]) ** 2,
    "rolled out of sight": lambda x: tf.roll(opaque(x), 1, 0),
    "summed": lambda x: tf.reduce_sum(x**2, 0),
    "flat and back": lambda x: tf.reshape(tf.transpose(tf.reshape(x, [9, 1])), [3, 3]),
}


@pytest.mark.parametrize("method", ["auto", "forward", "reverse"])
@pytest.mark.parametrize("name", sorted(MISPLACED))
def test_what_is_not_on_axis_0_is_refused_or_fails_the_run(name, method, random):
    for shape in ([3, 3], [None, 3]):
        with tf.Graph().as_default():
            x = tf.placeholder(tf.float64, shape, name="x")
            y, feed = MISPLACED[name](x), {x: random.randn(3, 3)}
            expected = difference_jacobians(y, x, feed[x])
            try:
                (result,) = batchhess.jacobians(y, x, method=method)
            except ValueError as error:
                assert "axis 0" in str(error) or "cannot follow" in str(error)
                continue
            if name == "flat and back":  # Which is right, and may be answered.
                found = run(result, feed)
                np.testing.assert_allclose(found, expected, atol=1e-9)
                continue
            with pytest.raises(COUPLED, match="in their order along its axis 0"):
                run(result, feed)


@by_method
def test_another_number_of_observations_fails_the_run(method, random):
    x = tf.placeholder(tf.float64, [None, K], name="x")
    w = tf.placeholder(tf.float64, [None, K])
    (result,) = batchhess.jacobians(x * w, x, method=method)
    for count, other in [(1, 4), (0, 1)]:
        feed = {x: random.randn(count, K), w: random.randn(other, K)}
        if count == 0:
            assert run(result, feed).shape == (0, K, K)
            continue
        with pytest.raises(COUPLED, match="number|broadcast"):
            run(result, feed)
    feed = {x: random.randn(4, K), w: random.randn(1, K)}
    expected = np.tile(np.diag(feed[w][0]), (4, 1, 1))
    np.testing.assert_allclose(run(result, feed), expected)


def test_arguments_that_do_not_fit_are_refused():
    x = tf.placeholder(tf.float32, [4, K], name="x")
    y = tf.sin(x)
    with tf.Graph().as_default():
        elsewhere = tf.placeholder(tf.float32, [4, K], name="elsewhere")
    for ys, xs, options, error, phrase in [
        ([y, y], x, {}, ValueError, "one y of known rank"),
        (tf.reduce_sum(y), x, {}, ValueError, "one y of known rank"),
        (tf.placeholder(tf.float32), x, {}, ValueError, "one y of known rank"),
        (tf.cast(y, tf.int32), x, {}, TypeError, "'Cast:0' in ys has dtype int32"),
        (y[:3], x, {}, ValueError, "differ in their number of observations"),
        (y, x, {"batch_axis": 1}, ValueError, "3 observations of 'x:0' on axis 0"),
        (y, elsewhere, {}, ValueError, "different graphs"),
        (tf.sin(x + 1), elsewhere, {}, ValueError, "different graphs"),
        (tf.zeros([4, 2]), x, {}, ValueError, "does not depend on 'x:0'"),
        (y, x, {"method": "columns"}, ValueError, "one of 'auto', 'forward'"),
        (y, x, {"check": "maybe"}, ValueError, "check must be one of"),
        (y, x, {"coordinates": [3]}, ValueError, "does not fit"),
        (y, 3.0, {}, TypeError, "must be a tf.Tensor"),
    ]:
        with pytest.raises(error, match=phrase) as caught:
            batchhess.jacobians(ys, xs, **options)
        assert str(caught.value).startswith("jacobians: ")


@by_method
def test_unconnected_outputs_are_zeros_where_they_are_asked_for(method):
    x = tf.placeholder(tf.float64, [None, K])
    y = tf.tile(tf.stop_gradient(x), [1, 2])
    options = {"method": method, "unconnected_gradients": "zero"}
    found = run(batchhess.jacobians(y, x, **options)[0], {x: np.ones((4, K))})
    np.testing.assert_array_equal(found, np.zeros((4, 2 * K, K)))


def repeated(x):
    return tf.while_loop(
        lambda i, _: i < 3,
        lambda i, z: (i + 1, tf.sin(z) * tf.constant([1.0, 2, 3], z.dtype)),
        (0, x),
    )[1]


def noisy(x):
    return tf.while_loop(
        lambda i, _: i < 3,
        lambda i, z: (i + 1, tf.sin(z) + tf.random_uniform([1], dtype=z.dtype)),
        (0, x),
    )[1]


LOOPS = {
    "while_loop": repeated,
    "map_fn": lambda x: tf.map_fn(lambda row: tf.cumsum(row**2), x),
    "scan": lambda x: tf.transpose(
        tf.scan(lambda a, b: tf.sin(a) * b, tf.transpose(x)), [1, 0]
    ),
}


@by_method
@pytest.mark.parametrize("name", sorted(LOOPS))
def test_loops(name, method, random, control_flow):
    x = tf.placeholder(tf.float64, [4, K], name="x")
    y = tf.reshape(LOOPS[name](x), [4, K])
    y, value = tf.concat([y, y**2], 1), random.randn(4, K)
    expected = difference_jacobians(y, x, value)
    assert np.abs(expected).max() > 1e-2
    if method == "forward":
        with pytest.raises(ValueError, match="cannot follow"):
            batchhess.jacobians(y, x, method=method)
        return
    (result,) = batchhess.jacobians(y, x, method=method)
    np.testing.assert_allclose(run(result, {x: value}), expected, atol=1e-8)


@pytest.mark.parametrize("outputs", [2, 7])
def test_a_loop_that_draws(outputs, random, control_flow):
    """Cannot be built anew: the v1 loop is differentiated as it stands, once."""
    x = tf.placeholder(tf.float64, [None, K], name="x")
    y = tf.matmul(noisy(x), tf.constant(random.randn(K, outputs)))
    value = random.randn(4, K)
    try:
        (result,) = batchhess.jacobians(y, x)
        found, drawn = run([result, y], {x: value})
    except (ValueError, COUPLED) as error:
        assert "jacobians: " in str(error)
        return
    assert np.isfinite(found).all() and drawn.shape == (4, outputs)


def test_the_gradient_of_a_loop_of_v1_is_no_function_of_x(random):
    tf.disable_control_flow_v2()
    x = tf.placeholder(tf.float64, [None, K], name="x")
    (gradient,) = tf.gradients(tf.reduce_sum(repeated(x) ** 2), x)
    for y in (gradient, gradient + x):
        for method in METHODS:
            with pytest.raises(ValueError, match="while loop of control flow v1"):
                batchhess.jacobians(y, x, method=method, unconnected_gradients="zero")


def wrong_sine(z):
    return tf.custom_gradient(lambda z: (tf.sin(z), lambda dy: dy))(z)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", ["reverse", "auto"])
def test_check_always_catches_a_wrong_derivative(method, dtype, random):
    x = tf.placeholder(dtype, [None, K])
    y, value = wrong_sine(x), random.randn(4, K)
    found = run(batchhess.jacobians(y, x, method=method)[0], {x: value})
    np.testing.assert_allclose(found, np.tile(np.eye(K), (4, 1, 1)))  # As was wished.
    (result,) = batchhess.jacobians(y, x, method=method, check="always")
    with pytest.raises(COUPLED, match="not what differences of .* say"):
        run(result, {x: value})


def test_check_always_names_the_observation(random):
    x = tf.placeholder(tf.float64, [None, K])
    hot = tf.constant(np.eye(6)[2][:, None])
    y = hot * wrong_sine(x) + (1 - hot) * tf.sin(x)
    (result,) = batchhess.jacobians(y, x, check="always")
    with pytest.raises(COUPLED, match=r"worst observation:\] *\[2\]"):
        run(result, {x: random.uniform(1, 2, (6, K))})


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
@pytest.mark.parametrize(
    "f",
    [tf.sin, tf.exp, tf.abs, tf.nn.relu, tf.floor, lambda x: x**3, tf.identity],
    ids=["sin", "exp", "abs", "relu", "floor", "cube", "identity"],
)
def test_check_always_lets_right_jacobians_pass(f, scale, dtype, random):
    x = tf.placeholder(dtype, [None, K])
    y = f(x / scale) + 1e-3 * x / scale
    value = scale * random.uniform(-2, 2, (20, K))
    value[0] = 0
    (result,) = batchhess.jacobians(y, x, check="always")
    assert np.isfinite(run(result, {x: value})).all()


# What no test has seen right, or what is wrong at a point: each run tells.
DOUBTFUL = {
    "xlogy at zero": (lambda x: tf.math.xlogy(x, x + 2), [0.0, 1, 2]),
    "products at zero": (lambda x: tf.math.cumprod(x, axis=1), [0.0, 0, 2]),
    "a product at zero": (
        lambda x: tf.reduce_prod(tf.concat([x] * 30, 1), 1, keepdims=True),
        [0.0, 1, 1],
    ),
    "local response": (
        lambda x: tf.nn.lrn(tf.reshape(x, [-1, 1, 1, 3]), depth_radius=1),
        [0.5, 1, 2],
    ),
    "the gradient of images made larger": (
        lambda x: tf.gradients(
            tf.image.resize_bilinear(tf.reshape(x, [-1, 1, 3, 1]), [2, 5]) ** 2, x
        )[0],
        [0.5, 1, 2],
    ),
    "the gradient of moments": (
        lambda x: tf.gradients(tf.nn.moments(x, [1])[1] ** 2, x)[0],
        [0.5, 1, 3],
    ),
    "the gradient of an entropy": (
        lambda x: tf.gradients(
            tf.nn.softmax_cross_entropy_with_logits_v2(
                labels=tf.nn.softmax(x), logits=x
            ),
            x,
        )[0],
        [0.5, 1, 3],
    ),
    "a median": (lambda x: tf.nn.top_k(x, 2)[0][:, 1:], [0.5, 1, 3]),
    "eigenvalues": (
        lambda x: tf.linalg.eigh(x[:, :, None] * x[:, None] + np.diag([1.0, 2, 3]))[0],
        [0.5, 1, 3],
    ),
    "an exponential of matrices": (
        lambda x: tf.linalg.expm(x[:, :, None] * np.ones([1, 1, 3]) / 3),
        [0.5, 1, 0.3],
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("method", ["auto", "forward"])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("name", sorted(DOUBTFUL))
def test_what_is_doubtful_is_right_or_refused(name, hidden, method, dtype, random):
    build, row = DOUBTFUL[name]

    def model(x):
        if not hidden:
            return build(x)
        tf.enable_control_flow_v2()  # In a branch nothing is corrected.
        return tf.cond(tf.constant(True), lambda: build(x), lambda: build(2 * x))

    value = np.array([row, [1.0, 2, 1.5]])
    try:
        x = tf.placeholder(dtype, [None, K])
        y = model(x)
        run(y, {x: value})
    except (TypeError, ValueError, tf.errors.OpError):
        pytest.skip("no such program in this dtype")
    try:
        (result,) = batchhess.jacobians(y, x, method=method)
        found = run(result, {x: value})
    except (ValueError, COUPLED) as error:
        assert "jacobians: " in str(error), error
        return
    except tf.errors.OpError as error:
        assert "jacobians" not in str(error) or dtype == "float16", error
        return
    with tf.Graph().as_default():
        twin = tf.placeholder(tf.float64, [None, K], name="x")
        try:
            expected = difference_jacobians(model(twin), twin, value)
        except (TypeError, ValueError):
            pytest.skip("no such program in float64")
    tolerance = {"float64": 1e-6, "float32": 1e-3, "float16": 2e-1}[dtype]
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@by_method
def test_an_inner_tensor_that_is_fed_is_followed_or_fails_the_run(method, random):
    x = tf.placeholder(tf.float64, [None, 6])
    inner = tf.sin(x)
    y = inner**2 * tf.constant(random.randn(1, 6))
    (result,) = batchhess.jacobians(y, x, method=method)
    value, fed = random.randn(40, 6), random.randn(40, 6)
    with tf.Session() as session:
        weights = session.run(y, {x: value}) / np.sin(value) ** 2
        try:
            found = session.run(result, {x: value, inner: fed})
        except COUPLED as error:
            assert "an inner tensor of the model was fed" in str(error)
            return
    expected = 2 * fed * np.cos(value) * weights
    np.testing.assert_allclose(np.einsum("nkk->nk", found), expected, rtol=1e-9)


@pytest.mark.parametrize("check", ["auto", "never", "always"])
def test_a_function_of_the_kind_of_tensorflow_1(check, random, control_flow):
    x = tf.placeholder(tf.float64, [None, 3])

    @Defun(tf.float64)
    def model(t):
        return tf.sin(t) * t[:, ::-1]

    y = model(x)
    y.set_shape([None, 3])
    value = random.randn(4, 3)
    found = run(batchhess.jacobians(y, x, check=check)[0], {x: value})
    np.testing.assert_allclose(found, difference_jacobians(y, x, value), atol=1e-6)


def test_draws_are_those_of_the_model(random):
    """A mask drawn in the model is the same in y and in its Jacobian."""
    x = tf.placeholder(tf.float64, [None, 6])
    y = tf.nn.dropout(x**2, 0.5)
    for method in METHODS:
        (result,) = batchhess.jacobians(y, x, method=method)
        value = random.uniform(1, 2, (30, 6))
        found, outputs = run([result, y], {x: value})
        np.testing.assert_allclose(
            np.einsum("nkk->nk", found), 2 * outputs / value, rtol=1e-9
        )


def test_what_cannot_be_compiled_is_refused():
    x = tf.placeholder(tf.float64, [None, K])
    for y, options, phrase in [
        (tf.sin(x), {"method": "observations"}, "needs method="),
        (tf.cumsum(x, 0), {}, "jit_compile=True cannot follow"),
    ]:
        with pytest.raises(ValueError, match=phrase):
            batchhess.jacobians(y, x, jit_compile=True, **options)


def test_gradients_that_have_no_derivative_at_zeros(random):
    x = tf.placeholder(tf.float64, (None, 4))
    h = tf.tanh(tf.matmul(x, tf.constant(random.randn(4, 6))))
    y = tf.math.cumulative_logsumexp(h, 1)
    value = random.randn(3, 4)
    found = run(batchhess.jacobians(y, x, method="forward")[0], {x: value})
    np.testing.assert_allclose(found, difference_jacobians(y, x, value), atol=1e-8)
