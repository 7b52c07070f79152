"""Where a call may stand: graphs, scopes, loops, branches, functions, training."""

import numpy as np
import pytest
import tensorflow
from oracles import (
    difference_blocks,
    difference_jacobians,
    run,
    sliced_hessians,
)

import batchhess
from batchhess.compat import tf


def cubes(x):
    """sum(x)^3 of each observation: 6 sum(x) everywhere in its block."""
    return tf.reduce_sum(tf.reduce_sum(x, 1) ** 3)


def expected_of_cubes(value):
    return np.tile(6 * value.sum(1)[:, None, None], (1, 3, 3))


@pytest.fixture
def value(random):
    return random.randn(4, 3)


@pytest.fixture
def x():
    return tf.placeholder(tf.float64, (None, 3), name="x")


def test_from_another_default_graph(x, value, control_flow):
    y = cubes(x)
    with tf.Graph().as_default() as other:
        result = batchhess.hessians(y, x, name="h")[0]
        assert not other.get_operations()
    assert result.graph is x.graph
    np.testing.assert_allclose(run(result, {x: value}), expected_of_cubes(value))


def test_name_and_device_scopes(x, value, control_flow):
    y = cubes(x)
    with tf.device("/cpu:0"), tf.name_scope("outer"):
        result = batchhess.hessians(y, x, name="h")[0]
    assert result.name == "outer/h:0"
    assert result.device == "/device:CPU:0"
    np.testing.assert_allclose(run(result, {x: value}), expected_of_cubes(value))


@pytest.mark.parametrize("where", ["outside", "inside"])
@pytest.mark.parametrize("method", ["columns", "observations"])
def test_inside_while_loop(where, method, x, value, control_flow):
    y = cubes(x)

    def body(i, total):
        f = y if where == "outside" else cubes(x) * tf.cast(i + 1, tf.float64)
        return i + 1, total + batchhess.hessians(f, x, method=method)[0]

    start = tf.zeros(tf.stack([tf.shape(x)[0], 3, 3]), tf.float64)
    total = tf.while_loop(lambda i, _: i < 2, body, (0, start))[1]
    times = 2 if where == "outside" else 3
    result = run(total, {x: value})
    np.testing.assert_allclose(result, times * expected_of_cubes(value))


@pytest.mark.parametrize("where", ["outside", "inside"])
@pytest.mark.parametrize("taken", [True, False])
def test_inside_cond(where, taken, x, value, control_flow):
    y = cubes(x)
    pred = tf.placeholder(tf.bool, ())

    def branch():
        return batchhess.hessians(y if where == "outside" else cubes(x), x)[0]

    result = tf.cond(pred, branch, lambda: -branch())
    expected = expected_of_cubes(value) * (1 if taken else -1)
    np.testing.assert_allclose(run(result, {x: value, pred: taken}), expected)


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("method", ["columns", "observations"])
def test_f_holds_a_cond(taken, method, x, value, control_flow):
    pred = tf.placeholder(tf.bool, ())
    y = tf.cond(pred, lambda: cubes(tf.sin(x)), lambda: tf.reduce_sum(tf.exp(x)))
    result = run(batchhess.hessians(y, x, method=method)[0], {x: value, pred: taken})
    other = cubes(tf.sin(x)) if taken else tf.reduce_sum(tf.exp(x))
    expected = sliced_hessians(other, x, {x: value})
    np.testing.assert_allclose(result, expected, atol=1e-11)


@pytest.mark.parametrize("where", ["outside", "inside"])
def test_inside_tf_function(where, x, value):
    def build(x):
        return batchhess.hessians(cubes(x), x)[0]

    def build_around():
        return batchhess.hessians(cubes(x), x)[0]

    if where == "inside":
        result = tensorflow.function(build)(x)
    else:
        result = tensorflow.function(build_around)()
    np.testing.assert_allclose(run(result, {x: value}), expected_of_cubes(value))


def test_f_holds_a_tf_function(x, value):
    y = tensorflow.function(cubes)(x)
    result = run(batchhess.hessians(y, x)[0], {x: value})
    np.testing.assert_allclose(result, expected_of_cubes(value))


def normalized(t):
    mean, variance = tf.nn.moments(t, [1], keep_dims=True)
    return (t - mean) / tf.sqrt(variance + 0.1)


def test_f_is_compiled_in_part(random):
    """Of a program in a loop and outside of it XLA of 1.15 ends the process."""
    tf.enable_control_flow_v2()
    value = random.randn(3, 4)
    x = tf.placeholder(tf.float32, [None, 4])

    def model(t):
        return tf.cond(tf.reduce_sum(t) > -9, lambda: tf.tanh(t) * t, lambda: t)

    with tf.xla.experimental.jit_scope():
        h = normalized(x)
    h = tensorflow.function(model, autograph=False)(h)
    h.set_shape(x.shape)
    (result,) = batchhess.hessians(tf.reduce_sum(h**3, 1), x, check="always")
    with tf.Session() as session:  # With its optimizer.
        found = session.run(result, {x: value})
    wide = tf.placeholder(tf.float64, [None, 4])
    h = normalized(wide)
    y = tf.reduce_sum((tf.tanh(h) * h) ** 3, 1)
    expected = difference_blocks(y, wide, value)
    limit = 1e-3 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=limit)


def test_inside_map_fn(x, value, control_flow):
    y = cubes(x)
    scales = tf.constant([1.0, 2.0], tf.float64)
    results = tf.map_fn(lambda s: s * batchhess.hessians(y, x)[0], scales)
    expected = expected_of_cubes(value)
    np.testing.assert_allclose(run(results, {x: value}), [expected, 2 * expected])


def test_a_while_loop_of_control_flow_v2_is_differentiated(x):
    """x^4 by two squarings: 12 x^2, 48 at 2."""
    tf.enable_control_flow_v2()
    y = tf.while_loop(lambda i, _: i < 2, lambda i, a: (i + 1, a * a), (0, x))[1]
    result = run(batchhess.hessians(y, x)[0], {x: np.full((2, 3), 2.0)})
    np.testing.assert_allclose(result, np.tile(48 * np.eye(3), (2, 1, 1)))


@pytest.mark.parametrize("exponential", [False, True])
def test_a_while_loop_of_control_flow_v1_is_differentiated(x, exponential):
    """x^4, and exp(x) beside it, which plain TensorFlow gets alone."""
    tf.disable_control_flow_v2()
    y = tf.while_loop(lambda i, _: i < 2, lambda i, a: (i + 1, a * a), (0, x))[1]
    y = tf.reduce_sum(y)
    if exponential:
        y += tf.reduce_sum(tf.exp(x))
    result = run(batchhess.hessians(y, x)[0], {x: np.full((2, 3), 2.0)})
    expected = (48 + exponential * np.exp(2)) * np.eye(3)
    np.testing.assert_allclose(result, np.tile(expected, (2, 1, 1)), rtol=1e-12)
    assert not tf.control_flow_v2_enabled()


def test_a_v1_loop_inside_a_v1_loop_that_calls_is_refused(x):
    """A v2 loop cannot be differentiated there."""
    tf.disable_control_flow_v2()
    y = tf.while_loop(lambda i, _: i < 2, lambda i, a: (i + 1, a * a), (0, x))[1]

    def body(i, total):
        return i + 1, total + tf.reduce_sum(batchhess.hessians(y, x)[0])

    with pytest.raises((ValueError, TypeError), match="(?i)while loop"):
        tf.while_loop(lambda i, _: i < 2, body, (0, tf.constant(0.0, tf.float64)))


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_a_v1_loop_that_is_linear_in_x_adds_nothing(weight, x, value):
    tf.disable_control_flow_v2()
    y = tf.while_loop(lambda i, _: i < 2, lambda i, a: (i + 1, a * 2.0), (0, x))[1]
    y = weight * tf.reduce_sum(y) + cubes(x)
    result = run(batchhess.hessians(y, x)[0], {x: value})
    np.testing.assert_allclose(result, expected_of_cubes(value))


def test_a_v1_loop_that_does_not_see_x_is_no_obstacle(x, value):
    tf.disable_control_flow_v2()
    weight = tf.while_loop(
        lambda i, _: i < 3,
        lambda i, a: (i + 1, a * a),
        (0, tf.constant(2.0, tf.float64)),
    )[1]
    result = run(batchhess.hessians(weight * cubes(x), x)[0], {x: value})
    np.testing.assert_allclose(result, 256 * expected_of_cubes(value))


LATE = {
    "loop": lambda x: tf.while_loop(
        lambda i, _: i < 2, lambda i, a: (i + 1, tf.sin(a) * x), (0, x)
    )[1],
    "branch": lambda x: tf.cond(
        tf.reduce_sum(x) > 1e3, lambda: x**2, lambda: tf.sin(x) * x**2
    ),
    "function": lambda x: tensorflow.function(lambda z: tf.tanh(z) * z**2)(x),
    "loop of branches in a function": lambda x: tensorflow.function(
        lambda z: LATE["loop"](LATE["branch"](z))
    )(x),
}


@pytest.mark.parametrize("name", sorted(LATE))
@pytest.mark.parametrize("with_gradient", [False, True])
def test_built_after_the_session_has_run_the_model(name, with_gradient, x, value):
    """As in a notebook, under control flow v2: plain TensorFlow cannot."""
    tf.enable_control_flow_v2()
    y = LATE[name](x)
    seen = [y] + (tf.gradients(y, x) if with_gradient else [])
    with tf.Session() as session:
        session.run(seen, {x: value})
        (hessian,) = batchhess.hessians(y, x)
        result = session.run(hessian, {x: value})
    expected = difference_blocks(y, x, value)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(result, expected, atol=1e-7)


def test_what_a_function_holds_goes_by_the_symmetric_way(x, value):
    y = tensorflow.function(lambda z: tf.tanh(z) * tf.reduce_sum(z, 1)[:, None])(x)
    result = run(batchhess.hessians(y, x, method="symmetric")[0], {x: value})
    expected = sliced_hessians(y, x, {x: value})
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_dynamic_rnn_of_ragged_lengths(random):
    tf.enable_control_flow_v2()
    if not hasattr(tf.nn.rnn_cell, "BasicLSTMCell"):
        pytest.skip("the rnn cells of compat.v1 need Keras 2")
    x = tf.placeholder(tf.float64, (None, 3, 2))
    cell = tf.nn.rnn_cell.BasicLSTMCell(2, dtype=tf.float64)
    lengths = tf.constant([1, 3, 2, 3])
    outputs, _ = tf.nn.dynamic_rnn(cell, x, sequence_length=lengths, dtype=tf.float64)
    y = tf.reduce_sum(outputs**2)
    (result,) = batchhess.hessians(y, x)
    (gradient,) = tf.gradients(y, x)
    value = random.randn(4, 3, 2)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        result = session.run(result, {x: value})
        for index in np.ndindex(3, 2):
            moved = [value.copy(), value.copy()]
            moved[0][(slice(None),) + index] += 1e-5
            moved[1][(slice(None),) + index] -= 1e-5
            up, down = [session.run(gradient, {x: m}) for m in moved]
            expected = (up - down) / 2e-5
            np.testing.assert_allclose(
                result[(slice(None),) + index], expected, atol=1e-8
            )
    assert np.abs(result).max() > 1e-3


def test_a_lstm_of_static_steps(random, control_flow):
    weights = tf.constant(random.randn(4, 8))
    x = tf.placeholder(tf.float64, (None, 2))
    h = c = tf.zeros_like(x)
    for _ in range(2):
        i, j, f, o = tf.split(tf.matmul(tf.concat([x, h], 1), weights), 4, axis=1)
        c = c * tf.sigmoid(f + 1) + tf.sigmoid(i) * tf.tanh(j)
        h = tf.tanh(c) * tf.sigmoid(o)
    y = tf.reduce_sum(h * c)
    value = random.randn(2, 2)
    result = run(batchhess.hessians(y, x)[0], {x: value})
    np.testing.assert_allclose(result, sliced_hessians(y, x, {x: value}), atol=1e-12)


@pytest.mark.parametrize("method", ["columns", "observations"])
def test_the_result_is_differentiable_twice_more(method, x, value, control_flow):
    """sum_n sum_ij H = 9 * 6 s, s = sum(x): squared and differentiated twice."""
    y = tf.reduce_sum(tf.reduce_sum(x, 1) ** 4)
    hessian = batchhess.hessians(y, x, method=method)[0]  # 12 s^2 everywhere
    third = tf.gradients(hessian, x)[0]  # 9 * 24 s
    fourth = tf.gradients(third, x)[0]  # 3 * 9 * 24
    third, fourth = run([third, fourth], {x: value})
    s = value.sum(1, keepdims=True)
    np.testing.assert_allclose(third, 216 * s * np.ones((1, 3)), rtol=1e-10)
    np.testing.assert_allclose(fourth, np.full((4, 3), 648.0), rtol=1e-10)


def test_a_hessian_of_a_hessian(x, value, control_flow):
    y = tf.reduce_sum(tf.reduce_sum(x, 1) ** 4)
    inner = batchhess.hessians(y, x)[0]
    outer = batchhess.hessians(tf.reduce_sum(inner), x)[0]
    np.testing.assert_allclose(run(outer, {x: value}), np.full((4, 3, 3), 216.0))


@pytest.mark.parametrize("use_resource", [True, False], ids=["resource", "ref"])
def test_a_hessian_penalty_trains(use_resource, x, random, control_flow):
    """Fits a curve while its Hessian is pulled to a wanted one."""
    w = tf.get_variable(
        "w", initializer=random.randn(3, 8) / 2, use_resource=use_resource
    )
    v = tf.get_variable("u", initializer=random.randn(8) / 2, use_resource=use_resource)
    y = tf.reduce_sum(tf.tanh(tf.matmul(x, w)) * v, 1)
    hessian = batchhess.hessians(y, x)[0]
    target = tf.constant(0.1 * np.eye(3))
    penalty = tf.reduce_mean(tf.reduce_sum((hessian - target) ** 2, [1, 2]))
    step = tf.train.GradientDescentOptimizer(0.1).minimize(penalty)
    feed = {x: random.randn(16, 3)}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        start = session.run(penalty, feed)
        slope = session.run(tf.gradients(penalty, [v])[0], feed)
        first = session.run(v)
        differences = []
        for j in range(2):
            ends = []
            for sign in (1, -1):
                moved = first.copy()
                moved[j] += sign * 1e-5
                v.load(moved, session)
                ends.append(session.run(penalty, feed))
            differences.append((ends[0] - ends[1]) / 2e-5)
        np.testing.assert_allclose(slope[:2], differences, rtol=1e-6)
        v.load(first, session)
        for _ in range(100):
            session.run(step, feed)
        assert session.run(penalty, feed) < 0.5 * start


@pytest.mark.parametrize(
    "options",
    [
        {"colocate_gradients_with_ops": True},
        {"gate_gradients": True},
        {"aggregation_method": tf.AggregationMethod.ADD_N},
        {"parallel_iterations": 1},
        {"swap_memory": True},
    ],
    ids=lambda options: list(options)[0],
)
def test_options_pass_through(options, x, value, control_flow):
    result = batchhess.hessians(cubes(x), x, **options)[0]
    np.testing.assert_allclose(run(result, {x: value}), expected_of_cubes(value))


def test_a_meta_graph_round_trip(x, value, control_flow):
    batchhess.hessians(cubes(x), x, name="h")
    meta_graph = tf.train.export_meta_graph()
    with tf.Graph().as_default():
        tf.train.import_meta_graph(meta_graph)
        with tf.Session() as session:
            result = session.run("h:0", {"x:0": value})
    np.testing.assert_allclose(result, expected_of_cubes(value))


def test_one_thread_between_ops(x, value, control_flow):
    result = batchhess.hessians(cubes(x), x)[0]
    config = tf.ConfigProto(inter_op_parallelism_threads=1)
    with tf.Session(config=config) as session:
        np.testing.assert_allclose(
            session.run(result, {x: value}), expected_of_cubes(value)
        )


def test_the_program_keeps_its_control_flow(x, control_flow):
    before = tf.control_flow_v2_enabled()
    batchhess.hessians(cubes(x), x)
    assert tf.control_flow_v2_enabled() == before
    bad = tf.py_func(lambda v: np.sin(v), [x], tf.float64)
    with pytest.raises(batchhess.SecondDerivativeError):
        batchhess.hessians(tf.reduce_sum(x * bad), x)
    assert tf.control_flow_v2_enabled() == before


TWICE = {
    "added to itself": lambda h: h + h,
    "three of it": lambda h: tf.add_n([h, h, h]),
    "with itself between": lambda h: h + tf.tanh(h) + h,
}


@pytest.mark.parametrize("twice", sorted(TWICE))
def test_a_bias_that_is_added_twice_outlives_the_optimizer(twice, value, control_flow):
    """It gathers the terms, and may lose those that come from outside of a loop."""
    value = np.tile(value, 2)
    x = tf.placeholder(tf.float64, (None, 6))
    biases = tf.constant([0.1, -0.2, 0.3], tf.float64), tf.placeholder(tf.float64, [3])
    h = tf.matmul(x, tf.constant(value[:3].T)) + biases[0]
    y = tf.reduce_sum(tf.sin(TWICE[twice](h)) + TWICE[twice](x[:, :3] + biases[1]), 1)
    feed = {x: value, biases[1]: np.ones(3)}
    expected = difference_blocks(y, x, value, {biases[1]: np.ones(3)})
    found = run(batchhess.hessians(y, x, method="symmetric")[0], feed)
    np.testing.assert_allclose(found, expected, atol=1e-8)


def imported(build, keep_gradients):
    """x and `build(x)` of a MetaGraph, which may be of another process."""
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float64, (None, 6), name="x")
        tf.identity(build(x), name="y")
        meta = tf.train.export_meta_graph()
    for node in () if keep_gradients else meta.graph_def.node:
        node.attr.pop("_gradient_op_type", None)  # Only its own process knows them.
    tf.train.import_meta_graph(meta)
    return [tf.get_default_graph().get_tensor_by_name(n) for n in ("x:0", "y:0")]


def called_twice(x):
    inner = tensorflow.function(lambda t: tf.sin(t) * t, autograph=False)
    return tensorflow.function(lambda t: inner(t) * t, autograph=False)(x)


def test_an_imported_function_is_differentiated_in_a_loop(random):
    x, y = imported(called_twice, keep_gradients=False)
    value = random.randn(3, 6)
    result = run(batchhess.jacobians(y, x)[0], {x: value})
    np.testing.assert_allclose(result, difference_jacobians(y, x, value), atol=1e-8)


def test_a_call_that_tensorflow_cannot_differentiate_is_named(random):
    x, y = imported(called_twice, keep_gradients=True)
    try:
        (result,) = batchhess.jacobians(y, x)
    except batchhess.UndefinedDerivativeError as error:
        assert "(PartitionedCall)" in str(error)
        return
    value = random.randn(3, 6)
    expected = difference_jacobians(y, x, value)
    np.testing.assert_allclose(run(result, {x: value}), expected, atol=1e-8)
