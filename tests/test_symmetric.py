"""The symmetric method, in blocks of observations and compiled."""

import importlib

import numpy as np
import pytest
import random_programs
from oracles import (
    assert_symmetric,
    count_ops,
    difference_blocks,
    difference_jacobians,
    run,
    sliced_hessians,
)

import batchhess
from batchhess.analysis.dominators import narrows
from batchhess.compat import IS_V1, tf
from batchhess.xla import compile_with_xla


def random_array(*shape):
    return np.random.RandomState(3).randn(*shape)


def weighted_loss(x, labels, weight):
    """The mean of weighted cross entropies: what a block must be given with x."""
    hidden = tf.tanh(tf.matmul(x, tf.constant(random_array(4, 5))) + 0.1)
    logits = tf.matmul(hidden, tf.constant(random_array(5, 3)))
    loss = tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)
    penalty = tf.reduce_sum(weight[:, None] * tf.square(hidden), 1)
    return tf.reduce_mean(weight * loss + penalty)


@pytest.mark.parametrize("method", ["auto", "symmetric"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 7])
def test_blocks_take_along_what_belongs_to_an_observation(small_blocks, count, method):
    x = tf.placeholder(tf.float64, [None, 4])
    labels = tf.placeholder(tf.float64, [None, 3])
    weight = tf.placeholder(tf.float64, [None])
    y = weighted_loss(x, labels, weight)
    feed = {
        x: random_array(count, 4),
        labels: np.eye(3)[np.arange(count) % 3],
        weight: np.arange(1.0, count + 1),
    }
    result = run(batchhess.hessians(y, x, method=method)[0], feed)
    np.testing.assert_allclose(result, sliced_hessians(y, x, feed), atol=1e-13)
    assert_symmetric(result)


def test_no_observations(small_blocks):
    x = tf.placeholder(tf.float32, [None, 4])
    y = tf.reduce_sum(tf.tanh(x) ** 2)
    result = run(batchhess.hessians(y, x, method="symmetric")[0], {x: np.zeros((0, 4))})
    assert result.shape == (0, 4, 4)


@pytest.mark.parametrize("one", [1, 5])
def test_a_factor_may_be_one_for_all_or_one_for_each(small_blocks, one):
    x = tf.placeholder(tf.float64, [None, 2])
    factor = tf.placeholder(tf.float64, [None, 2])
    feed = {x: random_array(5, 2), factor: random_array(one, 2) + 3}
    y = tf.reduce_sum(factor * tf.exp(x * factor))
    expected = np.exp(feed[x] * feed[factor]) * feed[factor] ** 3
    result = run(batchhess.hessians(y, x, method="symmetric")[0], feed)
    np.testing.assert_allclose(result, expected[:, :, None] * np.eye(2), rtol=1e-13)


def test_statistics_of_the_batch_stay_those_of_the_batch(small_blocks):
    """A stopped mean over observations is one number, not one for each block."""
    x = tf.placeholder(tf.float64, [None, 2])
    value = random_array(7, 2)
    y = tf.reduce_sum((x - tf.stop_gradient(tf.reduce_mean(x, 0))) ** 4)
    centred = value - value.mean(0)
    result = run(batchhess.hessians(y, x, method="symmetric")[0], {x: value})
    np.testing.assert_allclose(
        result, 12 * (centred**2)[:, :, None] * np.eye(2), rtol=1e-12
    )


def test_random_masks_are_those_of_the_value(small_blocks):
    x = tf.placeholder(tf.float64, [None, 3])
    mask = tf.random_uniform(tf.shape(x), dtype=tf.float64)
    y = tf.reduce_sum(mask * x**2)
    hessian = batchhess.hessians(y, x, method="symmetric")[0]
    drawn, result = run([mask, hessian], {x: random_array(8, 3)})
    np.testing.assert_allclose(result, 2 * drawn[:, :, None] * np.eye(3), rtol=1e-13)


@pytest.mark.parametrize("size", [3, 6])
def test_determinants(size, small_blocks, control_flow):
    """Of few coordinates and of many; of one matrix for each observation, and two."""
    x = tf.placeholder(tf.float64, [None, size * size])
    matrix, shift = tf.reshape(x, [-1, size, size]), 3 * np.eye(size)
    models = {
        "logarithm": tf.linalg.slogdet(tf.tanh(matrix) + shift)[1] * tf.sin(x[:, 0]),
        "whole": tf.linalg.det(tf.tanh(matrix) + shift),
        "several": tf.reduce_logsumexp(
            tf.linalg.slogdet(
                tf.stack([tf.tanh(matrix) + shift, tf.sin(matrix) - shift], 1)
            )[1],
            1,
        ),
        "folded": tf.reduce_sum(
            tf.linalg.slogdet(
                tf.reshape(
                    tf.stack([tf.tanh(matrix) + shift, tf.sin(matrix) - shift], 1),
                    [-1, size, size],
                )
            )[1]
        ),
    }
    value = random_array(4, size * size)
    for name, y in models.items():
        ours = run(batchhess.hessians(y, x, method="symmetric")[0], {x: value})
        expected = difference_blocks(y, x, value)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(ours, expected, atol=1e-8 * scale, err_msg=name)


def test_a_bias_along_the_observation_axis(small_blocks):
    """Observations on the last axis: BiasAdd's bias has one entry for each."""
    x = tf.placeholder(tf.float64, [2, None])
    bias = tf.placeholder(tf.float64, [None])
    y = tf.reduce_sum(tf.nn.bias_add(x, bias) ** 3)
    feed = {x: random_array(2, 5), bias: np.arange(5.0)}
    expected = 6 * (feed[x] + feed[bias]).T[:, :, None] * np.eye(2)
    hessian = batchhess.hessians(y, x, method="symmetric", batch_axis=1)[0]
    np.testing.assert_allclose(run(hessian, feed), expected, rtol=1e-13)


def test_random_programs(small_blocks):
    """As TensorFlow's own Hessians; and most can be done."""
    random = np.random.RandomState(11)
    done, left = 0, []
    for _ in range(12):
        with tf.Graph().as_default(), tf.Session() as session:
            x = tf.placeholder(tf.float64, [None, random_programs.K])
            value = random.randn(random_programs.N, random_programs.K)
            for _ in range(6):
                program = random_programs.draw(random, x)
                if program.coupling:
                    continue
                try:
                    (ours,) = batchhess.hessians(program.y, x, method="symmetric")
                except ValueError as why:
                    assert "cannot follow the observations" in str(why)
                    left.append(program.steps)
                    continue
                try:
                    (full,) = tf.hessians(program.y, x)
                except ValueError:  # Linear in x: tf.hessians cannot.
                    continue
                ours, full = session.run([ours, full], {x: value})
                expected = np.stack([full[n, :, n] for n in range(len(value))])
                scale = 1e-3 + np.abs(expected).max()
                np.testing.assert_allclose(
                    ours,
                    expected,
                    rtol=1e-9,
                    atol=1e-11 * scale,
                    err_msg=str(program.steps),
                )
                done += 1
    assert done > 15, left


@pytest.mark.parametrize(
    "ends",
    [
        lambda h, x: tf.nn.l2_loss(h * x),
        lambda h, x: tf.einsum("nk,nk->", h, x**2),
        lambda h, x: tf.reduce_sum(h * x) + tf.nn.l2_loss(x**2),
    ],
    ids=["l2_loss", "einsum", "both"],
)
def test_what_sums_over_observations_itself_goes_block_by_block(
    ends, small_blocks, random
):
    x = tf.placeholder(tf.float64, [None, 6])
    y = ends(tf.tanh(tf.matmul(x, tf.constant(random.randn(6, 6)))), x)
    (ours,) = batchhess.hessians(y, x)  # 1.15 makes a product of the einsum.
    (full,) = tf.hessians(y, x)
    found, full = run([ours, full], {x: random.randn(7, 6)})
    expected = np.stack([full[n, :, n] for n in range(7)])
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())


def test_what_is_fed_to_one_block_alone_fails_the_run(small_blocks, random):
    x = tf.placeholder(tf.float64, [None, 6])
    inner = tf.tanh(x)
    (found,) = batchhess.hessians(tf.reduce_sum(inner**3, 1), x, method="symmetric")
    value = random.randn(7, 6)
    fed = np.tanh(value)
    run(found, {x: value, inner: fed})
    fed[0] += 0.1
    with pytest.raises(tf.errors.InvalidArgumentError, match="inner tensor"):
        run(found, {x: value, inner: fed})


def matrices(x):
    """Two matrices of each observation that are no linear functions of x."""
    a = tf.reshape(tf.tanh(x), [-1, 2, 2])
    return a, tf.reshape(x**2, [-1, 2, 2])


PRODUCTS = {
    "matmul": lambda a, b: tf.matmul(a, b),
    "left transposed": lambda a, b: tf.matmul(a, b, transpose_a=True),
    "right transposed": lambda a, b: tf.matmul(a, b, transpose_b=True),
    "both transposed": lambda a, b: tf.matmul(a, b, True, True),
    "with itself": lambda a, b: tf.matmul(a, a, transpose_b=True) * tf.exp(b),
    "twice": lambda a, b: tf.matmul(tf.matmul(a, b), tf.sin(a)),
    "heads": lambda a, b: tf.matmul(
        tf.stack([a, b], 1), tf.stack([b, tf.cos(a)], 1), transpose_b=True
    ),
    "heads before observations": lambda a, b: tf.transpose(
        tf.matmul(tf.stack([a, b]), tf.stack([b, a])), [1, 0, 2, 3]
    ),
    "one matrix for all": lambda a, b: tf.matmul(a[:, None], tf.stack([a, b], 1)),
    "wide": lambda a, b: tf.matmul(tf.concat([a, b], 2), tf.concat([b, a], 1)),
    "tall": lambda a, b: tf.matmul(
        tf.concat([a, b, b], 1), tf.concat([b, a], 1), transpose_b=True
    ),
    "wide, left transposed": lambda a, b: tf.matmul(
        tf.concat([a, b], 2), tf.concat([b, a, b], 2), transpose_a=True
    ),
    "einsum": lambda a, b: tf.einsum("nij,njk->nik", a, b),
    "einsum in another order": lambda a, b: tf.einsum("nij,nkj->kin", a, b),
    "einsum to a number": lambda a, b: tf.einsum("nij,nij->n", a, b),
    "with a constant": lambda a, b: tf.matmul(
        a * b, tf.constant(random_array(1, 2, 2)), transpose_b=True
    ),
}


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("name", sorted(PRODUCTS))
def test_products_of_what_depends_on_x(small_blocks, name, linear):
    """With tangents of each observation, and with those that all share."""
    x = tf.placeholder(tf.float64, [None, 4])
    a, b = matrices(x)
    if linear:
        a, b = tf.reshape(2 * x, [-1, 2, 2]), tf.reshape(x - 1, [-1, 2, 2])
    product = PRODUCTS[name](a, b)
    y = tf.reduce_sum(tf.sin(product) * tf.constant(2.0, tf.float64))
    feed = {x: random_array(5, 4)}
    result = run(batchhess.hessians(y, x, method="symmetric")[0], feed)
    expected = sliced_hessians(y, x, feed)
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(result, expected, atol=1e-12 * np.abs(expected).max())


def test_symmetric_says_why_it_cannot():
    x = tf.placeholder(tf.float64, [None, 2])
    y = tf.reduce_sum(tf.square(tf.reduce_sum(x, 0)))
    with pytest.raises(ValueError, match="method='symmetric' cannot follow .*Square"):
        batchhess.hessians(y, x, method="symmetric")


@pytest.mark.parametrize("sizes", [(20, 100), (200, 400)])
def test_the_number_of_ops_depends_on_neither_k_nor_n(sizes):
    """It is another one from where the triangle is worth its while."""

    def count(size):
        with tf.Graph().as_default() as graph:
            x = tf.placeholder(tf.float64, [None, size])
            y = tf.reduce_sum(layers(tf.tanh, x, 4, 3))
            batchhess.hessians(y, x, method="symmetric")
            return count_ops(graph)

    assert count(sizes[0]) == count(sizes[1])


def layers(activation, x, *widths):
    for width in widths:
        shape = x.shape.as_list()[1], width
        weights = tf.constant(random_array(*shape) / np.sqrt(shape[0]))
        x = activation(tf.matmul(x, weights))
    return x


@pytest.mark.parametrize("widths", [(131, 131), (140, 20, 30)])
def test_many_coordinates(widths):
    """Only what is below the diagonal is multiplied; by 131, which nothing divides."""
    x = tf.placeholder(tf.float64, [None, 131])
    y = tf.reduce_sum(layers(tf.sin, x, *widths))
    feed = {x: random_array(2, 131)}
    result = run(batchhess.hessians(y, x, method="symmetric")[0], feed)
    assert_symmetric(result)
    expected = sliced_hessians(y, x, feed)
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(result, expected, atol=1e-13)


def decoded(code):
    return tf.reduce_sum(layers(tf.tanh, code, 9, 8, 9), 1)


# Of x with 10 coordinates, and a code of 2 or 3: how many sweeps start anew.
NARROWS = {
    "one": (1, lambda x: decoded(layers(tf.tanh, x, 6, 2))),
    "of one output only": (1, lambda x: decoded(layers(tf.sin, x, 2)) + x[:, 0] ** 3),
    "two side by side": (
        2,
        lambda x: decoded(layers(tf.sin, x, 2)) * 2.0 + decoded(layers(tf.exp, x, 3)),
    ),
    "within another": (
        2,
        lambda x: decoded(layers(tf.sin, layers(tf.sin, x, 5, 9, 9, 9, 9), 2, 8)),
    ),
    "passed by": (0, lambda x: decoded(layers(tf.sin, x, 3)) * x[:, 1]),
    "linear until the end": (1, lambda x: decoded(x[:, 1:3])),
    "of two axes": (
        1,
        lambda x: tf.reduce_sum(
            layers(tf.tanh, tf.reshape(x[:, :4] ** 2, [-1, 2, 2])[:, 1], 9, 9), 1
        ),
    ),
}


@pytest.mark.parametrize("name", sorted(NARROWS))
def test_what_sees_x_through_fewer_numbers(small_blocks, monkeypatch, name):
    starts = []
    monkeypatch.setattr(
        importlib.import_module("batchhess.methods.symmetric"),
        "narrows",
        lambda *given: starts.append(narrows(*given)) or starts[-1],
    )
    sweeps, function = NARROWS[name]
    x = tf.placeholder(tf.float64, [None, 10])
    y = function(x)
    feed = {x: random_array(5, 10)}
    result = run(batchhess.hessians(y, x, method="symmetric")[0], feed)
    expected = sliced_hessians(y, x, feed)
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(result, expected, atol=1e-12)
    assert_symmetric(result)
    assert sum(len(found) for found, _ in starts) == sweeps


def is_compiled(graph):
    """Whether a function of a GraphDef, or on 1.15 the call of one, goes to XLA."""
    functions = graph.library.function
    nodes = [node for f in functions for node in f.node_def] + list(graph.node)
    return any(f.attr["_XlaMustCompile"].b for f in functions) or any(
        node.attr["_xla_compile_id"].s for node in nodes
    )


@pytest.mark.parametrize("method", ["auto", "columns"])
@pytest.mark.parametrize("count", [0, 2, 7])
def test_compiled(small_blocks, count, method):
    x = tf.placeholder(tf.float64, [None, 4])
    labels = tf.placeholder(tf.float64, [None, 3])
    weight = tf.placeholder(tf.float64, [None])
    y = weighted_loss(x, labels, weight)
    feed = {
        x: random_array(count, 4),
        labels: np.eye(3)[np.arange(count) % 3],
        weight: np.arange(1.0, count + 1),
    }
    hessian = batchhess.hessians(y, x, method=method, jit_compile=True)[0]
    assert is_compiled(tf.get_default_graph().as_graph_def())
    result = run(hessian, feed)
    assert result.shape == (count, 4, 4)
    if count:
        np.testing.assert_allclose(result, sliced_hessians(y, x, feed), atol=1e-12)


def test_what_xla_cannot_compile_is_named():
    x = tf.placeholder(tf.float64, [None, 4])
    y = tf.reduce_sum(tf.linalg.det(tf.reshape(tf.exp(x), [-1, 2, 2])))
    with pytest.raises(
        ValueError, match="XLA cannot compile .*MatrixDeterminant.* built at .*Leave it"
    ):
        batchhess.hessians(y, x, jit_compile=True)


@pytest.mark.skipif(not IS_V1, reason="XLA of TensorFlow 2 does not crash")
def test_what_crashes_xla_of_tensorflow_1_is_refused():
    x = tf.placeholder(tf.float64, [None, 4])
    few = tf.placeholder(tf.bool, [2])
    _, lacking = compile_with_xla(
        lambda: [tf.reduce_all(tf.sin(x) < tf.cos(x)), tf.reduce_all(few)]
    )
    assert [op.type for op in lacking] == ["All"]


@pytest.mark.skipif(hasattr(tf, "xla"), reason="this TensorFlow has XLA")
def test_a_tensorflow_without_xla_says_so():
    x = tf.placeholder(tf.float32, [None, 2])
    with pytest.raises(NotImplementedError, match="no XLA on this TensorFlow"):
        batchhess.hessians(tf.reduce_sum(x**3), x, jit_compile=True)


def test_one_observation_broadcast_against_many_is_not_silently_wrong(random):
    """Its Hessian is a sum over the many: 2 for each of 5."""
    x = tf.placeholder(tf.float64, [None, 3])
    y = tf.reduce_sum((x - tf.constant(random.randn(5, 3))) ** 2)
    value = random.randn(1, 3)
    expected = 10 * np.eye(3)[None]
    by_columns = run(batchhess.hessians(y, x, method="columns")[0], {x: value})
    np.testing.assert_allclose(by_columns, expected)
    result = batchhess.hessians(y, x)[0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="is broadcast against"):
        run(result, {x: value})


ALL_ALIKE = {
    "AddN": lambda x, c: tf.add_n([tf.sin(x), c, x * x]) ** 3,
    "Select": lambda x, c: tf.where(c > 0, tf.sin(x) * x, x**3),
}


@pytest.mark.parametrize("name", sorted(ALL_ALIKE))
def test_one_observation_in_a_program_for_a_block_of_many(name, random):
    """Ops that do not broadcast: what lies beside it is filled up as it is."""
    x = tf.placeholder(tf.float64, (1, 3))
    y = ALL_ALIKE[name](x, tf.constant([[0.3, -0.4, 0.7]], tf.float64))
    value = random.randn(1, 3)
    result = run(batchhess.hessians(y, x, jit_compile=True)[0], {x: value})
    np.testing.assert_allclose(result, difference_blocks(y, x, value), atol=1e-7)


@pytest.mark.parametrize("count, size", [(2, 3), (0, 3), (1, 2), (3, 1)])
def test_products_of_all_pairs_of_coordinates_have_their_own_diagonal(count, size):
    x = tf.placeholder(tf.float64, [None, size])
    weights = random_array(size, size)
    pairs = tf.expand_dims(x, 2) * tf.expand_dims(x, 1)
    y = tf.reduce_sum(pairs * weights, [1, 2])
    found = run(
        [batchhess.laplacians(y, x)[0], batchhess.hessian_diagonals(y, x)[0]],
        {x: random_array(count, size)},
    )
    np.testing.assert_allclose(found[0], np.full(count, 2 * np.trace(weights)))
    diagonals = np.broadcast_to(2 * np.diag(weights), [count, size])
    np.testing.assert_allclose(found[1], diagonals, atol=1e-13)


@pytest.mark.parametrize("build", [tf.nn.softmax, tf.nn.log_softmax])
def test_softmax_along_an_inner_axis_is_followed(build):
    # It transposes in an order that is computed from the rank of x.
    x = tf.placeholder(tf.float64, [None, 2, 3])
    weights = random_array(2, 3)
    y = tf.reduce_sum(tf.square(build(x, axis=1)) * weights)
    value = random_array(4, 2, 3)
    result = run(batchhess.hessians(y, x, method="symmetric")[0], {x: value})
    np.testing.assert_allclose(result, difference_blocks(y, x, value), atol=1e-7)


@pytest.mark.skipif(IS_V1, reason="its einsum is made of other ops")
@pytest.mark.parametrize("equation", ["nii,nij->nj", "nij,nii->nj", "nii,njj->n"])
def test_einsum_of_a_diagonal_of_x(equation):
    x = tf.placeholder(tf.float64, [None, 3, 3])
    y = tf.reduce_sum(tf.square(tf.einsum(equation, tf.tanh(x), x)))
    value = random_array(2, 3, 3)
    truth = difference_blocks(y, x, value)
    found = run(
        [
            batchhess.hessians(y, x, method="symmetric")[0],
            batchhess.laplacians(y, x)[0],
        ],
        {x: value},
    )
    np.testing.assert_allclose(found[0], truth, atol=1e-6)
    np.testing.assert_allclose(found[1], np.einsum("nijij->n", truth), atol=1e-6)


@pytest.mark.parametrize("operator", ["hessians", "laplacians", "jacobians"])
@pytest.mark.parametrize("by", ["product", "matrices"])
def test_one_observation_broadcast_to_several_goes_by_columns(by, operator, random):
    """Where the graph tells that there is one; else the run fails, as above."""
    x = tf.placeholder(tf.float64, [1, 3])
    w = tf.constant(random.randn(5, 3))
    many = x * w if by == "product" else tf.matmul(x[:, None, :], w[:, :, None])
    y = tf.reduce_sum(tf.tanh(many))
    value = random.randn(1, 3)
    if operator == "jacobians":
        found = run(batchhess.jacobians(tf.reshape(y, [1, 1]), x)[0], {x: value})[:, 0]
        expected = difference_jacobians(tf.reshape(y, [1]), x, value)
    else:
        found = run(getattr(batchhess, operator)(y, x)[0], {x: value})
        expected = difference_blocks(y, x, value)
        if operator == "laplacians":
            expected = np.trace(expected, axis1=1, axis2=2)
    np.testing.assert_allclose(found, expected, atol=1e-6)
