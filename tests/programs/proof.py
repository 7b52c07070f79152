"""Models whose observations meet, or not, in ways that are easily overlooked."""

import numpy as np

from batchhess.compat import raw_ops, tf
from programs.registry import BOTH, RIGHT, SAFE, VALUE, Setup, add, function

PAIR = np.array([[0.5, -1.2, 0.8], [1.5, 0.2, -0.4]])
ONE = VALUE[:1]


# x as one of several outputs of an op.
def _split(pick):
    def build(x):
        parts = tf.split(tf.concat([x * 1.0, tf.sin(x)], 1), 2, axis=1)
        return parts[pick], parts[1 - pick]

    return build


def _unstack(pick):
    def build(x):
        parts = tf.unstack(tf.stack([x, tf.cos(x)]), num=2)
        return parts[pick], parts[1 - pick]

    return build


def _unstack_of_rows(x):
    return tuple(tf.unstack(tf.stack([x, tf.cos(x)], axis=1), num=2, axis=1))


def _of_a_function(x):
    return function(lambda t: (tf.sin(t), tf.exp(t / 3)))(x)


def _of_moments(x):
    m = tf.reshape(x, [-1, 2, 2])
    return tf.nn.moments(m, [2])


def _of_top_k(x):
    values, indices = tf.nn.top_k(x, 3)
    return values, tf.cast(indices, x.dtype)


def _of_iterator(kind):
    def build(x):
        del x
        labels = np.array([[0.2], [0.9], [-0.4]])
        data = tf.data.Dataset.from_tensors((VALUE, labels)).repeat()
        if kind == "one shot":
            return tf.data.make_one_shot_iterator(data).get_next()
        iterator = tf.data.make_initializable_iterator(data)
        return iterator.get_next() + (iterator.initializer,)

    return build


SEVERAL = {
    "the first of a split": _split(0),
    "the second of a split": _split(1),
    "the first of an unstack": _unstack(0),
    "the second of an unstack": _unstack(1),
    "one of an unstack along columns": _unstack_of_rows,
    "an output of a function": _of_a_function,
    "an output of top_k": _of_top_k,
    "a one-shot iterator's element": _of_iterator("one shot"),
    "an initializable iterator's element": _of_iterator("initializable"),
}
USES = {
    "alone": lambda x, other: x**3,
    "times its sibling": lambda x, other: x**3 * other,
    "a regression": lambda x, other: (tf.tanh(x) - other) ** 2,
    "with a batch mean": lambda x, other: (x - tf.reduce_mean(x, 0)) ** 3 + other,
    "with its sibling, rolled": lambda x, other: (
        x**3 * tf.roll(x, 1, 0) + tf.reduce_sum(other)
    ),
    "rolled after its sibling": lambda x, other: (
        tf.sin(other) * 0 + x**2 * tf.roll(x, 1, 0)
    ),
    "a Gram matrix": lambda x, other: (
        tf.matmul(x, x, transpose_b=True) ** 2 + tf.reduce_sum(other)
    ),
    "stopped sibling": lambda x, other: tf.reduce_sum(
        x**3 * tf.stop_gradient(tf.reduce_mean(other))
    ),
}


def _on_one_of_several(parts, use):
    def build(x):
        made = parts(x)
        if len(made) == 3:  # With what starts the iterator.
            return Setup(use(*made[:2]), made[0], run_feed={}, initializers=(made[2],))
        return Setup(use(*made), made[0])

    return build


for source, parts in SEVERAL.items():
    for what, use in USES.items():
        if what == "rolled after its sibling" and "iterator" in source:
            continue
        ordinary = what in ("alone", "times its sibling", "a regression")
        add(
            "x is {}, {}".format(source, what),
            _on_one_of_several(parts, use),
            RIGHT if ordinary and "function" not in source else SAFE,
        )

# Matrices, gathers, sizes, and broadcasting.
V2, V3 = "MatrixDiagV2", "MatrixDiagV3"


def _bands(kind, k, t, padding=0.0):
    op = getattr(raw_ops, kind)
    options = {
        "num_rows": -1,
        "num_cols": -1,
        "padding_value": tf.constant(padding, t.dtype),
    }
    if kind == V3:
        options["align"] = "RIGHT_LEFT"
    return op(diagonal=t, k=k, **options)


def _negative_gather(x):
    """Batch dimensions counted from the end: of rank 2 these are [-1] of [N, M]."""
    indices = tf.constant([[1, 0], [2, 1], [0, 2]])
    return tf.gather(x, indices, axis=1, batch_dims=-1)


PROOF = {
    "bands of two rows by MatrixDiagV2": (
        lambda x: tf.reduce_sum(tf.sin(_bands(V2, [0, 1], x)), 0) ** 2,
        PAIR,
    ),
    "bands of a matrix, squared by MatrixDiagV2": (
        lambda x: tf.linalg.matmul(*[_bands(V2, [0, 1], x)] * 2) ** 2,
        PAIR,
    ),
    "a padded diagonal": (
        lambda x: tf.reduce_sum(
            tf.reduce_prod(_bands(V2, 0, x**2, 0.5) + 0.1, axis=2), axis=1
        ),
        VALUE,
    ),
    "gather with negative batch_dims": (lambda x: _negative_gather(x) ** 3, VALUE),
    "gather with negative batch_dims, coupled": (
        lambda x: _negative_gather(x) * tf.roll(x, 1, 0)[:, :2],
        VALUE,
    ),
    "gather along rows": (lambda x: x**2 * tf.gather(x, [1, 2, 0]), VALUE),
    "gather of a gather": (
        lambda x: tf.gather(tf.gather(x, [2, 1, 0]), [2, 1, 0]) ** 2 * x,
        VALUE,
    ),
    "a size through bool": (
        lambda x: (
            tf.reshape(
                x, tf.stack([tf.cast(tf.cast(tf.shape(x)[0], tf.bool), tf.int32), -1])
            )
            ** 3
        ),
        VALUE,
    ),
    "a softmax over a size through bool": (
        lambda x: (
            tf.nn.softmax(
                tf.reshape(
                    x,
                    tf.stack([tf.cast(tf.cast(tf.shape(x)[0], tf.bool), tf.int32), -1]),
                )
            )
            ** 2
        ),
        VALUE,
    ),
    "a softmax over a size through uint8": (
        lambda x: (
            tf.nn.softmax(
                tf.reshape(
                    tf.tile(x, [1, 2]),
                    tf.stack(
                        [tf.cast(tf.cast(tf.shape(x)[0] + 255, tf.uint8), tf.int32), -1]
                    ),
                )
            )
            ** 2
        ),
        VALUE,
    ),
    "a size through a float": (
        lambda x: (
            tf.nn.softmax(
                tf.reshape(
                    x,
                    tf.stack(
                        [tf.cast(tf.cast(tf.shape(x)[0], tf.float32), tf.int32), -1]
                    ),
                )
            )
            ** 2
        ),
        VALUE,
    ),
    "a size halved": (
        lambda x: (
            tf.nn.softmax(tf.reshape(x, tf.stack([tf.shape(x)[0] // 2, -1]))) ** 2
        ),
        VALUE,
    ),
    "a size of the sign": (
        lambda x: (
            tf.nn.softmax(tf.reshape(x, tf.stack([tf.sign(tf.shape(x)[0]), -1]))) ** 2
        ),
        VALUE,
    ),
    "a size cut by a minimum": (
        lambda x: (
            tf.nn.softmax(tf.reshape(x, tf.stack([tf.minimum(tf.shape(x)[0], 1), -1])))
            ** 2
        ),
        VALUE,
    ),
    "a size by reduce_any": (
        lambda x: (
            tf.nn.softmax(
                tf.reshape(
                    x,
                    tf.stack(
                        [tf.cast(tf.reduce_any(tf.shape(x)[:1] > 0), tf.int32), -1]
                    ),
                )
            )
            ** 2
        ),
        VALUE,
    ),
    "broadcast of one row to three": (
        lambda x: tf.broadcast_to(x, [3, 4]) ** 2 * tf.constant(VALUE, x.dtype),
        ONE,
    ),
    "tile of the rows": (lambda x: tf.tile(x, [2, 1]) ** 3, VALUE),
    "tile of the rows, rolled": (
        lambda x: tf.tile(x, [2, 1]) * tf.roll(tf.tile(x, [2, 1]), 1, 0) ** 2,
        VALUE,
    ),
    "a padded row": (
        lambda x: tf.reduce_prod(
            tf.pad(x, [[0, 0], [1, 0]], constant_values=1.5), axis=1
        ),
        VALUE,
    ),
    "a padded diagonal part": (
        lambda x: tf.reduce_sum(
            raw_ops.MatrixDiagPartV2(
                input=x[:, :, None] * x[:, None],
                k=[-1, 1],
                padding_value=tf.constant(0.7, x.dtype),
            )
            ** 2,
            [1, 2],
        ),
        VALUE,
    ),
    "a transpose and back": (
        lambda x: tf.transpose(tf.sin(tf.transpose(x)) * tf.transpose(x)) * x,
        VALUE,
    ),
    "a transpose, square": (lambda x: tf.transpose(x) * x**2, VALUE[:, :3]),
    "a reversed square": (
        lambda x: tf.matmul(x, x) ** 2,
        VALUE[:, :3],
    ),
    "rows by columns": (lambda x: tf.matmul(x, x, transpose_b=True) ** 2, VALUE),
    "a triangle of a Gram matrix": (
        lambda x: tf.linalg.diag_part(tf.matmul(x, x, transpose_b=True)) ** 2,
        VALUE,
    ),
    "a sum over a computed axis": (
        lambda x: tf.reduce_sum(x**2, tf.rank(x) - 1) ** 2,
        VALUE,
    ),
    "a sum over a computed axis, coupled": (
        lambda x: tf.reduce_sum(x**2, tf.rank(x) - 2) ** 2,
        VALUE,
    ),
    "boolean_mask of rows": (
        lambda x: tf.boolean_mask(x, x[:, 0] > 0) ** 3,
        VALUE,
    ),
    "boolean_mask of rows, rolled": (
        lambda x: (
            tf.boolean_mask(x, x[:, 0] > 0)
            * tf.roll(tf.boolean_mask(x, x[:, 0] > 0), 1, 0) ** 2
        ),
        VALUE,
    ),
    "dynamic_partition": (
        lambda x: tf.concat(
            [
                tf.sin(t) * (i + 1)
                for i, t in enumerate(
                    tf.dynamic_partition(x, tf.cast(x[:, 0] > 0, tf.int32), 2)
                )
            ],
            0,
        ),
        VALUE,
    ),
    "space_to_batch": (
        lambda x: tf.space_to_batch_nd(x[:, :, None], [2], [[0, 0]]) ** 3,
        VALUE,
    ),
    "space_to_batch, rolled": (
        lambda x: (
            tf.space_to_batch_nd(x[:, :, None], [2], [[0, 0]])
            * tf.roll(tf.space_to_batch_nd(x[:, :, None], [2], [[0, 0]]), 1, 0) ** 2
        ),
        VALUE,
    ),
    "reverse_sequence along rows": (
        lambda x: tf.reverse_sequence(x, [2, 3, 1, 3], seq_axis=0, batch_axis=1) * x**2,
        VALUE,
    ),
    "a cumulative sum along rows": (lambda x: tf.cumsum(x) ** 3, VALUE),
    "scatter to rows": (
        lambda x: tf.scatter_nd([[0], [0], [1]], x, [2, 4]) ** 3,
        VALUE,
    ),
    "scatter to the same rows": (
        lambda x: tf.scatter_nd([[2], [0], [1]], x, [3, 4]) ** 3,
        VALUE,
    ),
    "segment sums of rows": (
        lambda x: tf.math.segment_sum(x, [0, 0, 1]) ** 3,
        VALUE,
    ),
    "a sparse product": (
        lambda x: (
            tf.sparse.sparse_dense_matmul(
                tf.SparseTensor(
                    [[0, 1], [2, 0]], tf.constant([2.0, 3.0], x.dtype), [3, 3]
                ),
                x,
            )
            ** 3
        ),
        VALUE,
    ),
    "a sparse product of the transpose": (
        lambda x: (
            tf.sparse.sparse_dense_matmul(
                tf.SparseTensor(
                    [[0, 1], [2, 0]], tf.constant([2.0, 3.0], x.dtype), [3, 4]
                ),
                tf.transpose(x),
            )
            ** 3
        ),
        VALUE,
    ),
    "slices of rows": (lambda x: x[:2] * x[1:] ** 2, VALUE),
    "strides of rows": (lambda x: x[::2] ** 3, VALUE),
    "an even stride": (lambda x: x[:2] * x[::2] ** 2, VALUE),
    "negative strides": (lambda x: x[::-1] * x**2, VALUE),
    "one observation, and all": (lambda x: x[0] * x**2, VALUE),
    "the first by a tensor index": (
        lambda x: x[tf.constant(1)] * x**2,
        VALUE,
    ),
    "a concat along rows": (lambda x: tf.concat([x**2, x], 0) ** 2, VALUE),
    "a concat along rows, cut": (
        lambda x: tf.concat([x[1:], x[:1]], 0) * x**2,
        VALUE,
    ),
    "an accidental broadcast": (
        lambda x: tf.reduce_sum(x, 1, keepdims=True) ** 2 * tf.reduce_sum(x, 1),
        VALUE,
    ),
    "an accidental broadcast of N = K": (
        lambda x: x**2 * tf.reduce_sum(x, 1),
        VALUE[:, :3],
    ),
    "einsum over the rows": (
        lambda x: tf.einsum("ni,nj->ij", x, x) ** 2,
        VALUE,
    ),
    "tensordot over the rows": (
        lambda x: tf.tensordot(x, x, [[0], [0]]) ** 2,
        VALUE,
    ),
    "a convolution along the rows": (
        lambda x: (
            tf.nn.conv1d(
                tf.transpose(x)[:, :, None],
                tf.ones([2, 1, 1], x.dtype),
                stride=1,
                padding="SAME",
            )
            ** 3
        ),
        VALUE,
    ),
    "norms of all": (lambda x: x**3 * tf.norm(x), VALUE),
    "clip_by_global_norm": (
        lambda x: tf.clip_by_global_norm([x**2], 1.0)[0][0] ** 2,
        VALUE,
    ),
    "clip_by_norm of all": (lambda x: tf.clip_by_norm(x, 1.0) ** 3, VALUE),
    "top_k along rows": (
        lambda x: tf.nn.top_k(tf.transpose(x), 2)[0] ** 2 * x[0, 0],
        VALUE,
    ),
    "a scan along rows": (
        lambda x: tf.scan(lambda a, row: tf.tanh(a * row + row), x),
        VALUE,
    ),
    "a loop over rows": (
        lambda x: tf.while_loop(
            lambda i, a: i < 3,
            lambda i, a: (i + 1, tf.sin(a + x[i]) * x[0]),
            (0, x[0]),
        )[1],
        VALUE,
    ),
    "x with a stopped batch mean, gathered": (
        lambda x: tf.gather(x, tf.argsort(x[:, 0])) * x**2,
        VALUE,
    ),
}
# The shape of y is not that of the observations: only of the sum is a Hessian asked.
AS_THEY_ARE = ("tile of the rows", "strides of rows", "a padded row", "a Gram matrix")
for what, (build, value) in PROOF.items():
    if what not in AS_THEY_ARE:
        build = lambda x, f=build: tf.reduce_sum(f(x))  # noqa: E731
    known = what.startswith(("gather", "a size", "a padded", "broadcast", "tile"))
    if not what.startswith("bands"):
        add(what, build, value=value, flows=BOTH if "loop" in what else ("v1",))
    if known or what.startswith("bands"):
        add(what + ", N known", build, value=value, static=True)
