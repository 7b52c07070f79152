"""Products with vectors: of Hessians with several, and of Gauss and Newton."""

import numpy as np
import pytest
from cases import CASES
from oracles import difference_blocks, difference_jacobians, run

import batchhess
from batchhess import product_planning
from batchhess.compat import IS_V1, tf
from batchhess.methods import METHODS, PRODUCT_METHODS

COUPLED = tf.errors.InvalidArgumentError


def network(x, *widths):
    for i, width in enumerate(widths):
        weights = np.random.RandomState(i).randn(x.shape.as_list()[1], width)
        x = tf.tanh(tf.matmul(x, tf.constant(weights)))
    return x


@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("case", CASES[::3], ids=lambda case: case.name)
def test_hessians_times_several_vectors(case, count, random):
    axis, value = case.batch_axis, case.value
    x = tf.placeholder(tf.float64, [None] * value.ndim)
    x.set_shape([None if a == axis else d for a, d in enumerate(value.shape)])
    rows = np.moveaxis(value, axis, 0)
    vs = random.randn(len(rows), count, *rows.shape[1:])
    for shape in (vs.shape, [None] * vs.ndim):
        v = tf.placeholder(tf.float64, shape)
        (result,) = batchhess.hessian_vector_products(
            case.build(x), x, v, batch_axis=axis
        )
        found = run(result, {x: value, v: vs})
        size = rows[0].size
        flat = vs.reshape(len(rows), count, size)
        blocks = case.expected.reshape(len(rows), size, size)
        expected = np.einsum("nij,nvj->nvi", blocks, flat).reshape(vs.shape)
        assert found.shape == vs.shape
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=20 * case.tolerance)


@pytest.mark.parametrize("count", [1, 6])
def test_several_vectors_for_each_output_and_for_several_xs(count, random):
    x = tf.placeholder(tf.float64, [None, 3], name="x")
    t = tf.placeholder(tf.float64, [None, 2, 1], name="t")
    z = tf.concat([x, tf.reshape(t, [-1, 2])], 1)
    y = network(z, 4, 2)
    feed = {x: random.randn(4, 3), t: random.randn(4, 2, 1)}
    vs = [random.randn(4, count, 3), random.randn(4, count, 2, 1)]
    both = tf.placeholder(tf.float64, [None, 5], name="both")
    value = np.concatenate([feed[x], feed[t][:, :, 0]], 1)
    flat = np.concatenate([vs[0], vs[1][..., 0]], 2)
    blocks = np.stack(
        [difference_blocks(network(both, 4, 2)[:, m], both, value) for m in (0, 1)], 1
    )
    expected = np.einsum("nmij,nvj->nmvi", blocks, flat)
    for per_output in (False, True):
        built = batchhess.hessian_vector_products(
            y, [x, t], vs, per_output=per_output, check="always"
        )
        found = run(built, feed)
        wish = expected if per_output else expected.sum(1)
        np.testing.assert_allclose(found[0], wish[..., :3], atol=1e-8)
        np.testing.assert_allclose(found[1], wish[..., 3:, None], atol=1e-8)


def attention(x):
    """Each observation multiplies matrices of its own: [N, 2, 3] -> [N]."""
    rows = tf.reshape(x, [-1, 2, 3])
    keys = tf.tensordot(rows, tf.constant(np.eye(3) + 0.3), 1)
    values = tf.tanh(tf.matmul(rows, keys, transpose_b=True))
    return tf.reduce_sum(tf.matmul(tf.nn.softmax(values), rows) ** 2, [1, 2])


MODELS = {
    "attention": attention,
    "network": lambda x: network(tf.reshape(x, [-1, 6]), 5, 1)[:, 0],
    "cross entropy": lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.zeros_like(x) + tf.constant(np.arange(6) / 15), logits=x
    ),
    "a norm": lambda x: tf.norm(x, axis=1) * x[:, 0],
}


@pytest.mark.parametrize("count, block", [(1, None), (2, 3), (9, 3)])
@pytest.mark.parametrize("method", ["auto", "symmetric", "forward", "columns"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_each_method_of_several_vectors(
    name, method, count, block, random, control_flow, monkeypatch
):
    monkeypatch.setattr(product_planning, "block_of", lambda *_: block)
    x = tf.placeholder(tf.float64, [None, 6], name="x")
    y = MODELS[name](x)
    v = tf.placeholder(tf.float64, [None, count, 6])
    if IS_V1 and (name, method) == ("a norm", "forward"):
        with pytest.raises(ValueError, match="Pass method='columns' alone"):
            batchhess.hessian_vector_products(y, x, v, method=method)
        return
    (products,) = batchhess.hessian_vector_products(y, x, v, method=method)
    for size in (0, 1, 7):
        value, vs = random.randn(size, 6), random.randn(size, count, 6)
        found = run(products, {x: value, v: vs})
        assert found.shape == vs.shape
        if size:
            blocks = difference_blocks(y, x, value)
            expected = np.einsum("nij,nvj->nvi", blocks, vs)
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_gradient_that_forgets_its_rank(random):
    x = tf.placeholder(tf.float64, [None, 3, 3])
    y = tf.matmul(tf.linalg.set_diag(tf.sin(x), x[:, 0]), x)
    value, vs = random.randn(4, 3, 3), random.randn(4, 2, 3, 3)
    (products,) = batchhess.hessian_vector_products(y, x, vs)
    blocks = difference_blocks(y, x, value)
    expected = np.einsum("nijkl,nvkl->nvij", blocks, vs)
    np.testing.assert_allclose(run(products, {x: value}), expected, atol=1e-7)


@pytest.mark.parametrize(
    "name, count, taken",
    [
        ("attention", 1, "columns"),
        ("attention", 2, "forward"),
        ("attention", 6, "symmetric"),
        ("attention", None, "columns"),
        ("network", 2, "columns"),
        ("network", 6, "symmetric"),
    ],
)
def test_auto_takes_the_fastest_way_of_vectors(name, count, taken, monkeypatch):
    built = []
    for each, method in list(PRODUCT_METHODS.items()):

        def build(problem, passes, each=each, method=method):
            built.append(each)
            return method.build(problem, passes)

        monkeypatch.setitem(PRODUCT_METHODS, each, method._replace(build=build))
        if each in METHODS:
            monkeypatch.setitem(METHODS, each, method._replace(build=build))
    x = tf.placeholder(tf.float64, [None, 6])
    v = tf.placeholder(tf.float64, [None, count, 6])
    batchhess.hessian_vector_products(MODELS[name](x), x, v)
    assert built == ([] if taken == "columns" else [taken])


@pytest.mark.parametrize("method", ["symmetric", "forward"])
@pytest.mark.parametrize("axis", [0, 1])
def test_products_of_other_axes_and_several_xs(method, axis, random):
    x = tf.placeholder(tf.float64, [None, 4] if axis == 0 else [4, None], name="x")
    t = tf.placeholder(tf.float64, [None, 2] if axis == 0 else [2, None], name="t")
    both = tf.concat([x, t], 1 - axis)
    y = attention(both if axis == 0 else tf.transpose(both))
    z = tf.placeholder(tf.float64, [None, 6])
    value, vs = random.randn(5, 6), random.randn(5, 3, 6)
    blocks = difference_blocks(attention(z), z, value)
    expected = np.einsum("nij,nvj->nvi", blocks, vs)
    parts = [value[:, :4], value[:, 4:]]
    feed = dict(zip([x, t], parts if axis == 0 else [p.T for p in parts]))
    built = batchhess.hessian_vector_products(
        y, [x, t], [vs[..., :4], vs[..., 4:]], batch_axis=axis, method=method
    )
    found = np.concatenate(run(built, feed), 2)
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("method", ["auto", "symmetric", "forward"])
def test_products_are_differentiated_again(method, random):
    x = tf.placeholder(tf.float64, [None, 6], name="x")
    scale = tf.placeholder(tf.float64, [], name="scale")
    vs = random.randn(4, 2, 6)
    (products,) = batchhess.hessian_vector_products(
        attention(scale * x), x, vs, method=method
    )
    loss = tf.reduce_sum(products**2)
    by_x, by_scale = tf.gradients(loss, [x, scale])
    value, step = random.randn(4, 6), 1e-5
    feed = {x: value, scale: 0.7}
    found = run([by_x, by_scale], feed)
    ends = [run(loss, {x: value, scale: 0.7 + s}) for s in (step, -step)]
    np.testing.assert_allclose(found[1], (ends[0] - ends[1]) / (2 * step), rtol=1e-6)
    way = random.randn(4, 6)
    ends = [run(loss, {x: value + s * way, scale: 0.7}) for s in (step, -step)]
    slope = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(np.sum(found[0] * way), slope, rtol=1e-6)


@pytest.mark.parametrize("method", ["auto", "symmetric", "forward", "columns"])
def test_what_is_fed_inside_is_followed_or_fails_the_run(method, random, monkeypatch):
    monkeypatch.setattr(product_planning, "block_of", lambda *_: 2)
    x = tf.placeholder(tf.float64, [None, 6], name="x")
    inner = tf.tanh(x, name="inner")
    y = attention(inner) + inner[:, 0] ** 2
    vs = random.randn(3, 2, 6)
    (products,) = batchhess.hessian_vector_products(y, x, vs, method=method)
    feed = {x: random.randn(3, 6), inner: random.randn(3, 6)}
    (gradient,) = tf.gradients(y, x)
    expected = [
        run(tf.gradients(gradient, x, vs[:, i])[0], feed) for i in range(vs.shape[1])
    ]
    try:
        found = run(products, feed)
    except COUPLED as error:
        assert "pass method=columns" in str(error) and method != "columns"
        return
    np.testing.assert_allclose(found, np.stack(expected, 1), atol=1e-9)


def test_vectors_that_no_way_is_known_for_are_refused():
    x = tf.placeholder(tf.float64, [None, 6], name="x")
    products = batchhess.hessian_vector_products
    with pytest.raises(ValueError, match="several vectors.* method='columns' alone"):
        products(attention(x), x, tf.ones_like(x), method="forward")
    with pytest.raises(ValueError, match="method='symmetric' cannot follow"):
        products(tf.tanh(x) * tf.reduce_mean(x, 0), x, x, method="symmetric")
    with pytest.raises(ValueError, match="method"):
        products(attention(x), x, x, method="differences")


def test_several_vectors_of_a_linear_f_give_zeros():
    x = tf.placeholder(tf.float32, [None, 3])
    products = batchhess.hessian_vector_products(
        tf.reduce_sum(x), x, np.ones((2, 5, 3))
    )
    assert not run(products[0], {x: np.ones((2, 3))}).any()
    assert products[0].shape.as_list()[1:] == [5, 3]


@pytest.mark.parametrize("shape", [(4, 3, 2), (5, 2, 3), (4,), (4, 2, 3, 1)], ids=str)
def test_vectors_of_other_shapes_are_refused(shape):
    x = tf.placeholder(tf.float64, [4, 3])
    with pytest.raises(ValueError, match=r"vs has shape .* \[N, V, K\]"):
        batchhess.hessian_vector_products(tf.sin(x), x, np.ones(shape))
    x = tf.placeholder(tf.float64, [None, None])
    v = tf.placeholder(tf.float64, [None] * len(shape))
    try:
        (result,) = batchhess.hessian_vector_products(tf.sin(x), x, v)
    except ValueError:
        return
    with pytest.raises(COUPLED, match="not the shape"):
        run(result, {x: np.ones((4, 3)), v: np.ones(shape)})


def softmax_loss(outputs):
    labels = np.array([0.2, 0.5, 0.3])
    return tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.zeros_like(outputs) + tf.constant(labels, outputs.dtype),
        logits=outputs,
    )


# A model of x [N, 4], a loss of its outputs, and the loss's Hessian by these.
def softmax_hessian(z):
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return np.einsum("nm,mk->nmk", p, np.eye(3)) - p[:, :, None] * p[:, None]


LOSSES = {
    "cross entropy": (softmax_loss, softmax_hessian),
    "squares": (
        lambda z: tf.reduce_sum((z - 1.0) ** 2),
        lambda z: np.tile(2 * np.eye(3), (len(z), 1, 1)),
    ),
    "products": (
        lambda z: z[:, 0] * z[:, 1] * z[:, 2],
        lambda z: np.stack(
            [np.array([[0, c, b], [c, 0, a], [b, a, 0]]) for a, b, c in z]
        ),
    ),
}


def gauss_newton(outputs, x, value, hessian, vs, axis=0):
    """J' H J v, [N, V, K], of differences and the closed form of H."""
    z = run(outputs, {x: value})
    slopes = difference_jacobians(outputs, x, value, axis=axis).reshape(len(z), 3, -1)
    matrices = np.einsum("nmi,nmp,npj->nij", slopes, hessian(z.reshape(-1, 3)), slopes)
    assert np.abs(matrices).max() > 1e-2
    return np.einsum("nij,nvj->nvi", matrices, vs.reshape(len(z), -1, 4))


@pytest.mark.parametrize("events", [(4,), (2, 2)])
@pytest.mark.parametrize("count", [None, 1, 6])
@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("check", ["auto", "always"])
def test_gauss_newton_equals_the_product_of_matrices(
    name, count, events, check, random, control_flow
):
    loss, hessian = LOSSES[name]
    x = tf.placeholder(tf.float64, (None,) + events, name="x")
    outputs = network(tf.reshape(x, [-1, 4]), 5, 3)
    value = random.randn(3, *events)
    vs = random.randn(3, *(() if count is None else (count,)) + events)
    (result,) = batchhess.gauss_newton_products(
        outputs, loss(outputs), x, vs, name="gn", check=check
    )
    assert result.name == "gn:0"
    found = run(result, {x: value})
    expected = gauss_newton(outputs, x, value, hessian, vs)
    assert found.shape == vs.shape
    np.testing.assert_allclose(found, expected.reshape(vs.shape), atol=1e-8)


def test_gauss_newton_along_another_axis_and_of_events(random):
    x = tf.placeholder(tf.float64, [4, 3], name="x")
    outputs = tf.reshape(network(tf.transpose(x), 3), [3, 1, 3])
    loss = tf.reduce_sum(tf.exp(outputs), [1, 2])
    value, v = random.randn(4, 3), random.randn(4, 3)
    (result,) = batchhess.gauss_newton_products(outputs, loss, x, v, batch_axis=1)

    def hessian(z):
        return np.exp(z)[:, :, None] * np.eye(3)

    expected = gauss_newton(outputs, x, value, hessian, v.T.copy(), axis=1)
    np.testing.assert_allclose(run(result, {x: value}), expected[:, 0].T, atol=1e-8)


@pytest.mark.parametrize("use_resource", [False, True])
def test_gauss_newton_of_a_variable(use_resource, random):
    value, v = random.randn(2, 5, 3)
    x = tf.get_variable("x", initializer=value, use_resource=use_resource)
    outputs = network(x, 4)
    (result,) = batchhess.gauss_newton_products(
        outputs, tf.reduce_sum(outputs**2, 1), x, v
    )
    twin = tf.placeholder(tf.float64, [None, 3])
    jacobian = difference_jacobians(network(twin, 4), twin, value)
    expected = 2 * np.einsum("nmi,nmj,nj->ni", jacobian, jacobian, v)
    np.testing.assert_allclose(run(result), expected, atol=1e-8)


@pytest.mark.parametrize("use_resource", [False, True])
def test_gauss_newton_of_a_variable_beside_a_placeholder(use_resource, random):
    value, v, start, w = random.randn(4, 5, 3)
    x = tf.placeholder(tf.float64, [None, 3])
    scale = tf.get_variable("scale", initializer=start, use_resource=use_resource)
    outputs = tf.sin(x) * scale
    built = batchhess.gauss_newton_products(
        outputs, tf.reduce_sum(outputs**2, 1), [x, scale], [v, w]
    )
    pushed = np.cos(value) * start * v + np.sin(value) * w
    found = run(built, {x: value})
    np.testing.assert_allclose(found[0], 2 * np.cos(value) * start * pushed)
    np.testing.assert_allclose(found[1], 2 * np.sin(value) * pushed)


@pytest.mark.skipif(IS_V1, reason="TensorFlow 1 cannot differentiate that norm")
def test_gauss_newton_through_a_gradient_that_divides_by_its_seed(random):
    value, v = random.randn(2, 5, 3)
    x = tf.placeholder(tf.float64, [None, 3])
    norm = tf.math.reduce_euclidean_norm(x, 1, keepdims=True)
    (result,) = batchhess.gauss_newton_products(norm, norm[:, 0] ** 2, x, v)
    unit = value / np.linalg.norm(value, axis=1, keepdims=True)
    expected = 2 * unit * (unit * v).sum(1, keepdims=True)
    np.testing.assert_allclose(run(result, {x: value}), expected, atol=1e-12)


@pytest.mark.parametrize("count", [None, 5])
def test_gauss_newton_of_several_xs(count, random):
    x = tf.placeholder(tf.float64, [None, 3], name="x")
    t = tf.placeholder(tf.float32, [None], name="t")
    z = tf.concat([x, tf.cast(t, tf.float64)[:, None]], 1)
    outputs = network(z, 3)
    value = random.randn(5, 4).astype(np.float32).astype(float)
    several = () if count is None else (count,)
    vs = random.randn(5, *several + (4,))
    built = batchhess.gauss_newton_products(
        outputs, softmax_loss(outputs), [x, t], [vs[..., :3], vs[..., 3]]
    )
    found = run(built, {x: value[:, :3], t: value[:, 3]})
    twin = tf.placeholder(tf.float64, [None, 4], name="twin")
    expected = gauss_newton(network(twin, 3), twin, value, softmax_hessian, vs)
    expected = expected.reshape(vs.shape)
    np.testing.assert_allclose(found[0], expected[..., :3], atol=1e-6)
    np.testing.assert_allclose(found[1], expected[..., 3], atol=1e-5)


def test_gauss_newton_where_nothing_curves_or_is_connected(random):
    x = tf.placeholder(tf.float64, [None, 4])
    t = tf.placeholder(tf.float64, [None, 2])
    outputs, feed = network(x, 3), {x: random.randn(3, 4), t: np.ones((3, 2))}
    linear = batchhess.gauss_newton_products(outputs, 2 * outputs, x, tf.ones_like(x))
    zero = batchhess.gauss_newton_products(
        outputs,
        softmax_loss(outputs),
        [x, t],
        [tf.ones_like(x), tf.ones_like(t)],
        unconnected_gradients="zero",
    )
    found = run([linear[0], zero[1]], feed)
    assert [f.shape for f in found] == [(3, 4), (3, 2)]
    assert not found[0].any() and not found[1].any()
    for n in (0, 1):
        feed = {x: random.randn(n, 4), t: np.ones((n, 2))}
        assert run(zero, feed)[0].shape == (n, 4)


def test_gauss_newton_of_coupled_outputs_or_losses_fails_the_run(random):
    x = tf.placeholder(tf.float64, [None, 4], name="x")
    apart = network(x, 3)
    coupled = apart * tf.reduce_mean(apart, 0)
    value = random.randn(5, 4)
    for outputs, loss in [
        (coupled, softmax_loss(coupled)),
        (apart, tf.reduce_sum(tf.reduce_sum(apart, 0) ** 3)),
    ]:
        (result,) = batchhess.gauss_newton_products(outputs, loss, x, value)
        with pytest.raises(COUPLED, match="gauss_newton_products: .* coupled"):
            run(result, {x: value})


def test_gauss_newton_refuses_what_it_would_leave_out():
    x = tf.placeholder(tf.float64, [4, 3], name="x")
    outputs = tf.sin(x)
    v = tf.ones_like(x)
    for given, error, phrase in [
        (
            (outputs, softmax_loss(outputs) + x[:, 0], x, v),
            ValueError,
            "beside 'Sin:0'",
        ),
        ((outputs, softmax_loss(x), x, v), ValueError, "beside 'Sin:0'"),
        ((outputs, tf.ones([4]), x, v), ValueError, "does not depend on 'Sin:0'"),
        (([outputs, x], outputs, x, v), ValueError, "one y of known rank"),
        ((outputs, outputs, x, v[:2]), ValueError, "vs has shape"),
        ((outputs, outputs, [x, outputs], [v, v]), ValueError, "is computed from"),
        ((tf.transpose(x), tf.transpose(x), x, v), ValueError, "number of obs|axis 0"),
        ((outputs, tf.cast(outputs, tf.int32), x, v), TypeError, "dtype int32"),
    ]:
        with pytest.raises(error, match=phrase) as caught:
            batchhess.gauss_newton_products(*given)
        assert str(caught.value).startswith("gauss_newton_products: ")
    (passed,) = batchhess.gauss_newton_products(
        outputs, softmax_loss(outputs) + x[:, 0], x, v, check="never"
    )
    assert run(passed, {x: np.ones((4, 3))}).shape == (4, 3)


DOUBTFUL = {
    "a response": lambda x: tf.reshape(
        tf.nn.lrn(tf.reshape(x, [-1, 1, 1, 4]), depth_radius=1), [-1, 4]
    ),
    "larger images": lambda x: tf.reshape(
        tf.image.resize_bilinear(tf.reshape(x, [-1, 2, 2, 1]), [3, 2]), [-1, 6]
    ),
    "overlapping windows": lambda x: tf.reshape(
        tf.nn.max_pool(
            tf.reshape(x, [-1, 2, 2, 1]), [1, 2, 2, 1], [1, 1, 1, 1], "SAME"
        ),
        [-1, 4],
    ),
    "a loop": lambda x: tf.while_loop(
        lambda i, _: i < 3, lambda i, z: (i + 1, tf.sin(z)), (0, x)
    )[1],
    "a loop that draws": lambda x: tf.while_loop(
        lambda i, _: i < 3,
        lambda i, z: (i + 1, tf.sin(z) + 0 * tf.random_uniform([1], dtype=z.dtype)),
        (0, x),
    )[1],
    "products with zeros": lambda x: tf.math.cumprod(x * [0.0, 1, 2, 3], 1),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", sorted(DOUBTFUL))
def test_gauss_newton_is_right_or_refused(name, dtype, random, control_flow):
    if name == "a response" and dtype == "float64":
        pytest.skip("TensorFlow has no kernel")
    x = tf.placeholder(dtype, [None, 4], name="x")
    outputs = DOUBTFUL[name](x)
    loss = tf.reduce_sum(outputs**2, 1) / 2
    # No two are near each other, where the maximum has a kink.
    value = np.stack([random.permutation([0.5, 0.9, 1.3, 1.7]) for _ in range(3)])
    v = random.randn(3, 4)
    try:
        (result,) = batchhess.gauss_newton_products(outputs, loss, x, v)
        found = run(result, {x: value})
    except (ValueError, COUPLED) as error:
        assert "gauss_newton_products: " in str(error)
        return
    slopes = difference_jacobians(
        outputs, x, value, step=1e-3 if "64" in dtype else 0.05
    )
    expected = np.einsum("nmi,nmj,nj->ni", slopes, slopes, v)
    tolerance = 1e-7 if dtype == "float64" else 2e-2
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("function", ["hessian_vector_products", "jacobians"])
def test_the_cure_of_coupling_is_one_that_the_function_takes(function, random):
    x = tf.placeholder(tf.float64, [None, 3])
    y = tf.tanh(x) * tf.reduce_mean(x, 0)
    more = [] if function == "jacobians" else [tf.ones_like(x)]
    (found,) = getattr(batchhess, function)(y, x, *more)
    cure = "Multiply the blocks of hessians" if more else "Pass method=observatio"
    with pytest.raises(tf.errors.InvalidArgumentError, match=cure):
        run(found, {x: random.randn(4, 3)})
