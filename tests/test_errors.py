"""Bad input: one clear error, naming the tensor and the cure, phrase by phrase."""

import gc
import logging
import re
import subprocess
import sys

import numpy as np
import pytest
from oracles import run

import batchhess
from batchhess.compat import tf

EAGER = """
import tensorflow
tf = tensorflow.compat.v1
tf.enable_eager_execution()
import batchhess
x = tf.constant([[1.0, 2.0]])
for ys, xs in ((x, x), (x, tensorflow.Variable(x))):
    try:
        batchhess.hessians(ys, xs)
    except RuntimeError as error:
        print(error)
with tf.Graph().as_default():
    z = tf.placeholder(tf.float32, (None, 2))
    h = batchhess.hessians(z * z, z)[0]
    print(tf.Session().run(h, {z: [[1.0, 2.0]]}).tolist())
"""


def sine(values):
    return np.sin(values)


@pytest.fixture
def x():
    return tf.placeholder(tf.float32, (None, 3), name="x")


def refused(error, *phrases):
    """Expects `error` with every phrase, and the function's name in front."""
    pattern = "".join("(?=[^$]*{})".format(phrase) for phrase in phrases)
    return pytest.raises(error, match="^hessians: " + pattern)


def test_eager_mode_is_a_runtime_error_and_a_graph_inside_it_is_none():
    answer = subprocess.run(
        [sys.executable, "-c", EAGER],
        capture_output=True,
        text=True,
    )
    lines = answer.stdout.splitlines()
    assert len(lines) == 3, answer.stderr
    for line in lines[:2]:
        assert line.startswith("hessians: ")
        assert "eager tensor" in line and "disable_eager_execution()" in line
    assert lines[2] == "[[[2.0, 0.0], [0.0, 2.0]]]"


@pytest.mark.parametrize("dtype", [tf.int32, tf.complex64, tf.string, tf.bool])
@pytest.mark.parametrize("role", ["ys", "xs"])
def test_dtypes_that_have_no_derivative(dtype, role, x):
    z = tf.placeholder(dtype, (None, 3), name="z")
    ys, xs = (z, x) if role == "ys" else (x, z)
    with refused(TypeError, "'z:0' in " + role, dtype.name, "tf.cast"):
        batchhess.hessians(ys, xs)


@pytest.mark.parametrize("other", [np.ones((2, 3)), 3.0, None, "x:0"])
@pytest.mark.parametrize("role", ["ys", "xs"])
def test_no_tensor(other, role, x):
    ys, xs = (other, x) if role == "ys" else (x, other)
    with refused(TypeError, role + " must be a tf.Tensor", type(other).__name__):
        batchhess.hessians(ys, xs)


def test_a_sparse_tensor_is_no_tensor(x):
    with refused(TypeError, "must be a tf.Tensor", "SparseTensor"):
        batchhess.hessians(x, tf.sparse_placeholder(tf.float32, (2, 3)))


def test_an_empty_list(x):
    with refused(ValueError, "ys is an empty list"):
        batchhess.hessians([], x)


def test_unknown_rank():
    z = tf.placeholder(tf.float32, None, name="z")
    with refused(ValueError, "'z:0' has unknown rank", "set_shape"):
        batchhess.hessians(z * z, z)


def test_a_scalar_has_no_observations():
    z = tf.placeholder(tf.float32, (), name="z")
    with refused(ValueError, "'z:0' is a scalar", "tf.hessians"):
        batchhess.hessians(z * z, z)


@pytest.mark.parametrize("batch_axis", [2, -3])
def test_batch_axis_out_of_range(batch_axis, x):
    with refused(ValueError, "batch_axis={}".format(batch_axis), "'x:0'", r"\[-2, 2\)"):
        batchhess.hessians(x, x, batch_axis=batch_axis)


@pytest.mark.parametrize("batch_axis", [True, 0.0, "0"])
def test_batch_axis_of_another_type(batch_axis, x):
    with refused(TypeError, "batch_axis must be an int"):
        batchhess.hessians(x, x, batch_axis=batch_axis)


def test_different_graphs(x):
    with tf.Graph().as_default():
        y = tf.placeholder(tf.float32, (None,), name="y")
    with refused(ValueError, "'x:0'", "'y:0'", "different graphs"):
        batchhess.hessians(y, x)


def test_another_n_seen_when_building():
    z = tf.placeholder(tf.float32, (5, 3), name="z")
    y = tf.identity(tf.reduce_sum(z * z, 0), name="y")
    with refused(ValueError, "'y:0' of shape \\(3,\\)", "'z:0'", "observations", "sum"):
        batchhess.hessians(y, z)


@pytest.mark.parametrize("function", [batchhess.hessians, batchhess.derivatives])
def test_another_n_seen_when_running(function, x):
    y = tf.identity(tf.reduce_sum(x * x, 1)[1:], name="y")
    result = function(y, x)
    result = getattr(result, "hessians", result)
    with pytest.raises(tf.errors.InvalidArgumentError, match="number of observations"):
        run(result, {x: np.ones((5, 3))})


def test_per_output_needs_outputs(x):
    for ys in (tf.reduce_sum(x), [x, x]):
        with refused(ValueError, "per_output=True needs one y"):
            batchhess.hessians(ys, x, per_output=True)


def test_per_output_needs_observations_first():
    z = tf.placeholder(tf.float32, (3, 5), name="z")
    with refused(ValueError, "per_output=True", "axis 0", "Transpose"):
        batchhess.hessians(z, z, batch_axis=1, per_output=True)


def test_unconnected_gradients_of_another_kind(x):
    with refused(ValueError, "unconnected_gradients must be one of", "'maybe'"):
        batchhess.hessians(x, x, unconnected_gradients="maybe")


@pytest.mark.parametrize("method", ["columns", "observations"])
def test_a_second_derivative_lost_is_refused(method, x, control_flow):
    """py_func has a first derivative of None; inside the gradient it is a loss."""
    y = tf.reduce_sum(x * tf.py_func(sine, [x], tf.float32, name="sine"))
    with refused(
        batchhess.SecondDerivativeError,
        "second derivative with respect to 'x:0'",
        "'sine' \\((Eager)?PyFunc",
        "test_errors.py",
        "stop_gradient",
    ):
        batchhess.hessians(y, x, method=method)


def test_a_gradient_lost_is_refused_even_if_zeros_are_asked_for(x):
    y = tf.py_func(sine, [x], tf.float32, name="sine")
    y.set_shape([None, 3])
    for option in ("none", "zero"):
        with refused(batchhess.SecondDerivativeError, "the gradient", "'sine'"):
            batchhess.hessians(y, x, unconnected_gradients=option)


@pytest.mark.parametrize("shifted", [False, True])
def test_a_derivative_lost_among_the_bits_is_refused(shifted):
    """The bits of x are integers; read as a number again they are no step of it."""
    x = tf.placeholder(tf.float64, [None, 3], name="x")
    bits = tf.bitcast(x * x + 1, tf.int64)
    if shifted:  # As in the fast inverse square root.
        bits = 0x5FE6EB50C7B537A9 - tf.bitwise.right_shift(bits, tf.ones_like(bits))
    number = tf.bitcast(bits, tf.float64, name="number")
    with refused(batchhess.SecondDerivativeError, "x:0", "'number' \\(Bitcast"):
        batchhess.hessians(tf.reduce_sum(x**3 * number), x)
    with refused(batchhess.SecondDerivativeError, "the gradient", "'number'"):
        batchhess.hessians(tf.reduce_sum(number), x)


def test_bits_of_steps_and_stopped_bits_are_constants():
    x = tf.placeholder(tf.float64, [None, 3])
    value = np.array([[0.3, -0.7, 1.2], [2.1, 0.4, -1.6]])
    stopped = tf.stop_gradient(tf.bitcast(tf.bitcast(x, tf.int64), tf.float64))
    # The bits of 1.0, and as many more as x is rounded to.
    step = tf.bitcast(tf.cast(x, tf.int64) + 0x3FF0000000000000, tf.float64)
    (result,) = batchhess.hessians(tf.reduce_sum(x**3 * (stopped + step)), x)
    found = run(result, {x: value})
    rounded = np.trunc(value).astype(np.int64) + 0x3FF0000000000000
    expected = 6 * value * (value + rounded.view(np.float64))
    np.testing.assert_allclose(found, expected[:, :, None] * np.eye(3))


def test_the_error_is_a_value_error():
    assert issubclass(batchhess.SecondDerivativeError, ValueError)


def test_an_error_of_the_users_own_gradient_stays_what_it_is():
    """A KeyError is a LookupError too, but not TensorFlow's for an op without one."""

    @tf.custom_gradient
    def cube(z):
        return z**3, lambda dy: {}["no such key"]

    x = tf.placeholder(tf.float64, [None, 2])
    with pytest.raises(KeyError, match="no such key"):
        batchhess.hessians(tf.reduce_sum(cube(x)), x)


def test_a_lookup_that_the_users_gradient_fails_stays_what_it_is(x):
    @tf.custom_gradient
    def sine(u):
        def gradient(dy):
            raise LookupError("no weights named 'w3'")

        return tf.sin(u), gradient

    with pytest.raises(LookupError, match="no weights named 'w3'") as told:
        batchhess.hessians(tf.reduce_sum(sine(x)), x)
    assert type(told.value) is LookupError


def test_a_gradient_that_says_it_has_no_derivative_is_told(x):
    """As that of tf.recompute_grad says."""

    @tf.custom_gradient
    def cosine(u):
        def gradient(_):
            raise NotImplementedError("the gradient of mine cannot be transposed")

        return tf.cos(u), gradient

    sine = tf.custom_gradient(lambda u: (tf.sin(u), lambda dy: dy * cosine(u)))(x)
    with pytest.raises(batchhess.UndefinedDerivativeError) as told:
        batchhess.hessians(tf.reduce_sum(sine), x)
    assert "the gradient of mine cannot be transposed. Write that" in str(told.value)


@pytest.mark.parametrize("method", ["symmetric", "columns"])
def test_what_is_missing_is_told_of_the_users_own_op(method):
    x = tf.placeholder(tf.float32, (None, 4))
    y = tf.nn.lrn(tf.reshape(x, [-1, 2, 1, 2]), name="mine")
    with pytest.raises(batchhess.UndefinedDerivativeError) as told:
        batchhess.hessians(tf.reduce_sum(y, [1, 2, 3]), x, method=method)
    assert "in a derivative of 'mine' (LRN), built at " in str(told.value)
    assert "no gradient is defined for it" in str(told.value)


@pytest.mark.parametrize("name", ["columns", "symmetric"])
def test_what_is_written_in_another_form_is_told_as_the_users_own_op(name):
    x = tf.placeholder(tf.float64, (None, 3))
    with tf.name_scope("mine"):
        variance = tf.nn.moments(x, [0])[1]
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)) as told:
        run(batchhess.hessians(x / (variance + 1), x, method=name), {x: np.eye(3)})
    words = r"mine/moments/SquaredDifference'? \(SquaredDifference\)"
    words += r"(, built at \S+test_errors\.py:\d+: it)? acts on a sum"
    assert re.search(words, str(told.value))


def test_a_product_of_no_factors_is_a_constant():
    x = tf.placeholder(tf.float64, (None, 3))
    y = tf.cumprod(tf.reshape(x, [-1, 1]), 1, exclusive=True)
    y = tf.reshape(y, [-1, 3])
    built = batchhess.hessians(y, x)[0], batchhess.jacobians(y, x)[0]
    whole, slopes = run(built, {x: np.ones((2, 3))})
    np.testing.assert_array_equal(whole, np.zeros((2, 3, 3)))
    np.testing.assert_array_equal(slopes, np.zeros((2, 3, 3)))


def test_a_gradient_that_is_not_in_the_file_is_told(x):
    """What custom_gradient and RegisterGradient are given is Python."""
    with tf.get_default_graph().gradient_override_map({"Sin": "OfAnotherProcess"}):
        y = tf.sin(x) ** 2
    with pytest.raises(batchhess.UndefinedDerivativeError) as caught:
        batchhess.hessians(y, x)
    assert "'Sin' (Sin), built at" in str(caught.value)
    assert "@tf.RegisterGradient('OfAnotherProcess')" in str(caught.value)


@pytest.mark.parametrize("operator", [batchhess.hessians, batchhess.jacobians])
def test_a_gradient_that_has_but_a_number_in_a_file_is_not_trusted(operator):
    """tf.custom_gradient counts in each process anew."""

    @tf.custom_gradient
    def sine(u):
        return tf.sin(u), lambda dy: dy * tf.cos(u)

    with tf.Graph().as_default() as graph:
        tf.identity(sine(tf.placeholder(tf.float64, [None, 3], name="x")), name="y")
        model = graph.as_graph_def()
    x = tf.placeholder(tf.float64, [None, 3])
    (y,) = tf.import_graph_def(model, {"x": x}, ["y:0"])
    with pytest.raises(batchhess.SecondDerivativeError, match="has the same number"):
        operator(y, x)
    (found,) = operator(sine(x), x)  # A gradient of this very process.
    assert np.isfinite(run(found, {x: np.ones((2, 3))})).all()


def test_tensorflow_does_not_complain_of_checks_that_a_refusal_leaves_unused(x):
    told, logger = [], logging.getLogger("tensorflow")
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: told.append(record.getMessage())
    logger.addHandler(handler)
    try:
        y = tf.scatter_nd([[0], [2], [1]], tf.transpose(x), [3, tf.shape(x)[0]])
        with refused(batchhess.UndefinedDerivativeError, "TensorFlow cannot"):
            batchhess.hessians(tf.reduce_sum(tf.tanh(y), 0), x)
        gc.collect()
    finally:
        logger.removeHandler(handler)
    assert not told
