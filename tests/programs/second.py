"""Ops whose second derivative TensorFlow gets wrong, everywhere or at some values."""

import numpy as np
import tensorflow

from batchhess.compat import tf
from programs.registry import BOTH, ON_1, RIGHT, SAFE, VALUE, add, entropy, layer_norm

math = tf.math
SQUARE = VALUE  # rows of four: 2 x 2, and not symmetric
ZEROS = np.array([[0.0, -1.2, 0.8, 0.3], [1.5, 0.0, 0.0, -0.9], [-0.7, 1.1, 0.6, 1.9]])
POSITIVE = np.abs(VALUE) + 0.3


def _matrices(x):
    return tf.reshape(x, [-1, 2, 2])


def _spd(x):
    m = _matrices(x)
    return tf.matmul(m, m, transpose_b=True) + tf.eye(2, dtype=x.dtype)


def _log_abs_det(m):
    return tf.log(tf.abs(tf.linalg.det(m)))


def _vector(m):
    return tf.reduce_sum(m, 2, keepdims=True) * 0 + tf.constant(
        [[1.0], [-0.4]], m.dtype
    )


LINALG = {
    "det": tf.linalg.det,
    "the square of det": lambda m: tf.linalg.det(m) ** 2,
    "slogdet": lambda m: tf.linalg.slogdet(m)[1],
    "log abs det": _log_abs_det,
    "logdet by slogdet times x": lambda m: tf.linalg.slogdet(m)[1] * m[:, 0, 0],
    "inverse": lambda m: tf.linalg.inv(m) ** 2,
    "adjoint inverse": lambda m: tf.linalg.inv(m, adjoint=True) ** 2,
    "adjoint inverse, one entry": lambda m: tf.linalg.inv(m, adjoint=True)[:, 0, 1],
    "solve": lambda m: tf.linalg.solve(m, _vector(m)) ** 2,
    "adjoint solve": lambda m: tf.linalg.solve(m, _vector(m), adjoint=True) ** 2,
    "solve by x on both sides": lambda m: tf.linalg.solve(m, tf.sin(m)),
    "triangular solve": lambda m: (
        tf.linalg.triangular_solve(m, _vector(m), lower=True) ** 2
    ),
    "adjoint triangular solve": lambda m: (
        tf.linalg.triangular_solve(m, _vector(m), lower=True, adjoint=True) ** 2
    ),
    "singular values": lambda m: tf.linalg.svd(m, compute_uv=False) ** 3,
    "qr": lambda m: tf.linalg.qr(m)[1] ** 2,
    "trace of a product": lambda m: tf.linalg.trace(tf.matmul(m, tf.matmul(m, m))),
}
for what, build in LINALG.items():
    add(what, lambda x, f=build: tf.reduce_sum(f(_matrices(x))), step=0.02)

ON_SPD = {
    "logdet": lambda s: tf.linalg.logdet(s),
    "cholesky": lambda s: tf.linalg.cholesky(s) ** 2,
    "cholesky solve": lambda s: tf.linalg.cholesky_solve(
        tf.linalg.cholesky(s), _vector(s)
    ),
    "eigenvalues": lambda s: tf.linalg.eigvalsh(s) ** 2,
    "eigh, a function of": lambda s: (
        lambda e, v: tf.matmul(v * tf.log(e)[:, None], v, transpose_b=True)
    )(*tf.linalg.eigh(s)),
    "square root": lambda s: tf.linalg.sqrtm(s),
}
for what, build in ON_SPD.items():
    add("spd " + what, lambda x, f=build: tf.reduce_sum(f(_spd(x))))


def _slater(x):
    """A determinant of orbitals, as flows and wave functions have."""
    r = tf.reshape(x, [-1, 2, 2])
    orbitals = tf.stack([tf.exp(-tf.reduce_sum(r**2, 2)), tf.sin(r[:, :, 0])], axis=2)
    return _log_abs_det(orbitals)


add("a Slater determinant", _slater, step=0.008)
add("a determinant in map_fn", lambda x: tf.map_fn(tf.linalg.det, _matrices(x)))


# Pooling, images and convolutions: rows of nine are 3 x 3.
IMAGE = np.random.RandomState(4).permutation(18).reshape(2, 9) / 9.0 - 0.9


def _image(x):
    return tf.reshape(x, [-1, 3, 3, 1])


def _pool(size, stride, padding):
    return lambda image: (
        tf.nn.max_pool2d(image**2 * image, size, stride, padding=padding) ** 2
    )


IMAGES = {
    "overlapping max pooling": _pool(2, 1, "VALID"),
    "overlapping max pooling, same": _pool(3, 1, "SAME"),
    "overlapping max pooling, stride 2": _pool(3, 2, "SAME"),
    "max pooling apart": _pool(3, 3, "VALID"),
    "tf.nn.pool": lambda t: (
        tf.nn.pool(tf.sin(t), [2, 2], "MAX", "VALID", strides=[1, 1]) ** 3
    ),
    "average pooling": lambda t: tf.nn.avg_pool2d(t**2, 2, 1, padding="VALID") ** 2,
    "dilation": lambda t: (
        tf.nn.dilation2d(
            t**3,
            filter=tf.constant([[0.0, 0.31], [0.17, 0.05]], t.dtype)[:, :, None],
            strides=[1, 1, 1, 1],
            rates=[1, 1, 1, 1],
            padding="VALID",
        )
        ** 2
    ),
    "extracted patches": lambda t: (
        tf.image.extract_patches(
            t, [1, 2, 2, 1], [1, 1, 1, 1], [1, 1, 1, 1], padding="VALID"
        )
        ** 3
    ),
    "total variation of exponentials": lambda t: (
        tf.image.total_variation(tf.exp(t)) ** 2
    ),
    "sobel edges": lambda t: tf.image.sobel_edges(t) ** 3,
    "depthwise convolution": lambda t: (
        tf.nn.depthwise_conv2d(
            tf.sin(t), tf.ones([2, 2, 1, 2], t.dtype), [1] * 4, "SAME"
        )
        ** 2
    ),
    "transposed convolution": lambda t: (
        tf.nn.conv2d_transpose(
            tf.sin(t),
            tf.ones([2, 2, 1, 1], t.dtype),
            tf.stack([tf.shape(t)[0], 4, 4, 1]),
            [1] * 4,
            "VALID",
        )
        ** 2
    ),
}
for what, build in IMAGES.items():
    add(what, lambda x, f=build: tf.reduce_sum(f(_image(x))), value=IMAGE, step=0.02)


# Branches that are looked into, or not.
def _pick(t):
    return tf.cast(tf.reduce_sum(tf.ones_like(t)) > 0, tf.int32)


CASE = {
    "moments": layer_norm,
    "labels": entropy,
    "a product": lambda t: tf.reduce_prod(t, 1),
    "a cumulative product": lambda t: tf.cumprod(t, axis=1),
    "xlogy": lambda t: math.xlogy(t, t + 3),
    "softsign": tf.nn.softsign,
    "a batch mean": lambda t: (t - tf.reduce_mean(t, 0)) ** 3,
    "a sine": tf.sin,
}
for what, f in CASE.items():
    add(
        "switch_case of " + what,
        lambda x, f=f: tf.switch_case(
            _pick(x), [lambda: tf.reduce_sum(x), lambda: tf.reduce_sum(f(x))]
        ),
        RIGHT if what == "a sine" else SAFE,
        # The second derivative of softsign jumps at zero.
        value=VALUE if what == "softsign" else ZEROS,
        flows=BOTH if what == "moments" else ("v1",),
    )
    add(
        "cond of " + what,
        lambda x, f=f: tf.cond(
            _pick(x) > 0, lambda: tf.reduce_sum(f(x)), lambda: tf.reduce_sum(x)
        ),
        RIGHT if what == "a sine" else SAFE,
        # The second derivative of softsign jumps at zero.
        value=VALUE if what == "softsign" else ZEROS,
        flows=BOTH if what in ("moments", "labels", "a product") else ("v1",),
    )

# At zeros, and at other special values.
AT_ZEROS = {
    "xdivy": lambda x: math.xdivy(x, x + 3),
    "xdivy of squares": lambda x: math.xdivy(x**2, x + 3),
    "xlogy of x and more": lambda x: math.xlogy(x, x + 3),
    "xlogy of squares": lambda x: math.xlogy(x**2, x + 3),
    "xlog1py": lambda x: math.xlog1py(x, x + 3) if hasattr(math, "xlog1py") else x**3,
    "reduce_prod": lambda x: tf.reduce_prod(x, 1),
    "reduce_prod of sines": lambda x: tf.reduce_prod(tf.sin(x), 1),
    "cumprod": lambda x: tf.cumprod(x, axis=1),
    "exclusive cumprod": lambda x: tf.cumprod(x, axis=1, exclusive=True),
    "reverse cumprod": lambda x: tf.cumprod(x, axis=1, reverse=True),
    "exclusive reverse cumprod": lambda x: tf.cumprod(
        x, axis=1, exclusive=True, reverse=True
    ),
    "reduce_prod in map_fn": lambda x: tf.map_fn(tf.reduce_prod, x),
    "unsorted_segment_prod": lambda x: math.unsorted_segment_prod(
        tf.transpose(x), [0, 1, 0, 1], 2
    ),
    "pow of x to 2": lambda x: tf.pow(x, 2.0),
    "pow of x to 1": lambda x: tf.pow(x, 1.0) * tf.sin(x),
    "pow of x to 3": lambda x: tf.pow(x, 3.0),
    "divide_no_nan": lambda x: tf.math.divide_no_nan(x, x + 3),
    "multiply_no_nan": lambda x: (
        math.multiply_no_nan(x, x + 1) if hasattr(math, "multiply_no_nan") else x**2
    ),
    "squared_difference": lambda x: math.squared_difference(x, tf.sin(x)),
    "elu cubed": lambda x: tf.nn.elu(x) ** 3,
    "softplus": tf.nn.softplus,
    "sigmoid cross entropy": lambda x: tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.sigmoid(x), logits=x
    ),
    "l2_normalize": lambda x: tf.nn.l2_normalize(x, 1) ** 3,
    "norm and one": lambda x: tf.sqrt(1 + tf.reduce_sum(x**2, 1)),
    "relu to the sixth": lambda x: tf.nn.relu(x) ** 6,
    "abs to the sixth": lambda x: tf.abs(x) ** 6,
    "x abs x squared": lambda x: x * tf.abs(x) * x**2,
    "log1p": lambda x: x * tf.log1p(x + 2),
    "expm1": lambda x: x * tf.expm1(x),
    "swish": lambda x: tf.nn.swish(x) ** 2,
    "erf": lambda x: tf.erf(x) * x,
    "atan2": lambda x: tf.atan2(x, x + 3),
    "cosh": lambda x: tf.cosh(x),
    "einsum": lambda x: tf.einsum("ni,nj,nk->n", x, x, tf.sin(x)),
    "complex modulus squared": lambda x: tf.abs(tf.complex(x, 0 * x)) ** 2,
    "power of a Fourier transform": lambda x: (
        tf.abs(tf.signal.fft(tf.complex(x - x[:, :1], 0 * x))) ** 2
    ),
    "norm squared": lambda x: tf.norm(x - x[:, :1], axis=1) ** 2,
    "a square of a square root": lambda x: tf.sqrt(x**2) ** 2,
}
for what, build in AT_ZEROS.items():
    add(what + " at zeros", lambda x, f=build: tf.reduce_sum(f(x)), value=ZEROS)

SPECIAL = {
    "zeta in s": lambda x: math.zeta(x + 2, tf.ones_like(x) * 1.5),
    "zeta in q": lambda x: math.zeta(tf.ones_like(x) * 2.5, x),
    "polygamma": lambda x: math.polygamma(tf.ones_like(x), x),
    "betainc in x": lambda x: math.betainc(
        tf.ones_like(x) * 2, tf.ones_like(x) * 1.5, x / 3
    ),
    "betainc in a": lambda x: math.betainc(
        x, tf.ones_like(x) * 1.5, tf.ones_like(x) * 0.4
    ),
    "betainc in b": lambda x: math.betainc(
        tf.ones_like(x) * 1.5, x, tf.ones_like(x) * 0.4
    ),
    "betainc in a and x": lambda x: math.betainc(x, tf.ones_like(x) * 1.5, x / 3),
    "igamma in x": lambda x: math.igamma(tf.ones_like(x) * 2, x),
    "igamma in a": lambda x: math.igamma(x, tf.ones_like(x)),
    "igammac in x": lambda x: math.igammac(tf.ones_like(x) * 2, x),
    "lbeta": lambda x: math.lbeta(x),
    "softsign": tf.nn.softsign,
    "lgamma": lambda x: math.lgamma(x) * x,
    "digamma": math.digamma,
    "bessel_i0e": lambda x: math.bessel_i0e(x),
    "bessel_i1e": lambda x: math.bessel_i1e(x),
    "erfc": lambda x: tf.erfc(x),
    "log_sigmoid": tf.log_sigmoid,
    "mod": lambda x: tf.math.floormod(x * 3, 10.0) ** 2 * x,
    "asinh acosh atanh": lambda x: tf.asinh(x) * tf.acosh(x + 1) + tf.atanh(x / 4),
    "tan": lambda x: tf.tan(x / 3),
    "reduce_logsumexp": lambda x: tf.reduce_logsumexp(x, 1),
    "cumulative_logsumexp": lambda x: (
        math.cumulative_logsumexp(x, axis=1) * x
        if hasattr(math, "cumulative_logsumexp")
        else x**2
    ),
    "reduce_std": lambda x: math.reduce_std(x, 1) * x[:, 0],
    "lerp by where": lambda x: tf.where(x > 0.85, x**3, tf.log(x)),
    "unsorted_segment_max": lambda x: (
        math.unsorted_segment_max(tf.transpose(x), [0, 1, 0, 1], 2) ** 3
    ),
    "segment_mean": lambda x: math.segment_mean(tf.transpose(x), [0, 0, 1, 1]) ** 3,
    "log-normal density": lambda x: -((tf.log(x) - 0.2) ** 2) - tf.log(x),
    "gelu": lambda x: x * 0.5 * (1 + tf.erf(x / np.sqrt(2))),
    "complex modulus": lambda x: tf.abs(tf.complex(x, tf.sin(x))) ** 3,
    "fft": lambda x: tf.abs(tf.signal.fft(tf.cast(x, tf.complex128))) ** 2 * tf.sin(x),
}
for what, build in SPECIAL.items():
    add(what, lambda x, f=build: tf.reduce_sum(f(x)), value=POSITIVE)

NEWER = {
    "erfinv": lambda x: math.erfinv(x / 3),
    "ndtri": lambda x: math.ndtri(x / 3),
    "erfcinv": lambda x: math.erfcinv(x / 2),
    "dawsn": lambda x: math.special.dawsn(x),
    "expint": lambda x: math.special.expint(x),
    "fresnel_cos": lambda x: math.special.fresnel_cos(x),
    "spence, at 1 too": lambda x: math.special.spence(x),
    "bessel_j0": lambda x: math.special.bessel_j0(x),
    "bessel_k1e": lambda x: math.special.bessel_k1e(x),
    "bessel_y1": lambda x: math.special.bessel_y1(x),
    "nextafter": lambda x: tensorflow.math.nextafter(x, x + 1) ** 3,
    "gelu of tf.nn": lambda x: tensorflow.nn.gelu(x),
}
for what, build in NEWER.items():
    add(what, build, value=POSITIVE, only=not ON_1)
