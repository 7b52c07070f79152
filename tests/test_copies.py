"""A copy is the whole model as a function of x, and can prove it in each run."""

import numpy as np
import pytest
import tensorflow
from oracles import difference_blocks, difference_jacobians, run, unoptimized
from random_library import MATHEMATICS
from test_control_flow import ROWS, check, differences_of_f, loop, normalized
from value_differences import curvatures_of, value_curvatures

import batchhess
from batchhess.compat import tf
from batchhess.control_flow import rebuild_control_flow
from batchhess.copies import assert_same
from batchhess.rebuild import copy, rebuild


@pytest.fixture
def x():
    return tf.placeholder(tf.float64, (None, 3), name="x")


BY_VALUE = {
    "a stopped mean": lambda x: x - tf.stop_gradient(tf.reduce_mean(x, 1)[:, None]),
    "a mask": lambda x: x * tf.cast(x > 0, x.dtype),
    "an argument of a maximum": lambda x: (
        x**2 * tf.one_hot(tf.argmax(x, 1), 3, dtype=x.dtype)
    ),
    "a number of steps": lambda x: x * tf.cast(tf.cast(x * 10, tf.int32), x.dtype),
    "a step": lambda x: x * tf.round(3 * x),
    "a size": lambda x: x**2 / tf.cast(tf.shape(x)[0], x.dtype) + tf.ones_like(x),
    "a function": lambda x: tensorflow.function(
        lambda z: z * tf.stop_gradient(tf.reduce_max(z))
    )(x),
    "moments": lambda x: normalized(x)[:, None],
}


@pytest.mark.parametrize("name", sorted(BY_VALUE))
def test_a_copy_is_the_model_on_another_x(name, x):
    """The oracle is the same program, written with the other x."""
    other = tf.placeholder(tf.float64, (None, 3))
    y = BY_VALUE[name](x)
    (made,) = rebuild([y], [x], [other])
    made, expected = run([made, BY_VALUE[name](other)], {x: ROWS, other: ROWS[::-1]})
    np.testing.assert_array_equal(made, expected)


def test_a_copy_reads_neither_the_old_x_nor_its_loops(x):
    tf.disable_control_flow_v2()
    y = normalized(loop(x))
    (made,) = rebuild_control_flow([y], [x], {})
    seen, pending = set(), [made.op]
    while pending:
        op = pending.pop()
        if op not in seen:
            seen.add(op)
            pending += [t.op for t in op.inputs] + list(op.control_inputs)
    assert not [op.name for op in seen if op.type in ("Exit", "Merge")]


def test_a_draw_of_the_size_of_x_is_shared(x):
    mask = tf.random_uniform(tf.shape(x), dtype=x.dtype)
    y = tf.sin(x) * mask
    (made,) = rebuild([y], [x], [tf.identity(x)])
    made, expected = run([made, y], {x: ROWS})
    np.testing.assert_array_equal(made, expected)


DRAWS = {
    "of its value": lambda x: x * tf.random_poisson(tf.exp(x), [], dtype=x.dtype),
    "python": lambda x: x * tf.py_func(lambda v: np.sin(v), [x], x.dtype),
    "printed": lambda x: x**2 + tf.Print(x, []) if hasattr(tf, "Print") else None,
}


@pytest.mark.parametrize("name", sorted(DRAWS))
def test_what_must_not_happen_twice_is_not_copied(name, x):
    assert rebuild([DRAWS[name](x)], [x], [tf.identity(x)]) is None


def test_a_branch_of_constants_depends_on_its_predicate(x):
    """So a copy would have to choose anew: of control flow v1 there is none."""
    tf.disable_control_flow_v2()
    one, two = (tf.constant(n, tf.float64) for n in (1.0, 2.0))
    factor = tf.cond(x[0, 0] > 0, lambda: one, lambda: two)
    assert rebuild([factor * tf.sin(x)], [x], [tf.identity(x)]) is None


# Layer norm by tf.nn.moments, of what a loop or a function computes.


def of_a_function(x):
    return normalized(tensorflow.function(lambda z: tf.sin(z) * z**2)(x))


def of_a_keras_lstm(x):
    layer = tf.keras.layers.LSTM(2, return_sequences=True, dtype="float64")
    return normalized(tf.reshape(layer(x[:, :, None]), [-1, 6]))


def of_a_dynamic_rnn(x):
    cell = tf.nn.rnn_cell.BasicRNNCell(2, dtype=tf.float64)
    outputs, _ = tf.nn.dynamic_rnn(cell, x[:, :, None], dtype=tf.float64)
    return normalized(tf.reshape(outputs, [-1, 6]))


MOMENTS = {
    "while_loop": lambda x: normalized(loop(x)),
    "map_fn": lambda x: normalized(tf.map_fn(lambda row: tf.sin(row) * row[0], x)),
    "function": of_a_function,
    "loop in a function": lambda x: normalized(tensorflow.function(loop)(x)),
    "keras LSTM": of_a_keras_lstm,
    "dynamic_rnn": of_a_dynamic_rnn,
}


@pytest.mark.parametrize("name", sorted(MOMENTS))
def test_moments_after_control_flow(name, x, control_flow):
    if name == "dynamic_rnn" and not hasattr(tf.nn.rnn_cell, "BasicRNNCell"):
        pytest.skip("the rnn cells of compat.v1 need Keras 2")
    if name == "keras LSTM" and tensorflow.__version__.startswith("2"):
        pytest.skip("Keras 3 builds no layers in a v1 graph")
    y = MOMENTS[name](x)
    (hessian,) = batchhess.hessians(y, x)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        result = session.run(hessian, {x: ROWS})
        weights = session.run(tf.global_variables())
    initial = list(zip(tf.global_variables(), weights))
    expected = differences_of_f(y, x, ROWS, initial=initial)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(result, expected, atol=1e-4 * np.abs(expected).max())


# What must run before the model must run before its copy.


def in_a_loop(x, v):
    body = lambda i, a: (i + 1, tf.sin(a) * v.read_value() * x)  # noqa: E731
    return tf.while_loop(lambda i, _: i < 2, body, (0, x))[1]


def in_a_function(x, v):
    return tensorflow.function(lambda z: tf.sin(z) * z * v.read_value())(x)


def in_a_branch(x, v):
    y = tf.cond(tf.reduce_sum(x) > -1e3, lambda: v.read_value() * x, lambda: x)
    return loop(y)


def in_the_open(x, v):
    return normalized(x * v.read_value())


@pytest.mark.parametrize("resource", [True, False], ids=["resource", "reference"])
@pytest.mark.parametrize(
    "f", [in_a_loop, in_a_function, in_a_branch, in_the_open], ids=lambda f: f.__name__
)
def test_a_copy_reads_what_was_assigned_before(f, resource, x, control_flow):
    if f is in_a_function and not resource:
        pytest.skip("functions capture resource variables only")
    if control_flow == "control_flow_v2" and not resource and f is in_a_loop:
        pytest.skip("v2 loops read resource variables only")
    v = tf.get_variable("v", initializer=np.float64(1.0), use_resource=resource)
    with tf.control_dependencies([v.assign(3.0)]):
        y = f(tf.identity(x), v)
    check(y, x)
    rebuilt = rebuild_control_flow([y], [x], {})[0]
    for _ in range(5):
        first, second = run([y, rebuilt], {x: ROWS})
        np.testing.assert_allclose(first, second, rtol=1e-12)


def test_control_dependencies_between_copied_ops_are_copied(x):
    a = tf.sin(x)
    with tf.control_dependencies([a]):
        b = tf.identity(x)
    (made,) = copy([a.op, b.op], {(a.op, 0): x, (b.op, 0): x}, [b])
    (before,) = made.op.control_inputs
    assert before.type == "Sin" and before is not a.op


# assert_same.


def rebuilt_with_check(y, x):
    (made,) = rebuild_control_flow([y], [x], {})
    assert made is not y
    with tf.control_dependencies([assert_same([y], [made], x)]):
        return tf.identity(made)


@pytest.fixture
def inner(x):
    tf.disable_control_flow_v2()
    return tf.tanh(x, name="inner")


def test_a_copy_of_equal_values_passes(inner, x):
    run(rebuilt_with_check(loop(inner), x), {x: ROWS})


@pytest.mark.parametrize("shape", [(2, 3), (1, 3), (5, 3)])
def test_feeding_an_inner_tensor_fails_the_run(shape, inner, x):
    # It is fed where the original reads it; the copy computes it.
    y = loop(inner)
    made = tf.identity(rebuilt_with_check(y, x))
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        run(made, {x: ROWS, y: np.full(shape, 0.1)})
    for phrase in (
        "an inner tensor of the model was fed",
        y.op.name,
        "x",
    ):
        assert phrase in str(error.value)


def test_hessians_of_what_is_fed_before_a_block_fail_the_run(random):
    x = tf.placeholder(tf.float64, [None, 9])
    h, value = tf.tanh(x), random.randn(4, 9)
    result = batchhess.hessians(tf.exp(h) * h[:, :1], x)[0]
    run(result, {x: value, h: np.tanh(value)})
    with pytest.raises(tf.errors.InvalidArgumentError, match="was fed"):
        run(result, {x: value, h: np.tanh(value) * 0.9})


@pytest.mark.parametrize("after", [tf.sin, tensorflow.function(tf.sin)])
def test_a_fed_mean_of_moments_fails_the_run(after, random):
    """Moments are written in another form: what is fed for one is not a mean there."""
    x = tf.placeholder(tf.float64, [None, 4])
    mean, variance = tf.nn.moments(x, [1], keep_dims=True)
    y = after(((x - mean) / tf.sqrt(variance + 0.1)) ** 3)
    result, value = batchhess.hessians(y, x)[0], random.randn(2, 4)
    run(result, {x: value})
    with pytest.raises(tf.errors.InvalidArgumentError, match="was fed"):
        run(result, {x: value, mean: [[1.3], [0.8]]})


def test_what_is_fed_before_a_loop_is_read_by_its_copy(random):
    """As the derivatives of tanh are told by its value, it is as if x were another."""
    tf.disable_control_flow_v2()
    x = tf.placeholder(tf.float64, [None, 9])
    h, value = tf.tanh(x), random.randn(4, 9)
    result, fed = batchhess.hessians(loop(h), x)[0], np.tanh(value) * 0.9
    found = run(result, {x: value, h: fed})
    np.testing.assert_allclose(found, run(result, {x: np.arctanh(fed)}), atol=1e-9)
    assert not np.allclose(found, run(result, {x: value}))


@pytest.mark.parametrize("method", ["auto", "columns"])
def test_a_fed_axis_fails_the_run(method, random):
    """The graph tells another one, by which observations do not meet."""
    x = tf.placeholder(tf.float64, [None, 3])
    axis = tf.stack([tf.constant(1)])[0]
    y = tf.reduce_sum(x**2 * tf.cumsum(x**2, axis=axis))
    result, value = batchhess.hessians(y, x, method=method)[0], random.randn(3, 3)
    run(result, {x: value})
    with pytest.raises(ValueError, match="may not be fed"):
        run(result, {x: value, axis: 0})


# Ops of which single copies are made, without a loop over blocks.
SINGLE = {
    "logsumexp": lambda h: tf.math.cumulative_logsumexp(h, 1),
    "power": lambda h: tf.pow(h, h[:, :1]),
}


@pytest.mark.parametrize("name", sorted(SINGLE))
def test_feeding_what_few_coordinates_reach_fails_the_run(name, random):
    x = tf.placeholder(tf.float64, [None, 4])
    h = SINGLE[name](tf.exp(tf.sin(x)))
    y, value = tf.reduce_sum(h, 1) ** 2, random.rand(3, 4)
    built = [
        batchhess.hessians(y, x, method="symmetric")[0],
        batchhess.jacobians(h**2, x, method="forward")[0],
    ]
    expected = difference_blocks(y, x, value), difference_jacobians(h**2, x, value)
    with tf.Session() as session:
        inner = session.run(h, {x: value})
        for result, truth in zip(built, expected):
            found = session.run(result, {x: value, h: inner})  # As it is.
            np.testing.assert_allclose(found, truth, atol=1e-8)
            with pytest.raises(tf.errors.InvalidArgumentError, match="tensor .* fed"):
                session.run(result, {x: value, h: 1.1 * inner})


def test_a_default_that_is_fed_reaches_the_copy_or_fails_the_run(x):
    tf.disable_control_flow_v2()
    h = tf.placeholder_with_default(tf.sin(x), (None, 3))
    y, value = loop(h), np.full((2, 3), 0.7)
    made = rebuilt_with_check(y, x)
    try:
        first, second = run([y, made], {x: ROWS, h: value})
    except tf.errors.InvalidArgumentError:
        return
    np.testing.assert_allclose(first, second)


def test_a_training_step_in_the_same_run_is_right_or_fails_the_run(x):
    """Never the values of other weights than the original's."""
    tf.disable_control_flow_v2()
    w = tf.get_variable("w", initializer=np.float64(1.0), use_resource=True)
    body = lambda a, row: tf.tanh(a * w.read_value() + row)  # noqa: E731
    y = tf.scan(body, x)
    made = rebuilt_with_check(y, x)
    train = w.assign_add(0.5, read_value=False)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(20):
            try:
                first, second, _ = session.run([y, made, train], {x: ROWS})
                np.testing.assert_allclose(first, second, rtol=1e-8)
            except tf.errors.InvalidArgumentError as error:
                assert "a variable was assigned in the same run" in str(error)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("by, passes", [(0, True), (0.5, True), (200, False)])
def test_equal_means_to_rounding(dtype, by, passes):
    """`by` in units of the rounding of a product of many terms."""
    dtype = tf.as_dtype(dtype)
    size = {"float16": 1e-2, "bfloat16": 4e-2, "float32": 1e-5, "float64": 1e-12}
    a = tf.constant([1.0, 1e-3, np.nan, np.inf, -np.inf], dtype)
    b = a * tf.constant(1 + by * size[dtype.name], dtype)
    check = assert_same([a], [b], a)
    if passes:
        run(check)
    else:
        with pytest.raises(tf.errors.InvalidArgumentError):
            run(check)


@pytest.mark.parametrize(
    "a, b",
    [
        ([np.nan], [1.0]),
        ([np.inf], [-np.inf]),
        ([1.0], [np.inf]),
        ([0.0], [1e-30]),
        ([1], [2]),
        ([True], [False]),
        ([[1.0], [1.0]], [1.0, 1.0]),
        ([1.0], [1.0, 1.0]),
        ([1j], [2j]),
    ],
    ids=str,
)
def test_what_is_not_equal_fails_the_run(a, b):
    a, b = tf.constant(a), tf.constant(b)
    with pytest.raises(tf.errors.InvalidArgumentError):
        run(assert_same([a], [b], tf.zeros([2])))


def test_what_has_cancelled_is_no_more_exact_than_x():
    x = tf.constant([3.0, -2.0], tf.float64)
    zero = tf.constant([0.0], tf.float64)
    run(assert_same([zero], [zero + 4e-16], x))
    with pytest.raises(tf.errors.InvalidArgumentError):
        run(assert_same([zero], [zero + 4e-14], x))


def test_a_sum_is_as_exact_as_its_terms():
    """Of terms that cancel, in another order."""
    terms = np.random.RandomState(0).randn(10000).astype(np.float32)
    terms -= terms.mean()
    first = tf.reduce_sum(tf.constant(terms))
    second = tf.reduce_sum(tf.constant(np.sort(terms)))
    run(assert_same([first], [second], first))


def test_nothing_to_compare_is_no_check(x):
    assert assert_same([x], [x], x) is None


def _square_matrices(x):
    return tf.reshape(x, [-1, 2, 2]) + 2.0 * tf.eye(2, dtype=x.dtype)


NOT_CORRECTED = {
    "det": lambda x: tf.linalg.det(_square_matrices(x))[:, None],
    "slogdet": lambda x: tf.linalg.slogdet(_square_matrices(x))[1][:, None],
    "inverse": lambda x: tf.linalg.inv(_square_matrices(x)),
    "adjoint inverse": lambda x: tf.linalg.inv(_square_matrices(x), adjoint=True),
    "moments": lambda x: tf.nn.moments(x, [1], keep_dims=True)[1],
    "product": lambda x: tf.reduce_prod(x, 1, keepdims=True),
    "cumulative product": lambda x: tf.math.cumprod(x, 1, exclusive=True),
    "maximum": lambda x: tf.nn.max_pool(x[:, :, None, None], [1, 3, 1, 1], 1, "SAME"),
    "softsign": tf.nn.softsign,
    "xlogy": lambda x: tf.math.xlogy(x, tf.square(x)),
    "cross entropy": lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.nn.softmax(x), logits=x
    )[:, None],
}


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("name", sorted(NOT_CORRECTED))
def test_what_a_custom_gradient_keeps_from_correction_is_right_or_refused(
    name, zeros, random
):
    x = tf.placeholder(tf.float64, [None, 4])
    y = tf.reduce_sum(MATHEMATICS["overridden"](NOT_CORRECTED[name](x), x))
    value = random.randn(3, 4)
    if zeros:
        value[:, 1] = 0
    try:
        result = run(batchhess.hessians(y, x)[0], {x: value})
    except (batchhess.SecondDerivativeError, tf.errors.InvalidArgumentError) as error:
        assert "hessians: " in str(error)
        return
    with unoptimized() as session:
        truth = value_curvatures(session.make_callable(y, [x]), value, step=1e-2)
    found = curvatures_of(result[None], truth.directions)
    trusted = truth.errors < 1e-6
    assert trusted.any()
    np.testing.assert_allclose(found[trusted], truth.along[trusted], atol=1e-5)


def test_a_gradient_of_a_loop_of_moments_in_f_is_refused():
    tf.enable_control_flow_v2()
    x = tf.placeholder(tf.float64, [None, 3])

    def step(t):
        return tf.sin(t) / (1 + tf.nn.moments(t, [1], keep_dims=True)[1])

    _, t = tf.while_loop(lambda i, _: i < 2, lambda i, t: (i + 1, step(t)), (0, x))
    (slope,) = tf.gradients(tf.reduce_sum(t**2), x)
    with pytest.raises(batchhess.SecondDerivativeError, match="gradient of a loop"):
        batchhess.hessians(tf.reduce_sum(slope * x), x)
