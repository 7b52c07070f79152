"""Reverse passes: what they build, beside tf.gradients."""

import numpy as np
import pytest
from oracles import count_runs, difference_blocks, run

import batchhess
from batchhess.compat import tf
from batchhess.passes import Passes

# Of x [N, 3] and a [K], or of the shapes told: sums of what is broadcast and what not.
TERMS = {
    "bias": (lambda x, a: tf.tanh(x) + a, [None, 3], [3]),
    "scalar": (lambda x, a: tf.exp(x) * a, [None, 3], []),
    "row": (lambda x, a: x / (2 + a**2), [None, 3], [1, 3]),
    "column": (lambda x, a: tf.sin(x) * a, [None, 3], [None, 1]),
    "both may be": (lambda x, a: x**2 * a, [None, 3], [None, 3]),
    "the same size": (lambda x, a: x * a - a, [5, 3], [5, 3]),
    "a size of one": (lambda x, a: tf.sin(x) * a, [None, 1], [3]),
    "ones alike": (lambda x, a: tf.sin(x) * a, [1, 3], [1, 1]),
    "a longer one": (lambda x, a: tf.cos(x) + a * x, [None, 3], [2, 1, 3]),
    "matrices": (lambda x, a: tf.matmul(tf.sin(x), a), [None, 2, 3], [None, 3, 2]),
    "one matrix": (lambda x, a: tf.matmul(tf.sin(x), a), [None, 2, 3], [1, 3, 2]),
    "itself": (lambda x, a: x * tf.tanh(x) + x[:, :1] * x, [None, 3], [3]),
}


def shapes(shape, count):
    return [count if d is None else d for d in shape]


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("term", sorted(TERMS))
def test_gradients_equal_those_of_tensorflow(term, count, random):
    build, *static = TERMS[term]
    xs = [tf.placeholder(tf.float64, shape) for shape in static]
    y = build(*xs)
    expected = tf.gradients([y], xs)
    found = Passes().gradients([y], xs)
    assert [g is None for g in found] == [g is None for g in expected]
    pairs = [(f, e) for f, e in zip(found, expected) if e is not None]
    for other in (count, 1) if term == "both may be" else (count,):
        sizes = shapes(static[0], count), shapes(static[1], other)
        feed = {x: random.randn(*size) for x, size in zip(xs, sizes)}
        for one, another in run(pairs, feed):
            np.testing.assert_allclose(one, another)


def network(x):
    for width in (4, 4, 1):
        w = tf.constant(np.random.RandomState(width).randn(x.shape.as_list()[1], width))
        x = tf.tanh(tf.matmul(x, w) + tf.constant(np.linspace(-1, 1, width)))
    return x


def test_no_sums_of_nothing_are_run(random):
    """Of a network with biases TensorFlow 1.15 sums each of three over no axes."""
    x = tf.placeholder(tf.float64, [None, 2])
    (gradient,) = Passes().gradients([network(x)], [x])
    assert count_runs(gradient, {x: random.randn(5, 2)}, "Sum") == 0


def test_derivatives_of_derivatives_are_proven_too(random):
    x, value = tf.placeholder(tf.float64, [None, 1]), random.randn(4, 1)
    second = batchhess.hessians(network(x), x)[0][:, 0]
    (told,) = batchhess.explain(second, x)
    assert told.separable
    (fourth,) = batchhess.hessians(second, x)
    expected = difference_blocks(second, x, value)
    np.testing.assert_allclose(run(fourth, {x: value}), expected, atol=1e-6)


def attention(x):
    """Of two tokens of one number each, to each other."""
    tokens = x[:, :, None] * tf.constant([[[0.7, -0.4]]], tf.float64)
    scores = tf.matmul(tokens, tf.sin(tokens), transpose_b=True)
    return tf.matmul(tf.nn.softmax(scores), tokens)


@pytest.mark.parametrize("model", [network, attention])
def test_a_gradient_written_by_hand_is_proven(model, random):
    x, value = tf.placeholder(tf.float64, [None, 2]), random.randn(4, 2)
    slopes = tf.reduce_sum(tf.gradients(model(x), x)[0] ** 2, 1)
    assert batchhess.explain(slopes, x)[0].separable
    (found,) = batchhess.hessians(slopes, x)
    expected = difference_blocks(slopes, x, value)
    np.testing.assert_allclose(run(found, {x: value}), expected, atol=1e-6)


def test_a_sum_over_observations_is_still_one():
    """The gradient by a bias that all observations share, as a part of f."""
    x = tf.placeholder(tf.float64, [None, 2])
    bias = tf.constant([0.1, 0.2], tf.float64)
    slope = tf.gradients(tf.sin(x + bias), bias)[0]  # Of all observations.
    assert not batchhess.explain(tf.reduce_sum(slope**2), x)[0].separable
