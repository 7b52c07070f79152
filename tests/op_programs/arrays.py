"""Reductions, shapes and selections."""

import numpy as np

from batchhess.compat import raw_ops, tf
from op_programs.base import (
    ABOVE_ONE,
    FAR,
    POSITIVE,
    REAL,
    constant,
    matrix,
    pair,
    program,
    slope,
)

# Reductions.
program("sum", lambda x: tf.reduce_sum(matrix(x), [-1]) ** 3)
program("mean", lambda x: tf.reduce_mean(matrix(x), [-2, 2], keepdims=True) ** 3)
program("total", lambda x: tf.reduce_sum(x**3))
program(
    "total_mean_free", lambda x: tf.reduce_sum(tf.reduce_sum(x**3, 0) * constant(16))
)
program("max", lambda x: tf.reduce_max(matrix(x), -1) ** 3, REAL, kinks=[0.5])
program("min", lambda x: tf.reduce_min(x, 1, keepdims=True) ** 3, REAL, kinks=[0.5])
program(
    "euclidean_norm", lambda x: tf.math.reduce_euclidean_norm(matrix(x), -1), since="2"
)
program("prod", lambda x: tf.reduce_prod(matrix(x), -1), REAL, [0.0])
program("prod_of_all", lambda x: tf.reduce_prod(x / 2, [-1], True), ABOVE_ONE)
program(
    "prod_of_two_axes",
    lambda x: tf.reduce_prod(matrix(x)[:, :2], [1, 2]),
    ABOVE_ONE,
    [0.0],
)
program("l2_loss", lambda x: tf.nn.l2_loss(x**2))
program("cumsum", lambda x: tf.cumsum(x, 1) ** 2)
program("cumsum_back", lambda x: tf.cumsum(x, -1, exclusive=True, reverse=True) ** 3)
program("cumprod", lambda x: tf.math.cumprod(x, 1), ABOVE_ONE)


def written_out(x, exclusive, reverse):
    """Cumulative products of matrices along axis 1."""
    rows = tf.unstack(matrix(x), axis=1)[:: -1 if reverse else 1]
    products = [tf.ones_like(rows[0])]
    for row in rows:
        products.append(products[-1] * row)
    products = products[:-1] if exclusive else products[1:]
    return tf.stack(products[:: -1 if reverse else 1], axis=1)


for exclusive in (False, True):
    for reverse in (False, True):
        program(
            "cumprod_exclusive_{}_reverse_{}".format(exclusive, reverse),
            lambda x, e=exclusive, r=reverse: tf.math.cumprod(matrix(x), 1, e, r),
            REAL,
            [0.0],
            alike=lambda x, e=exclusive, r=reverse: written_out(x, e, r),
        )
program(
    "cumulative_logsumexp",
    lambda x: tf.math.cumulative_logsumexp(x, 1),
    needs="CumulativeLogsumexp",
)
program(
    "cumulative_logsumexp_back",
    lambda x: tf.math.cumulative_logsumexp(matrix(x), -1, exclusive=True, reverse=True)[
        ..., :3
    ],
    needs="CumulativeLogsumexp",
)
program("top_k", lambda x: tf.nn.top_k(x, 3)[0] ** 3)
program("top_k_of_matrices", lambda x: tf.nn.top_k(matrix(x), 2)[0] ** 3)
program("reduce_variance", lambda x: tf.math.reduce_variance(matrix(x), 1), REAL, FAR)
program("moments", lambda x: tf.nn.moments(matrix(x), [1])[1], REAL, FAR)
program("logsumexp", lambda x: tf.reduce_logsumexp(x, 1, keepdims=True), REAL, FAR)
program("l2_normalize", lambda x: tf.nn.l2_normalize(x, 1), POSITIVE)

# Shapes.
program("reshape", lambda x: tf.reshape(matrix(x), [-1, 8, 2]) ** 3)
program("transpose", lambda x: tf.transpose(matrix(x), [0, 2, 1]) * matrix(x) ** 2)
program(
    "transpose_around",
    lambda x: (
        tf.transpose(tf.transpose(x) * tf.constant(np.arange(1.0, 17))[:, None]) ** 3
    ),
)
program("expand_dims", lambda x: tf.squeeze(tf.expand_dims(x, -1) ** 3, [2]))
program("squeeze", lambda x: tf.squeeze(x[:, None, :, None], [1, -1]) ** 3)
program("concat_split", lambda x: tf.concat(tf.split(x, 4, 1)[:3], -1) ** 3)
program("split_v", lambda x: tf.split(x, [3, 12, 1], -1)[1] ** 3)
program("stack_unstack", lambda x: tf.stack(tf.unstack(x, axis=-1)[:3], -1) ** 3)
program("pad", lambda x: tf.pad(matrix(x), [[0, 0], [1, 0], [2, 1]])[:, :3] ** 3)
program("mirror_pad", lambda x: tf.pad(x, [[0, 0], [3, 2]], "REFLECT") ** 3)
program("symmetric_pad", lambda x: tf.pad(x, [[0, 0], [3, 2]], "SYMMETRIC") ** 3)
program("pad_v2", lambda x: tf.pad(x, [[0, 0], [1, 2]], constant_values=2.0) ** 3)
program("tile", lambda x: tf.tile(matrix(x), [1, 2, 3]) ** 3)
program(
    "broadcast_to",
    lambda x: (
        raw_ops.BroadcastTo(input=x[:, None], shape=tf.stack([tf.shape(x)[0], 3, 16]))
        ** 3
    ),
)
program("identity_n", lambda x: tf.identity_n(list(pair(x)))[1] ** 3)
program("identity", lambda x: tf.identity(x) ** 3)
program("ensure_shape", lambda x: tf.ensure_shape(x, [None, 16]) ** 3)
program("check_numerics", lambda x: tf.check_numerics(x, "x") ** 3)
program(
    "check_numerics_v2",
    lambda x: raw_ops.CheckNumericsV2(tensor=x, message="") ** 3,
    blocks=False,
    needs="CheckNumericsV2",
)
program("print", lambda x: tf.Print(x, []) ** 3, blocks=False)
program(
    "placeholder_with_default",
    lambda x: tf.placeholder_with_default(x, [None, 16]) ** 3,
    blocks=False,
)

# Selections.
program("reverse", lambda x: x * tf.reverse(x, [-1]))
program(
    "reverse_sequence",
    lambda x: x * tf.reverse_sequence(x, tf.fill([tf.shape(x)[0]], 7), seq_axis=1),
)
program("roll", lambda x: x**2 * tf.roll(x, 3, -1))
program("slice", lambda x: tf.slice(matrix(x), [0, 1, 0], [-1, 2, -1]) ** 3)
program("strided_slice", lambda x: matrix(x)[..., tf.newaxis, ::-2, 1] ** 3)
program(
    "slope_of_strided_slice",
    slope(lambda x: matrix(x)[..., tf.newaxis, ::-2, 1] ** 3 * matrix(x)[:, :2, :1]),
)
program("slope_of_shrunk_slice", slope(lambda x: tf.sin(x)[tf.newaxis, :, 3] ** 3))
program("slope_of_slice_of_rows", slope(lambda x: x[:, 3:12:4] ** 3))
program("strided_slice_of_rows", lambda x: x[:, 3:12:4] ** 3)


def in_order(t):
    order = tf.argsort(tf.stop_gradient(t), axis=1)
    return tf.reshape(tf.gather(t, order, batch_dims=1) * t, [-1, 16])


program("gather", lambda x: tf.gather(matrix(x), [1, 1, 3], axis=-1) ** 2)
program(
    "gather_of_columns",
    lambda x: tf.transpose(tf.gather(tf.transpose(x), [1, 1, 3])) ** 2,
)
program(
    "gather_of_each",
    lambda x: (
        tf.gather(
            matrix(x),
            tf.zeros([tf.shape(x)[0], 4, 2], tf.int32) + [1, 3],
            batch_dims=2,
            axis=2,
        )
        ** 3
    ),
)
program(
    "gather_of_sorted", lambda x: in_order(tf.reshape(x * x, [-1, 8])), blocks=False
)
program(
    "gather_nd",
    lambda x: (
        tf.gather_nd(
            matrix(x),
            tf.stack(
                [tf.range(tf.shape(x)[0]), tf.ones([tf.shape(x)[0]], tf.int32)], 1
            ),
        )
        ** 3
    ),
    blocks=False,
)


def gathered(x):
    """Three elements of each observation, one of them twice."""
    n = tf.tile(tf.range(tf.shape(x)[0])[:, None], [1, 3])
    return tf.gather_nd(x, tf.stack([n, tf.zeros_like(n) + [1, 1, 3]], -1))


program("gather_nd_twice", lambda x: tf.reduce_sum(gathered(x) ** 3), blocks=False)
program(
    "scatter_nd",
    lambda x: tf.reduce_sum(
        tf.scatter_nd([[1], [1], [0]], tf.transpose(x)[:3] ** 3, [4, tf.shape(x)[0]])
    ),
)
program(
    "tensor_scatter_add",
    lambda x: tf.reduce_sum(
        tf.tensor_scatter_nd_add(
            tf.transpose(x) ** 3, [[1], [1], [0]], tf.transpose(x)[:3] ** 3
        )
    ),
)
program(
    "segment_sum",
    lambda x: (
        tf.transpose(tf.math.segment_sum(tf.transpose(x), [0] * 5 + [1] * 5 + [3] * 6))
        ** 3
    ),
)
program(
    "unsorted_segment_sum",
    lambda x: (
        tf.transpose(
            tf.math.unsorted_segment_sum(tf.transpose(x), [0, 3] * 7 + [-1, 2], 5)
        )
        ** 3
    ),
)

program(
    "segment_mean",
    lambda x: (
        tf.transpose(tf.math.segment_mean(tf.transpose(x), [0] * 5 + [1] * 5 + [2] * 6))
        ** 3
    ),
)
program(
    "tensor_scatter_sub",
    lambda x: tf.reduce_sum(
        tf.tensor_scatter_nd_sub(
            tf.transpose(x) ** 3, [[1], [1], [0]], tf.transpose(x)[:3] ** 2
        )
    ),
)
program(
    "tensor_scatter_update",
    lambda x: tf.reduce_sum(
        tf.tensor_scatter_nd_update(
            tf.transpose(x) ** 3, [[1], [0]], tf.transpose(x)[:2] ** 2
        )
        * constant(16, 1)
    ),
    blocks=False,
)
