"""Softmax and cross entropies, read in other ops by `symmetric`."""

import numpy as np
import pytest
from oracles import difference_blocks, run, sliced_hessians, unoptimized

import batchhess
from batchhess.compat import tf

# Labels of four observations, and four classes of each model.
LABELS = np.eye(4)[[0, 3, 1, 0]]


def loss(logits):
    return tf.nn.softmax_cross_entropy_with_logits_v2(labels=LABELS, logits=logits)


MODELS = {
    "a loss of each": lambda z: loss(z),
    "a mean": lambda z: 2 * tf.reduce_mean(loss(z) * [1.0, 2, 3, 4]),
    "a square": lambda z: tf.reduce_sum(loss(z) ** 2),
    "softmax": lambda z: tf.reduce_sum(tf.nn.softmax(z) * [1.0, 2, 4, 8]),
    "a logarithm": lambda z: tf.nn.log_softmax(z) * [1.0, 2, 4, 8],
    "one in another": lambda z: tf.nn.log_softmax(3 * tf.nn.softmax(z))[:, 1],
    "of one in part": lambda z: tf.reduce_sum(tf.tanh(tf.nn.softmax(z)[:, 0])) * 3,
}


@pytest.mark.parametrize("size", [3, 9])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_what_is_fed_inside_counts_as_for_tensorflow_or_fails_the_run(
    name, size, random
):
    x = tf.placeholder(tf.float64, [None, size])
    value, weights = random.randn(4, size), random.randn(size, 4)
    y = MODELS[name](tf.matmul(x, weights) * 1.0)
    inside = [
        op.outputs[0]
        for op in x.graph.get_operations()
        if op.outputs
        and op.outputs[0].dtype == x.dtype
        and op.type not in ("Const", "Placeholder", "Cast")
    ]
    result = batchhess.hessians(y, x, method="symmetric")[0]
    whole = tf.hessians(y, x)[0]
    behind = [y] if y.shape.ndims == 0 else []  # All that follows is linear.
    with unoptimized() as session:
        for tensor in inside:
            feed = {x: value, tensor: 1.1 * session.run(tensor, {x: value})}
            try:
                found = session.run(result, feed)
            except tf.errors.InvalidArgumentError as error:
                told = "was fed", "labels that do not add up to one"
                assert any(t in str(error) for t in told) and tensor not in behind
            else:
                full = session.run(whole, feed)  # [N, K, N, K]
                rows = [full[n, :, n] for n in range(len(value))]
                np.testing.assert_allclose(found, rows, atol=1e-9)


def attention(x):
    tokens = tf.reshape(x, [-1, 3, 2])
    scores = tf.matmul(tokens, tokens, transpose_b=True)
    return tf.matmul(tf.nn.softmax(scores), tokens) ** 2


def by_hand(z, axis=1):
    e = tf.exp(z - tf.stop_gradient(tf.reduce_max(z, axis, keepdims=True)))
    return e / tf.reduce_sum(e, axis, keepdims=True)


def with_new_axes(z):
    e = tf.exp(z - tf.stop_gradient(tf.reduce_max(z, 1)[:, None]))
    return e / tf.expand_dims(tf.reduce_sum(e, axis=1), -1)


BENT = {
    "attention": attention,
    "by hand": lambda x: by_hand(x**2 + x[:, :1] ** 2)[:, 0],
    "by hand, of tokens": lambda x: by_hand(
        tf.reshape(x**2 + x[:, :1] ** 2, [-1, 3, 2]), axis=-2
    )[:, :, 0],
    "by hand, new axes": lambda x: with_new_axes(x**2 + x[:, :1] ** 2)[:, 0],
    "log sum exp": lambda x: tf.reduce_logsumexp(-(x**2) - x[:, :1] ** 2, 1),
    "log sum exp, kept": lambda x: tf.reduce_logsumexp(x**2, -1, keepdims=True),
    "log softmax": lambda x: tf.nn.log_softmax(x**2 + x[:, :1] ** 2)[:, 0],
    "a loss": lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=np.eye(6)[:1] * np.ones([50, 1]), logits=x**2 + x[:, :1] ** 2
    ),
    "a loss of classes": lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=np.zeros(50, int), logits=x**2 + x[:, :1] ** 2
    ),
}


@pytest.mark.parametrize("name", sorted(BENT))
def test_what_large_logits_have_in_common_costs_no_digits(name, random):
    """Logits of a million, each observation with its own magnitude, in float32."""
    value = random.randn(50, 6) * 10.0 ** random.uniform(-1, 3, [50, 1])
    value = value.astype("float32")
    x, exact = (
        tf.placeholder(tf.float32, [None, 6]),
        tf.placeholder(tf.float64, [50, 6]),
    )
    (hessian,) = batchhess.hessians(BENT[name](x), x, method="symmetric")
    # That of classes TensorFlow 1.15 does not differentiate twice: it is class 0.
    f = BENT["a loss" if name == "a loss of classes" else name](exact)
    (whole,) = tf.hessians(tf.reduce_sum(f), exact)
    with tf.Session() as session:
        found, whole = session.run([hessian, whole], {x: value, exact: value})
    for n in range(50):
        expected = whole[n, :, n]
        size = np.abs(expected).max()
        # Where it is next to nothing one class is as good as certain.
        np.testing.assert_allclose(found[n], expected, atol=max(1e-4 * size, 1e-6))


SUMS = {"one": 1.0, "rounded": 1 + 1e-6, "nothing": 0.0, "two": 2.0}


@pytest.mark.parametrize("name", sorted(SUMS))
@pytest.mark.parametrize("method", ["columns", "symmetric"])
def test_labels_that_do_not_add_up_to_one_are_told(method, name, random):
    """TensorFlow's gradient is softmax less labels, whatever these add up to."""
    x = tf.placeholder(tf.float64, [None, 3])
    given = tf.placeholder(tf.float64, [None, 4])
    logits = tf.tanh(tf.matmul(x, random.randn(3, 4)))
    each = tf.nn.softmax_cross_entropy_with_logits_v2(labels=given, logits=logits)
    f = tf.reduce_sum(tf.square(each))
    labels = np.array([[0, 1, 0, 0], [0.2, 0, 0.3, 0.5]])
    labels[1] *= SUMS[name]
    (hessian,) = batchhess.hessians(f, x, method=method)
    feed = {x: random.randn(2, 3), given: labels}
    with tf.Session() as session:
        if name in ("nothing", "two"):
            with pytest.raises(tf.errors.InvalidArgumentError, match="add up to one"):
                session.run(hessian, feed)
            return
        found = session.run(hessian, feed)
    expected = difference_blocks(f, x, feed[x], feed)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("method", ["columns", "symmetric"])
@pytest.mark.parametrize("answer", ["hessians", "laplacians", "derivatives"])
def test_labels_of_no_weight_are_not_asked(answer, method, random):
    """Padding: rows without a label, which a mask takes out of the loss."""
    x = tf.placeholder(tf.float64, [None, 3])
    mask = tf.placeholder(tf.float64, [None])
    logits = tf.tanh(tf.matmul(x, random.randn(3, 4)))
    labels = tf.one_hot([2, -1, 0], 4, dtype=tf.float64)
    f = tf.losses.softmax_cross_entropy(labels, logits, weights=mask)
    options = {} if answer == "laplacians" else {"method": method}
    found = getattr(batchhess, answer)(f, x, **options)
    found = found.hessians[0] if answer == "derivatives" else found[0]
    value = random.randn(3, 3)
    expected = difference_blocks(f, x, value, {mask: [1, 0, 2]})
    if answer == "laplacians":
        expected = np.trace(expected, axis1=1, axis2=2)
    assert np.abs(expected[[0, 2]]).min() > 1e-4 and not expected[1].any()
    with tf.Session() as session:
        result = session.run(found, {x: value, mask: [1, 0, 2]})
        np.testing.assert_allclose(result, expected, atol=1e-6)
        with pytest.raises(tf.errors.InvalidArgumentError, match="add up to one"):
            session.run(found, {x: value, mask: [1, 1, 2]})


LABELLED = {
    "given": lambda z: tf.cast(tf.constant([0.1, 0.2, 0.3, 0.4]), z.dtype) + 0 * z,
    "smoothed": lambda z: 0.9 * tf.one_hot([1, 1], 4, dtype=z.dtype) + 0.025,
}


@pytest.mark.parametrize("name", sorted(LABELLED))
@pytest.mark.parametrize("narrow", ["float16", "bfloat16"])
def test_labels_are_as_good_as_their_dtype(narrow, name):
    def hessian(dtype):
        x = tf.placeholder(dtype, [None, 4])
        z = x * x
        f = tf.nn.softmax_cross_entropy_with_logits_v2(LABELLED[name](z), z)
        return batchhess.hessians(f, x)[0], {x: [[1, 0.5, -1, 2], [2, 1, 0.25, 0]]}

    found, expected = (run(*hessian(dtype)) for dtype in (narrow, "float64"))
    np.testing.assert_allclose(found.astype(float), expected, atol=0.1)


def test_labels_of_many_classes_add_up_with_an_error_of_their_own(random):
    classes, value = 50257, np.array([[0.5, 0.25]])
    weights = random.randn(2, classes)

    def loss(x):
        logits = tf.matmul(x, tf.constant(weights, x.dtype)) ** 2
        labels = 0.9 * tf.one_hot([7], classes, dtype=x.dtype) + 0.1 / classes
        return tf.nn.softmax_cross_entropy_with_logits_v2(labels, logits)

    x, exact = (tf.placeholder(dtype, [None, 2]) for dtype in ("float32", "float64"))
    (trace,) = run(batchhess.laplacians(loss(x), x)[0], {x: value})
    (expected,) = difference_blocks(loss(exact), exact, value)
    np.testing.assert_allclose(trace, np.trace(expected), rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_softmax_by_hand_of_halves(dtype):
    x = tf.placeholder(dtype, [None, 4])
    found = run(batchhess.hessians(by_hand(x * x) ** 2, x)[0], {x: np.ones((2, 4))})
    exact = tf.placeholder(tf.float64, [None, 4])
    expected = sliced_hessians(
        by_hand(exact * exact) ** 2, exact, {exact: np.ones((2, 4))}
    )
    np.testing.assert_allclose(found.astype(float), expected, atol=0.02)


def test_a_class_that_is_ruled_out_of_logits_that_bend(random):
    x, value = tf.placeholder(tf.float64, [None, 3]), random.randn(4, 3)
    mask = np.array([0, -np.inf, 0])
    f = tf.reduce_sum(tf.nn.softmax(x**2 + mask) * [1.0, 2, 4])
    both = [batchhess.hessians(f, x, method=m)[0] for m in ("symmetric", "columns")]
    with tf.Session() as session:
        found, expected = session.run(both, {x: value})
    assert np.all(np.isfinite(expected)) and np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("answer", ["hessians", "hessian_diagonals", "laplacians"])
def test_the_logarithm_of_what_is_nearly_zero(answer):
    """p log(p / q) at p = 2e-22, of which 1 / p**2 is no number in float32."""

    def divergence(dtype):
        x = tf.placeholder(dtype, [None, 4])
        p, q = tf.nn.softmax(x[:, :2]), tf.nn.softmax(x[:, 2:])
        return tf.reduce_sum(p * (tf.math.log(p) - tf.math.log(q))), x

    f, x = divergence(tf.float32)
    (result,) = getattr(batchhess, answer)(f, x)
    exact, twin = divergence(tf.float64)
    (whole,) = tf.hessians(exact, twin)
    value = [[0.0, 50, 1, 2]]
    with tf.Session() as session:
        found, whole = session.run([result, whole], {x: value, twin: value})
    expected = whole[:, :, 0]
    if answer != "hessians":
        expected = np.einsum("nkk->nk", expected)
    if answer == "laplacians":
        expected = expected.sum(1)
    np.testing.assert_allclose(found, expected, rtol=0.1, atol=1e-6)


@pytest.mark.parametrize("bad", [1e30, np.nan, np.inf])
def test_logits_that_are_no_numbers_spoil_no_other_observation(bad):
    x = tf.placeholder(tf.float32, [None, 4])
    (result,) = batchhess.hessians(tf.reduce_sum(tf.nn.softmax(x * x) ** 2), x)
    value = np.array([[1, 2, 3, 5], [2, -1, bad, 4]], "f") / 4
    with tf.Session() as session:
        found = session.run(result, {x: value})
        alone = session.run(result, {x: value[:1]})
    assert np.isnan(found[1]).any()
    np.testing.assert_allclose(found[0], alone[0], rtol=1e-5)
