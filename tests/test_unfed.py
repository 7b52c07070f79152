"""What is fed where the model was built again is told; and all else is answered."""

import numpy as np
import pytest
import tensorflow

import batchhess
from batchhess.compat import tf

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
def test_what_magnifies_rounding_is_answered_and_what_is_fed_inside_is_told(
    name, answer, control_flow
):
    x = tf.placeholder(tf.float32, [None, 8])
    y = MODELS[name](x)
    (result,) = ANSWERS[answer](y, x)
    (p,) = (
        op.outputs[0] for op in x.graph.get_operations() if op.name == "Sigmoid"
    )  # The caller's own.
    with tf.Session() as session:
        assert np.isfinite(session.run(result, {x: ROWS})).any()
        fed = session.run(p, {x: ROWS})
        fed[7] *= 0.9
        with pytest.raises(tf.errors.InvalidArgumentError, match="was fed"):
            session.run(result, {x: ROWS, p: fed})


def scaled(h):
    mean = tf.reduce_mean(h, 1, keepdims=True)
    return (h - mean) / tf.sqrt(tf.reduce_mean((h - mean) ** 2, 1, keepdims=True))


# Functions of h that do not tell what was fed, but by their derivatives.
BLIND = {
    "a square": (lambda h: tf.reduce_sum(h * h), lambda h: -h),
    "a cosine": (lambda h: tf.cos(tf.reduce_sum(h, 1)), lambda h: -h),
    "a softmax": (lambda h: tf.nn.softmax(h) ** 2, lambda h: h + 0.5),
    "a loss": (
        lambda h: tf.nn.softmax_cross_entropy_with_logits_v2(
            labels=tf.nn.softmax(tf.stop_gradient(0 * h)), logits=h
        ),
        lambda h: h + 0.5,
    ),
    "what is scaled": (lambda h: scaled(h) ** 3, lambda h: 1.5 * h),
    "a sum": (lambda h: tf.reduce_sum(h**3, 1), lambda h: h[:, ::-1]),
    "beside a constant": (lambda h: tf.reduce_sum(h**3, 1) + 1e4, lambda h: 1.01 * h),
}


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64], ids=lambda t: t.name)
@pytest.mark.parametrize("name", sorted(BLIND))
def test_what_is_fed_counts_though_the_value_of_f_does_not_tell(name, dtype):
    function, changed = BLIND[name]
    x = tf.placeholder(dtype, [None, 8])
    h = tf.exp(x / 4)
    y = function(h)
    (whole,) = batchhess.hessians(y, x)
    (by_columns,) = batchhess.hessians(y, x, method="columns")
    (full,) = tf.hessians(y, x)
    with tf.Session() as session:
        feed = {x: ROWS[:5], h: changed(session.run(h, {x: ROWS[:5]}))}
        with pytest.raises(tf.errors.InvalidArgumentError, match="Exp.* was fed"):
            session.run(whole, feed)
        found, full = session.run([by_columns, full], feed)
    expected = np.stack([full[n, :, n] for n in range(5)])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        found, expected, atol=scale * np.finfo(found.dtype).eps * 99
    )


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
        with pytest.raises(tf.errors.InvalidArgumentError, match="was fed"):
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
        with pytest.raises(tf.errors.InvalidArgumentError, match="was fed"):
            session.run(result, {z: fed, **feed})


def test_what_an_earlier_run_has_computed_may_be_fed():
    x = tf.placeholder(tf.float32, [None, 8])
    h = tf.tanh(tf.matmul(x, tf.constant(WEIGHTS, tf.float32)))
    (result,) = batchhess.hessians(tf.reduce_sum(tf.exp(h)), x)
    with tf.Session() as session:
        fed = session.run(h, {x: ROWS})
        found = session.run(result, {x: ROWS, h: fed})
        np.testing.assert_array_equal(found, session.run(result, {x: ROWS}))


def fourth_power(x, **kw):
    """x**4, by a loop."""
    return tf.while_loop(lambda i, z: i < 2, lambda i, z: (i + 1, z * z), [0, x], **kw)


def masked(x):
    h = fourth_power(x)[1]
    mask = h > 0.5
    return tf.where(mask, h**2, 3 * h), mask, np.logical_not


def masked_integers(x):
    """Compared in a type that TensorFlow 1.15 does not compare."""
    h = fourth_power(x)[1]
    step = tf.cast(tf.cast(h, tf.int64) + 3, tf.uint32)
    return h**2 * tf.cast(tf.cast(step, tf.int64), h.dtype), step, lambda v: v + 5


def stopped(x):
    h = tf.stop_gradient(fourth_power(x)[1])
    return h * x**2, h, lambda v: 3 * v


def sized(x):
    h = fourth_power(x)[1]
    size = tf.shape(h)[1]
    return tf.reduce_sum(h) / tf.cast(size, h.dtype), size, lambda v: 10


def counted(x):
    count, h = fourth_power(x)
    return tf.reduce_sum(h) * tf.cast(count, h.dtype), count, lambda v: 7


def normalized_by_its_sum(x):
    h = tf.matmul(x, tf.constant(WEIGHTS[:8, :3]))
    return (h / tf.reduce_sum(h, 1, keepdims=True)) ** 3, h, lambda v: 2 * v


def solved(x):
    h = tf.matmul(x, tf.constant(WEIGHTS[:8, :4]))
    a = tf.reshape(h, [-1, 2, 2]) + 3 * tf.eye(2, dtype=x.dtype)
    return tf.linalg.solve(a, a[:, :, :1] ** 3, adjoint=True), a, lambda v: 2 * v


def ruled_out(x):
    h = tf.matmul(x, tf.constant(WEIGHTS[:8, :3]))
    return tf.reduce_logsumexp(h, 1), h, lambda v: np.where([1, 1, 0], v, -np.inf)


def of_unknown_rank(x):
    shapes = [tf.TensorShape([]), tf.TensorShape(None)]
    h = fourth_power(x, shape_invariants=shapes)[1]
    return tf.reshape(h, [-1, 8]) ** 2, h, lambda v: v + 3


def small_beside_large(x):
    h = fourth_power(x * ([1.0] * 7 + [100.0]))[1]
    return h[:, 0] ** 3 + h[:, 7], h, lambda v: v + np.eye(8)[0]


def factor_of_zero(x):
    h = 2 * fourth_power(x)[1]
    return (x - x) * x * h, h, lambda v: v + 12


def negated(x):
    h = tf.matmul(x, tf.constant(WEIGHTS))
    return tf.sin(h), h, np.negative


def spread(x):
    """Its correction takes the mean anew, from what is not the mean's own."""
    h = tf.matmul(x, tf.constant(WEIGHTS))
    mean, variance = tf.nn.moments(h, [1], keep_dims=True)
    return variance, mean, lambda v: v + 3


def normalized_about_its_mean(x):
    h = tf.matmul(x, tf.constant(WEIGHTS))
    mean, variance = tf.nn.moments(h, [1], keep_dims=True)
    return ((h - mean) / tf.sqrt(variance + 0.1)) ** 3, mean, lambda v: v + 3


def softplus(x):
    """As it is written by hand, where the sign of the difference is lost on the way."""
    a, b = 2 * tf.sin(x[:, 0]), x[:, 1] * x[:, 2]
    apart = a - b
    f = tf.maximum(a, b) + tf.math.log1p(tf.exp(-tf.abs(apart)))
    return f, apart, np.negative


def softplus_of_negated(x):
    """TensorFlow's optimizer would add z to what is fed for -z, to compare the two."""
    z = tf.sin(x[:, 0]) * x[:, 1]
    negative = -z
    f = tf.nn.relu(z) + tf.math.log1p(tf.exp(-tf.abs(negative)))
    return f, negative, np.negative


def called(x):
    """A function beside a sum of the same value, whatever the order of its terms."""
    h = tf.matmul(x, tf.constant(WEIGHTS))

    def each(h):
        return h * h * tf.cumsum(h, 1)

    z = tensorflow.function(each, autograph=False)(h)
    f = tf.reduce_sum(z) + tf.reduce_sum(tf.reduce_sum(h, 1) ** 2)
    return f, h, lambda v: v[:, ::-1]


IN_LOOPS = [
    masked,
    masked_integers,
    stopped,
    sized,
    counted,
    of_unknown_rank,
    small_beside_large,
    factor_of_zero,
]


@pytest.mark.parametrize("model", IN_LOOPS, ids=lambda model: model.__name__)
def test_what_is_fed_behind_a_loop_counts_or_is_told(model, control_flow):
    x = tf.placeholder(tf.float64, [None, 8])
    y, inner, change = model(x)
    f = tf.reduce_sum(y)
    (result,), (gradient,) = batchhess.hessians(f, x), tf.gradients(f, x)
    value = 0.5 + np.random.RandomState(3).rand(2, 8)
    with tf.Session() as session:
        assert np.isfinite(session.run(result, {x: value})).all()
        fed = {inner: change(session.run(inner, {x: value}))}
        try:
            found = session.run(result, dict([(x, value), *fed.items()]))
        except tf.errors.InvalidArgumentError as error:
            assert "inner tensor" in str(error)
            return
        # What carries no derivative, and was not built again.
        assert model in (stopped, counted)
        for k, step in enumerate(1e-5 * np.eye(8)):
            ends = [
                session.run(gradient, dict([(x, value + s), *fed.items()]))
                for s in (step, -step)
            ]
            slope = (ends[0] - ends[1]) / 2e-5
            np.testing.assert_allclose(found[:, k], slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["auto", "columns", "differences"])
@pytest.mark.parametrize(
    "model",
    [
        normalized_by_its_sum,
        solved,
        ruled_out,
        negated,
        spread,
        normalized_about_its_mean,
        softplus,
        softplus_of_negated,
        called,
    ],
    ids=lambda model: model.__name__,
)
def test_what_is_fed_counts_as_for_tensorflow_or_is_told(model, method):
    x = tf.placeholder(tf.float64, [None, 8])
    y, inner, change = model(x)
    f = tf.reduce_sum(y)
    (result,), (whole,) = batchhess.hessians(f, x, method=method), tf.hessians(f, x)
    value = 0.5 + np.random.RandomState(3).rand(2, 8)
    with tf.Session() as session:
        assert np.isfinite(session.run(result, {x: value})).all()
        feed = {x: value, inner: change(session.run(inner, {x: value}))}
        expected = session.run(whole, feed)  # [N, K, N, K]
        try:
            found = session.run(result, feed)
        except tf.errors.InvalidArgumentError as error:
            is_corrected = model in (spread, normalized_about_its_mean)
            is_corrected |= model in (softplus, softplus_of_negated)
            assert "was fed" in str(error)
            assert method != "columns" or is_corrected
        else:
            rows = [expected[n, :, n] for n in range(2)]
            np.testing.assert_allclose(found, rows, atol=1e-9 * np.abs(rows).max())


def test_gradients_of_derivatives_are_told_too(control_flow):
    x = tf.placeholder(tf.float64, [None, 8])
    h = tf.matmul(x, tf.constant(WEIGHTS))
    (gradient,) = batchhess.derivatives(tf.reduce_sum(h**3), x).gradients
    value = ROWS[:4]
    with tf.Session() as session:
        assert session.run(gradient, {x: value}).shape == value.shape
        with pytest.raises(tf.errors.InvalidArgumentError, match="was fed"):
            session.run(gradient, {x: value, h: 1 + value.dot(WEIGHTS)})


SAME = {
    "itself": lambda t: t,
    "by identity": tf.identity,
    "by reshape": lambda t: tf.reshape(t, [-1, 2]),
    "by gather": lambda t: tf.gather(t, [0, 1], axis=1),
}


@pytest.mark.parametrize("name", ["mask", "factor"])
@pytest.mark.parametrize("passed", sorted(SAME))
def test_what_is_fed_beside_several_xs_is_told(passed, name):
    x, u = (tf.placeholder(tf.float64, [None, 2], name=name) for name in "xu")
    mask, w = SAME[passed](x > 0), SAME[passed](u + 1)
    f = tf.reduce_sum(tf.where(mask, x**3, 2 * x**2) * u) + tf.reduce_sum(x * (x * w))
    result = batchhess.hessian_blocks(f, [x, u])[0][0]
    feed = {x: np.zeros((1, 2)), u: np.ones((1, 2))}
    fed = {"mask": (mask, [[True, True]]), "factor": (w, [[9.0, 9.0]])}[name]
    with tf.Session() as session:
        assert np.isfinite(session.run(result, feed)).all()
        with pytest.raises(tf.errors.InvalidArgumentError, match="was fed"):
            session.run(result, dict([*feed.items(), fed]))


def test_a_variable_that_is_assigned_between_two_reads_is_told():
    v = tf.get_variable("v", initializer=np.array([[1.0, 2.0]]), use_resource=True)
    before = v.read_value() ** 3
    with tf.control_dependencies([before]):
        assigned = v.assign([[5.0, 5.0]])
    with tf.control_dependencies([assigned]):
        after = v.read_value()
    (result,) = batchhess.hessians(tf.reduce_sum(before * after), v)
    with tf.Session() as session:
        session.run(v.initializer)
        with pytest.raises(tf.errors.InvalidArgumentError, match="was assigned"):
            session.run(result)
        np.testing.assert_array_equal(session.run(v), [[5, 5]])
        assert session.run(result).shape == (1, 2, 2)  # Now it is 5 all the time.


def test_inside_a_branch_that_was_built_again_nothing_can_be_fed():
    tf.disable_control_flow_v2()
    x, inner = tf.placeholder(tf.float64, [None, 3]), []

    def branch():
        inner.append(tf.exp(x))
        return tf.reduce_sum(inner[0] ** 2 + tf.nn.moments(x, [1])[1][:, None], 1)

    f = tf.cond(tf.reduce_sum(x) > -99, branch, lambda: x[:, 0])
    (result,) = batchhess.hessians(f, x)
    with tf.Session() as session:
        assert session.run(result, {x: np.ones((2, 3))}).shape == (2, 3, 3)
        with pytest.raises(ValueError, match="may not be fed"):
            session.run(result, {x: np.ones((2, 3)), inner[0]: np.ones((2, 3))})


SQUARES = {
    "eigenvalues": tf.linalg.eigvalsh,
    "singular values": lambda a: tf.linalg.svd(a, compute_uv=False),
}


@pytest.mark.parametrize("method", ["columns", "symmetric"])
@pytest.mark.parametrize("name", sorted(SQUARES))
def test_what_an_op_leaves_unwritten_is_not_compared(name, method):
    """Their squares add up to those of the elements."""
    x = tf.placeholder(tf.float64, [None, 4])
    a = tf.reshape(x, [-1, 2, 2])
    a = tf.matmul(a, a, transpose_b=True)
    (result,) = batchhess.hessians(SQUARES[name](a) ** 2, x, method=method)
    (expected,) = tf.hessians(tf.reduce_sum(a**2), x)
    with tf.Session() as session:
        found, expected = session.run([result, expected], {x: ROWS[:3, :4]})
    rows = [expected[n, :, n] for n in range(3)]
    np.testing.assert_allclose(found, rows, rtol=1e-6, atol=1e-6 * np.abs(rows).max())
