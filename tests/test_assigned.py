"""Variables that a run assigns a function of x, and reads.

They are refused, as TensorFlow's derivatives know nothing of it; their neighbours are
answered.
"""

import numpy as np
import pytest
import tensorflow
from oracles import difference_blocks, initialize, run
from test_wrong_gradients import OPERATORS, ROWS, answer

import batchhess
from batchhess.compat import tf


@pytest.fixture
def x():
    return tf.placeholder(tf.float64, [None, 3], name="x")


READ_BACK = {
    "itself": lambda w: tf.identity(w),
    "anew": lambda w: w.read_value(),
    "gathered": lambda w: tf.gather(w, [0, 2]),
}


READ = READ_BACK["anew"]


def after_an_assignment(x, value, use_resource, way, chain, update=tf.assign):
    """A function of x and of a variable read after `update(w, value)` has run."""
    w = tf.get_variable("w", initializer=np.ones(3), use_resource=use_resource)
    change = tf.group(update(w, value))
    for _ in range(chain):
        with tf.control_dependencies([change]):
            change = tf.no_op()
    with tf.control_dependencies([change]):
        read = READ_BACK[way](w)
    return tf.reduce_sum(x**3, 1) + tf.reduce_sum(read**2)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("use_resource", [False, True])
@pytest.mark.parametrize("way", sorted(READ_BACK))
@pytest.mark.parametrize("chain", [0, 2])
def test_a_variable_that_is_read_back(operator, use_resource, way, chain, x):
    y = after_an_assignment(x, tf.sin(x[0]), use_resource, way, chain)
    with pytest.raises(batchhess.SecondDerivativeError, match="reads a variable that"):
        answer(operator, y, x)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("use_resource", [False, True])
def test_a_variable_that_is_assigned_what_another_was(operator, use_resource, x):
    w, v = (
        tf.get_variable(name, initializer=np.ones(3), use_resource=use_resource)
        for name in "wv"
    )
    with tf.control_dependencies([tf.assign(w, tf.sin(x[0]))]):
        twice = 2 * READ(w)
    with tf.control_dependencies([tf.assign(v, twice)]):
        read = READ(v)
    with pytest.raises(batchhess.SecondDerivativeError, match="reads a variable that"):
        answer(operator, tf.reduce_sum(x**3 * read, 1), x)


@pytest.mark.parametrize("use_resource", [False, True])
@pytest.mark.parametrize("way", sorted(READ_BACK))
def test_a_variable_that_is_trained_or_assigned_a_constant(use_resource, way, x):
    for update, value in (
        (tf.assign_sub, tf.sin(x[0])),
        (tf.assign, tf.ones(3, x.dtype)),
    ):
        with tf.variable_scope(update.__name__):
            y = after_an_assignment(x, value, use_resource, way, 1, update)
        found = run(answer("hessians", y, x), {x: ROWS})
        np.testing.assert_allclose(found, 6 * ROWS[:, :, None] * np.eye(3))


def in_a_branch(w, value, is_inside):
    def update():
        with tf.control_dependencies([tf.assign(w, value)]):
            return w.read_value() if is_inside else tf.zeros_like(value)

    return tf.cond(tf.reduce_sum(value) < 9, update, lambda: tf.ones_like(value))


def in_a_function(w, value, is_inside):
    @tensorflow.function
    def update(value):
        w.assign(value)
        return w.read_value() if is_inside else tf.zeros_like(value)

    return update(value)


def in_a_function_of_a_function(w, value, is_inside):
    return tensorflow.function(lambda v: in_a_function(w, v, is_inside))(value)


def in_a_loop(w, value, is_inside):
    def step(i, total):
        read = w.read_value() if is_inside else tf.zeros_like(value)
        with tf.control_dependencies([read]):
            return i + 1, total + read + 0 * tf.assign(w, value)

    return tf.while_loop(lambda i, _: i < 2, step, (0, tf.zeros_like(value)))[1]


PLACES = [in_a_branch, in_a_function, in_a_function_of_a_function, in_a_loop]


def read_back(x, place, value, is_inside):
    """[N], of x and of what a variable was assigned in that place, and read there."""
    w = tf.get_variable("w", initializer=np.ones(3), use_resource=True)
    read = place(w, value, is_inside)
    if not is_inside:
        with tf.control_dependencies([read]):
            read = w.read_value()
    return tf.reduce_sum(x**3, 1) + tf.reduce_sum(read**2)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("is_inside", [True, False])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_a_variable_assigned_in_another_place(
    place, is_inside, operator, control_flow, x
):
    y = read_back(x, place, tf.sin(x[0]), is_inside)
    with pytest.raises(batchhess.SecondDerivativeError, match=r"reads a variable|loop"):
        answer(operator, y, x)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_a_constant_assigned_in_another_place(place, control_flow, x):
    y = read_back(x, place, tf.constant([0.2, 0.3, 0.4], x.dtype), True)
    found = run(answer("hessians", y, x), {x: ROWS})
    np.testing.assert_allclose(found, 6 * ROWS[:, :, None] * np.eye(3))


def test_moments_that_a_layer_keeps_in_training(control_flow, x):
    """Of the batch in training, where they are kept, and else what was kept."""
    training = tf.placeholder_with_default(False, [])
    kept = tf.get_variable("kept", initializer=np.ones(3), use_resource=True)
    h = x
    for _ in range(2):  # The layers share what they keep.
        mean = tf.reduce_mean(h, 0)

        def batch(h=h, mean=mean):
            with tf.control_dependencies([tf.assign(kept, 0.9 * kept + 0.1 * mean)]):
                return tf.tanh(h - mean)

        h = tf.cond(training, batch, lambda h=h: tf.tanh(h - kept.read_value()))
    result = batchhess.hessians(h, x)[0]
    expected = difference_blocks(h, x, ROWS)
    with tf.Session() as session:
        initialize(session)
        np.testing.assert_allclose(session.run(result, {x: ROWS}), expected, atol=1e-7)
