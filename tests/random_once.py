"""Steps of random programs that TensorFlow differentiates wrongly once, and like ones.

Each maps t, of shape [N, width], and the program's own x, [N, K], to [N, other width].
"""

import numpy as np
from random_library import _flat, _pairs, _spd
from random_steps import _width

from batchhess.compat import tf


def _half(t):
    """The lower triangle of a positive definite matrix, [N, 2, 2]."""
    return tf.linalg.band_part(_spd(t), -1, 0)


def _mirrored(t):
    half = _half(t)
    both = half + tf.linalg.matrix_transpose(half)
    return tf.linalg.set_diag(both, tf.linalg.diag_part(half))


def _updated(t, places):
    """Columns of sines in which t stands at `places`, in turn."""
    columns = tf.transpose(tf.concat([tf.sin(t), tf.cos(t)], 1))
    updates = tf.gather(tf.transpose(t), [i % _width(t) for i in range(len(places))])
    indices = [[place] for place in places]
    return tf.transpose(tf.tensor_scatter_update(columns, indices, updates**2))


def _through_complex(t):
    z = tf.cast(t, tf.complex64 if t.dtype == tf.float32 else tf.complex128)
    return tf.cast(z * tf.exp(z), t.dtype)


def _spoken(t, by_polar):
    z = tf.complex(tf.sin(t), t)
    return (tf.abs(z) ** 3 if by_polar else tf.math.real(tf.math.conj(z) * z * z)) / 3


def _bits(t):
    whole = tf.int32 if t.dtype == tf.float32 else tf.int64
    return t + tf.bitcast(tf.bitcast(t * t, whole), t.dtype)


def _as_text(t):
    numbers = tf.strings.to_number(tf.as_string(tf.sin(t), precision=18), t.dtype)
    return t * t + tf.ensure_shape(numbers, [None, _width(t)])


def _slope(f):
    """The gradient of `f` as a step."""

    def step(t, x):
        return tf.convert_to_tensor(tf.gradients(f(t), t)[0])

    return step


def _widest(t):
    """Of three of four columns each, which overlap."""
    image = tf.reshape(tf.tile(t, [1, 4])[:, :4], [-1, 1, 4, 1])
    pooled = tf.nn.max_pool2d(image, [1, 1, 2, 1], [1, 1, 1, 1], "VALID")
    return tf.reshape(pooled, [-1, 3])


def _largest(t):
    """Of each two columns."""
    of = np.arange(_width(t)) // 2
    found = tf.transpose(tf.math.segment_max(tf.transpose(t), of))
    return tf.ensure_shape(found, [None, of[-1] + 1])


ONCE = {
    "cholesky of a half": lambda t, x: _flat(tf.linalg.cholesky(_half(t)), 4),
    "logdet of a half": lambda t, x: tf.linalg.logdet(_half(t))[:, None] * t,
    "cholesky of both halves": lambda t, x: _flat(tf.linalg.cholesky(_mirrored(t)), 4),
    "updated twice": lambda t, x: _updated(t, [1, 0, 1]),
    "updated once": lambda t, x: _updated(t, [1, 0]),
    "complex by a cast": lambda t, x: _through_complex(t),
    "size of a complex": lambda t, x: _spoken(t, True),
    "complex product": lambda t, x: _spoken(t, False),
    "padded by itself": lambda t, x: tf.ensure_shape(
        tf.map_fn(lambda r: tf.pad(r, [[0, 1]], constant_values=tf.sin(r[0])), t),
        [None, _width(t) + 1],
    ),
    "betainc": lambda t, x: tf.betainc(t * t + 1, tf.ones_like(t), tf.sigmoid(t)),
    "betainc of constants": lambda t, x: tf.betainc(
        tf.ones_like(t) + 1, tf.ones_like(t), tf.sigmoid(t)
    ),
    "bits": lambda t, x: _bits(t),
    "as text": lambda t, x: _as_text(t),
    "colours": lambda t, x: (
        tf.image.hsv_to_rgb(tf.sigmoid(tf.tile(t, [1, 3])[:, None, :3]))[:, 0]
        + tf.sin(t[:, :1])
    ),
    "slope of slices": _slope(lambda t: t[:, ::-2] ** 3 * t[:, :1]),
    "slope of one column": _slope(lambda t: tf.sin(t)[:, -1] * t[:, 0] ** 2),
    "slope of new axes": _slope(
        lambda t: (t[:, tf.newaxis, :1] ** 2 * t[:, None]) ** 2
    ),
    "slope of a product": _slope(lambda t: tf.matmul(_pairs(t), _pairs(tf.sin(t)))),
    "slope of a softmax": _slope(lambda t: tf.nn.softmax(tf.sin(t)) * t),
    "slope of a maximum": _slope(lambda t: tf.reduce_max(t, 1) ** 3),
    "slope of a pool": _slope(lambda t: _widest(t) ** 3),
    "overlapping windows": lambda t, x: _widest(t) ** 2,
    "norm": lambda t, x: tf.math.reduce_euclidean_norm(t, 1, keepdims=True) * t / 3,
    "clipped by its norm": lambda t, x: tf.clip_by_norm(t, 0.9, 1),
    "of length one": lambda t, x: tf.nn.l2_normalize(t, 1),
    "sorted": lambda t, x: (
        tf.ensure_shape(tf.sort(t, 1), [None, _width(t)])
        * np.arange(1.0, _width(t) + 1)
    ),
    "masked": lambda t, x: tf.where(
        tf.less(t, 0.1), tf.zeros_like(t), tf.sqrt(tf.abs(t)) * t
    ),
    "segments": lambda t, x: _largest(t) ** 2,
}
