"""Gradients of authors' own that a file has: they are followed, or refused."""

import subprocess
import sys

import numpy as np
import pytest
from tensorflow.python.framework.function import Defun

import batchhess
from batchhess.compat import IS_V1, tf

X = np.array([[0.3, 1.2, -2.4], [1.7, -0.6, 0.1]])


@Defun(tf.float64, tf.float64)
def straight_through(t, seed):
    return tf.identity(seed)


@Defun(tf.float64, grad_func=straight_through)
def nearest(t):
    return tf.round(t)


def stored(path):
    """A MetaGraph of x**2 times the nearest integer of x, of which the slope is 1."""
    x = tf.placeholder(tf.float64, [None, 3], name="x")
    tf.reduce_sum(nearest(x) * x**2, axis=1, name="f")
    tf.train.export_meta_graph(path)


@pytest.mark.parametrize("method", ["auto", "columns", "observations"])
def test_the_gradient_of_a_function_of_tensorflow_1(method, tmp_path):
    stored(str(tmp_path / "f.meta"))
    with batchhess.load(str(tmp_path / "f.meta")) as model:
        x, f = model.tensor("x"), model.tensor("f")
        with model.graph.as_default():
            built = batchhess.derivatives(f, x, method=method)
        found = [built.gradients[0], built.hessians[0], f]
        gradient, hessian, value = model.session.run(found, {x: X})
    whole = np.round(X)
    np.testing.assert_allclose(value, (whole * X**2).sum(1))
    np.testing.assert_allclose(gradient, X**2 + 2 * X * whole)
    expected = 4 * X + 2 * whole
    np.testing.assert_allclose(hessian, expected[:, :, None] * np.eye(3))


def steeper(factor):
    """The identity, with a slope of its author's own."""

    @Defun(tf.float64, tf.float64, func_name="slope")
    def slope(t, seed):
        return factor * seed

    @Defun(tf.float64, func_name="same", grad_func=slope)
    def same(t):
        return tf.identity(t)

    return same


def test_gradients_of_two_files_are_told_apart(tmp_path):
    """Both have a function and a gradient of the same names."""
    for factor in (2.0, 5.0):
        with tf.Graph().as_default():
            x = tf.placeholder(tf.float64, [None, 3], name="x")
            tf.reduce_sum(steeper(factor)(x) ** 2, axis=1, name="f")
            tf.train.export_meta_graph(str(tmp_path / "{}.meta".format(factor)))
    models = [batchhess.load(str(tmp_path / n)) for n in ("2.0.meta", "5.0.meta")]
    for model, factor in zip(models, (2.0, 5.0)):
        f, x = model.tensor("f"), model.tensor("x")
        with model.graph.as_default():
            (hessian,) = batchhess.hessians(f, x)
            copy = str(tmp_path / "copy{}.meta".format(factor))
            tf.train.export_meta_graph(copy)  # It knows the gradient by name alone.
        expected = np.tile(2 * factor**2 * np.eye(3), (2, 1, 1))
        np.testing.assert_allclose(model.session.run(hessian, {x: X}), expected)
        model.close()
        with batchhess.load(copy) as again, again.graph.as_default():
            f, x = again.tensor("f"), again.tensor("x")
            (hessian,) = batchhess.hessians(f, x)
            found = again.session.run(hessian, {x: X})
        np.testing.assert_allclose(found, expected)


def test_a_gradient_with_effects_is_not_built(tmp_path):
    @Defun(tf.float64, tf.float64)
    def told(t, seed):
        with tf.control_dependencies([tf.write_file("told.txt", "here")]):
            return tf.identity(seed)

    @Defun(tf.float64, grad_func=told)
    def same(t):
        return tf.identity(t)

    x = tf.placeholder(tf.float64, [None, 3], name="x")
    tf.reduce_sum(same(x) * x, axis=1, name="f")
    tf.train.export_meta_graph(str(tmp_path / "f.meta"))
    with batchhess.load(str(tmp_path / "f.meta")) as model, model.graph.as_default():
        f, x = model.tensor("f"), model.tensor("x")
        np.testing.assert_allclose(model.session.run(f, {x: X}), (X**2).sum(1))
        with pytest.raises(batchhess.SecondDerivativeError, match="not in the file"):
            batchhess.hessians(f, x)


PROGRAM = """
import tensorflow as tf

@tf.custom_gradient
def steep(x):
    return tf.sin(x), lambda seed: 3 * seed * tf.cos(x) * steep(x)

@tf.custom_gradient
def pair(x, y):
    t = x * y
    def gradient(of_sum, of_product):
        return of_sum + of_product * y, of_sum * 2 + of_product * x
    return (x + y, t), gradient

@tf.custom_gradient
def soft(x):
    e = tf.exp(x)
    return tf.math.log1p(e), lambda seed: 2 * seed * e / (1 + e)

class Model(tf.Module):
    def __init__(self):
        self.weights = tf.Variable([[1.0], [2.0], [-1.0]], dtype=tf.float64)

    @tf.function
    def inner(self, x):
        return tf.nn.silu(tf.matmul(x, self.weights))[:, 0]

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float64, "x")])
    def serve(self, x):
        total, product = pair(x, x * x)
        return {{
            "swish": self.inner(x),
            "steep": tf.reduce_sum(steep(x), 1),
            "pair": tf.reduce_sum(total * product, 1),
            "loop": tf.reduce_sum(
                tf.while_loop(
                    lambda i, t: i < 2, lambda i, t: (i + 1, soft(t)), [0, x]
                )[1],
                1,
            ),
            "branch": tf.reduce_sum(
                tf.cond(tf.shape(x)[0] > 0, lambda: soft(x), lambda: x), 1
            ),
        }}

model = Model()
tf.saved_model.save(model, {!r}, model.serve)
"""


@pytest.fixture(scope="module")
def model_of_tensorflow_2(tmp_path_factory):
    if IS_V1:
        pytest.skip(
            "TensorFlow 1 writes no such files, and cannot read their gradients"
        )
    path = tmp_path_factory.mktemp("stored")
    program = path / "save.py"
    program.write_text(PROGRAM.format(str(path / "model")))
    subprocess.check_call([sys.executable, str(program)], stderr=subprocess.DEVNULL)
    return str(path / "model")


def swish():
    w = np.array([1.0, 2.0, -1.0])
    t = X @ w
    s = 1 / (1 + np.exp(-t))
    curvature = s * (1 - s) * (2 + t * (1 - 2 * s))
    return curvature[:, None, None] * np.outer(w, w)


def branch():
    """The slope is twice that of softplus."""
    s = 1 / (1 + np.exp(-X))
    return (2 * s * (1 - s))[:, :, None] * np.eye(3)


def loop():
    """Softplus of softplus, each with twice its slope."""
    first = np.log1p(np.exp(X))
    s, t = 1 / (1 + np.exp(-X)), 1 / (1 + np.exp(-first))
    # 4 t(first) s, where the slope of first is 2 s.
    slope = 4 * (t * (1 - t) * 2 * s * s + t * s * (1 - s))
    return slope[:, :, None] * np.eye(3)


def pair():
    """(x + y) x y of y = x**2, where the sum's slope by y is taken for 2."""
    # Its gradient is x y (1 + 4 x) + (x + y) (y + 2 x**2), of the author's slopes; what
    # is differentiated again has its own: d(x y) = 3 x**2 and d(x + y) = 1 + 4 x.
    y = X**2
    product, total = X * y, X + y
    slope = 3 * y * (1 + 4 * X) + 4 * product
    slope += (1 + 4 * X) * 3 * y + total * 6 * X
    return slope[:, :, None] * np.eye(3)


@pytest.mark.parametrize(
    "expected, method",
    [
        (swish, "auto"),
        (swish, "columns"),
        (swish, "observations"),
        (pair, "auto"),
        (pair, "observations"),
        (branch, "auto"),
        (branch, "observations"),
        (loop, "auto"),
    ],
)
def test_gradients_of_tensorflow_2(expected, method, model_of_tensorflow_2):
    with batchhess.load(model_of_tensorflow_2) as model, model.graph.as_default():
        inputs, outputs = model.signatures["serving_default"]
        f, x = outputs[expected.__name__], inputs["x"]
        (hessian,) = batchhess.hessians(f, x, method=method)
        found = model.session.run(hessian, {x: X})
    np.testing.assert_allclose(found, expected(), atol=1e-12)


def test_a_gradient_of_a_gradient_is_not_in_the_file(model_of_tensorflow_2):
    with batchhess.load(model_of_tensorflow_2) as model, model.graph.as_default():
        inputs, outputs = model.signatures["serving_default"]
        (slope,) = tf.gradients(outputs["steep"], inputs["x"])
        found = model.session.run(slope, {inputs["x"]: X})
        np.testing.assert_allclose(found, 3 * np.cos(X) * np.sin(X))
        with pytest.raises(batchhess.SecondDerivativeError, match="not in the file"):
            batchhess.hessians(outputs["steep"], inputs["x"])


def test_a_gradient_outlives_export(model_of_tensorflow_2, tmp_path):
    path = str(tmp_path / "answers")
    with batchhess.load(model_of_tensorflow_2) as model:
        inputs, outputs = model.signatures["serving_default"]
        batchhess.export(model.session, path, outputs["swish"], inputs["x"])
    with batchhess.load(path) as model:
        inputs, outputs = model.signatures["hessians"]
        (x,) = inputs.values()
        found = model.session.run(outputs["hessians"], {x: X})
    np.testing.assert_allclose(found, swish(), atol=1e-12)
