"""Hessians and Jacobians whose pattern of zeros is given or proven."""

import numpy as np
import pytest
from oracles import difference_blocks, difference_jacobians, run

import batchhess
from batchhess import colouring
from batchhess.compat import tf
from batchhess.passes import Passes

LEAK = tf.errors.InvalidArgumentError


def pattern_of(matrix):
    rows, columns = np.nonzero(matrix)
    return colouring.Pattern(rows, columns, matrix.shape)


def summed(matrix, labels):
    """[rows, colours], the sums of the columns of each colour."""
    sums = np.zeros((len(matrix), colouring.count(labels)))
    for column, label in enumerate(labels):
        if label >= 0:
            sums[:, label] += matrix[:, column]
    return sums


def band(size, width):
    """What is no further than `width` from the diagonal."""
    return np.abs(np.subtract.outer(np.arange(size), np.arange(size))) <= width


def test_entries_are_found_again_among_sums_of_columns_or_rows(random):
    for _ in range(200):
        m, k = random.randint(1, 13, 2)
        where = random.rand(m, k) < random.rand()
        matrix = random.randn(m, k) * where
        found = colouring.by_columns(pattern_of(where))
        sums = summed(matrix, found.coordinates)
        np.testing.assert_allclose(sums.ravel()[found.places], matrix[where])
        found = colouring.by_rows(pattern_of(where))
        sums = summed(matrix.T, found.outputs).T
        np.testing.assert_allclose(sums.ravel()[found.places], matrix[where])


def test_entries_are_found_again_by_symmetry(random):
    for _ in range(300):
        k = random.randint(1, 14)
        where = random.rand(k, k) < random.rand()
        where |= where.T
        matrix = random.randn(k, k) * where
        matrix += matrix.T
        found = colouring.by_symmetry(pattern_of(where))
        sums = summed(matrix, found.coordinates)
        np.testing.assert_allclose(sums.ravel()[found.places], matrix[where])


ARROW = np.eye(50, dtype=bool)
ARROW[0] = ARROW[:, 0] = True


@pytest.mark.parametrize(
    "matrix, count",
    [
        (np.eye(50), 1),
        (band(50, 1), 3),
        (band(50, 2), 5),
        (ARROW, 2),  # By columns it would take 50.
        (np.ones((7, 7)), 7),
        (np.zeros((4, 4)), 1),
    ],
)
def test_as_few_colours_as_are_known_to_do(matrix, count):
    labels = colouring.by_symmetry(pattern_of(matrix)).coordinates
    assert colouring.count(labels) == count


def chain(x):
    """Neighbours meet: tridiagonal."""
    return tf.reduce_sum(tf.sin(x[:, 1:] * x[:, :-1]), 1) + tf.reduce_sum(x**3, 1)


def hub(x):
    """All meet the first, and nothing else."""
    return tf.reduce_sum(tf.exp(x[:, :1] / 2) * x[:, 1:] ** 2, 1)


def pairs(x):
    """Two and two, out of order, and one that is linear."""
    first, second = tf.gather(x, [0, 4], axis=1), tf.gather(x, [3, 1], axis=1)
    return tf.reduce_sum(tf.math.softplus(first - second), 1) + 2 * x[:, 2]


def filtered(x):
    """Of three neighbours each."""
    kernel = tf.constant(np.random.RandomState(2).randn(3, 1, 2), x.dtype)
    return tf.reduce_sum(
        tf.tanh(tf.nn.conv1d(x[:, :, None], kernel, 1, "SAME")), [1, 2]
    )


MODELS = {f.__name__: f for f in (chain, hub, pairs, filtered)}
PATTERNS = {
    "chain": band(5, 1),
    "hub": ARROW[:5, :5] & ~np.eye(5, dtype=bool) | np.diag(np.ones(5, bool)),
    "pairs": np.array(
        [
            [1, 0, 0, 1, 0],
            [0, 1, 0, 0, 1],
            [0, 0, 0, 0, 0],
            [1, 0, 0, 1, 0],
            [0, 1, 0, 0, 1],
        ],
        bool,
    ),
    "filtered": band(5, 2),
}
by_model = pytest.mark.parametrize("model", sorted(MODELS))


def placeholder(size=5, dtype=tf.float64):
    return tf.placeholder(dtype, [None, size])


@by_model
@pytest.mark.parametrize("count", [0, 1, 4])
def test_hessians_equal_differences(model, count, random, control_flow):
    x = placeholder()
    y, value = MODELS[model](x), random.randn(count, 5)
    sparsity = PATTERNS[model]
    (dense,) = batchhess.hessians(y, x, sparsity=sparsity, check="always")
    (sparse,) = batchhess.hessians(y, x, sparsity=sparsity, dense=False)
    found, values = run([dense, sparse.values], {x: value})
    expected = difference_blocks(y, x, value)
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert dense.shape.as_list() == [None, 5, 5]
    assert sparse.values.shape.as_list() == [None, sparsity.sum()]
    rows, columns = sparse.indices.T
    np.testing.assert_allclose(values, expected[:, rows, columns], atol=1e-7)
    np.testing.assert_array_equal(sparse.indices, np.argwhere(sparsity))


@by_model
def test_the_graph_proves_the_pattern(model):
    x = placeholder()
    (found,) = batchhess.detect_sparsity(MODELS[model](x), x)
    np.testing.assert_array_equal(found, PATTERNS[model])


@by_model
def test_an_entry_left_out_fails_the_run(model, random):
    x, value = placeholder(), random.randn(3, 5)
    y = MODELS[model](x)
    found = run(tf.hessians(y, x)[0], {x: value})
    nonzero = np.abs(np.einsum("nanb->ab", found)) > 1e-6
    for i, j in np.argwhere(np.triu(nonzero)):
        sparsity = PATTERNS[model].copy()
        sparsity[i, j] = sparsity[j, i] = False
        (wrong,) = batchhess.hessians(y, x, sparsity=sparsity)
        with pytest.raises(LEAK, match="not zero outside of sparsity.*3"):
            run(wrong, {x: value})


def test_an_entry_of_one_observation_alone_fails_the_run():
    x = placeholder(3)
    y = x[:, 0] ** 2 + tf.nn.relu(x[:, 0]) * x[:, 2]
    (h,) = batchhess.hessians(y, x, sparsity=np.diag([1, 0, 0]))
    value = -np.ones((100, 3))
    expected = np.tile(np.diag([2.0, 0, 0]), (100, 1, 1))
    np.testing.assert_allclose(run(h, {x: value}), expected)
    value[41, 0] = 1
    with pytest.raises(LEAK, match=r"\[1\] ?\[100\]"):
        run(h, {x: value})


@pytest.mark.parametrize("c", [1.0, 0.1, 0.02])
def test_a_small_entry_left_out_fails_each_run(c, random):
    x = placeholder(2, tf.float32)
    y = tf.reduce_sum(x**2, 1) / 2 + c * x[:, 0] * x[:, 1]
    (h,) = batchhess.hessians(y, x, sparsity=np.eye(2))
    with tf.Session() as session:
        for count in [1] * 200 + [50] * 10:
            with pytest.raises(LEAK, match="not zero outside of sparsity"):
                session.run(h, {x: random.randn(count, 2)})


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64], ids=["32", "64"])
def test_what_saturates_is_no_entry_left_out(dtype, random):
    x, value = placeholder(6, dtype), 10 * random.randn(500, 6)
    halves = tf.reshape(x, [-1, 2, 3])
    y = tf.reduce_sum(tf.nn.softmax(5 * halves) * tf.nn.softmax(halves**2), [1, 2])
    pattern = np.kron(np.eye(2), np.ones((3, 3)))
    found, plain = (
        batchhess.hessians(y, x, **options)[0]
        for options in ({"sparsity": pattern}, {"method": "columns"})
    )
    found, plain = run([found, plain], {x: value})
    np.testing.assert_allclose(found, plain, atol=1e-4 * np.abs(plain).max())


def test_what_is_infinite_hides_no_entry_left_out():
    x = placeholder(3)
    y = tf.log(x[:, 0]) + tf.nn.relu(x[:, 1]) * x[:, 2]
    (h,) = batchhess.hessians(y, x, sparsity=np.diag([1, 0, 0]))
    value = -np.ones((5, 3))
    value[3, 0] = 0
    assert np.isneginf(run(h, {x: value})[3, 0, 0])
    value[3, 1] = 1
    with pytest.raises(LEAK, match=r"\[1\] ?\[5\]"):
        run(h, {x: value})


def test_check_never_lets_it_pass():
    x = placeholder(2)
    (h,) = batchhess.hessians(
        tf.reduce_prod(x, 1), x, sparsity=np.eye(2), check="never"
    )
    # One colour: the row sums of [[0, 1], [1, 0]].
    assert run(h, {x: [[1.0, 2.0]]}).tolist() == [[[1, 0], [0, 1]]]


def test_as_many_passes_as_colours_and_one_for_the_check(monkeypatch):
    passes = []
    hvp = Passes.hvp
    monkeypatch.setattr(Passes, "hvp", lambda *args: passes.append(args) or hvp(*args))
    x = placeholder(300)
    batchhess.hessians(chain(x), x, sparsity=band(300, 1), dense=False)
    assert len(passes) == 4


def test_what_an_observation_is_made_of(random):
    """Event axes, another batch axis, several outputs, and the same of no dense."""
    x = tf.placeholder(tf.float64, [2, None, 3])
    y = tf.stack([tf.reduce_sum(x[0] * x[1], 1), tf.reduce_sum(x**4, [0, 2])], 1)
    sparsity = np.eye(6) + np.eye(6, k=3) + np.eye(6, k=-3)
    value = random.randn(2, 4, 3)
    options = {"sparsity": sparsity, "batch_axis": 1, "per_output": True}
    (found,) = batchhess.hessians(y, x, **options)
    (sparse,) = batchhess.hessians(y, x, dense=False, **options)
    found, values = run([found, sparse.values], {x: value})
    assert found.shape == (4, 2, 2, 3, 2, 3) and values.shape == (4, 2, 12)
    rows = np.moveaxis(value, 1, 0).reshape(4, 6)
    expected = np.zeros((4, 2, 6, 6))
    expected[:, 0] = np.eye(6, k=3) + np.eye(6, k=-3)
    expected[:, 1] = 12 * rows[:, :, None] ** 2 * np.eye(6)
    np.testing.assert_allclose(found.reshape(4, 2, 6, 6), expected)
    flat = expected[:, :, sparse.indices[:, 0], sparse.indices[:, 1]]
    np.testing.assert_allclose(values, flat)


def test_float32_and_a_gradient_through_the_result(random):
    x, value = placeholder(5, tf.float32), random.randn(3, 5)
    weight = tf.get_variable("weight", [], tf.float32, tf.ones_initializer())
    (h,) = batchhess.hessians(chain(x * weight), x, sparsity=band(5, 1))
    (slope,) = tf.gradients(tf.reduce_sum(h**2), weight)
    z = placeholder()
    (w,) = batchhess.hessians(chain(z), z)

    def total(w_value):  # h(x; w) = w^2 H(w x)
        return np.sum((w_value**2 * run(w, {z: w_value * value})) ** 2)

    expected = (total(1 + 1e-5) - total(1 - 1e-5)) / 2e-5
    np.testing.assert_allclose(run(slope, {x: value}), expected, rtol=1e-4)


def test_several_xs_each_with_its_own(random):
    a, b = placeholder(4), placeholder(2)
    y = chain(a) + tf.reduce_prod(b, 1)
    pattern = [band(4, 1), np.ones((2, 2))]
    found = batchhess.hessians(y, [a, b], sparsity=pattern)
    plain = batchhess.hessians(y, [a, b], method="observations")
    feed = {a: random.randn(3, 4), b: random.randn(3, 2)}
    found, plain = run([found, plain], feed)
    np.testing.assert_allclose(found[0], plain[0], atol=1e-12)
    np.testing.assert_allclose(found[1], plain[1], atol=1e-12)


def test_blocks_take_the_pattern_of_all_coordinates(random):
    a, b = placeholder(2), placeholder(3)
    y = tf.reduce_sum(tf.concat([a, b], 1) ** 3, 1) + a[:, 1] * b[:, 0]
    feed = {a: random.randn(4, 2), b: random.randn(4, 3)}
    sparsity = np.eye(5)
    sparsity[1, 2] = sparsity[2, 1] = 1
    found = batchhess.hessian_blocks(y, [a, b], sparsity=sparsity)
    found = run(found, feed)
    np.testing.assert_allclose(found[0][1], np.tile([[0, 0, 0], [1, 0, 0]], (4, 1, 1)))
    np.testing.assert_allclose(found[1][1], 6 * feed[b][:, :, None] * np.eye(3))


def outputs(x):
    """[N, 4], of two neighbours each."""
    return tf.sin(x[:, 1:]) * x[:, :-1]


BELOW = np.eye(4, 5) + np.eye(4, 5, k=1)
OF_JACOBIANS = ["auto", "forward", "reverse"]


@pytest.mark.parametrize("method", OF_JACOBIANS)
def test_jacobians_equal_differences(method, random, control_flow):
    x, value = placeholder(), random.randn(3, 5)
    y = outputs(x)
    options = {"method": method, "sparsity": BELOW}
    (dense,) = batchhess.jacobians(y, x, check="always", **options)
    (sparse,) = batchhess.jacobians(y, x, dense=False, **options)
    found, values = run([dense, sparse.values], {x: value})
    expected = difference_jacobians(y, x, value)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    np.testing.assert_allclose(values, expected[:, BELOW > 0], atol=1e-8)
    assert run([dense, sparse.values], {x: value[:0]})[0].shape == (0, 4, 5)
    (proven,) = batchhess.detect_sparsity(y, x, of="jacobians")
    np.testing.assert_array_equal(proven, BELOW > 0)


@pytest.mark.parametrize("method", OF_JACOBIANS)
def test_an_entry_left_out_of_a_jacobian_fails_the_run(method, random):
    x, value = placeholder(), random.randn(3, 5)
    for i, j in np.argwhere(BELOW):
        sparsity = BELOW.copy()
        sparsity[i, j] = 0
        (wrong,) = batchhess.jacobians(outputs(x), x, method=method, sparsity=sparsity)
        with pytest.raises(LEAK, match="not zero outside of sparsity"):
            run(wrong, {x: value})


def test_zeros_of_a_jacobian_that_is_not_connected():
    x, y = placeholder(3), placeholder(2)
    (found,) = batchhess.jacobians(
        y, x, sparsity=np.ones((2, 3)), dense=False, unconnected_gradients="zero"
    )
    values = run(found.values, {x: np.ones((4, 3)), y: np.ones((4, 2))})
    assert values.shape == (4, 6) and not values.any()


class Sparse:
    """As much of a scipy.sparse matrix as is asked for; entries in their own order."""

    def __init__(self, matrix):
        self.shape, self._entries = matrix.shape, np.argwhere(matrix)[::-1]

    def nonzero(self):
        return tuple(self._entries.T.astype(np.int32))


def test_a_sparse_matrix_as_scipy_has_it(random):
    x, value = placeholder(), random.randn(3, 5)
    (found,) = batchhess.hessians(chain(x), x, sparsity=Sparse(band(5, 1)))
    np.testing.assert_allclose(
        run(found, {x: value}), difference_blocks(chain(x), x, value), atol=1e-7
    )


class Twice(Sparse):
    """As a scipy.sparse.coo_matrix that tells of each entry twice, in any order."""

    def nonzero(self):
        return tuple(np.concatenate([a, a[::-1]]) for a in Sparse.nonzero(self))


def test_a_sparse_matrix_that_tells_of_entries_twice(random):
    x, value = placeholder(), random.randn(3, 5)
    expected = difference_blocks(chain(x), x, value)
    for dense in [True, False]:
        (found,) = batchhess.hessians(
            chain(x), x, sparsity=Twice(band(5, 1)), dense=dense
        )
        if dense:
            np.testing.assert_allclose(run(found, {x: value}), expected, atol=1e-7)
        else:
            np.testing.assert_array_equal(found.indices, np.argwhere(band(5, 1)))


def test_blocks_take_one_matrix():
    a, b = placeholder(2), placeholder(3)
    y = tf.reduce_prod(a, 1) * tf.reduce_sum(b, 1)
    with pytest.raises(ValueError, match="one matrix, of the coordinates of all xs"):
        batchhess.hessian_blocks(y, [a, b], sparsity=[np.eye(2), np.eye(3)])


@pytest.mark.parametrize(
    "options, error, told",
    [
        ({"sparsity": np.triu(band(5, 1))}, ValueError, "sparsity | sparsity.T"),
        ({"sparsity": np.ones((4, 4))}, ValueError, r"must be \(5, 5\)"),
        ({"sparsity": np.ones(5)}, ValueError, "must be a matrix"),
        ({"sparsity": [np.eye(5)] * 2}, ValueError, "2 matrices"),
        ({"sparsity": np.eye(5), "coordinates": [1]}, ValueError, "either"),
        ({"sparsity": np.eye(5), "method": "symmetric"}, ValueError, "method='auto'"),
        ({"dense": False}, ValueError, "needs sparsity"),
        ({"sparsity": "tensor"}, TypeError, "not a Tensor"),
    ],
)
def test_what_does_not_fit_is_told(options, error, told):
    x = placeholder()
    if isinstance(options.get("sparsity"), str):
        options = {"sparsity": tf.eye(5)}
    with pytest.raises(error, match="hessians: .*" + told):
        batchhess.hessians(chain(x), x, **options)


def test_a_size_that_the_graph_does_not_tell():
    x = tf.placeholder(tf.float64, [None, None])
    y = tf.reduce_sum(x**2, 1)
    with pytest.raises(ValueError, match="set_shape"):
        batchhess.hessians(y, x, sparsity=np.eye(3))
    with pytest.raises(ValueError, match="detect_sparsity: .*set_shape"):
        batchhess.detect_sparsity(y, x)


def weights(*shape):
    return tf.constant(np.random.RandomState(5).randn(*shape))


# Of x [N, 6]; what is meant to be proven no smaller than it is.
ANY = {
    "linear": lambda x: tf.reduce_sum(tf.matmul(x, weights(6, 3)), 1),
    "network": lambda x: tf.reduce_sum(tf.tanh(tf.matmul(x, weights(6, 2))), 1),
    "softmax": lambda x: tf.nn.softmax(x[:, :3])[:, 1] + x[:, 4] ** 2,
    "norm": lambda x: tf.norm(x[:, 1:4], axis=1),
    "maximum": lambda x: tf.reduce_max(x[:, :2] ** 2, 1) * x[:, 5],
    "products": lambda x: tf.linalg.trace(
        tf.matmul(tf.reshape(x[:, :4], [-1, 2, 2]), tf.reshape(x[:, 2:], [-1, 2, 2]))
    ),
    "differences": lambda x: tf.reduce_sum(
        tf.sin(x[:, 2:] - 2 * x[:, 1:-1] + x[:, :-2]), 1
    ),
    "cumulative": lambda x: tf.reduce_sum(tf.exp(tf.cumsum(x[:, :4], 1) / 4), 1),
    "mask": lambda x: tf.reduce_sum(tf.where(x > 0, x**2, x[:, ::-1] * x), 1),
    "padded": lambda x: tf.reduce_prod(
        tf.pad(x[:, :2], [[0, 0], [1, 0]], constant_values=2.0), 1
    ),
    "joined": lambda x: tf.reduce_sum(
        tf.concat([x[:, :2], tf.ones_like(x[:, :2])], 1) ** 2 * x[:, 2:], 1
    ),
    "transposed": lambda x: tf.reduce_sum(
        tf.reduce_prod(tf.transpose(tf.reshape(x, [-1, 2, 3]), [0, 2, 1]), 2), 1
    ),
    "branch": lambda x: tf.cond(
        tf.constant(True), lambda: x[:, 0] * x[:, 5], lambda: x[:, 1]
    ),
    "determinant": lambda x: tf.linalg.det(tf.reshape(x[:, :4], [-1, 2, 2])),
    "spread": lambda x: tf.reduce_sum(x[:, :1] * x[:, 3:] + x[:, 1:2] ** 2, 1),
}
# Of these the graph proves just what is there.
EXACTLY = ["linear", "norm", "differences", "spread"]


@pytest.mark.parametrize("model", sorted(ANY))
def test_no_pattern_is_proven_smaller_than_it_is(model, random):
    x, value = placeholder(6), random.randn(5, 6)
    y = ANY[model](x)
    (pattern,) = batchhess.detect_sparsity(y, x)
    exact = np.abs(difference_blocks(y, x, value)).max(0) > 1e-5
    assert pattern.dtype == bool and not (exact & ~pattern).any()
    if model in EXACTLY:
        np.testing.assert_array_equal(pattern, exact)


def test_two_coordinates_and_a_linear_function():
    x = placeholder(2)
    (found,) = batchhess.detect_sparsity(tf.reduce_sum(x**3, 1), x)
    np.testing.assert_array_equal(found, np.eye(2, dtype=bool))
    (found,) = batchhess.detect_sparsity(tf.reduce_sum(3 * x, 1), x)
    assert not found.any()
    for dense in (True, False):
        (h,) = batchhess.hessians(
            tf.reduce_sum(3 * x, 1), x, sparsity=np.eye(2), dense=dense
        )
        values = run(h if dense else h.values, {x: np.ones((4, 2))})
        assert values.shape == ((4, 2, 2) if dense else (4, 2)) and not values.any()


def test_what_is_stopped_meets_nothing():
    x = placeholder(4)
    y = tf.reduce_sum(tf.stop_gradient(x[:, ::-1]) * x**2, 1)
    (found,) = batchhess.detect_sparsity(y, x)
    np.testing.assert_array_equal(found, np.eye(4, dtype=bool))


def test_where_observations_are_not_followed_all_entries_are_told():
    x = placeholder(3)
    y = tf.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, y + x**2), [0, x])[1]
    assert batchhess.detect_sparsity(tf.reduce_sum(y), x)[0].all()
    (found,) = batchhess.detect_sparsity(y, x, of="jacobians")
    assert found.all() and found.shape == (3, 3)


def test_what_to_detect_is_one_of_two():
    x = placeholder()
    with pytest.raises(ValueError, match="detect_sparsity: of must be"):
        batchhess.detect_sparsity(chain(x), x, of="hessian")
    with pytest.raises(ValueError, match="detect_sparsity: .*does not depend"):
        batchhess.detect_sparsity(chain(x), placeholder())


def test_what_cancels_to_rounding_is_no_entry():
    """1 - tanh(d)**2 of large d is rounding alone, and more than what it stands for."""
    x = tf.placeholder(tf.float32, [None, 12])
    y = tf.math.log(tf.cosh(x[:, 1:] - x[:, :-1]))
    (sparsity,) = batchhess.detect_sparsity(y, x)
    (found,) = batchhess.hessians(y, x, sparsity=sparsity)
    value = 8 * np.random.RandomState(0).randn(200, 12)
    beside = np.diagonal(run(found, {x: value}), offset=1, axis1=1, axis2=2)
    np.testing.assert_allclose(beside, -1 / np.cosh(np.diff(value)) ** 2, atol=1e-5)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_sixteen_bits_are_too_coarse_to_check_a_pattern(dtype):
    x = placeholder(4)
    y = tf.cast(tf.cast(x, dtype) ** 2, x.dtype)
    for answer in (batchhess.hessians, batchhess.jacobians):
        with pytest.raises(ValueError, match="no run can tell an entry"):
            answer(y, x, sparsity=np.eye(4))
        (found,) = answer(y, x, sparsity=np.eye(4), check="never")
        assert run(found, {x: np.ones((2, 4))}).any()


def test_the_size_of_what_is_built_again_is_known():
    x = placeholder(4)
    rows = tf.reshape(x, [-1, 2, 2])
    y = tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.nn.softmax(rows), logits=rows
    )
    (found,) = batchhess.detect_sparsity(y, x, of="jacobians")
    np.testing.assert_array_equal(found, np.kron(np.eye(2), np.ones((1, 2))))
    assert batchhess.jacobians(y, x, sparsity=found)[0].shape[1:] == [2, 4]
