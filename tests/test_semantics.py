"""What a result is: shapes, dtypes, sums, zeros, names."""

import inspect

import numpy as np
import pytest
from oracles import count_ops, count_runs, difference_blocks, run, sliced_hessians

import batchhess
from batchhess.compat import tf

METHODS = ["columns", "observations"]
methods = pytest.mark.parametrize("method", METHODS)


def placeholder(*shape, dtype=tf.float64):
    return tf.placeholder(dtype, shape)


def bumps(x):
    """A smooth function of each observation alone, with a dense Hessian: [N]."""
    axes = list(range(1, x.shape.ndims))
    return tf.sin(tf.reduce_sum(x * x * x, axes)) + tf.exp(tf.reduce_sum(x, axes) / 3)


def test_the_signature_begins_as_that_of_tf_hessians():
    theirs = list(inspect.signature(tf.hessians).parameters.items())
    for function in (batchhess.hessians, batchhess.derivatives):
        ours = list(inspect.signature(function).parameters.items())[: len(theirs)]
        assert [name for name, _ in ours] == [name for name, _ in theirs]
        assert [p.default for _, p in ours[3:]] == [p.default for _, p in theirs[3:]]


@methods
@pytest.mark.parametrize("shape", [(2, 3), (4, 1), (1, 3), (3, 2, 2), (5,)])
def test_blocks_equal_sliced_tf_hessians(method, shape, random, control_flow):
    value = random.randn(*shape)
    x = placeholder(None, *shape[1:])
    result = batchhess.hessians(bumps(x), x, method=method)[0]
    assert result.shape.as_list() == [None] + list(shape[1:]) * 2
    expected = sliced_hessians(bumps(x), x, {x: value})
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(run(result, {x: value}), expected, atol=1e-12)


@methods
@pytest.mark.parametrize("shape", [(2, 3), (3, 2, 2), (0, 3), (2, 0)])
def test_dimensions_unknown_when_built(method, shape, random):
    value = random.randn(*shape)
    x = placeholder(*[None] * len(shape))
    result = run(batchhess.hessians(bumps(x), x, method=method)[0], {x: value})
    assert result.shape == shape + shape[1:]
    if value.size:
        expected = sliced_hessians(bumps(x), x, {x: value})
        np.testing.assert_allclose(result, expected, atol=1e-12)


@methods
@pytest.mark.parametrize("shape", [(0, 3), (0,), (0, 2, 2), (2, 0), (0, 0)])
def test_no_observations_or_no_coordinates(method, shape):
    x = placeholder(None, *shape[1:])
    result = run(
        batchhess.hessians(bumps(x), x, method=method)[0], {x: np.zeros(shape)}
    )
    assert result.shape == shape + shape[1:]


@methods
@pytest.mark.parametrize("batch_axis", [1, -1, 2])
def test_another_observation_axis(method, batch_axis, random):
    value = random.randn(2, 4, 3)
    x = placeholder(2, None, 3) if batch_axis == 1 else placeholder(2, 4, None)
    first = batch_axis % 3
    in_front = tf.transpose(x, [first] + [a for a in range(3) if a != first])
    result = batchhess.hessians(
        bumps(in_front), x, method=method, batch_axis=batch_axis
    )
    moved = np.moveaxis(value, batch_axis, 0)
    y = placeholder(*moved.shape)
    expected = sliced_hessians(bumps(y), y, {y: moved})
    np.testing.assert_allclose(run(result[0], {x: value}), expected, atol=1e-12)


def test_a_list_of_ys_is_summed(random):
    value = random.randn(3, 2)
    x = placeholder(None, 2)
    ys = [tf.reduce_sum(x[:, 0] ** 3), x[:, 0] * x[:, 1], tf.sin(x)]
    expected = sliced_hessians(sum(tf.reduce_sum(y) for y in ys), x, {x: value})
    result = run(batchhess.hessians(ys, x)[0], {x: value})
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_a_list_of_xs_answers_a_list(random):
    a, b = random.randn(3, 2), random.randn(3, 4)
    x, z = placeholder(None, 2), placeholder(None, 4)
    y = bumps(x) * bumps(z)
    results = run(batchhess.hessians(y, [x, z], name="both"), {x: a, z: b})
    assert [r.shape for r in results] == [(3, 2, 2), (3, 4, 4)]
    for result, one in zip(results, (x, z)):
        expected = sliced_hessians(tf.reduce_sum(y), one, {x: a, z: b})
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


def test_per_output_of_columns_set_elsewhere(random):
    x, value = placeholder(None, 3), random.randn(5, 3)
    shape = tf.stack([4, tf.shape(x)[0]])
    columns = tf.scatter_nd([[0], [2], [0]], tf.transpose(tf.sin(x)), shape)
    y = tf.tanh(tf.transpose(columns))
    found = run(batchhess.hessians(y, x, per_output=True)[0], {x: value})
    for m in range(4):
        expected = difference_blocks(y[:, m], x, value)
        np.testing.assert_allclose(found[:, m], expected, atol=1e-7)


@pytest.mark.parametrize("outputs", [(), (4,), (2, 3)])
@methods
def test_per_output_answers_each_output(outputs, method, random):
    weights, value = random.randn(3, int(np.prod(outputs))), random.randn(5, 3)
    x = placeholder(None, 3)
    flat = tf.tanh(tf.matmul(x, tf.constant(weights)))
    y = tf.reshape(flat, (-1,) + outputs)
    result = batchhess.derivatives(y, x, per_output=True, method=method)
    gradients, hessians = run([result.gradients[0], result.hessians[0]], {x: value})
    assert hessians.shape == (5,) + outputs + (3, 3)
    t = np.tanh(value @ weights)
    dt = 1 - t**2
    expected = np.einsum("nm,im->nmi", dt, weights)
    np.testing.assert_allclose(gradients.reshape(5, -1, 3), expected, atol=1e-12)
    expected = np.einsum("nm,im,jm->nmij", -2 * t * dt, weights, weights)
    np.testing.assert_allclose(hessians.reshape(5, -1, 3, 3), expected, atol=1e-12)


@pytest.mark.parametrize("method", ["auto"] + METHODS)
def test_derivatives_run_one_gradient(method, random):
    """What the Hessian alone does not need is the gradient's last step."""
    value = random.randn(4, 3)
    x = placeholder(None, 3)
    y = tf.tanh(tf.tanh(tf.tanh(x)))
    feed = {x: value}
    assert count_runs(tf.gradients(y, x)[0], feed, "TanhGrad") == 3
    alone = batchhess.hessians(y, x, method=method)[0]
    alone = count_runs(alone, feed, "TanhGrad")
    answer = batchhess.derivatives(y, x, method=method)
    together = count_runs([answer.gradients, answer.hessians], feed, "TanhGrad")
    assert 3 <= alone <= together <= alone + 1


def test_derivatives_are_those_of_tensorflow(random):
    value = random.randn(4, 3)
    x = placeholder(None, 3)
    y = bumps(x)
    answer = batchhess.derivatives(y, x, name="all")
    assert answer.values is y
    values, (gradient,), (hessian,) = run(answer, {x: value})
    cubes = (value**3).sum(1)
    np.testing.assert_allclose(values, np.sin(cubes) + np.exp(value.sum(1) / 3))
    expected = run(tf.gradients(y, x)[0], {x: value})
    np.testing.assert_allclose(gradient, expected, rtol=1e-14)
    np.testing.assert_allclose(
        hessian, sliced_hessians(y, x, {x: value}), rtol=1e-12, atol=1e-12
    )


@methods
@pytest.mark.parametrize(
    "build",
    [
        lambda x: tf.reduce_sum(x),
        lambda x: tf.reduce_sum(tf.matmul(x, tf.ones([3, 2], tf.float64))),
        lambda x: x,
        lambda x: tf.abs(x),
        lambda x: tf.nn.relu(x),
        lambda x: tf.where(x > 0, x, tf.zeros_like(x)),
        lambda x: x * tf.round(x),
        lambda x: x * tf.stop_gradient(tf.exp(x)),
        lambda x: x * tf.cast(tf.argmax(x, 1)[:, None], tf.float64),
    ],
    ids=[
        "sum",
        "matmul",
        "x",
        "abs",
        "relu",
        "where",
        "round",
        "stop_gradient",
        "argmax",
    ],
)
def test_linear_f_gives_zeros(build, method, random):
    x = placeholder(None, 3)
    result = run(
        batchhess.hessians(build(x), x, method=method)[0], {x: random.randn(2, 3)}
    )
    np.testing.assert_array_equal(result, np.zeros((2, 3, 3)))


def test_unconnected_f_raises_unless_zeros_are_asked_for(random):
    x, z = placeholder(None, 3), placeholder(None, 2)
    y = bumps(z)
    with pytest.raises(
        ValueError, match="does not depend on .*UnconnectedGradients.ZERO"
    ):
        batchhess.hessians(y, x)
    for zero in (tf.UnconnectedGradients.ZERO, "zero"):
        answer = batchhess.derivatives(y, x, unconnected_gradients=zero)
        result = run([answer.gradients[0], answer.hessians[0]], {x: random.randn(4, 3)})
        np.testing.assert_array_equal(result[0], np.zeros((4, 3)))
        np.testing.assert_array_equal(result[1], np.zeros((4, 3, 3)))


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("summed", [False, True])
def test_a_y_that_does_not_depend_on_x_adds_nothing(size, summed, random):
    x, w = placeholder(None, size), placeholder(None, 2)
    penalties = [tf.nn.l2_loss(w), tf.tanh(tf.reduce_sum(w, 1)), tf.stop_gradient(x)]
    y = tf.reduce_sum(bumps(x)) if summed else bumps(x)
    feed = {x: random.randn(4, size), w: random.randn(4, 2)}
    truth = difference_blocks(y, x, feed[x])
    for times, ys in ((1, penalties + [y]), (2, [y, y] + penalties)):
        found = batchhess.derivatives(ys, x)
        diagonal, trace = (
            operator(ys, x)[0]
            for operator in (batchhess.hessian_diagonals, batchhess.laplacians)
        )
        hessians, diagonal, trace = run([found.hessians[0], diagonal, trace], feed)
        whole = times * truth
        np.testing.assert_allclose(hessians, whole, atol=1e-6)
        np.testing.assert_allclose(diagonal, np.einsum("nii->ni", whole), atol=1e-6)
        np.testing.assert_allclose(trace, np.einsum("nii->n", whole), atol=1e-6)


def test_unconnected_x_in_a_list_gives_zeros_beside_the_others(random):
    x, z = placeholder(None, 3), placeholder(None, 2)
    results = batchhess.hessians(bumps(z), [x, z], unconnected_gradients="zero")
    a, b = random.randn(4, 3), random.randn(4, 2)
    of_x, of_z = run(results, {x: a, z: b})
    np.testing.assert_array_equal(of_x, np.zeros((4, 3, 3)))
    expected = sliced_hessians(bumps(z), z, {z: b})
    np.testing.assert_allclose(of_z, expected, rtol=1e-12, atol=1e-12)


@methods
@pytest.mark.parametrize(
    "dtype, tolerance",
    [
        (tf.float16, 4e-3),
        (tf.bfloat16, 4e-2),
        (tf.float32, 2e-6),
        (tf.float64, 1e-12),
    ],
    ids=lambda p: getattr(p, "name", ""),
)
def test_dtypes_are_kept(dtype, tolerance, method, random):
    value = random.uniform(-1, 1, (3, 4))
    x = placeholder(None, 4, dtype=dtype)
    result = batchhess.hessians(tf.reduce_sum(x * x * x * x, 1), x, method=method)[0]
    assert result.dtype == dtype
    result = run(tf.cast(result, tf.float64), {x: value})
    expected = np.stack([np.diag(12 * row**2) for row in value])
    np.testing.assert_allclose(result, expected, atol=12 * tolerance)


def test_a_gather_from_x_makes_indexed_slices(random, control_flow):
    value = random.randn(5, 3)
    x = placeholder(None, 3)
    y = tf.reduce_sum(tf.gather(x, [0, 2, 2, 4]) ** 3)
    assert isinstance(tf.gradients(y, x)[0], tf.IndexedSlices)
    answer = batchhess.derivatives(y, x)
    result = run(answer.hessians[0], {x: value})
    times = np.array([1, 0, 2, 0, 1])[:, None]
    expected = np.stack([np.diag(row) for row in 6 * value * times])
    np.testing.assert_allclose(result, expected, atol=1e-12)
    np.testing.assert_allclose(
        run(answer.gradients[0], {x: value}), 3 * value**2 * times
    )


def test_a_gather_that_shares_axes_outlives_the_optimizer(random):
    x = tf.placeholder(tf.float64, (None, 3))
    t = tf.reshape(x * x, [-1, 3])
    order = tf.argsort(tf.stop_gradient(t), axis=1)
    y = tf.gather(t, order, batch_dims=1) * t
    value = random.randn(4, 3)
    result = run(batchhess.hessians(y, x)[0], {x: value})
    np.testing.assert_allclose(result, difference_blocks(y, x, value), atol=1e-5)


@pytest.mark.parametrize("use_resource", [True, False], ids=["resource", "ref"])
@methods
def test_x_is_a_variable(use_resource, method, random, control_flow):
    start = random.randn(4, 3)
    x = tf.get_variable("v", initializer=start, use_resource=use_resource)
    y = tf.reduce_sum(bumps(x))
    result = run(batchhess.hessians(y, x, method=method)[0])
    z = placeholder(4, 3)
    expected = sliced_hessians(bumps(z), z, {z: start})
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_x_is_an_intermediate_tensor(random):
    """An iLQR cost: the state after three steps, beside the action."""
    steps = [random.randn(3, 3) for _ in range(3)]
    state = placeholder(None, 3)
    action = placeholder(None, 1)
    hidden = state
    for step in steps:
        hidden = tf.tanh(tf.matmul(hidden, tf.constant(step)))
    x = tf.concat([hidden, action], axis=1)
    cost = tf.exp(tf.reduce_sum(x, 1)) + tf.reduce_prod(x, 1)
    feed = {state: random.randn(4, 3), action: random.randn(4, 1)}
    result = run(batchhess.hessians(cost, x)[0], feed)
    expected = sliced_hessians(cost, x, feed)
    assert np.abs(expected[:, :3, 3:]).min() > 0
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


def test_coupled_observations_are_exact_by_observations(random):
    value = random.randn(2, 1)
    x = placeholder(None, 1)
    y = x[0, 0] ** 2 + x[1, 0] ** 2 + x[0, 0] * x[1, 0]
    result = run(batchhess.hessians(y, x, method="observations")[0], {x: value})
    np.testing.assert_array_equal(result, [[[2.0]], [[2.0]]])
    value = random.randn(4, 3)
    x = placeholder(None, 3)
    y = tf.reduce_logsumexp(x * tf.reduce_mean(x, 0))
    result = run(batchhess.hessians(y, x, method="observations")[0], {x: value})
    np.testing.assert_allclose(result, difference_blocks(y, x, value), atol=1e-9)


def test_conventions_at_kinks_are_those_of_tf_hessians():
    x = placeholder(None, 2)
    value = np.array([[0.0, 1.0], [-1.0, 0.0], [2.0, 2.0]])
    for build in (
        lambda x: tf.maximum(x, 0.0) ** 2,
        lambda x: tf.nn.relu(x) ** 2,
        lambda x: tf.reduce_max(x, 1) ** 2,
        lambda x: tf.nn.leaky_relu(x) ** 2,
    ):
        expected = sliced_hessians(build(x), x, {x: value})
        result = run(batchhess.hessians(build(x), x)[0], {x: value})
        np.testing.assert_array_equal(result, expected)


@tf.custom_gradient
def _of_no_function(u):
    """u**2 for [N, K], said to have a slope by which the Hessian is not symmetric."""
    return u**2, lambda dy: dy * u * tf.cumsum(u, 1)


@pytest.mark.parametrize("size", [3, 6])  # By passes one after another, and in a loop.
def test_a_gradient_of_no_function_has_the_hessian_of_tf_hessians(size, random):
    value = random.randn(4, size)
    x = placeholder(None, size)
    y = tf.reduce_sum(_of_no_function(tf.sin(x)), 1)
    expected = sliced_hessians(y, x, {x: value})
    assert np.abs(expected - expected.transpose(0, 2, 1)).max() > 0.1
    for options in ({}, {"method": "observations"}, {"check": "always"}):
        (result,) = batchhess.hessians(y, x, **options)
        np.testing.assert_allclose(run(result, {x: value}), expected, atol=1e-12)
    (result,) = batchhess.hessians(y, x, coordinates=[2, 0])
    chosen = run(result, {x: value})
    np.testing.assert_allclose(chosen, expected[:, :, [2, 0]], atol=1e-12)
    with pytest.raises(
        ValueError, match="sparsity= finds entries by symmetry, and 'Id"
    ):
        batchhess.hessians(y, x, sparsity=np.ones([size, size], bool))


def test_a_gradient_that_clips_may_not_be_told_from_a_coupling(random):
    clipped = tf.custom_gradient(
        lambda u: (u, lambda dy: tf.clip_by_value(dy, -1.0, 1.0))
    )
    x = placeholder(None, 3)
    y = tf.sin(3 * clipped(x))
    value = random.randn(4, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="IdentityN is not linear"):
        run(batchhess.hessians(y, x)[0], {x: value})
    for options in ({"method": "observations"}, {"check": "never"}):
        found = run(batchhess.hessians(y, x, **options)[0], {x: value})
        expected = sliced_hessians(y, x, {x: value})
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_names_follow_the_caller_and_do_not_collide(graph):
    x, z = placeholder(None, 3), placeholder(None, 2)
    with tf.name_scope("model"):
        first = batchhess.hessians(bumps(x) * bumps(z), [x, z], name="hess")
    again = batchhess.hessians(bumps(x), x, name="hess")
    default = batchhess.hessians(bumps(x), x, name=None)
    assert [h.name for h in first] == ["model/hess:0", "model/hess_1:0"]
    assert again[0].name == "hess:0"
    assert default[0].name == "hessians:0"
    built = {op.name for op in graph.get_operations() if "hess" in op.name}
    assert all(n.startswith(("model/hess", "hess", "hessians")) for n in built)


@methods
@pytest.mark.parametrize("observations", [[None, None], [8, 1024]])
def test_op_count_does_not_follow_k_or_n(method, observations):
    counts = set()
    for count, size in zip(observations, (5, 512)):  # Up to four are unrolled.
        with tf.Graph().as_default() as graph:
            x = placeholder(count, size)
            batchhess.hessians(bumps(x), x, method=method)
            counts.add(count_ops(graph))
    # A small constant of known shape is one op, a large one is three.
    assert max(counts) - min(counts) <= (2 if observations[0] else 0), counts


def test_another_method_is_refused():
    x = placeholder(None, 2)
    with pytest.raises(ValueError, match="method must be one of 'auto', 'columns'"):
        batchhess.hessians(bumps(x), x, method="rows")


# What x may be computed by, although no derivative passes there.
SOURCES = {
    "stopped": tf.stop_gradient,
    "zeros": tf.zeros_like,
    "ones": tf.ones_like,
    "rounded": tf.round,
    "signs": tf.sign,
}


@pytest.mark.parametrize("method", ["auto", "columns", "observations", "symmetric"])
@pytest.mark.parametrize("name", sorted(SOURCES))
def test_x_is_what_a_step_or_a_stop_computes(name, method, random):
    """No derivative passes through it, but all that follows depends on it."""
    before = placeholder(None, 3)
    x = SOURCES[name](before)
    y = tf.reduce_sum(tf.exp(x) * (1 + x) * before, 1)
    feed = {before: random.randn(4, 3)}
    expected = sliced_hessians(y, x, feed)
    assert np.abs(expected).max() > 0.1
    result = run(batchhess.hessians(y, x, method=method)[0], feed)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


def test_a_function_reads_an_x_that_was_stopped(random, control_flow):
    before = placeholder(None, 3)
    x = tf.stop_gradient(before)
    y = tf.cond(tf.constant(True), lambda: tf.exp(x), lambda: x)
    value = random.randn(4, 3)
    result = run(batchhess.hessians(y, x)[0], {before: value})
    np.testing.assert_allclose(result, np.exp(value)[:, :, None] * np.eye(3))


@pytest.mark.parametrize("size", [2, 5])
def test_a_fed_inner_tensor_fails_what_is_taken_together(size, random):
    x, z = placeholder(None, size), placeholder(None, 3)
    inner = tf.square(tf.concat([x, z], 1))
    y = tf.reduce_sum(tf.reduce_prod(inner + 0.5, 1))
    feed = {x: random.randn(4, size), z: random.randn(4, 3)}
    blocks = batchhess.hessian_blocks(y, [x, z])
    products = batchhess.hessian_vector_products(y, [x, z], [x, z])
    fed = dict(feed)
    fed[inner] = run(inner, feed) + 0.2
    for answer in (blocks, products):
        run(answer, feed)
        with pytest.raises(tf.errors.InvalidArgumentError, match="inner tensor"):
            run(answer, fed)


def test_terms_that_tensorflow_gathers_are_found_in_every_block(random):
    """Its optimizer makes 2 b of (x + b) + (h + b), once and outside of the loop."""
    x, bias = placeholder(None, 16), np.linspace(-1, 1, 16)
    b = tf.constant(bias)
    y = tf.exp(-((x + b) + (tf.tanh(x) + b)))
    (result,) = batchhess.hessians(y, x)
    value = random.randn(3000, 16)
    h = np.tanh(value)
    slope, bend = 2 - h**2, -2 * h * (1 - h**2)
    expected = np.exp(-(value + h + 2 * bias)) * (slope**2 - bend)
    found = run(result, {x: value})
    np.testing.assert_allclose(found, expected[:, :, None] * np.eye(16), rtol=1e-9)
