"""Complex numbers between x and f: each op is right, or is refused."""

import sys

import numpy as np
import pytest
from op_programs import OPS
from oracles import run, unoptimized

import batchhess
from batchhess.analysis.region import Region
from batchhess.compat import IS_V1, tf
from batchhess.ops.table import OF_COMPLEX, all_declared
from batchhess.rewriting import correct

X = np.array([[0.3, -0.2, 0.4], [-0.5, 0.1, 0.2]])
STEP = 2e-4
ALONG = np.array([0.6, -0.9, 0.7])

# They hand values on, whatever these are.
FLOW = ("call", "case", "cond", "loop", "list", "print", "placeholder")
# They round to float32, take their matrix for a symmetric one, or have no gradient.
OTHERS = ("cast_to_", "cholesky", "logdet", "eigh_v", "svd_v", "rfft", "irfft")
OTHERS += ("batch_norm", "avg_pool3d", "max_pool3d", "matrix_exponential")
OTHERS += ("batch_matmulV3",)  # It has no kernel for them.
OTHERS += ("acos", "asin", "atan", "svd", "max", "min") if IS_V1 else ()  # Nor these.


class _Complex:
    """tf, but for constants of float64, which are complex."""

    def __getattr__(self, name):
        return getattr(tf, name)

    @staticmethod
    def constant(*args, **kwargs):
        made = tf.constant(*args, **kwargs)
        is_real = made.dtype == tf.float64
        return tf.cast(made, tf.complex128) * (1 + 0.3j) if is_real else made

    @staticmethod
    def eye(size, dtype=tf.float32):
        return tf.eye(size, dtype=tf.complex128 if dtype == tf.float64 else dtype)


@pytest.fixture
def build(monkeypatch):
    """A function of x and the name of a program to [N], or None: its y."""
    for name, module in list(sys.modules.items()):
        if name.startswith("op_programs.") and hasattr(module, "tf"):
            monkeypatch.setattr(module, "tf", _Complex())

    def built(x, name):
        try:
            y = summed(OPS[name].build(numbers(x, OPS[name].domain)))
            tf.gradients(y, x)
        except (TypeError, ValueError, NotImplementedError):
            return None  # It takes real numbers only, or has no such gradient.
        return y

    return built


def numbers(x, domain):
    """16 complex numbers of [N, 3], the real parts of which are in the domain."""
    random, (low, high) = np.random.RandomState(3), domain
    angles = [tf.matmul(x, tf.constant(random.randn(3, 16))) for _ in range(2)]
    real = (low + high) / 2 + (high - low) / 4 * tf.sin(angles[0])
    return tf.complex(real, 0.4 * tf.cos(angles[1]))


def summed(terms):
    """[N], a sum in which each part of each number counts."""
    if terms.shape.ndims == 0:
        raise ValueError("a sum over N")
    terms = tf.reshape(terms, [tf.shape(terms)[0], -1])
    weight = tf.cast(tf.range(tf.shape(terms)[1]), tf.float64)
    if terms.dtype.is_complex:
        parts = tf.math.real(terms), tf.math.imag(terms)
        terms = tf.sin(1 + weight) * parts[0] + tf.cos(weight) * parts[1]
    else:
        terms *= tf.sin(1 + weight)
    found = tf.reduce_sum(terms, 1)
    return found + 0.1 * found**2


def complex_types(y, x):
    """The types of the ops between x and y that read or make complex numbers."""
    return {
        op.type
        for op in Region([y], x).ops
        if any(t.dtype == tf.complex128 for t in list(op.inputs) + list(op.outputs))
    }


def may_be_wrong(types):
    faults = [f for t in types if t in all_declared() for f in all_declared()[t].faults]
    return any(f.does == OF_COMPLEX.does for f in faults)


def curvatures(y, x):
    """[P, N, 3, 3], by differences of y, which is [N, P]."""
    moves = STEP * np.eye(3)
    with unoptimized() as session:

        def at(row):
            return session.run(y, {x: X + row}).T

        result = [
            [(at(a + b) - at(a - b) - at(b - a) + at(-a - b)) / 4 for b in moves]
            for a in moves
        ]
    return np.moveaxis(result, [0, 1], [2, 3]) / STEP**2


NAMES = [name for name in sorted(OPS) if not name.startswith(FLOW + OTHERS)]
PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_hessians_through_complex_numbers(part, build):
    """What is said to be right is, by TensorFlow alone; the rest is refused or right.

    Those that are said to be right are differentiated at once, each by an x of its own,
    and along one direction, in which an error of the Hessian shows.
    """
    x, built, others = tf.placeholder(tf.float64, [None, 3]), {}, []
    for name in NAMES[part::PARTS]:
        own_x = tf.identity(x)
        y = build(own_x, name)
        if y is None:
            continue
        (y,) = correct([y], [own_x], {})
        if may_be_wrong(complex_types(y, own_x)):
            others.append(name)
        else:
            built[name] = y, own_x
    ys, xs = zip(*built.values())
    slopes = tf.gradients(ys, xs)
    products = tf.gradients([tf.reduce_sum(s * ALONG, 1) for s in slopes], xs)
    with unoptimized() as session:
        found = session.run(products, {x: X})
    expected = curvatures(tf.stack(ys, 1), x).dot(ALONG)
    wrong = {
        name: np.abs(f - e).max() / np.abs(e).max()
        for name, f, e in zip(built, found, expected)
        if not np.abs(f - e).max() < 1e-3 * np.abs(e).max()
    }
    assert len(built) > 60 // PARTS and not wrong
    refused = [name for name in others if is_refused_or_right(build, name)]
    assert refused or not others


def test_a_choice_between_complex_numbers():
    x = tf.placeholder(tf.float64, [None, 3])
    z = tf.where(x > 0, tf.complex(x, x**2), tf.complex(x**3, x))
    y = tf.reduce_sum(tf.math.real(z**2), 1)
    expected = curvatures(y[:, None], x)[0]
    found = run(batchhess.hessians(y, x)[0], {x: X})
    np.testing.assert_allclose(found, expected, atol=1e-5)


def is_refused_or_right(build, name):
    """Whether it is refused; else it must be right."""
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float64, [None, 3])
        y = build(x, name)
        try:
            (result,) = batchhess.hessians(y, x)
        except batchhess.SecondDerivativeError:
            return True
        expected = curvatures(y[:, None], x)[0]
        limit = 1e-3 * np.abs(expected).max()
        np.testing.assert_allclose(run(result, {x: X}), expected, atol=limit)
        return False
