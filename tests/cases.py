"""Problems whose Hessian blocks are known in closed form."""

import collections
import math

import numpy as np

from batchhess.compat import IS_V1, raw_ops, tf

# build: from the placeholder to ys. value: to feed. expected: [N, *E, *E].
Case = collections.namedtuple("Case", "name build value expected batch_axis tolerance")


def case(name, build, value, expected, batch_axis=0, tolerance=1e-11):
    value, expected = np.asarray(value, float), np.asarray(expected, float)
    assert np.abs(expected).max() > 0, "an expected answer of zeros proves nothing"
    return Case(name, build, value, expected, batch_axis, tolerance)


def _rng():
    return np.random.RandomState(7)


def wrong_cube(z):
    """z cubed, whose gradient is right once, and wrong when differentiated again."""

    @tf.custom_gradient
    def slope(z):
        return 3 * z**2, lambda dy: dy * z

    @tf.custom_gradient
    def cube(z):
        return z**3, lambda dy: dy * slope(z)

    return cube(z)


def quadratic_forms():
    """x_n^T A_n x_n, another non-symmetric A_n for each row: A_n + A_n^T."""
    a = _rng().randn(5, 3, 3)
    return case(
        "quadratic_forms",
        lambda x: tf.reduce_sum(tf.einsum("ni,nij,nj->n", x, tf.constant(a), x)),
        _rng().randn(5, 3),
        a + np.transpose(a, [0, 2, 1]),
    )


def half_gram(size):
    """y = sum(0.5 X^T X), X (3, size): ones."""
    return case(
        "half_gram_{}".format(size),
        lambda x: tf.reduce_sum(0.5 * tf.matmul(x, x, transpose_a=True)),
        _rng().randn(3, size),
        np.ones((3, size, size)),
    )


def softmax_cross_entropy():
    logits = [[0.3, 0.4, 0.1, 1.2], [0.1, 1.9, 0.1, 0.7], [0.8, 0.2, 1.3, 1.3]]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.stack([np.diag(row) - np.outer(row, row) for row in p])
    published = [0.15124857, -0.03813285, -0.02824951, -0.08486621]
    np.testing.assert_allclose(expected[0, 0], published, atol=1e-8)
    labels = np.eye(4)[[3, 0, 1]]
    return case(
        "softmax_cross_entropy",
        lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
            labels=tf.constant(labels), logits=x
        ),
        logits,
        expected,
    )


def even_logits():
    return case(
        "even_logits",
        lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
            labels=tf.constant([[1.0, 0.0]], tf.float64), logits=x
        ),
        [[0.5, 0.5]],
        [[[0.25, -0.25], [-0.25, 0.25]]],
    )


def broadcast_labels():
    """Labels of shape [1, K] for every row."""
    logits = _rng().randn(4, 3)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return case(
        "broadcast_labels",
        lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
            labels=tf.broadcast_to(
                tf.constant([[0.2, 0.3, 0.5]], tf.float64), tf.shape(x)
            ),
            logits=x,
        ),
        logits,
        np.stack([np.diag(row) - np.outer(row, row) for row in p]),
    )


def squared_projection():
    """y = (x b)^2, b = 1..5: 2 b b^T for every row."""
    b = np.arange(1.0, 6.0)
    return case(
        "squared_projection",
        lambda x: tf.square(tf.matmul(x, tf.constant(b[:, None]))),
        _rng().randn(4, 5),
        np.tile(2 * np.outer(b, b), (4, 1, 1)),
    )


def gaussian_log_density():
    covariance = np.array([[1, 0.25, 0.25], [0.25, 2, 0.25], [0.25, 0.25, 3]])

    def build(x):
        root = tf.cholesky(tf.constant(covariance))
        z = tf.linalg.triangular_solve(root, tf.transpose(x))
        logdet = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(root)))
        return -0.5 * tf.reduce_sum(z**2, 0) - logdet - 1.5 * math.log(2 * math.pi)

    precision = np.linalg.inv(covariance)
    value = _rng().randn(6, 3)
    return case("gaussian_log_density", build, value, np.tile(-precision, (6, 1, 1)))


def cumulative_sums():
    w = np.arange(1.0, 13.0).reshape(4, 3)
    lower = np.tril(np.ones((3, 3))) * w[:, None, :]
    return case(
        "cumulative_sums",
        lambda x: tf.reduce_sum(0.5 * tf.cumsum(tf.constant(w) * x, axis=1) ** 2),
        _rng().randn(4, 3),
        np.einsum("nik,nil->nkl", lower, lower),
    )


def sines(*shape):
    value = _rng().randn(*shape)
    size = int(np.prod(shape[1:]))
    expected = np.zeros((shape[0], size, size))
    for n in range(shape[0]):
        np.fill_diagonal(expected[n], -np.sin(value[n]).ravel())
    return case(
        "sines_{}".format(len(shape)),
        lambda x: tf.reduce_sum(tf.sin(x)),
        value,
        expected.reshape(shape[:1] + shape[1:] * 2),
    )


def matrix_least_squares():
    """sum((Y_n - A_n X_n)^2) in A, (8, 2, 2): 2 kron(I, X X^T)."""
    rng = _rng()
    x, y = rng.randn(8, 2, 2), rng.randn(8, 2, 2)
    kron = np.stack([2 * np.kron(np.eye(2), xn @ xn.T) for xn in x])
    return case(
        "matrix_least_squares",
        lambda a: tf.reduce_sum((tf.constant(y) - tf.matmul(a, tf.constant(x))) ** 2),
        rng.randn(8, 2, 2),
        kron.reshape(8, 2, 2, 2, 2),
    )


def gathered_parameters():
    """One observation theta (1, 10), columns 2..7 gathered and squared."""
    expected = np.diag([0, 0, 2, 2, 2, 2, 2, 2, 0, 0.0])[None]
    return case(
        "gathered_parameters",
        lambda x: tf.reduce_sum(tf.gather(x, list(range(2, 8)), axis=1) ** 2),
        _rng().randn(1, 10),
        expected,
    )


def one_hot_predictions():
    """7 x 5 one-hot scores through log softmax: p (1 - p) on the diagonal."""
    hot = np.eye(5)[[0, 1, 2, 3, 4, 0, 1]]
    p = np.where(hot == 1, math.e / (math.e + 4), 1 / (math.e + 4))
    expected = np.stack([np.diag(row) - np.outer(row, row) for row in p])
    np.testing.assert_allclose(expected[0, 0, 0], 0.24090069, atol=1e-8)
    np.testing.assert_allclose(expected[0, 1, 1], 0.12669198, atol=1e-8)
    return case(
        "one_hot_predictions",
        lambda x: -tf.reduce_sum(tf.constant(hot) * tf.nn.log_softmax(x)),
        hot,
        expected,
    )


def coordinate_pairs(size):
    """Sums of products of chosen pairs: 1 on those pairs."""
    pairs = [(0, 1), (1, 3), (2, 4)] if size == 5 else [(0, 19), (3, 4), (7, 12)]
    expected = np.zeros((3, size, size))
    for i, j in pairs:
        expected[:, i, j] = expected[:, j, i] = 1
    return case(
        "coordinate_pairs_{}".format(size),
        lambda x: sum(x[:, i] * x[:, j] for i, j in pairs),
        _rng().randn(3, size),
        expected,
    )


def hydrogen_log_density():
    """log psi = -r in three dimensions: -(I / r - x x^T / r^3)."""
    x = _rng().randn(5, 3)
    r = np.linalg.norm(x, axis=1)[:, None, None]
    expected = -(np.eye(3) / r - x[:, :, None] * x[:, None, :] / r**3)
    return case("hydrogen", lambda x: -tf.norm(x, axis=1), x, expected)


def maximum_squared():
    """Maximum squared: 2 where x > 0, whatever is said of 0."""
    x = np.array([[-1.0, 2.0, 0.5], [3.0, -0.5, 1.0]])
    return case(
        "maximum_squared",
        lambda x: tf.reduce_sum(tf.maximum(x, 0.0) ** 2),
        x,
        np.stack([np.diag(2.0 * (row > 0)) for row in x]),
    )


def _glm_data():
    rng = _rng()
    design_loc = np.stack([np.ones(40), rng.randint(0, 2, 40), rng.randn(40)], 1)
    design_scale = np.stack([np.ones(40), rng.randint(0, 2, 40)], 1)
    params = rng.randn(5, 7) * 0.3 + np.array([[1.5], [0], [0], [0.5], [0]])
    counts = rng.poisson(6.0, (40, 7)).astype(float)
    return design_loc, design_scale, params, counts


def _glm_blocks(design_loc, design_scale, waa, wab, wbb):
    """[genes, A + B, A + B] from the weights of each sample and gene."""
    both = np.concatenate([design_loc, design_scale], axis=1)
    a = design_loc.shape[1]
    blocks = np.zeros((waa.shape[1], both.shape[1], both.shape[1]))
    for gene in range(waa.shape[1]):
        for i in range(both.shape[1]):
            for j in range(both.shape[1]):
                w = waa if i < a and j < a else wbb if i >= a and j >= a else wab
                blocks[gene, i, j] = np.sum(both[:, i] * both[:, j] * w[:, gene])
    return blocks


def negative_binomial_glm(reduced):
    """batchglm's model, one gene an observation, on axis 1 of the parameters."""
    design_loc, design_scale, params, x = _glm_data()
    m, r = np.exp(design_loc @ params[:3]), np.exp(design_scale @ params[3:])
    psi, psi1 = np.vectorize(_digamma), np.vectorize(_trigamma)
    waa = -m * (x / r + 1) / (1 + m / r) ** 2
    wab = m * r * (x - m) / (m + r) ** 2
    wbb = r * (
        psi(r + x)
        + r * psi1(r + x)
        - psi(r)
        - r * psi1(r)
        - (m * (r + x) + 2 * r * (r + m)) / (r + m) ** 2
        + np.log(r)
        + 2
        - np.log(r + m)
    )

    def build(p):
        eta = tf.matmul(tf.constant(design_loc), p[:3])
        log_r = tf.matmul(tf.constant(design_scale), p[3:])
        rate = tf.exp(log_r)
        logs = tf.math.log(rate + tf.exp(eta))
        ll = (
            tf.lgamma(rate + x)
            - tf.lgamma(x + tf.constant(1.0, tf.float64))
            - tf.lgamma(rate)
            + x * (eta - logs)
            + rate * (log_r - logs)
        )
        return tf.reduce_sum(ll) if reduced else ll  # [samples, genes]

    return case(
        "negative_binomial_glm" + ("" if reduced else "_per_sample"),
        build,
        params,
        _glm_blocks(design_loc, design_scale, waa, wab, wbb),
        batch_axis=1,
        tolerance=1e-9,
    )


def normal_glm():
    design_loc, design_scale, params, x = _glm_data()
    m, s = design_loc @ params[:3], np.exp(design_scale @ params[3:])

    def build(p):
        loc = tf.matmul(tf.constant(design_loc), p[:3])
        log_s = tf.matmul(tf.constant(design_scale), p[3:])
        return -0.5 * tf.reduce_sum(
            ((x - loc) / tf.exp(log_s)) ** 2 + 2 * log_s, axis=0
        )

    return case(
        "normal_glm",
        build,
        params,
        _glm_blocks(
            design_loc,
            design_scale,
            -1 / s**2,
            -2 * (x - m) / s**2,
            -2 * ((x - m) / s) ** 2,
        ),
        batch_axis=1,
    )


def distributional_boosting():
    """Normal negative log likelihood in (m, s), at known points."""
    np.random.seed(123)
    n = 1000
    x = np.random.uniform(size=n)
    loc = np.random.normal(10, 0.1, size=n)
    scale = 1 + 4 * ((x > 0.3) & (x < 0.5)) + 2 * (x > 0.7)
    y = np.random.normal(loc, scale)
    params = np.random.randn(2 * n).reshape(-1, 2)
    m, s = params.T
    expected = np.empty((n, 2, 2))
    expected[:, 0, 0] = 1 / s**2
    expected[:, 0, 1] = expected[:, 1, 0] = 2 * (y - m) / s**3
    expected[:, 1, 1] = 3 * (y - m) ** 2 / s**4 - 1 / s**2
    diagonals = np.einsum("nii->ni", expected)[:3]
    published = [[1.5909729, 741.05], [0.28286797, 33.95314], [2.847513, 3010.43]]
    np.testing.assert_allclose(diagonals, published, rtol=1e-5)

    def build(p):
        z = (tf.constant(y) - p[:, 0]) / p[:, 1]
        return 0.5 * z**2 + 0.5 * tf.math.log(2 * math.pi * p[:, 1] ** 2)

    return case("distributional_boosting", build, params, expected)


def _digamma(x):
    # Recurrence to a large argument, then the asymptotic series (Abramowitz 6.3.18).
    total = 0.0
    while x < 12:
        total, x = total - 1 / x, x + 1
    inverse = 1 / x**2
    series = inverse * (
        1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse / 240))
    )
    return total + math.log(x) - 0.5 / x - series


def _trigamma(x):
    # Abramowitz 6.4.12.
    total = 0.0
    while x < 12:
        total, x = total + 1 / x**2, x + 1
    i = 1 / x**2
    return total + (
        1 / x + i / 2 + i / x * (1 / 6 - i * (1 / 30 - i * (1 / 42 - i * (1 / 30))))
    )


CASES = [
    quadratic_forms(),
    half_gram(3),
    half_gram(4),
    softmax_cross_entropy(),
    even_logits(),
    broadcast_labels(),
    squared_projection(),
    gaussian_log_density(),
    cumulative_sums(),
    sines(5, 4),
    sines(5, 4, 3),
    matrix_least_squares(),
    gathered_parameters(),
    one_hot_predictions(),
    coordinate_pairs(5),
    coordinate_pairs(20),
    hydrogen_log_density(),
    maximum_squared(),
    negative_binomial_glm(reduced=True),
    negative_binomial_glm(reduced=False),
    normal_glm(),
    distributional_boosting(),
]


def turned(images):
    """A rotation, the gradient of which is another's."""
    if IS_V1:
        from tensorflow.contrib import image

        return image.rotate(images, 0.4, interpolation="BILINEAR")
    angle = np.cos(0.4), np.sin(0.4)
    return raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=[[angle[0], -angle[1], 0.5, angle[1], angle[0], -0.3, 0.0, 0.0]],
        output_shape=[3, 3],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )
