"""x a Variable: as fast as a Tensor where the model only reads its value."""

import numpy as np
import pytest
import tensorflow

import batchhess
from batchhess.compat import tf

SEEDS = np.random.RandomState(7)
START = SEEDS.randn(5, 3)
DATA = SEEDS.randn(4, 3)


def several_reads(v):
    """A sum over the 3 columns of v, which is read four times."""
    top = tf.reduce_sum(tf.exp(tf.sin(v[:2])) * v[2:4])
    return top + tf.reduce_sum(tf.tanh(v) ** 2 * tf.reduce_sum(v**2, 0))


def several_reads_in_numpy(v):
    top = (np.exp(np.sin(v[:2])) * v[2:4]).sum(0)
    return top + (np.tanh(v) ** 2 * (v**2).sum(0)).sum(0)


def differences_of(f, value, step=1e-3):
    """[3, 5, 5] of f, which answers [3], by the columns of `value`."""
    size, count = value.shape
    blocks = np.zeros((count, size, size))
    for i, j in np.ndindex(size, size):
        for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            moved = value.copy()
            moved[i] += a * step / 2
            moved[j] += b * step / 2
            blocks[:, i, j] += a * b * f(moved) / step**2
    return blocks


def variable(use_resource):
    return tf.get_variable("theta", initializer=START, use_resource=use_resource)


def answers(session, fetches):
    session.run(tf.global_variables_initializer())
    return session.run(fetches)


resource = pytest.mark.parametrize("use_resource", [False, True])


@resource
@pytest.mark.parametrize("method", ["auto", "symmetric", "columns", "differences"])
def test_a_variable_that_is_read_several_times(use_resource, method):
    v = variable(use_resource)
    (hessian,) = batchhess.hessians(several_reads(v), v, batch_axis=1, method=method)
    with tf.Session() as session:
        result = answers(session, hessian)
    expected = differences_of(several_reads_in_numpy, START)
    np.testing.assert_allclose(result, expected, atol=1e-4 * np.abs(expected).max())


@resource
def test_explain_names_the_variable_and_its_method(use_resource):
    v = variable(use_resource)
    (told,) = batchhess.explain(several_reads(v), v, batch_axis=1)
    lines = dict(told.lines)
    assert "'theta:0'" in lines["f"]
    assert lines["method"].startswith("symmetric")
    assert "rewritten" not in lines


def test_a_reference_that_is_fed():
    """With a training step in the graph, so that what is read is read again."""
    v = variable(False)
    f = several_reads(v)
    tf.train.GradientDescentOptimizer(0.1).minimize(f)
    (hessian,) = batchhess.hessians(f, v, batch_axis=1)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        found = session.run(hessian, {v: START + 1})
    expected = differences_of(several_reads_in_numpy, START + 1)
    limit = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=limit)


@pytest.mark.parametrize("method", ["auto", "columns"])
def test_moments_that_references_hold(method):
    """What a batch norm with given moments leaves unwritten is not compared."""
    moments = [
        tf.get_variable(name, initializer=tf.fill([3], value), use_resource=False)
        for name, value in (("mean", 0.3), ("variance", 0.7))
    ]
    x = tf.placeholder(tf.float32, [None, 2, 2, 3])
    ones = tf.ones([3])
    h = tf.nn.fused_batch_norm(
        tf.tanh(x), ones, 0.2 * ones, *moments, epsilon=0.1, is_training=False
    )[0]
    (hessian,) = batchhess.hessians(tf.reduce_sum(h**2), x, method=method)
    value = SEEDS.randn(4, 2, 2, 3)
    t = np.tanh(value)
    h, slope = (t - 0.3) / np.sqrt(0.8) + 0.2, (1 - t**2) / np.sqrt(0.8)
    expected = 2 * (slope**2 - h * slope * 2 * t)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(5):
            found = session.run(hessian, {x: value}).reshape(4, 12, 12)
            for block, diagonal in zip(found, expected.reshape(4, 12)):
                np.testing.assert_allclose(block, np.diag(diagonal), atol=1e-5)


@resource
def test_the_hessian_is_of_the_value_that_f_saw_or_the_run_fails(use_resource):
    v = variable(use_resource)
    f = several_reads(v)
    (hessian,) = batchhess.hessians(f, v, batch_axis=1)
    step = tf.assign_add(v, tf.ones_like(v))
    with tf.Session() as session:
        for _ in range(10):
            session.run(tf.global_variables_initializer())
            try:
                result, value, _ = session.run([hessian, f, step])
            except tf.errors.InvalidArgumentError as error:
                assert "a variable was assigned in the same run" in str(error)
                continue
            before = several_reads_in_numpy(START).sum()
            at = START if abs(value - before) < 1e-9 else START + 1
            expected = differences_of(several_reads_in_numpy, at)
            scale = np.abs(expected).max()
            np.testing.assert_allclose(result, expected, atol=1e-4 * scale)


@pytest.mark.parametrize("way", ["in a function", "in a v1 loop", "by rows"])
def test_what_is_read_in_another_way_is_right_too(way):
    v = variable(True)
    if way == "in a function":
        y = tensorflow.function(lambda: tf.sin(v) ** 2, autograph=False)() * v
    elif way == "in a v1 loop":
        tf.disable_control_flow_v2()
        y = tf.map_fn(lambda i: tf.sin(v[i]) ** 2, tf.range(5), dtype=tf.float64) * v
    else:
        y = tf.sin(tf.gather(v, tf.range(5))) ** 2 * v
    try:
        (hessian,) = batchhess.hessians(y, v, batch_axis=1)
    except batchhess.SecondDerivativeError as error:
        assert way == "in a v1 loop" and "enable_control_flow_v2" in str(error)
        return
    with tf.Session() as session:
        result = answers(session, hessian)
    expected = differences_of(lambda v: (np.sin(v) ** 2 * v).sum(0), START)
    np.testing.assert_allclose(result, expected, atol=1e-4 * np.abs(expected).max())


@resource
def test_two_variables_and_a_tensor_that_one_of_them_makes(use_resource):
    v = variable(use_resource)
    w = tf.get_variable("w", initializer=DATA[:, :3], use_resource=use_resource)
    z = tf.sin(v)
    f = tf.reduce_sum(z**3) * 2 + tf.reduce_sum(tf.exp(w)) + tf.reduce_sum(w**3)
    found = batchhess.hessians(f, [v, w, z], batch_axis=1)
    with tf.Session() as session:
        by_v, by_w, by_z = answers(session, found)
    expected = differences_of(lambda v: 2 * (np.sin(v) ** 3).sum(0), START)
    np.testing.assert_allclose(by_v, expected, atol=1e-4)
    eye = np.eye(4) * (np.exp(DATA) + 6 * DATA).T[:, None]
    np.testing.assert_allclose(by_w, eye, atol=1e-9)
    np.testing.assert_allclose(by_z, np.eye(5) * 12 * np.sin(START).T[:, None])


# Other names for the memory of a reference, on the way from it to the model.
OTHER_NAMES = {
    "itself": lambda w: w,
    "reshape": lambda w: tf.reshape(w, [3, 3]),
    "squeeze": lambda w: tf.squeeze(tf.expand_dims(w, 0), [0]),
    "stop_gradient": tf.stop_gradient,
    "transpose": lambda w: tf.transpose(tf.transpose(w)),
    "a whole slice": lambda w: w[0:3],
    "placeholder_with_default": lambda w: tf.placeholder_with_default(w, [3, 3]),
}


def in_a_loop(h, layer):
    return tf.while_loop(lambda i, h: i < 6, lambda i, h: (i + 1, layer(h)), [0, h])[1]


@pytest.mark.parametrize("method", ["auto", "columns"])
@pytest.mark.parametrize("name", list(OTHER_NAMES) + ["a loop"])
def test_weights_that_change_after_f_has_read_them_fail_the_run(name, method):
    x = tf.placeholder(tf.float64, [None, 3])
    w = tf.get_variable("w", initializer=SEEDS.randn(3, 3), use_resource=False)
    weights = OTHER_NAMES.get(name, OTHER_NAMES["itself"])(w)

    def layer(h):
        return tf.tanh(tf.matmul(h, weights))

    if name == "a loop":
        tf.enable_control_flow_v2()
        h = in_a_loop(x, layer)
    else:
        h = layer(layer(layer(layer(x))))
    f = tf.reduce_sum(h, 1)
    (hessian,) = batchhess.hessians(f, x, method=method)
    value = SEEDS.randn(5, 3)
    with tf.control_dependencies([f]):
        step = tf.assign_add(w, tf.ones_like(w)).op
    with tf.Session() as session:
        session.run(w.initializer)
        before = session.run(hessian, {x: value})
        session.run(step, {x: value})
        after = session.run(hessian, {x: value})
        assert np.abs(before - after).max() > 1e-3
        for _ in range(10):
            session.run(w.initializer)
            try:
                found = session.run([hessian, step], {x: value})[0]
            except tf.errors.InvalidArgumentError as error:
                assert "a variable was assigned in the same run" in str(error)
                continue
            np.testing.assert_allclose(found, before, atol=1e-12)
