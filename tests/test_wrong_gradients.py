"""Ops of which TensorFlow's gradient itself is wrong: refused, or the run fails.

And their neighbours, of which it is right: those are answered as differences of f say.
"""

import numpy as np
import pytest
from oracles import run
from value_differences import curvatures_of, value_curvatures

import batchhess
from batchhess.compat import IS_V1, raw_ops, tf
from batchhess.ops import table

ROWS = np.array([[0.3, -0.2, 0.4], [-0.5, 0.1, 0.2]])
OPERATORS = ["hessians", "jacobians"]


def answer(name, y, x):
    """[N, ...] of y [N]: whole Hessians, or its slopes."""
    if name == "jacobians":
        return batchhess.jacobians(y[:, None], x)[0]
    return batchhess.hessians(y, x)[0]


def assert_right(y, x, rows=ROWS, limit=1e-5, **options):
    (result,) = batchhess.hessians(y, x, **options)
    with tf.Session() as session:
        found = session.run(result, {x: rows})
        truth = value_curvatures(lambda r: session.run(y, {x: r}).sum(), rows)
    along = curvatures_of(found[None], truth.directions)
    scale = np.abs(truth.along).max()
    assert scale > 0.1
    np.testing.assert_allclose(along, truth.along, atol=limit * scale)


@pytest.fixture
def x():
    return tf.placeholder(tf.float64, [None, 3], name="x")


def triangle(x):
    """[N, 2, 2], the lower triangles of positive definite matrices."""
    zero = tf.zeros_like(x[:, 0])
    return tf.reshape(
        tf.stack([x[:, 0] + 3, zero, x[:, 1], x[:, 2] + 3], 1), [-1, 2, 2]
    )


FACTORED = {
    "cholesky": lambda a: tf.reduce_sum(tf.linalg.cholesky(a) ** 4, [1, 2]),
    "logdet": tf.linalg.logdet,
}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", sorted(FACTORED))
def test_half_a_matrix_has_no_cholesky_gradient(name, operator, x):
    result = answer(operator, FACTORED[name](triangle(x)), x)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not symmetric"):
        run(result, {x: ROWS})


def test_half_a_matrix_beside_large_numbers():
    """Each element is judged by its own row and column."""
    x = tf.placeholder(tf.float32, [None, 3])
    half, zeros = triangle(x), tf.zeros_like(triangle(x))
    large = tf.concat([half, zeros], 2), tf.concat([zeros, 1e6 + half + zeros], 2)
    large = tf.concat(large, 1) * tf.constant(
        np.kron(np.eye(2), np.ones((2, 2))), x.dtype
    )
    y = tf.linalg.logdet(
        tf.linalg.set_diag(large, tf.linalg.diag_part(large) * [1, 1, 1, 9])
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="not symmetric"):
        run(batchhess.hessians(y, x)[0], {x: ROWS})


def test_what_an_author_computes_his_gradient_by(x):
    """It is differentiated once, and looked at for what is wrong once."""

    @tf.custom_gradient
    def factored(z):
        def gradient(dy):
            return tf.gradients(tf.linalg.logdet(triangle(z)), z)[0] * dy[:, None]

        return tf.reduce_sum(z, 1), gradient

    (result,) = batchhess.hessians(factored(x), x)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not symmetric"):
        run(result, {x: ROWS})


@pytest.mark.parametrize("name", sorted(FACTORED))
def test_both_halves_have(name, x):
    half = triangle(x)
    whole = half + tf.linalg.set_diag(tf.transpose(half, [0, 2, 1]), 0 * x[:, :2])
    assert_right(FACTORED[name](whole), x)


def updated(x, indices, updates):
    """[N, 4]: ones, in which `updates` stand at `indices`, the same for each."""
    ones = tf.ones_like(tf.concat([x, x], 1)[:, :4])
    return tf.transpose(
        tf.tensor_scatter_update(tf.transpose(ones), indices, tf.transpose(updates))
    )


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("known", [True, False])
def test_an_index_that_is_updated_twice(known, operator, x):
    indices = np.array([[1], [0], [1]], "int32")
    index = tf.constant(indices) if known else tf.placeholder(tf.int32, [None, 1])
    y = tf.reduce_sum(updated(x, index, x) ** 3, 1)
    feed = {x: ROWS} if known else {x: ROWS, index: indices}
    result = answer(operator, y, x)
    with pytest.raises(tf.errors.InvalidArgumentError, match="has an index twice"):
        run(result, feed)


@pytest.mark.parametrize("known", [True, False])
def test_indices_that_are_updated_once(known, x):
    indices = np.array([[1], [0], [3]], "int32")
    index = tf.constant(indices) if known else tf.placeholder(tf.int32, [None, 1])
    y = tf.reduce_sum(updated(x, index, tf.sin(x)) ** 3, 1)
    feed = {x: ROWS} if known else {x: ROWS, index: indices}
    sines, cosines = np.sin(ROWS), np.cos(ROWS)
    expected = 6 * sines * cosines**2 - 3 * sines**3
    result = run(answer("hessians", y, x), feed)
    np.testing.assert_allclose(result, expected[:, None] * np.eye(3), atol=1e-12)


def normalized(x):
    """A layer norm: each observation is a channel of one image."""
    image = tf.reshape(tf.transpose(tf.cast(x, tf.float32)), [1, 3, 1, 2])
    values, mean, variance = tf.nn.fused_batch_norm(image, tf.ones([2]), tf.zeros([2]))
    return tf.transpose(values[0, :, 0]), mean, variance


@pytest.mark.parametrize("operator", OPERATORS)
def test_statistics_of_a_fused_batch_norm(operator):
    x = tf.placeholder(tf.float64, [2, 3])
    values, mean, variance = normalized(x)
    for of in (mean, variance):
        with pytest.raises(batchhess.SecondDerivativeError, match="mean and variance"):
            answer(operator, tf.reduce_sum(values**2, 1) + of**2, x)


def test_a_fused_batch_norm_without_its_statistics():
    x = tf.placeholder(tf.float64, [2, 3])
    weights = tf.constant([1.0, 2.0, -1.0])
    y = tf.reduce_sum(tf.cast(normalized(x)[0] ** 3 * weights, tf.float64), 1)
    plain = tf.placeholder(tf.float64, [2, 3])
    moved = plain - tf.reduce_mean(plain, 1, keepdims=True)
    scale = tf.sqrt(tf.reduce_mean(moved**2, 1, keepdims=True) + 1e-3)
    again = tf.reduce_sum((moved / scale) ** 3 * tf.cast(weights, tf.float64), 1)
    with tf.Session() as session:
        expected = session.run(
            batchhess.hessians(again, plain, method="columns")[0], {plain: ROWS}
        )
        for method in ("auto", "columns"):
            (result,) = batchhess.hessians(y, x, method=method)
            found = session.run(result, {x: ROWS})
            limit = 1e-4 * np.abs(expected).max()
            np.testing.assert_allclose(found, expected, atol=limit)


SPECTRA = {
    "rfft": lambda x, n: tf.signal.rfft(x, [n]),
    "rfft2d": lambda x, n: tf.signal.rfft2d(tf.stack([x, x**2], 1), [2, n]),
    "irfft": lambda x, n: tf.signal.irfft(tf.complex(x, x**2), [n]),
}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", sorted(SPECTRA))
def test_a_spectrum_of_a_part(name, operator):
    x = tf.placeholder(tf.float32, [None, 3])
    spectrum = SPECTRA[name](x, 1)
    y = tf.reduce_sum(tf.abs(spectrum) ** 2, list(range(1, spectrum.shape.ndims)))
    with pytest.raises(batchhess.SecondDerivativeError, match="fft_length"):
        answer(operator, y, x)


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_spectrum_of_a_part_that_the_run_tells(operator):
    x, length = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.int32, [1])
    spectrum = tf.raw_ops.RFFT(input=x, fft_length=length)
    result = answer(operator, tf.reduce_sum(tf.math.real(spectrum) ** 2, 1), x)
    with pytest.raises(tf.errors.InvalidArgumentError, match="leaves a part"):
        run(result, {x: ROWS, length: [1]})


def test_a_spectrum_of_all():
    x = tf.placeholder(tf.float32, [None, 3])
    basis = np.exp(-2j * np.pi * np.outer(np.arange(3), np.arange(2)) / 3)
    expected = 2 * (basis @ basis.conj().T).real  # Of the sum of squares.
    spectrum = tf.signal.rfft(x)
    y = tf.reduce_sum(tf.real(spectrum) ** 2 + tf.imag(spectrum) ** 2, 1)
    found = run(batchhess.hessians(y, x)[0], {x: ROWS})
    np.testing.assert_allclose(found, [expected] * 2, atol=1e-5)


@pytest.mark.parametrize("method", ["auto", "differences"])
def test_maxima_over_channels_are_refused(method):
    x = tf.placeholder(tf.float64, [None, 8])
    image = tf.reshape(x, [-1, 1, 2, 4])
    y = tf.reduce_sum(tf.nn.max_pool(image, [1, 1, 1, 2], [1, 1, 1, 2], "VALID") ** 2)
    with pytest.raises(batchhess.SecondDerivativeError, match="over channels"):
        batchhess.hessians(y, x, method=method)


@pytest.mark.skipif(IS_V1, reason="TensorFlow 1.15 takes no padding of one's own")
@pytest.mark.parametrize("size", [2, 3])
def test_maxima_of_windows_with_pads_of_their_own(size):
    x = tf.placeholder(tf.float64, [None, 36])
    pads = [[0, 0], [1, 0], [1, 1], [0, 0]]
    pooled = tf.nn.max_pool2d(tf.reshape(x, [-1, 6, 6, 1]), size, 2, pads)
    y = tf.reduce_sum((pooled / 10) ** 3, [1, 2, 3])
    assert_right(y, x, np.random.RandomState(0).permutation(72).reshape(2, 36) / 2.0)


def test_masked_logits(x):
    """A class that is ruled out has no probability, and no label."""
    logits = x**2 + tf.constant([0.0, -np.inf, 0.0], tf.float64)
    y = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0, 2], logits=logits)
    for method in ("auto", "columns"):
        assert_right(y, x, method=method)


def test_a_slice_of_all_observations():
    x = tf.placeholder(tf.float64, [2, 3])
    y = tf.reduce_sum(tf.tanh(tf.slice(x, [0, 0], [2, 2])) ** 2, 1)
    for options in ({}, {"method": "symmetric"}, {"method": "columns"}):
        assert_right(y, x, **options)


def test_complex_numbers_by_casts(x):
    """In and out by tf.cast, which drops the imaginary part."""
    z = tf.cast(x, tf.complex128) * (0.3 + 0.8j)
    y = tf.reduce_sum(tf.cast(tf.exp(z), tf.float64), 1)
    for options in ({}, {"method": "columns"}):
        assert_right(y, x, **options)
    with pytest.raises(ValueError, match="is complex"):
        batchhess.hessians(y, x, method="symmetric")


@pytest.mark.skipif(not IS_V1, reason="TensorFlow 2 does not lose them")
@pytest.mark.parametrize("operator", OPERATORS)
def test_bfloat16_in_loops_and_branches_of_1_15(operator, control_flow):
    x = tf.placeholder(tf.float32, [None, 3])
    narrow = tf.cast(x, tf.bfloat16)
    models = [
        tf.map_fn(lambda row: tf.reduce_sum(row * row[0]), narrow),
        tf.cond(
            tf.placeholder_with_default(True, []),
            lambda: tf.reduce_prod(narrow, 1),
            lambda: tf.reduce_sum(narrow, 1),
        ),
    ]
    for y in models:
        with pytest.raises(batchhess.SecondDerivativeError, match="bfloat16"):
            answer(operator, tf.cast(y, tf.float32), x)


def test_what_a_custom_gradient_stands_for(x):
    """Python that has no gradient, and needs none."""

    @tf.custom_gradient
    def sine(z):
        value = tf.py_func(lambda rows: np.sin(rows), [z], tf.float64)
        value.set_shape(z.shape)
        return value, lambda dy: dy * tf.cos(z)

    y = tf.reduce_sum(sine(x) ** 2 * x, 1)
    expected = 4 * np.cos(ROWS) * np.sin(ROWS) + 2 * ROWS * np.cos(2 * ROWS)
    found = run(batchhess.hessians(y, x)[0], {x: ROWS})
    np.testing.assert_allclose(found, expected[:, None] * np.eye(3), atol=1e-12)


def test_a_custom_gradient_that_returns_what_it_was_given(x):
    """Behind it all is looked at as before."""

    @tf.custom_gradient
    def same(z):
        return z, lambda dy: 2 * dy

    (result,) = batchhess.hessians(same(tf.linalg.logdet(triangle(x))) ** 2, x)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not symmetric"):
        run(result, {x: ROWS})


# Terms of f of which TensorFlow has it that they have no derivative.
LEFT_OUT = {
    "HSVToRGB": lambda x: tf.reduce_sum(tf.image.hsv_to_rgb(tf.nn.sigmoid(x)), 1),
    "StringToNumber": lambda x: tf.strings.to_number(
        tf.as_string(x[:, 0] ** 2), tf.float64
    ),
    "Bitcast": lambda x: tf.bitcast(tf.bitcast(x[:, 0] ** 2, tf.int64), tf.float64),
}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_a_term_that_is_left_out(name, operator, x):
    y = tf.reduce_sum(x**3, 1) + LEFT_OUT[name](x)
    with pytest.raises(batchhess.SecondDerivativeError, match=name) as refused:
        answer(operator, y, x)
    assert "leaves this op out" in str(refused.value)


def conditioned(x):
    """A batch norm whose mean and variance are given, and functions of x."""
    images = tf.transpose(
        tf.reshape(tf.cast(x, tf.float32), [-1, 1, 3, 1]), [3, 1, 2, 0]
    )
    ones = tf.ones_like(images[0, 0, 0])
    mean, square = (tf.reduce_mean(images**k, [0, 1, 2]) for k in (1, 2))
    values = tf.nn.fused_batch_norm(
        images, ones, 0 * ones, mean=mean, variance=square + 1, is_training=False
    )[0]
    return tf.cast(tf.reduce_sum(values**2, [0, 1, 2]), x.dtype)


def assigned(use_resource):
    def read(x):
        w = tf.get_variable(
            "w", initializer=np.zeros((2, 3)), use_resource=use_resource
        )
        return tf.reduce_sum(tf.convert_to_tensor(tf.assign(w, tf.sin(x))) ** 2, 1)

    return read


# Inputs by which TensorFlow takes the gradient for None, though not of the op.
LEFT_OUT_BY = {
    "PadV2": lambda x: tf.map_fn(
        lambda r: tf.reduce_sum(tf.pad(r, [[1, 1]], constant_values=tf.sin(r[0])) ** 2),
        x,
    ),
    "Betainc": lambda x: tf.betainc(
        x[:, 0] ** 2 + 1, x[:, 1] ** 2 + 1, tf.sigmoid(x[:, 2])
    ),
    "Polygamma": lambda x: tf.math.polygamma(x[:, 0] + 3, x[:, 1] ** 2 + 1),
    "FusedBatchNorm": conditioned,
    "ScaleAndTranslate": lambda x: tf.reduce_sum(
        raw_ops.ScaleAndTranslate(
            images=tf.reshape(tf.cast(x, tf.float32), [1, -1, 3, 1]),
            size=[2, 3],
            scale=tf.cast(x[0, :2], tf.float32) + 2,
            translation=[0.0, 0.0],
        ),
        [0, 2, 3],
    ),
    "Assign": assigned(False),
    "ReadVariableOp": assigned(True),
}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", sorted(LEFT_OUT_BY))
def test_an_input_that_is_left_out(name, operator):
    x = tf.placeholder(tf.float64, [2, 3], name="x")
    term = tf.cast(LEFT_OUT_BY[name](x), tf.float64)
    y = tf.reduce_sum(x**3, 1) + term
    with pytest.raises(batchhess.SecondDerivativeError, match=name) as refused:
        answer(operator, y, x)
    # Of what is built again in a loop 1.15 does not tell.
    assert IS_V1 and name == "PadV2" or "built at" in str(refused.value)


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_input_of_an_undeclared_op_that_is_left_out(operator, monkeypatch):
    monkeypatch.delitem(table._TABLE, "Betainc")
    test_an_input_that_is_left_out("Betainc", operator)


def carried(x, step):
    """x after three steps of a loop, whose time and p do not depend on x."""
    p = tf.get_variable("p", initializer=np.float64(0.3), use_resource=True)
    return tf.while_loop(
        lambda i, *_: i < 3,
        lambda i, t, h: (i + 1, t + 0.1, tf.ensure_shape(step(h, t, p), [None, 3])),
        (0, tf.constant(0.2, x.dtype), x),
    )[2]


# Inputs without a gradient that a loop carries, and that do not depend on x there.
CARRIED = {
    "padded": lambda h, t, p: (
        tf.reduce_sum(tf.pad(h, [[0, 0], [0, 1]], constant_values=t), 1, keepdims=True)
        * tf.sin(h)
        * tf.reduce_sum(
            tf.pad(h, [[0, 0], [1, 0]], constant_values=p), 1, keepdims=True
        )
    ),
    "betainc": lambda h, t, p: tf.betainc(
        t + 1 + 0 * tf.stop_gradient(h), p + tf.ones_like(h), tf.sigmoid(h)
    ),
    "python": lambda h, t, p: (
        h
        * tf.sin(h)
        * tf.reshape(
            tf.py_func(lambda value: np.cos(value), [t], tf.float64, stateful=False), []
        )
    ),
}


@pytest.mark.parametrize("name", sorted(CARRIED))
def test_what_a_loop_carries_that_does_not_depend_on_x(name, control_flow, x):
    y = tf.reduce_sum(carried(x, CARRIED[name]), 1)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        truth = value_curvatures(lambda r: session.run(y, {x: r}).sum(), ROWS)
    found = run(answer("hessians", y, x), {x: ROWS})
    along = curvatures_of(found[None], truth.directions)
    scale = np.abs(truth.along).max()
    assert scale > 1e-3
    np.testing.assert_allclose(along, truth.along, atol=1e-5 * scale)


def test_what_a_loop_carries_that_comes_to_depend_on_x(control_flow, x):
    """In its second step alone."""
    _, _, h = tf.while_loop(
        lambda i, *_: i < 3,
        lambda i, t, h: (
            i + 1,
            tf.reduce_sum(tf.sin(h)),
            tf.pad(h, [[0, 0], [0, 1]], constant_values=t)[:, 1:],
        ),
        (0, tf.constant(0.2, x.dtype), x),
        shape_invariants=(
            tf.TensorShape([]),
            tf.TensorShape([]),
            tf.TensorShape([None, None]),
        ),
    )
    with pytest.raises(batchhess.SecondDerivativeError, match="PadV2"):
        answer("hessians", tf.reduce_sum(h**2, 1) + tf.reduce_sum(x**3, 1), x)
