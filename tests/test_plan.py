"""The plan: methods and what is asked for are records, and get every check."""

import numpy as np
import pytest
from oracles import run

import batchhess
from batchhess import arguments, building, planning, rewriting
from batchhess.analysis.partition import NoPartitionError
from batchhess.compat import tf
from batchhess.methods import METHODS, Method
from batchhess.methods.columns import columns
from batchhess.ops.states import NotProvenError
from batchhess.passes import Passes
from batchhess.problem import WHOLE, Request


def coupled(x):
    return tf.reduce_sum(tf.sin(x) * tf.reduce_mean(x**2, 0))


@pytest.fixture
def twin(monkeypatch):
    """A method entered by its record alone."""
    monkeypatch.setitem(METHODS, "twin", Method(columns))


def test_a_twin_of_columns_is_refused_where_observations_are_coupled(twin, random):
    x = tf.placeholder(tf.float64, [None, 3])
    hessian = batchhess.hessians(coupled(x), x, method="twin")[0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="are coupled"):
        run(hessian, {x: random.randn(5, 3)})


def test_a_twin_of_columns_is_right_where_they_are_not(twin, random):
    x = tf.placeholder(tf.float64, [None, 3])
    value = random.randn(5, 3)
    result = run(batchhess.hessians(tf.exp(x), x, method="twin")[0], {x: value})
    np.testing.assert_allclose(result, np.exp(value)[:, None] * np.eye(3))


def test_a_twin_of_differences_is_refused_when_built(monkeypatch):
    record = Method(METHODS["differences"].build, differentiates_twice=False)
    monkeypatch.setitem(METHODS, "twin", record)
    x = tf.placeholder(tf.float64, [None, 3])
    with pytest.raises(ValueError, match="method='twin' moves all observations"):
        batchhess.hessians(coupled(x), x, method="twin")


def count(monkeypatch, module, name):
    calls, function = [], getattr(module, name)

    def counted(*args, **kwargs):
        calls.append(name)
        return function(*args, **kwargs)

    monkeypatch.setattr(module, name, counted)
    return calls


def test_proof_partition_and_correction_run_once(monkeypatch):
    names = ("prove", "partition", "correct", "audit")
    calls = [count(monkeypatch, planning, name) for name in names]
    x = tf.placeholder(tf.float64, [None, 8])
    y = tf.reduce_sum(tf.tanh(tf.matmul(x, tf.ones([8, 4], tf.float64))), 1)
    batchhess.hessians(y, x, method="symmetric")
    assert [len(c) for c in calls] == [1, 1, 1, 1]


def test_several_xs_take_one_correction_and_one_gradient(monkeypatch):
    corrections = count(monkeypatch, planning, "correct")
    gradients = count(monkeypatch, Passes, "gradients")
    xs = [tf.placeholder(tf.float64, [None, 2]) for _ in range(3)]
    planning.plan(Request([tf.add_n(xs) ** 3], xs, "hess", WHOLE, Passes()))
    assert [len(corrections), len(gradients)] == [1, 1]


@pytest.mark.parametrize("inner", [tf.identity, lambda x: tf.map_fn(tf.sin, x)])
def test_of_xs_computed_from_each_other_each_has_its_own_hessian(inner, random):
    value = random.randn(3, 2)

    def answered(*names):
        with tf.Graph().as_default():
            x = tf.placeholder(tf.float64, [None, 2])
            z = inner(x)
            y = tf.map_fn(lambda row: tf.exp(row), z) * x
            by = {"x": x, "z": z}
            return run(batchhess.hessians(y, [by[name] for name in names]), {x: value})

    by_x, by_z = answered("x", "z")
    np.testing.assert_array_equal(answered("x", "x")[1], by_x)
    np.testing.assert_array_equal(answered("x")[0], by_x)
    np.testing.assert_array_equal(answered("z")[0], by_z)
    step, total = 1e-4, np.sin if inner is not tf.identity else (lambda x: x)

    def f(x):
        return np.exp(total(x)) * x

    second = (f(value + step) - 2 * f(value) + f(value - step)) / step**2
    np.testing.assert_allclose(by_x, second[:, None] * np.eye(2), atol=1e-5)


def test_one_of_several_xs_that_others_are_computed_from(random):
    """z is what the correction of y builds anew if it does not stop at z."""
    x, other = (tf.placeholder(tf.float64, [None, 2]) for _ in range(2))
    z = tf.cumprod(x, axis=1)
    y = tf.reduce_prod(tf.exp(z), 1) + tf.reduce_sum(other**3, 1)
    values = {x: random.randn(3, 2), other: random.randn(3, 2)}
    values[x][1] = 0
    found = run(batchhess.hessians(y, [x, z, other]), values)
    for tensor, result in zip([x, z, other], found):
        value = values.get(tensor)
        if value is None:
            value = np.cumprod(values[x], 1)
        a, b = value[:, 0], value[:, 1]
        if tensor is other:
            expected = 6 * value[:, :, None] * np.eye(2)
        elif tensor is z:
            expected = np.exp(a + b)[:, None, None] * np.ones((2, 2))
        else:
            f = np.exp(a + a * b)
            cross = (1 + (1 + b) * a) * f
            rows = [[(1 + b) ** 2 * f, cross], [cross, a**2 * f]]
            expected = np.moveaxis(np.array(rows), 2, 0)
        np.testing.assert_allclose(result, expected, rtol=1e-10)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_explain_names_the_method_that_is_built(monkeypatch, size):
    called = []
    for name, method in list(METHODS.items()):

        def build(problem, passes, name=name, build=method.build):
            called.append(name)
            return build(problem, passes)

        monkeypatch.setitem(METHODS, name, method._replace(build=build))
    x = tf.placeholder(tf.float64, [None, size])
    y = tf.reduce_sum(tf.sort(tf.tanh(x), axis=1) ** 2, 1)
    explained = dict(batchhess.explain(y, x)[0].lines)["method"]
    batchhess.hessians(y, x)
    assert called and explained.startswith(called[0])


@pytest.mark.parametrize("error", [NoPartitionError, NotProvenError])
def test_no_private_error_reaches_a_user(monkeypatch, error):
    """Where the graph does not tell, the answer is by columns or an error of ours."""
    x = tf.placeholder(tf.float64, [None, 8])
    y = tf.reduce_sum(tf.tanh(x) ** 3, 1)

    def lost(*args):
        raise error(None, "is lost") if error is NoPartitionError else error("is lost")

    module, name = {
        NoPartitionError: (planning, "partition"),
        NotProvenError: (batchhess.analysis.partition, "alignment"),
    }[error]
    monkeypatch.setattr(module, name, lost)
    assert batchhess.hessians(y, x)[0].shape.as_list() == [None, 8, 8]
    with pytest.raises(ValueError, match="method='symmetric' cannot follow"):
        batchhess.hessians(y, x, method="symmetric")


def test_private_errors_of_rebuilding_stay_inside(monkeypatch):
    from batchhess.control_flow import scope

    x = tf.placeholder(tf.float64, [None, 2])
    loop = tf.map_fn(tf.exp, x)
    monkeypatch.setattr(
        scope, "copy_op", lambda *args: (_ for _ in ()).throw(scope.NotBuiltError())
    )
    try:
        batchhess.hessians(loop, x)
    except ValueError as error:
        assert str(error).startswith("hessians: ")


def test_the_modules_of_the_boundary_are_the_ones_patched_here():
    assert building.plan is planning.plan
    assert planning.correct is rewriting.correct
    assert planning.arguments is arguments
