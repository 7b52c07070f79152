"""Where TensorFlow's second derivatives are wrong: right here, refused, or a wish."""

import numpy as np
import pytest
from oracles import difference_blocks, run

import batchhess
from batchhess.compat import IS_V1, raw_ops, tf

ROWS = np.array([[0.5, -1.2, 0.8], [1.5, 0.3, -0.4]])


def entropy(x):
    p = tf.nn.softmax(x)
    return tf.nn.softmax_cross_entropy_with_logits_v2(labels=p, logits=x)


def layer_norm(x):
    mean, variance = tf.nn.moments(x, [1], keep_dims=True)
    return tf.reduce_sum(((x - mean) / tf.sqrt(variance + 0.1)) ** 3)


def v1_loop(x):
    tf.disable_control_flow_v2()
    body = lambda i, a: (i + 1, tf.sin(a) * x)  # noqa: E731
    return tf.reduce_sum(tf.while_loop(lambda i, _: i < 2, body, (0, x))[1])


def v1_cond_in_loop(x):
    tf.disable_control_flow_v2()

    def body(i, a):
        return i + 1, tf.cond(i > 0, lambda: tf.sin(a), lambda: a * a)

    return tf.reduce_sum(tf.while_loop(lambda i, _: i < 2, body, (0, x))[1])


def v1_loop_in_cond(x):
    tf.disable_control_flow_v2()
    return tf.cond(tf.constant(True), lambda: v1_loop(x), lambda: tf.reduce_sum(x))


def v1_map_fn(x):
    tf.disable_control_flow_v2()
    return tf.map_fn(lambda row: tf.reduce_sum(tf.sin(row) ** 2), x)


def v1_scan(x):
    tf.disable_control_flow_v2()
    return tf.scan(lambda a, row: a * 0.5 + tf.sin(row), x)


def training_batch_norm(x):
    image = tf.reshape(tf.cast(x, tf.float32), [-1, 1, 1, 3])
    y, _, _ = tf.nn.fused_batch_norm(image, tf.ones([3]), tf.zeros([3]))
    return tf.reduce_sum(y**3)


def v1_nested_loops(x):
    tf.disable_control_flow_v2()

    def inner(a):
        body = lambda j, b: (j + 1, tf.sin(b) * x + 0.1)  # noqa: E731
        return tf.while_loop(lambda j, _: j < 2, body, (0, a))[1]

    return tf.while_loop(lambda i, _: i < 2, lambda i, a: (i + 1, inner(a)), (0, x))[1]


def v1_foldl(x):
    tf.disable_control_flow_v2()
    start = tf.ones_like(x[:, 0])
    return tf.foldl(lambda a, c: tf.tanh(a + c) * a, tf.transpose(x), start)


def v1_rnn(x):
    """What dynamic_rnn builds: arrays, a loop over time, and a branch for the ends."""
    tf.disable_control_flow_v2()
    inputs = tf.TensorArray(tf.float64, 3).unstack(tf.transpose(x)[:, :, None])
    outputs, lengths = tf.TensorArray(tf.float64, 3), tf.constant([2, 3, 1, 2])
    lengths = lengths[: tf.shape(x)[0]]
    into = tf.constant([[0.3, 0.7]], tf.float64)
    onward = tf.constant([[0.5, -0.2], [0.1, 0.9]], tf.float64)

    def step(t, state, outputs):
        new = tf.tanh(tf.matmul(inputs.read(t), into) + tf.matmul(state, onward))
        ended = tf.tile(t >= lengths, [1])
        new = tf.cond(
            t < tf.reduce_min(lengths),
            lambda: new,
            lambda: tf.where(tf.tile(ended[:, None], [1, 2]), state, new),
        )
        return t + 1, new, outputs.write(t, new)

    start = tf.zeros(tf.stack([tf.shape(x)[0], 2]), tf.float64)
    _, _, outputs = tf.while_loop(lambda t, *_: t < 3, step, (0, start, outputs))
    return tf.reduce_sum(outputs.stack() ** 2)


def v1_array(x):
    """A TensorArray without a loop: wrong input container, says TensorFlow."""
    tf.disable_control_flow_v2()
    array = tf.TensorArray(tf.float64, 3, clear_after_read=False)
    array = array.unstack(tf.transpose(x))
    return sum(tf.sin(array.read(i)) * array.read((i + 1) % 3) for i in range(3))


def v1_matrix_exponential(x):
    tf.disable_control_flow_v2()
    return tf.reduce_sum(tf.linalg.expm(x[:, :, None] * x[:, None] / 3) ** 2, [1, 2])


# Control flow v1 that TensorFlow differentiates once, or wrongly twice.
V1 = {
    "1 v1 loop": v1_loop,
    "1b v1 loop and exp": lambda x: v1_loop(x) + tf.reduce_sum(tf.exp(x)),
    "1c cond in loop": v1_cond_in_loop,
    "1c loop in cond": v1_loop_in_cond,
    "a loop of a loop": lambda x: v1_loop(tf.sin(x)) + v1_loop(v1_nested_loops(x) * x),
    "nested loops": v1_nested_loops,
    "map_fn": v1_map_fn,
    "scan": v1_scan,
    "foldl": v1_foldl,
    "rnn": v1_rnn,
    "TensorArray": v1_array,
    "expm": v1_matrix_exponential,
}


@pytest.mark.parametrize("row", sorted(V1))
def test_control_flow_v1_is_built_again_as_v2(row):
    x = tf.placeholder(tf.float64, (None, 3))
    y = V1[row](x)
    expected = difference_blocks(y, x, ROWS)
    assert np.abs(expected).max() > 0.1
    close = {"atol": 1e-7 * np.abs(expected).max()}
    methods = ["auto", "observations"]
    results = [batchhess.hessians(y, x, method=method)[0] for method in methods]
    for method, result in zip(methods, run(results, {x: ROWS})):
        np.testing.assert_allclose(result, expected, err_msg=method, **close)


def test_a_copied_loop_has_the_value_and_the_gradient_of_the_loop():
    x = tf.placeholder(tf.float64, (None, 3))
    y = v1_rnn(x)
    answer = batchhess.derivatives(y, x)
    (gradient,) = tf.gradients(y, x)
    ours, theirs = run([answer.gradients[0], gradient], {x: ROWS})
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_a_loop_without_back_prop_is_a_constant_as_its_author_wished():
    tf.disable_control_flow_v2()
    x = tf.placeholder(tf.float64, (None, 3))
    body = lambda i, a: (i + 1, a * a)  # noqa: E731
    loop = tf.while_loop(lambda i, _: i < 2, body, (0, x), back_prop=False)[1]
    result = run(batchhess.hessians(tf.exp(x) + loop, x)[0], {x: ROWS})
    np.testing.assert_allclose(result, np.exp(ROWS)[:, :, None] * np.eye(3), rtol=1e-12)


def test_an_array_written_before_it_is_scattered_into_is_never_silent():
    """A list that starts anew would have forgotten sin(x)."""
    tf.disable_control_flow_v2()
    x = tf.placeholder(tf.float64, (None, 3))
    array = tf.TensorArray(tf.float64, 3, clear_after_read=False)
    array = array.write(2, tf.sin(x)).scatter([0, 1], tf.stack([x, x**2]))
    y = array.read(2) * array.read(1) + array.read(0)
    with pytest.raises((ValueError, tf.errors.OpError)):
        run(batchhess.hessians(y, x)[0], {x: ROWS})


def random_v1_loop(x):
    """A copy of it would draw other numbers."""
    tf.disable_control_flow_v2()
    draw = lambda a: a * a * tf.random_uniform([], 1, 2, tf.float64)  # noqa: E731
    body = lambda i, a: (i + 1, draw(a))  # noqa: E731
    return tf.while_loop(lambda i, _: i < 2, body, (0, x))[1]


# Row of facts: what TensorFlow gets wrong: the phrases of the refusal.
REFUSED = {
    "1 v1 loop of random numbers": (
        random_v1_loop,
        ["while loop of control flow v1", "enable_control_flow_v2"],
    ),
    "betainc in a": (
        lambda x: tf.math.betainc(tf.exp(x), tf.exp(x) + 1, tf.sigmoid(x)) + x**2,
        ["Betainc", "a and b"],
    ),
}


@pytest.mark.parametrize("row", sorted(REFUSED))
def test_is_refused_with_the_op_and_the_cure(row):
    build, phrases = REFUSED[row]
    x = tf.placeholder(tf.float64, (None, 3))
    y = build(x)
    with pytest.raises(batchhess.SecondDerivativeError) as refusal:
        batchhess.hessians(y, x)
    for phrase in phrases + ["second derivative", "test_second_order_facts.py"]:
        assert phrase in str(refusal.value)


# Two rows would not do: batch norm makes of any two the same.
FOUR_ROWS = np.concatenate([ROWS, [[-0.7, 0.9, 1.1], [0.2, -0.6, -1.3]]])

COUPLED = {
    "4 batch mean": lambda x: tf.reduce_sum((x - tf.reduce_mean(x, 0)) ** 2),
    "4 moments over axis 0": lambda x: tf.reduce_sum(
        tf.math.reduce_variance(x, 0) ** 2
    ),
    "4 pairwise distances": lambda x: tf.reduce_sum(
        tf.reduce_sum((x[:, None] - x[None]) ** 2, 2) ** 2
    ),
    "4 logsumexp of everything": tf.reduce_logsumexp,
    "4 roll": lambda x: tf.reduce_sum(x * tf.roll(x, 1, 0)),
    "4 cumsum over rows": lambda x: tf.reduce_sum(tf.cumsum(x, 0) ** 2),
    "4 clip by global norm": lambda x: tf.reduce_sum(
        tf.clip_by_global_norm([x], 1.0)[0][0] ** 3
    ),
    "4 broadcast accident": lambda x: tf.reduce_sum(
        (tf.reduce_sum(x, 1, keepdims=True) + tf.reduce_sum(x, 1)) ** 2
    ),
    "4 batch norm in training": training_batch_norm,
}


@pytest.mark.parametrize("row", sorted(COUPLED))
def test_coupled_observations_fail_the_run_or_are_right_by_observations(row):
    x = tf.placeholder(tf.float64, (None, 3))
    y = COUPLED[row](x)
    (result,) = batchhess.hessians(y, x)
    with pytest.raises(tf.errors.InvalidArgumentError, match="are coupled"):
        run(result, {x: FOUR_ROWS})
    result = run(batchhess.hessians(y, x, method="observations")[0], {x: FOUR_ROWS})
    exact = difference_blocks(y, x, FOUR_ROWS, step=5e-2 if "norm in" in row else 1e-3)
    atol = 5e-2 if "norm in" in row else 1e-7
    np.testing.assert_allclose(result, exact, atol=atol * max(1, np.abs(exact).max()))


PRODUCTS = {
    "7 reduce_prod": lambda x: tf.reduce_prod(x, 1),
    "7 reduce_prod, dimension kept": lambda x: tf.reduce_prod(x, 1, keepdims=True),
    "7 cumprod": lambda x: tf.math.cumprod(x, 1),
}


def product_blocks(row, value):
    """d2 abc / da db = c, and d2 (a + ab + abc) / da db = 1 + c."""
    blocks = np.zeros((len(value), 3, 3))
    for n, (a, b, c) in enumerate(value):
        first = 1 + c if row == "7 cumprod" else c
        blocks[n] = [[0, first, b], [first, 0, a], [b, a, 0]]
    return blocks


@pytest.mark.parametrize("zeros", [[], [(1, 1)], [(0, 0), (0, 2), (1, 1)]])
@pytest.mark.parametrize("row", sorted(PRODUCTS))
def test_products_are_right_at_zeros_too(row, zeros):
    x = tf.placeholder(tf.float64, (None, 3))
    value = ROWS.copy()
    for place in zeros:
        value[place] = 0
    result = run(batchhess.hessians(PRODUCTS[row](x), x)[0], {x: value})
    np.testing.assert_allclose(result, product_blocks(row, value), atol=1e-12)


AT_ZERO = {
    "7 product of unknown length": lambda x: tf.reduce_sum(
        tf.reduce_prod(tf.placeholder_with_default(x, (None, None)), 1)
    ),
}


AT_ZERO["divide_no_nan"] = lambda x: tf.math.divide_no_nan(x**3, x)


if hasattr(raw_ops, "BesselI0"):
    AT_ZERO["bessel_i0"] = lambda x: raw_ops.BesselI0(x=x)
    AT_ZERO["bessel_i1"] = lambda x: raw_ops.BesselI1(x=x) * x[:, ::-1]


@pytest.mark.parametrize("row", sorted(AT_ZERO))
def test_wrong_at_zero_fails_the_run_at_zero_and_is_right_elsewhere(row):
    x = tf.placeholder(tf.float64, (None, 3))
    y = AT_ZERO[row](x)
    (result,) = batchhess.hessians(y, x)
    value = np.abs(ROWS)
    expected = difference_blocks(y, x, value)
    np.testing.assert_allclose(run(result, {x: value}), expected, atol=1e-7)
    value[1, 1] = 0
    with pytest.raises(tf.errors.InvalidArgumentError, match="has a zero among"):
        run(result, {x: value})


# d2 x log y: at x = 0 TensorFlow 2.21 has 0.
X_LOG_Y = {
    "xlogy": lambda x: tf.math.xlogy(x, x + 1.0),
    "xlog1py": lambda x: tf.math.xlog1py(x, x),
    "xlogy of a row": lambda x: tf.math.xlogy(x, x[:, :1] * 0 + 1.0 + x),
}


@pytest.mark.parametrize("name", sorted(X_LOG_Y))
def test_x_log_y_is_right_at_zero_too(name):
    if not hasattr(tf.math, name.split()[0]):
        pytest.skip("this TensorFlow has no " + name)
    x = tf.placeholder(tf.float64, (None, 3))
    value = np.abs(ROWS)
    value[1, 1] = 0
    result = run(batchhess.hessians(X_LOG_Y[name](x), x)[0], {x: value})
    expected = (1 / (1 + value) + 1 / (1 + value) ** 2)[:, :, None] * np.eye(3)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_x_log_y_of_two_zeros_is_zero_as_in_tensorflow():
    x = tf.placeholder(tf.float64, (None, 3))
    y = tf.math.xlogy(x, tf.abs(x))
    result = run(batchhess.hessians(y, x)[0], {x: np.zeros((2, 3))})
    assert np.isfinite(result).all()


WISHES = {
    "9 stop_gradient": (
        lambda x: x**2 * tf.stop_gradient(tf.exp(x)),
        lambda v: 2 * np.exp(v),
    ),
    "9 straight-through": (
        lambda x: (x + tf.stop_gradient(tf.round(x) - x)) ** 2,
        lambda v: 2 * np.ones_like(v),
    ),
    "9 py_func term": (
        lambda x: (
            tf.reduce_sum(x**3)
            + tf.reduce_sum(tf.py_func(lambda v: np.sin(v), [x], tf.float64))
        ),
        lambda v: 6 * v,
    ),
}


@pytest.mark.parametrize("row", sorted(WISHES))
def test_the_author_s_wish_is_obeyed(row):
    build, diagonal = WISHES[row]
    x = tf.placeholder(tf.float64, (None, 3))
    result = run(batchhess.hessians(build(x), x)[0], {x: ROWS})
    expected = np.stack([np.diag(d) for d in diagonal(ROWS)])
    np.testing.assert_allclose(result, expected, rtol=1e-12)


RIGHT = {
    "2 moments": lambda x: tf.nn.moments(x, [1])[1] ** 2,
    "2 layer norm": layer_norm,
    "2 two layer norms": lambda x: layer_norm(x * tf.nn.moments(x, [1])[1][:, None]),
    "3 labels depend on x": entropy,
    "3 labels and logits of a network": lambda x: (
        entropy(tf.tanh(x * x)) * tf.reduce_sum(x, 1) + entropy(x)
    ),
    "reduce_variance": lambda x: tf.math.reduce_variance(x, 1) ** 2,
    "mean of squares": lambda x: (
        tf.reduce_mean(tf.square(x - tf.reduce_mean(x, 1, keepdims=True)), 1) ** 2
    ),
    "weighted_moments": lambda x: (
        tf.nn.weighted_moments(x, [1], tf.ones_like(x))[1] ** 2
    ),
    "sufficient_statistics": lambda x: tf.nn.sufficient_statistics(x, [1])[2] ** 2,
    "per_image_standardization": lambda x: tf.reduce_sum(
        tf.image.per_image_standardization(tf.reshape(x, [-1, 1, 3, 1])) ** 3, [1, 2, 3]
    ),
    "constant labels": lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.constant([[0.2, 0.3, 0.5]] * 2, tf.float64), logits=x
    ),
    "softsign": lambda x: tf.nn.softsign(tf.nn.softsign(x) * x),
    "sparse cross entropy": lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=[2, 0], logits=x * x
    ),
    "x log1p(x)": lambda x: tf.reduce_sum(tf.abs(x) * tf.math.log1p(tf.abs(x)), 1),
    "entropy by log_softmax": lambda x: (
        -tf.reduce_sum(tf.nn.softmax(x) * tf.nn.log_softmax(x), 1)
    ),
}


@pytest.mark.parametrize("row", sorted(RIGHT))
def test_what_is_right_passes_untouched(row):
    x = tf.placeholder(tf.float64, (None, 3))
    y = RIGHT[row](x)
    result = run(batchhess.hessians(y, x)[0], {x: ROWS})
    expected = difference_blocks(y, x, ROWS)
    assert np.abs(expected).max() > 1e-2
    # Images are standardized in float32.
    atol = 1e-2 if row == "per_image_standardization" else 1e-8
    np.testing.assert_allclose(result, expected, atol=atol)


@pytest.mark.parametrize("build", [entropy, layer_norm])
def test_faults_inside_a_tf_function_are_corrected(build):
    import tensorflow

    x = tf.placeholder(tf.float64, (None, 3))
    y = tensorflow.function(build)(x)
    result = run(batchhess.hessians(y, x)[0], {x: ROWS})
    np.testing.assert_allclose(result, difference_blocks(y, x, ROWS), atol=1e-8)


def test_a_fault_is_named_where_it_was_built():
    """Behind a loop that is built again, and inside a function."""
    import tensorflow

    tf.disable_control_flow_v2()
    x = tf.placeholder(tf.float64, (None, 3), name="x")

    @tensorflow.function
    def lost(z):
        return z * tf.math.betainc(tf.exp(z), tf.exp(z), tf.sigmoid(z), name="lost")

    for y in (lost(x), tf.math.betainc(tf.exp(v1_nested_loops(x)), x, x, name="lost")):
        with pytest.raises(batchhess.SecondDerivativeError) as refusal:
            batchhess.hessians(y + x**2, x)
        assert "'lost' (Betainc)" in str(refusal.value)
        assert "test_second_order_facts.py" in str(refusal.value)


def test_constant_labels_inside_a_tf_function_are_no_fault():
    import tensorflow

    x = tf.placeholder(tf.float64, (None, 3))

    @tensorflow.function
    def loss(logits, labels):
        return tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)

    labels = tf.constant([[0.2, 0.3, 0.5]] * 2, tf.float64)
    result = run(batchhess.hessians(loss(x, labels), x)[0], {x: ROWS})
    p = np.exp(ROWS) / np.exp(ROWS).sum(1, keepdims=True)
    expected = np.stack([np.diag(row) - np.outer(row, row) for row in p])
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_check_never_is_plain_tensorflow():
    x = tf.placeholder(tf.float64, (None, 3))
    (result,) = batchhess.hessians(entropy(x), x, check="never")
    (plain,) = tf.hessians(entropy(x), x)
    result, plain = run([result, plain], {x: ROWS})
    np.testing.assert_allclose(result, plain[[0, 1], :, [0, 1]], atol=1e-12)


def test_a_third_derivative_through_tridiagonal_solve():
    """Row 10: batch_jacobian on 2.21 has it wrong; it is that of our Hessian here."""
    x = tf.placeholder(tf.float64, (None, 3))
    diagonals = tf.stack([0.3 * x, 2 + x**2, 0.2 * tf.sin(x)], 1)  # [N, 3, 3]
    y = tf.reduce_sum(tf.linalg.tridiagonal_solve(diagonals, tf.exp(x)) ** 2)
    (hessian,) = batchhess.hessians(y, x)
    weights = np.arange(9.0).reshape(3, 3)
    (third,) = tf.gradients(hessian * weights, x)
    step, expected = 1e-4, np.zeros((2, 3))
    with tf.Session() as session:
        third = session.run(third, {x: ROWS})
        for k in range(3):
            for sign in (1, -1):
                moved = ROWS.copy()
                moved[:, k] += sign * step
                blocks = session.run(hessian, {x: moved})
                expected[:, k] += sign * (blocks * weights).sum((1, 2)) / (2 * step)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(third, expected, rtol=1e-5)


def test_an_odd_power_of_a_gradient_of_moments_has_its_sign():
    """g = 2 P x / K with P = I - 11' / K, so d2 sum(c g ** 3) is of P diag(c g) P."""
    x = tf.placeholder(tf.float64, (None, 3))
    weights = np.array([1.0, -2.0, 0.5])
    (gradient,) = tf.gradients(tf.nn.moments(x, [1])[1], x)
    y = tf.reduce_sum(weights * gradient**3)
    result = run(batchhess.hessians(y, x)[0], {x: ROWS})
    p = np.eye(3) - 1 / 3
    cubes = 6 * weights * (2 / 3 * ROWS @ p)  # [N, K]
    expected = (2 / 3) ** 2 * np.einsum("ik,nk,kj->nij", p, cubes, p)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(result, expected, atol=1e-12)


def small_image(x):
    return tf.reshape(tf.cast(x, tf.float32), [-1, 1, 1, 3])


# Ops whose gradient TensorFlow does not differentiate: what the error names.
UNDEFINED = {
    "lrn": (lambda x: tf.nn.lrn(small_image(x)), "LRNGrad"),
    "igamma in a": (lambda x: tf.math.igamma(tf.exp(x), tf.exp(x)), "IgammaGradA"),
    "max_pool_with_argmax": (
        lambda x: tf.nn.max_pool_with_argmax(small_image(x), [1] * 4, [1] * 4, "SAME")[
            0
        ],
        "MaxPoolGradWithArgmax",
    ),
    "nearest": (
        lambda x: tf.image.resize_nearest_neighbor(small_image(x), [2, 2]) ** 2,
        "ResizeNearestNeighborGrad",
    ),
    "bicubic": (
        lambda x: tf.image.resize_bicubic(small_image(x), [2, 2]) ** 2,
        "ResizeBicubicGrad",
    ),
    "crop_and_resize": (
        lambda x: (
            tf.image.crop_and_resize(
                small_image(x), [[0.0, 0.0, 1.0, 1.0]], [0], [2, 2]
            )
            ** 2
        ),
        "CropAndResizeGradImage",
    ),
    "tanh of segment_sum": (
        lambda x: tf.tanh(tf.math.segment_sum(tf.transpose(x), [0, 0, 1])),
        "IndexedSlices",
    ),
    "tanh of scatter_nd": (
        lambda x: tf.tanh(tf.scatter_nd([[0], [2], [1]], tf.transpose(x), [3, 2])),
        "IndexedSlices",
    ),
    "lstsq": (
        lambda x: tf.linalg.lstsq(
            tf.exp(x)[:, :, None], tf.ones_like(x)[:, :, None], fast=False
        ),
        "MatrixSolveLs.*fast=False",
    ),
    "fractional_avg_pool": (
        lambda x: tf.nn.fractional_avg_pool(small_image(x), [1, 1, 1.5, 1])[0] ** 2,
        "FractionalAvgPool",
    ),
    "sparse_softmax of one observation": (
        lambda x: (
            tf.sparse_softmax(
                tf.SparseTensor(np.int64([[0, 0], [0, 1], [0, 2]]), x[0], [1, 3])
            ).values
            ** 2
        ),
        "SparseDenseCwiseAdd.*, in a derivative of '.*' .SparseSoftmax.",
    ),
    "igamma in a loop": (
        lambda x: tf.foldl(
            lambda a, b: a * tf.math.igamma(tf.exp(b), tf.exp(b)),
            tf.transpose(x),
            tf.ones_like(x[:, 0]),
        ),
        "IgammaGradA.* in '.*While.*: no gradient is defined",
    ),
}


@pytest.mark.parametrize("row", sorted(UNDEFINED))
def test_a_derivative_that_tensorflow_lacks_is_refused_by_name(row):
    build, name = UNDEFINED[row]
    x = tf.placeholder(tf.float64, (None, 3))
    y = build(x)
    with pytest.raises(
        batchhess.UndefinedDerivativeError, match="^hessians: .*" + name
    ) as refusal:
        # Other methods may need no derivative of what is linear.
        batchhess.hessians(y, x, method="columns")
    told = str(refusal.value)
    assert "method='differences'" in told and __file__ + ":" in told
    assert isinstance(refusal.value, LookupError)  # As TensorFlow raises it.


NOT_A_NUMBER = {
    "x to the power 1 at 0": (lambda x: tf.pow(x, 1.0 + 0 * x), 0),
    "norm at 0": (lambda x: tf.norm(x, axis=1), slice(None)),
    "sqrt in the other branch": (
        lambda x: tf.where(x > 0, tf.sqrt(x), tf.zeros_like(x)) ** 2 + x**2,
        0,
    ),
}


@pytest.mark.parametrize("row", sorted(NOT_A_NUMBER))
@pytest.mark.parametrize("method", ["symmetric", "columns"])
def test_a_nan_of_tensorflow_is_seen_in_its_own_observation_alone(row, method):
    build, place = NOT_A_NUMBER[row]
    x = tf.placeholder(tf.float64, (None, 3))
    value = np.abs(ROWS)
    value[1, place] = 0
    result = run(batchhess.hessians(build(x), x, method=method)[0], {x: value})
    assert np.isfinite(result[0]).all()
    assert np.isnan(result[1]).any()


def test_square_at_zero_is_right():
    x = tf.placeholder(tf.float64, (None, 3))
    result = run(batchhess.hessians(x**2, x)[0], {x: np.zeros((2, 3))})
    np.testing.assert_array_equal(result, np.tile(2 * np.eye(3), (2, 1, 1)))


# Where TensorFlow 2.21 answers None, and 1.15 raises.
LOST = {
    "6 resize_bilinear": lambda x: (
        tf.image.resize_bilinear(small_image(x) ** 2, [2, 2]) ** 2
    ),
    "6 fake_quant": lambda x: (
        tf.quantization.fake_quant_with_min_max_args(tf.cast(x, tf.float32)) ** 2
    ),
}


@pytest.mark.parametrize("row", sorted(LOST))
def test_ops_whose_gradient_is_lost_are_never_silent(row):
    x = tf.placeholder(tf.float64, (None, 3))
    y = LOST[row](x)
    try:
        result = run(batchhess.hessians(y, x)[0], {x: ROWS})
    except batchhess.SecondDerivativeError as refusal:
        told = ("leaves this op out", "is lost", "no gradient is defined")
        assert any(phrase in str(refusal) for phrase in told)
    else:
        expected = difference_blocks(y, x, ROWS, step=1e-2)
        np.testing.assert_allclose(result, expected, atol=2e-2 * np.abs(expected).max())


@pytest.mark.parametrize("labels", ["stopped", "of x", "indices"])
def test_gradient_of_cross_entropy_in_the_model_is_differentiated(labels):
    x = tf.placeholder(tf.float64, [None, 3])
    logits = tf.matmul(x**2, tf.constant(ROWS.T[:, :1] * ROWS[:1], tf.float64))
    indices = tf.argmax(x, 1)
    p = {
        "stopped": tf.constant([[0.2, 0.5, 0.3]], tf.float64) + 0 * tf.stop_gradient(x),
        "of x": tf.nn.softmax(x),
        "indices": tf.one_hot(indices, 3, dtype=tf.float64),
    }[labels]
    if labels == "indices":
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=indices, logits=logits
        )
    else:
        loss = tf.nn.softmax_cross_entropy_with_logits_v2(labels=p, logits=logits)
    slope = tf.gradients(loss, logits)[0]
    if labels == "indices" and IS_V1:
        with pytest.raises(batchhess.UndefinedDerivativeError, match="sparse_softmax"):
            batchhess.hessians(slope**2, x)
        return
    (found,) = batchhess.hessians(slope**2, x)
    expected = difference_blocks((tf.nn.softmax(logits) - p) ** 2, x, ROWS)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(run(found, {x: ROWS}), expected, atol=1e-7)


def test_what_depends_on_x_from_the_second_step_of_a_loop_on_is_audited(control_flow):
    x = tf.placeholder(tf.float64, (None, 3))

    def body(i, a):
        return i + 1, tf.math.betainc(tf.exp(a), 2 + a, 0.3 + 0 * a) + x

    y = tf.while_loop(lambda i, _: i < 2, body, (0, tf.ones_like(x)))[1]
    with pytest.raises(batchhess.SecondDerivativeError, match="Betainc"):
        batchhess.hessians(y + tf.exp(x), x)


@pytest.mark.parametrize("and_variance", [False, True])
def test_a_gradient_of_moments_of_what_is_corrected(and_variance):
    """What shows it to be one is rewritten too, or is no part of f and not copied."""
    x = tf.placeholder(tf.float64, (None, 3))
    z = tf.nn.softsign(x)
    variance = tf.nn.moments(z, [1])[1]
    y = tf.reduce_sum(tf.gradients(variance, z)[0] ** 3)
    y += tf.reduce_sum(variance**2) if and_variance else 0
    result = run(batchhess.hessians(y, x)[0], {x: ROWS})
    expected = curvatures_by_hand(ROWS, and_variance)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(result, expected, atol=1e-6)


def curvatures_by_hand(rows, and_variance, step=1e-4):
    """[N, K, K], by differences of f as numpy has it."""

    def f(x):
        z = x / (1 + np.abs(x))
        away = z - z.mean(1, keepdims=True)
        cubes = ((2 * away / 3) ** 3).sum(1)
        return cubes + (away**2).mean(1) ** 2 if and_variance else cubes

    found, unit = np.zeros(rows.shape + rows.shape[1:]), step * np.eye(rows.shape[1])
    for i, j in np.ndindex(found.shape[1:]):
        for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            found[:, i, j] += a * b * f(rows + a * unit[i] + b * unit[j])
    return found / (4 * step**2)
