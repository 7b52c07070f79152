"""Rows picked by index in loops and branches, as decoders look up their words."""

import numpy as np
import pytest
from oracles import difference_blocks, difference_jacobians, initialize, run

import batchhess
from batchhess.compat import IS_V1, tf

ROWS = np.array([[0.3, -0.7, 1.1], [0.9, 0.2, -0.4]])
WORDS = np.array([[1, 4, 0], [6, 4, 2]])


def by_lookup(table, h, words, i):
    return h * tf.nn.embedding_lookup(table, words[:, i])


def by_one_index(table, h, words, i):
    return tf.gather(h, i, axis=1)[:, None] * tf.gather(table, i)


def by_columns(table, h, words, i):
    return h * tf.gather(table, [2, 0, i], axis=1)[0] * tf.gather(h, [1, 2, 0], axis=1)


def by_gather_nd(table, h, words, i):
    places = tf.stack([words[:, i], words[:, 0] % 3], axis=1)
    rows = tf.gather_nd(tf.sin(h), tf.range(tf.shape(h)[0])[:, None])
    return rows * tf.gather_nd(table, places)[:, None]


def in_a_branch(table, h, words, i):
    return tf.cond(
        i > 1,
        lambda: by_lookup(table, h, words, 0),
        lambda: tf.gather(h, [0, 0, 1], axis=1),
    )


FORMS = [by_lookup, by_one_index, by_columns, by_gather_nd, in_a_branch]


def picked_in_a_loop(forms):
    """x, y, the tables and the words: rows of references and of resources."""
    tf.disable_control_flow_v2()
    x = tf.placeholder(tf.float64, [None, 3])
    words = tf.placeholder(tf.int32, [None, 3])
    value = np.random.RandomState(1).randn(7, 3)
    tables = [
        tf.get_variable("of" + str(i), initializer=value, use_resource=i % 2 == 0)
        for i in range(len(forms))
    ]

    def body(i, h):
        picked = [form(t, h, words, i) for form, t in zip(forms, tables)]
        return i + 1, tf.tanh(0.1 + sum(tf.sin(p) for p in picked))

    return x, tf.while_loop(lambda i, _: i < 3, body, [0, x])[1], tables, words


def test_rows_picked_in_a_loop():
    x, y, _, words = picked_in_a_loop(FORMS)
    found = run(batchhess.hessians(y, x)[0], {x: ROWS, words: WORDS})
    expected = difference_blocks(y, x, ROWS, {words: WORDS})
    limit = np.abs(expected).max()
    assert limit > 1e-2
    np.testing.assert_allclose(found, expected, atol=1e-6 * limit)


def test_derivatives_of_hessians_by_the_rows_that_a_loop_picks():
    x, y, tables, words = picked_in_a_loop([by_lookup])
    (hessian,) = batchhess.hessians(y, x)
    loss = tf.reduce_sum(hessian**2)
    slopes = [tf.convert_to_tensor(s) for s in tf.gradients(loss, tables)]
    steps = [tf.placeholder(tf.float64, [7, 3]) for _ in tables]
    moves = [t.assign_add(s) for t, s in zip(tables, steps)]
    along = np.random.RandomState(2).randn(1, 7, 3)
    feed, losses = {x: ROWS, words: WORDS}, []
    with tf.Session() as session:
        initialize(session)
        change = np.sum(session.run(slopes, feed) * along)
        for step in (1e-5, -2e-5):
            session.run(moves, dict(zip(steps, step * along)))
            losses.append(session.run(loss, feed))
    np.testing.assert_allclose(change, (losses[0] - losses[1]) / 2e-5, rtol=1e-5)


SEQUENCES = {
    "rows": lambda x, lengths: tf.reverse_sequence(x, lengths, seq_axis=1),
    "columns": lambda x, lengths: tf.transpose(
        tf.reverse_sequence(tf.transpose(x), lengths, seq_axis=0, batch_axis=1)
    ),
    "another axis": lambda x, lengths: tf.reshape(
        tf.reverse_sequence(
            tf.reshape(x * [[1.0, 2.0, 3.0]], [-1, 1, 3]), lengths, seq_axis=2
        ),
        [-1, 3],
    ),
}


@pytest.mark.parametrize("method", ["auto", "symmetric", "columns"])
@pytest.mark.parametrize("name", sorted(SEQUENCES))
def test_sequences_back_to_front(name, method):
    """Each as far as its own length."""
    x = tf.placeholder(tf.float64, [None, 3])
    lengths = tf.placeholder(tf.int32, [None])
    turned = SEQUENCES[name](tf.tanh(x), lengths)
    y = tf.reduce_sum(turned * x * tf.constant([1.0, -2.0, 3.0], tf.float64), 1)
    feed = {x: ROWS, lengths: [2, 3]}
    result = run(batchhess.hessians(y, x, method=method)[0], feed)
    expected = difference_blocks(y, x, ROWS, {lengths: [2, 3]})
    np.testing.assert_allclose(result, expected, atol=1e-8)


def test_sequences_of_observations_are_coupled():
    x = tf.placeholder(tf.float64, [None, 3])
    turned = tf.reverse_sequence(tf.tanh(x), [2, 1, 2], seq_axis=0, batch_axis=1)
    (result,) = batchhess.hessians(tf.reduce_sum(turned * x, 1), x)
    with pytest.raises(tf.errors.InvalidArgumentError, match="coupled"):
        run(result, {x: ROWS})


@pytest.mark.parametrize("method", ["auto", "columns", "observations"])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_one_index_of_each_observation(count, method, random):
    """The Q value of the action taken: as many shared axes as the indices have."""
    if IS_V1:
        pytest.skip("the kernel of TensorFlow 1.15 refuses as many shared axes")
    x, action = tf.placeholder(tf.float64, [None, 3]), tf.placeholder(tf.int32, [None])
    values = tf.tanh(tf.matmul(x, tf.constant(random.randn(3, 3))))
    y = (tf.gather(values, action, batch_dims=1) - 1) ** 2
    feed = {x: random.randn(count, 3), action: random.randint(3, size=count)}
    found = batchhess.hessians(y, x, method=method)[0]
    diagonal = batchhess.hessian_diagonals(y, x)[0]
    rows = tf.gather(values, action, batch_dims=1)[:, None] * x
    slopes = batchhess.jacobians(rows, x, method="forward")[0]
    found, diagonal, slopes = run([found, diagonal, slopes], feed)
    expected = difference_blocks(y, x, feed[x], feed)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(
        diagonal, np.diagonal(expected, axis1=1, axis2=2), atol=1e-6
    )
    expected = difference_jacobians(rows, x, feed[x], feed)
    np.testing.assert_allclose(slopes, expected, atol=1e-6)


def test_indices_that_share_two_axes(random):
    if IS_V1:
        pytest.skip("the kernel of TensorFlow 1.15 refuses as many shared axes")
    x, words = (
        tf.placeholder(tf.float64, [None, 3, 2]),
        tf.placeholder(tf.int32, [None, 3]),
    )
    y = tf.gather(tf.sin(x), words, batch_dims=2) * x[:, :, 0]
    feed = {x: random.randn(4, 3, 2), words: random.randint(2, size=(4, 3))}
    found = batchhess.hessians(y, x)[0]
    np.testing.assert_allclose(
        run(found, feed), difference_blocks(y, x, feed[x], feed), atol=1e-6
    )
