"""Diagonals, Laplacians, products with vectors and cross blocks."""

import numpy as np
import pytest
from cases import CASES, wrong_cube
from oracles import run, sliced_hessians

import batchhess
from batchhess.compat import graph_function, tf

by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
METHODS = ["columns", "observations", "symmetric"]


def fed(case):
    """A placeholder for the case, and the ys."""
    shape = [
        None if a == case.batch_axis else d for a, d in enumerate(case.value.shape)
    ]
    x = tf.placeholder(tf.float64, shape)
    return x, case.build(x)


def matrices_of(expected):
    count, rank = expected.shape[0], (expected.ndim - 1) // 2
    event = expected.shape[1 : 1 + rank]
    size = int(np.prod(event))
    return expected.reshape(count, size, size), event


def assert_close(result, expected, case):
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-9, atol=10 * case.tolerance)


@by_case
@pytest.mark.parametrize("method", METHODS)
def test_diagonals_and_laplacians_equal_the_closed_form(case, method):
    x, ys = fed(case)
    options = {"method": method, "batch_axis": case.batch_axis}
    (diagonal,) = batchhess.hessian_diagonals(ys, x, **options)
    (laplacian,) = batchhess.laplacians(ys, x, **options)
    assert diagonal.shape.ndims == case.value.ndim and laplacian.shape.ndims == 1
    diagonal, laplacian = run([diagonal, laplacian], {x: case.value})
    blocks, event = matrices_of(case.expected)
    expected = np.einsum("nkk->nk", blocks).reshape((-1,) + event)
    assert_close(diagonal, expected, case)
    assert_close(laplacian, np.einsum("nkk->n", blocks), case)


@by_case
def test_products_equal_the_closed_form(case, control_flow, random):
    x, ys = fed(case)
    v = random.randn(*case.value.shape)
    (product,) = batchhess.hessian_vector_products(ys, x, v, batch_axis=case.batch_axis)
    assert product.shape.is_compatible_with(x.shape) and product.shape.ndims
    blocks, event = matrices_of(case.expected)
    rows = np.moveaxis(v, case.batch_axis, 0).reshape(len(blocks), -1)
    expected = np.einsum("nij,nj->ni", blocks, rows).reshape((-1,) + event)
    result = run(product, {x: case.value})
    assert_close(np.moveaxis(result, case.batch_axis, 0), expected, case)


def network(x, activation=tf.tanh, widths=(5, 4)):
    for i, width in enumerate(widths):
        shape = x.shape.as_list()[1], width
        x = activation(
            tf.matmul(x, tf.constant(np.random.RandomState(i).randn(*shape)))
        )
    return x


# Of x [None, 4]: what the sweep for diagonals meets.
MODELS = {
    "network": lambda x: tf.reduce_sum(network(x), 1),
    "cross entropy": lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.constant([[0.2, 0.3, 0.5, 0.0]] * 6, tf.float64), logits=2 * x
    ),
    "products of two": lambda x: tf.reduce_sum(network(x) * tf.sin(x), 1),
    "products of matrices": lambda x: tf.reduce_sum(
        tf.matmul(*[tf.reshape(a, [-1, 2, 2]) for a in (network(x), x)]) ** 3, [1, 2]
    ),
    "broadcast": lambda x: tf.reduce_sum(
        tf.exp(x[:, :, None] * x[:, None] / 5), [1, 2]
    ),
    "cumulative": lambda x: tf.reduce_sum(tf.cumprod(tf.cos(x), axis=1), 1),
    "determinants": lambda x: tf.linalg.det(tf.reshape(tf.exp(x), [-1, 2, 2])),
    "powers": lambda x: tf.reduce_sum(x**3, 1),
    "shared twice": lambda x: tf.reduce_sum(
        tf.sin(tf.matmul(x, tf.eye(4, dtype=tf.float64) * 2)) * tf.exp(x), 1
    ),
}


# tf.hessians of a determinant is wrong in 1.15.
WRITTEN_OUT = {
    "determinants": lambda x: tf.exp(x[:, 0] + x[:, 3]) - tf.exp(x[:, 1] + x[:, 2])
}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_diagonals_by_symmetric(name, random):
    x = tf.placeholder(tf.float64, [None, 4])
    y = MODELS[name](x)
    feed = {x: random.randn(6, 4)}
    plain = WRITTEN_OUT.get(name, MODELS[name])(x)
    expected = np.einsum("nkk->nk", sliced_hessians(plain, x, feed))
    assert np.abs(expected).max() > 1e-2
    (result,) = batchhess.hessian_diagonals(y, x, method="symmetric")
    np.testing.assert_allclose(run(result, feed), expected, rtol=1e-9, atol=1e-11)


def test_diagonals_by_differences(random):
    x = tf.placeholder(tf.float64, [None, 3])
    feed = {x: random.randn(5, 3)}
    y = tf.reduce_sum(tf.sin(x) * x[:, ::-1], 1)
    options = {"method": "differences"}
    diagonal, laplacian = run(
        [
            f(y, x, **options)[0]
            for f in (batchhess.hessian_diagonals, batchhess.laplacians)
        ],
        feed,
    )
    expected = np.einsum("nkk->nk", sliced_hessians(y, x, feed))
    np.testing.assert_allclose(diagonal, expected, atol=1e-8)
    np.testing.assert_allclose(laplacian, expected.sum(1), atol=1e-8)


@pytest.mark.parametrize("outputs", [(), (3,), (2, 3)])
@pytest.mark.parametrize("method", ["auto", "columns"])
def test_per_output(outputs, method, random):
    x = tf.placeholder(tf.float64, [None, 4])
    many = int(np.prod(outputs))
    y = tf.reshape(network(x, widths=(5, many)), (-1,) + outputs)
    value, v = random.randn(6, 4), random.randn(6, 4)
    blocks = [
        sliced_hessians(tf.reshape(y, [-1, many])[:, m], x, {x: value})
        for m in range(many)
    ]
    blocks = np.stack(blocks, 1).reshape((6,) + outputs + (4, 4))
    options = {"per_output": True}
    (diagonal,) = batchhess.hessian_diagonals(y, x, method=method, **options)
    (laplacian,) = batchhess.laplacians(y, x, method=method, **options)
    (product,) = batchhess.hessian_vector_products(y, x, v, **options)
    found = run([diagonal, laplacian, product], {x: value})
    close = {"rtol": 1e-9, "atol": 1e-11}
    np.testing.assert_allclose(found[0], np.einsum("n...kk->n...k", blocks), **close)
    np.testing.assert_allclose(found[1], np.einsum("n...kk->n...", blocks), **close)
    expected = np.einsum("n...ij,nj->n...i", blocks, v)
    np.testing.assert_allclose(found[2], expected, **close)


def coupled(x):
    return tf.reduce_sum(tf.sin(x) * tf.reduce_mean(x**2, 0))


def test_coupled_observations_are_refused_or_exact(random):
    x = tf.placeholder(tf.float64, [None, 3])
    feed = {x: random.randn(5, 3)}
    y = coupled(x)
    expected = np.einsum("nkk->nk", sliced_hessians(y, x, feed))
    for function in (batchhess.hessian_diagonals, batchhess.laplacians):
        with pytest.raises(tf.errors.InvalidArgumentError, match="are coupled"):
            run(function(y, x)[0], feed)
        exact = run(function(y, x, method="observations")[0], feed)
        wish = expected if exact.ndim == 2 else expected.sum(1)
        np.testing.assert_allclose(exact, wish, rtol=1e-11, atol=1e-12)


def test_products_of_coupled_observations_are_refused_or_of_all(random):
    x = tf.placeholder(tf.float64, [None, 3])
    value, v = random.randn(5, 3), random.randn(5, 3)
    y = coupled(x)
    with pytest.raises(tf.errors.InvalidArgumentError, match="are coupled"):
        run(batchhess.hessian_vector_products(y, x, v)[0], {x: value})
    (whole,) = run(tf.hessians(y, x), {x: value})
    (product,) = batchhess.hessian_vector_products(y, x, v, check="never")
    expected = np.einsum("niml,ml->ni", whole, v)
    np.testing.assert_allclose(run(product, {x: value}), expected, rtol=1e-11)


def test_linear_ys_give_zeros(random):
    x = tf.placeholder(tf.float32, [None, 3])
    y = tf.reduce_sum(2 * x)
    value = random.randn(5, 3)
    answers = [
        batchhess.hessian_diagonals(y, x)[0],
        batchhess.laplacians(y, x)[0],
        batchhess.hessian_vector_products(y, x, tf.ones_like(x))[0],
    ]
    for answer, shape in zip(run(answers, {x: value}), [(5, 3), (5,), (5, 3)]):
        np.testing.assert_array_equal(answer, np.zeros(shape))


@pytest.mark.parametrize("method", METHODS)
def test_no_observations(method):
    x = tf.placeholder(tf.float64, [None, 3])
    y = tf.reduce_sum(tf.sin(x) ** 2)
    answers = [
        batchhess.hessian_diagonals(y, x, method=method)[0],
        batchhess.laplacians(y, x, method=method)[0],
        batchhess.hessian_vector_products(y, x, tf.ones_like(x))[0],
        batchhess.hessian_blocks(y, [x], method=method)[0][0],
    ]
    shapes = [a.shape for a in run(answers, {x: np.zeros((0, 3))})]
    assert shapes == [(0, 3), (0,), (0, 3), (0, 3, 3)]


def test_names():
    x = tf.placeholder(tf.float64, [None, 3])
    y = tf.reduce_sum(x**4)
    batchhess.hessian_diagonals(y, x, name="d")
    batchhess.laplacians(y, x, name="l")
    batchhess.hessian_vector_products(y, x, 2 * tf.ones_like(x), name="p")
    batchhess.hessian_blocks(y, [x], name="b")
    feed, cubes = {x: np.ones((2, 3))}, np.stack([12 * np.eye(3)] * 2)
    wishes = {"d": np.full((2, 3), 12.0), "l": [36, 36], "p": np.full((2, 3), 24.0)}
    for name, expected in dict(wishes, b=cubes).items():
        np.testing.assert_allclose(run(name + ":0", feed), expected)


@pytest.mark.parametrize("method", ["auto", "columns"])
def test_compiled_diagonals(method, random):
    x = tf.placeholder(tf.float64, [None, 4])
    y = MODELS["network"](x)
    feed = {x: random.randn(7, 4)}
    (result,) = batchhess.hessian_diagonals(y, x, method=method, jit_compile=True)
    expected = np.einsum("nkk->nk", sliced_hessians(y, x, feed))
    np.testing.assert_allclose(run(result, feed), expected, atol=1e-12)


def test_a_loss_of_laplacians_can_be_trained(random):
    """As in a PINN: its gradient by a weight, against differences."""
    x = tf.placeholder(tf.float64, [None, 3])
    w = tf.placeholder(tf.float64, [3, 4])
    y = tf.reduce_sum(tf.tanh(tf.matmul(x, w)), 1)
    loss = tf.reduce_sum(batchhess.laplacians(y, x)[0] ** 2)
    (gradient,) = tf.gradients(loss, w)
    value, weights = random.randn(5, 3), random.randn(3, 4)
    found = run(gradient, {x: value, w: weights})
    step = 1e-5 * random.randn(3, 4)
    with tf.Session() as session:
        up, down = (
            session.run(loss, {x: value, w: weights + s}) for s in (step, -step)
        )
    np.testing.assert_allclose((found * step).sum(), (up - down) / 2, rtol=1e-6)


def answers_of(y, x):
    return {
        "diagonals": lambda **o: batchhess.hessian_diagonals(y, x, **o)[0],
        "laplacians": lambda **o: batchhess.laplacians(y, x, **o)[0],
        "products": lambda **o: batchhess.hessian_vector_products(
            y, x, tf.ones_like(x), **o
        )[0],
        "blocks": lambda **o: batchhess.hessian_blocks(y, [x], **o)[0][0],
    }


@pytest.mark.parametrize("name", ["diagonals", "laplacians", "products"])
def test_check_always(name, random):
    x = tf.placeholder(tf.float64, [None, 3])
    feed = {x: random.uniform(1, 2, (5, 3))}
    for function, wrong in ((lambda z: z**3, False), (wrong_cube, True)):
        y = tf.reduce_sum(function(x) * tf.reduce_sum(x, 1, keepdims=True))
        answer = answers_of(y, x)[name](check="always")
        if wrong:
            with pytest.raises(tf.errors.InvalidArgumentError, match="not what diff"):
                run(answer, feed)
        else:
            assert np.abs(run(answer, feed)).min() > 0


@pytest.mark.parametrize("name", ["diagonals", "laplacians", "products", "blocks"])
def test_what_tensorflow_loses_is_refused(name):
    x = tf.placeholder(tf.float64, [None, 3])
    tf.disable_control_flow_v2()
    draw = lambda a: tf.sin(a) * tf.random_uniform([], dtype=tf.float64)  # noqa: E731
    y = tf.while_loop(lambda i, _: i < 2, lambda i, a: (i + 1, draw(a)), (0, x))[1]
    errors = batchhess.SecondDerivativeError
    with pytest.raises(ValueError if name == "blocks" else errors, match="loop"):
        answers_of(y, x)[name]()


# Vectors.


def test_vectors_may_be_placeholders_lists_and_arrays(random):
    x = tf.placeholder(tf.float32, [None, 3])
    v = tf.placeholder(tf.float32, [None, 3])
    y = tf.reduce_sum(x**3 / 6)
    value, direction = random.randn(4, 3), random.randn(4, 3)
    for given in (v, [v], [direction], direction.astype("float32")):
        (product,) = batchhess.hessian_vector_products(y, x, given)
        result = run(product, {x: value, v: direction})
        np.testing.assert_allclose(result, value * direction, rtol=1e-5)


def test_an_x_that_is_a_variable_has_products(random):
    value = random.randn(4, 3)
    x = tf.get_variable("v", initializer=value)
    v = random.randn(4, 3)
    (product,) = batchhess.hessian_vector_products(tf.reduce_sum(x**3 / 6), x, v)
    np.testing.assert_allclose(run(product), value * v, rtol=1e-12)


def test_vectors_that_do_not_fit():
    x = tf.placeholder(tf.float64, [None, 3])
    y = tf.reduce_sum(x**3)
    products = batchhess.hessian_vector_products
    with pytest.raises(ValueError, match="vs has 2 tensors, and xs has 1"):
        products(y, x, [x, x])
    with pytest.raises(ValueError, match=r"in vs has shape .*4.*has shape|in xs has"):
        products(y, x, tf.zeros([5, 4], tf.float64))
    with pytest.raises(TypeError, match="in vs has dtype float32, and .* has float64"):
        products(y, x, tf.zeros([5, 3], tf.float32))
    (product,) = products(y, x, tf.ones([1, 3], tf.float64))
    with pytest.raises(tf.errors.InvalidArgumentError, match="has not the shape of"):
        run(product, {x: np.ones((4, 3))})


# Several xs together.


def wave(x, t):
    """Of x [N, 3] and t [N, 2], each in its own way."""
    a = tf.constant([[1.0], [2.0], [-1.0]], tf.float64)
    b = tf.constant([[0.5], [1.5]], tf.float64)
    return (tf.sin(tf.matmul(x, a)) * tf.exp(tf.matmul(t, b)))[:, 0]


def wave_blocks(x, t):
    a, b = np.array([1.0, 2.0, -1.0]), np.array([0.5, 1.5])
    sin, cos, exp = np.sin(x @ a), np.cos(x @ a), np.exp(t @ b)
    cross = np.einsum("n,i,j->nij", cos * exp, a, b)
    return [
        [np.einsum("n,i,j->nij", -sin * exp, a, a), cross],
        [cross.swapaxes(1, 2), np.einsum("n,i,j->nij", sin * exp, b, b)],
    ]


@pytest.mark.parametrize("method", ["auto"] + METHODS)
def test_cross_blocks_equal_the_closed_form(method, random, control_flow):
    x = tf.placeholder(tf.float64, [None, 3])
    t = tf.placeholder(tf.float64, [None, 2])
    blocks = batchhess.hessian_blocks(wave(x, t), [x, t], method=method)
    shapes = [[b.shape.as_list() for b in row] for row in blocks]
    assert shapes == [[[None, 3, 3], [None, 3, 2]], [[None, 2, 3], [None, 2, 2]]]
    value, times = random.randn(5, 3), random.randn(5, 2)
    found = run(blocks, {x: value, t: times})
    for row, wish in zip(found, wave_blocks(value, times)):
        for block, expected in zip(row, wish):
            np.testing.assert_allclose(block, expected, rtol=1e-10, atol=1e-12)


def test_products_with_several_xs_hold_the_cross_blocks(random):
    x = tf.placeholder(tf.float64, [None, 3])
    t = tf.placeholder(tf.float64, [None, 2])
    value, times = random.randn(5, 3), random.randn(5, 2)
    vs = [random.randn(5, 3), random.randn(5, 2)]
    products = batchhess.hessian_vector_products(wave(x, t), [x, t], vs)
    found = run(products, {x: value, t: times})
    for result, row in zip(found, wave_blocks(value, times)):
        expected = sum(np.einsum("nij,nj->ni", b, v) for b, v in zip(row, vs))
        np.testing.assert_allclose(result, expected, rtol=1e-10, atol=1e-12)


def test_xs_of_other_shapes_axes_and_outputs(random):
    """x [2, N, 2] and s [N], on axes 1 and -1; two outputs of each observation."""
    x = tf.placeholder(tf.float64, [2, None, 2])
    s = tf.placeholder(tf.float64, [1, None, 1])
    flat = tf.reshape(tf.transpose(x, [1, 0, 2]), [-1, 4])
    scale = tf.reshape(s, [-1, 1])
    y = tf.concat([tf.sin(scale) * flat[:, :1] ** 2, scale**2 * flat[:, 3:]], 1)
    blocks = batchhess.hessian_blocks(y, [x, s], batch_axis=1, per_output=True)
    value, scales = random.randn(2, 5, 2), random.randn(1, 5, 1)
    found = run(blocks, {x: value, s: scales})
    assert found[0][1].shape == (5, 2, 2, 2, 1, 1)
    first, last, scale = value[0, :, 0], value[1, :, 1], scales[0, :, 0]
    cross = np.zeros((5, 2, 2, 2, 1, 1))
    cross[:, 0, 0, 0, 0, 0] = np.cos(scale) * 2 * first
    cross[:, 1, 1, 1, 0, 0] = 2 * scale
    np.testing.assert_allclose(found[0][1], cross, atol=1e-12)
    np.testing.assert_allclose(
        found[1][0], cross.transpose(0, 1, 4, 5, 2, 3), atol=1e-12
    )
    own = np.stack([-np.sin(scale) * first**2, 2 * last], 1)
    np.testing.assert_allclose(found[1][1][:, :, 0, 0, 0, 0], own, atol=1e-12)
    vs = [np.ones_like(value), np.ones_like(scales)]
    products = batchhess.hessian_vector_products(
        y, [x, s], vs, batch_axis=1, per_output=True
    )
    result = run(products, {x: value, s: scales})
    assert result[0].shape == (5, 2, 2, 2) and result[1].shape == (5, 2, 1, 1)
    expected = own + cross.sum((2, 3, 4, 5))
    np.testing.assert_allclose(result[1][:, :, 0, 0], expected, atol=1e-12)
    assert [p.shape.as_list() for p in products] == [[None, 2, 2, 2], [None, 2, 1, 1]]


def test_products_on_another_axis_are_laid_out_as_x(random):
    x = tf.placeholder(tf.float64, [2, None])
    s = tf.placeholder(tf.float64, [1, None])
    y = tf.reduce_sum(x**2 * s)
    value, scale = random.randn(2, 5), random.randn(1, 5)
    v, u = random.randn(2, 5), random.randn(1, 5)
    found = run(
        batchhess.hessian_vector_products(y, [x, s], [v, u], batch_axis=1),
        {x: value, s: scale},
    )
    np.testing.assert_allclose(found[0], 2 * scale * v + 2 * value * u, rtol=1e-12)
    np.testing.assert_allclose(found[1], (2 * value * v).sum(0)[None], rtol=1e-12)


def test_xs_coupled_across_observations_are_refused(random):
    """Each x alone is separable, the two together are not."""
    x = tf.placeholder(tf.float64, [None, 2])
    t = tf.placeholder(tf.float64, [None, 2])
    y = tf.reduce_sum(x) * tf.reduce_sum(t**2) / 7
    feed = {x: random.randn(5, 2), t: random.randn(5, 2)}
    for answer in (
        batchhess.hessian_blocks(y, [x, t])[0][1],
        batchhess.hessian_vector_products(y, [x, t], [tf.ones_like(x)] * 2)[0],
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match="are coupled"):
            run(answer, feed)


def test_xs_of_a_loop_of_control_flow_v1(random):
    tf.disable_control_flow_v2()
    x = tf.placeholder(tf.float64, [None, 3])
    t = tf.placeholder(tf.float64, [None, 2])
    y = tf.while_loop(
        lambda i, _: i < 2, lambda i, a: (i + 1, a * wave(x, t)), (0, wave(x, t))
    )[1]
    cube = wave(x, t) ** 3
    feed = {x: random.randn(4, 3), t: random.randn(4, 2)}
    found, expected = run(
        [
            batchhess.hessian_blocks(f, [x, t], method="columns")[0][1]
            for f in (y, cube)
        ],
        feed,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_xs_that_cannot_be_taken_together():
    x = tf.placeholder(tf.float64, [None, 2])
    single = tf.placeholder(tf.float32, [None, 2])
    v = tf.get_variable("v", initializer=np.ones((5, 2)))
    blocks = batchhess.hessian_blocks
    with pytest.raises(TypeError, match="'v:0' is a Variable, which cannot be taken"):
        blocks(tf.reduce_sum(x * v), [x, v])
    with pytest.raises(TypeError, match="is float64 and .* is float32"):
        blocks(tf.reduce_sum(x) + tf.cast(tf.reduce_sum(single), x.dtype), [x, single])
    z = tf.sin(x)
    with pytest.raises(ValueError, match="is computed from"):
        blocks(tf.reduce_sum(x * z), [z, x])
    with pytest.raises(ValueError, match="is given twice among xs"):
        blocks(tf.reduce_sum(x**2), [x, x])
    other = tf.placeholder(tf.float64, [None, 2])
    with pytest.raises(ValueError, match="does not depend on"):
        blocks(tf.reduce_sum(x**2), [x, other])
    for model in (
        wrong_cube,
        graph_function(wrong_cube, autograph=False),
        lambda h: tf.cond(tf.reduce_sum(h) > 0, lambda: wrong_cube(h), lambda: h),
    ):
        with pytest.raises(ValueError, match="has a custom gradient at '.*IdentityN'"):
            blocks(tf.reduce_sum(model(x)), [x])


def test_xs_of_other_numbers_of_observations():
    x, other = (tf.placeholder(tf.float64, [None, 2]) for _ in range(2))
    y = tf.reduce_sum(x**2) + tf.reduce_sum(other**3)
    vs = [tf.ones_like(x), tf.ones_like(other)]
    for result in (
        batchhess.hessian_blocks(y, [x, other])[0][0],
        batchhess.hessian_vector_products(y, [x, other], vs)[0],
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match="differ in their num"):
            run(result, {x: np.ones((2, 2)), other: np.ones((3, 2))})
    fixed = [tf.ones([count, 2], tf.float64) for count in (2, 3)]
    with pytest.raises(ValueError, match="number of observations: 2 and 3"):
        batchhess.hessian_blocks(tf.reduce_sum(fixed[0]) * fixed[1][0, 0], fixed)


@pytest.mark.parametrize("check", ["auto", "never", "always"])
def test_xs_of_a_function(check, random):
    x = tf.placeholder(tf.float64, [None, 3])
    t = tf.placeholder(tf.float64, [None, 2])
    y = graph_function(wave, autograph=False)(x, t)
    found = batchhess.hessian_blocks(y, [x, t], check=check)
    value, times = random.randn(5, 3), random.randn(5, 2)
    cross = run(found[0][1], {x: value, t: times})
    expected = wave_blocks(value, times)[0][1]
    np.testing.assert_allclose(cross, expected, rtol=1e-10, atol=1e-12)


def test_unconnected_xs_give_zeros_if_asked(random):
    x = tf.placeholder(tf.float64, [None, 2])
    other = tf.placeholder(tf.float64, [None, 3])
    zero = tf.UnconnectedGradients.ZERO
    feed = {x: random.randn(4, 2), other: random.randn(4, 3)}
    y = tf.reduce_sum(x**2)
    found = run(
        batchhess.hessian_blocks(y, [x, other], unconnected_gradients=zero), feed
    )
    np.testing.assert_allclose(found[0][0], np.stack([2 * np.eye(2)] * 4))
    np.testing.assert_array_equal(found[0][1], np.zeros((4, 2, 3)))
    np.testing.assert_array_equal(found[1][1], np.zeros((4, 3, 3)))
