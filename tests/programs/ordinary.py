"""Ordinary models, which must not be refused without need, and never crash."""

import numpy as np

import batchhess
from batchhess.compat import tf
from programs.registry import (
    BOTH,
    ON_1,
    RIGHT,
    SAFE,
    VALUE,
    Setup,
    add,
    function,
    repeat,
    weights,
)

SMALL = VALUE[:2, :1]


def _computed_k(x):
    return tf.nn.top_k(x, tf.shape(x)[1] // 2)[0] ** 3


def _many_parts(x):
    parts = tf.split(tf.tile(x, [1, 4]), 16, axis=1)
    return tf.add_n([tf.sin(p) ** 2 for p in parts])


def _growing(x):
    array = tf.TensorArray(x.dtype, 0, dynamic_size=True, clear_after_read=False)

    def step(i, array):
        return i + 1, array.write(i, tf.sin(x[:, 0]) * x[:, 1])

    return tf.while_loop(lambda i, _: i < 3, step, (0, array))[1].stack() ** 2


def _array_concat(x):
    array = tf.TensorArray(x.dtype, 2)
    return array.write(0, tf.sin(x)).write(1, x**2).concat() ** 2


def _array_concat_of_loop(x):
    array = tf.TensorArray(x.dtype, 2)
    out = tf.while_loop(
        lambda i, _: i < 2,
        lambda i, a: (i + 1, a.write(i, tf.sin(x) * tf.cast(i + 1, x.dtype))),
        (0, array),
    )[1]
    return out.concat() ** 2


def _array_split(x):
    array = tf.TensorArray(x.dtype, 2, infer_shape=False).split(tf.transpose(x), [1, 3])
    return tf.reduce_sum(array.read(0) ** 3) + tf.reduce_sum(tf.sin(array.read(1)))


def _read_value(resource):
    def build(x):
        v = tf.get_variable(
            "v", initializer=tf.constant(2.0, x.dtype), use_resource=resource
        )
        return repeat(lambda a: tf.sin(a) * v.read_value() + x, x)

    return build


def _reloaded(build):
    """The model of a MetaGraph, in the same graph."""

    def reload(x):
        with tf.Graph().as_default() as graph:
            inner = tf.placeholder(x.dtype, [None, 4], name="inner")
            tf.reduce_sum(build(inner), name="f")
            exported = tf.train.export_meta_graph(graph=graph)
        tf.train.import_meta_graph(exported, import_scope="m", input_map={"inner": x})
        return tf.get_default_graph().get_tensor_by_name("m/f:0")

    return reload


def _imported(build):
    def load(x):
        with tf.Graph().as_default() as graph:
            inner = tf.placeholder(x.dtype, [None, 4], name="inner")
            tf.reduce_sum(build(inner), name="f")
            definition = graph.as_graph_def()
        return tf.import_graph_def(definition, {"inner": x}, ["f:0"], name="m")[0]

    return load


V1_PARTS = {
    "a loop": lambda x: repeat(lambda a: tf.sin(a) + x, x),
    "map_fn": lambda x: tf.map_fn(lambda row: tf.sin(row) * row, x),
    "a cond": lambda x: tf.cond(
        tf.reduce_sum(tf.ones_like(x)) > 0, lambda: tf.sin(x), lambda: x
    ),
    "a function": lambda x: function(lambda t: tf.sin(t) * t)(x),
    "a dense layer": lambda x: tf.tanh(tf.matmul(x, weights(4, 3))) ** 2,
}
for what, f in V1_PARTS.items():
    for way, load in {"import_graph_def": _imported, "a MetaGraph": _reloaded}.items():
        expected = RIGHT if what == "a dense layer" else SAFE
        add(
            "{} by {}".format(what, way),
            load(f),
            expected,
            flows=BOTH if what == "a loop" else ("v1",),
        )

TARGETS = np.array([[0.2], [0.9], [-0.4]])


def _loss(name, **options):
    def build(x):
        predicted = tf.tanh(tf.matmul(x, weights(4, 1, x.dtype)))
        positive = name in ("log_loss", "sigmoid_cross_entropy")
        labels = np.abs(TARGETS) if positive else TARGETS
        predicted = tf.sigmoid(predicted) if name == "log_loss" else predicted
        f = getattr(tf.losses, name)
        return f(tf.constant(labels, x.dtype), predicted, **options)

    return build


LOSSES = "mean_squared_error absolute_difference huber_loss log_loss"
LOSSES += " sigmoid_cross_entropy hinge_loss"
for name in LOSSES.split():
    # The losses cast to float32.
    add("tf.losses." + name, _loss(name), RIGHT, dtype="float32", step=0.6)
    add(
        "tf.losses.{} by batch size".format(name),
        _loss(name, reduction="weighted_sum_over_batch_size"),
        RIGHT,
        dtype="float32",
        step=0.6,
    )
add(
    "tf.losses.softmax_cross_entropy",
    lambda x: tf.losses.softmax_cross_entropy(np.eye(4)[[0, 3, 1]], x),
    RIGHT,
    dtype="float32",
    step=0.6,
)
add(
    "tf.losses.sparse_softmax_cross_entropy",
    lambda x: tf.losses.sparse_softmax_cross_entropy([0, 3, 1], x),
    RIGHT,
    dtype="float32",
    step=0.6,
)


def _sparse(x):
    """[N, 4] times a sparse matrix, which TensorFlow has on the left only."""
    s = tf.SparseTensor([[0, 1], [2, 0]], tf.constant([2.0, 3.0], x.dtype), [3, 4])
    return tf.transpose(tf.sparse.sparse_dense_matmul(s, tf.transpose(x))) ** 3


ORDINARY = {
    "tf.sort": lambda x: tf.sort(x, axis=1) ** 3 * tf.constant([1.0, 2, 3, 4], x.dtype),
    "tf.sort, downwards": lambda x: (
        tf.sort(x, axis=-1, direction="DESCENDING")[:, :2] ** 3
    ),
    "tf.argsort and a gather": lambda x: (
        tf.gather(x, tf.argsort(x, axis=1), batch_dims=1)[:, :2] ** 3
    ),
    "top_k with computed k": _computed_k,
    "a split into 16": _many_parts,
    "a growing TensorArray": _growing,
    "TensorArray.concat": _array_concat,
    "TensorArray.concat after a loop": _array_concat_of_loop,
    "TensorArray.split": _array_split,
    "read_value of a ref variable in a loop": _read_value(False),
    "read_value of a resource variable in a loop": _read_value(True),
    "softmax over axis 1 of 3": lambda x: (
        tf.nn.softmax(tf.reshape(x, [-1, 2, 2]), axis=1) ** 2
    ),
    "softmax over a negative axis": lambda x: (
        tf.nn.softmax(tf.reshape(x, [-1, 2, 2]), axis=-2) ** 2
    ),
    "log_softmax over axis 1 of 3": lambda x: (
        tf.nn.log_softmax(tf.reshape(x, [-1, 2, 2]), axis=1) ** 2
    ),
    "a sum over a computed range of axes": lambda x: tf.reduce_sum(
        x**3, tf.range(1, tf.rank(x))
    ),
    "reduce_prod in map_fn": lambda x: tf.map_fn(tf.reduce_prod, x),
    "segment sums of columns": lambda x: (
        tf.math.unsorted_segment_sum(tf.transpose(x), [0, 1, 0, 1], 2) ** 3
    ),
    "segment sums of flat rows": lambda x: (
        tf.math.segment_sum(tf.reshape(x, [-1]), tf.range(4 * tf.shape(x)[0]) // 2) ** 3
    ),
    "scatter of columns": lambda x: (
        tf.scatter_nd(
            [[0], [1], [0], [2]], tf.transpose(x), tf.stack([3, tf.shape(x)[0]])
        )
        ** 3
    ),
    "tensor_scatter_update": lambda x: (
        tf.tensor_scatter_nd_update(tf.transpose(x), [[1]], tf.reduce_sum(x, 1)[None])
        ** 3
    ),
    "a sparse product of columns": _sparse,
    "embedding_lookup of columns": lambda x: (
        tf.nn.embedding_lookup(tf.transpose(x), [0, 3, 0]) ** 3
    ),
    "gather_nd of pairs": lambda x: (
        tf.gather_nd(
            x, tf.stack([tf.range(tf.shape(x)[0]), tf.range(tf.shape(x)[0]) % 2], 1)
        )
        ** 3
    ),
    "one_hot selection": lambda x: (
        tf.reduce_sum(x * tf.one_hot([0, 2, 1], 4, dtype=x.dtype), 1) ** 3
    ),
    "batch matmul with computed transposes": lambda x: (
        tf.transpose(
            tf.reshape(x, [-1, 2, 2]),
            tf.concat([[0], tf.range(2, 3), tf.range(1, 2)], 0),
        )
        ** 3
    ),
    "a transpose by a permutation rolled": lambda x: (
        tf.transpose(tf.sin(x), tf.roll(tf.range(tf.rank(x)), 1, 0)) ** 2
    ),
    "broadcast_to a dynamic shape": lambda x: (
        tf.broadcast_to(
            tf.reduce_sum(x, 1, keepdims=True),
            tf.broadcast_dynamic_shape(tf.shape(x), tf.constant([1, 4])),
        )
        * x**2
    ),
    "a gradient penalty": lambda x: tf.reduce_sum(
        tf.gradients(tf.tanh(tf.matmul(x, weights(4, 1))), x)[0] ** 2, 1
    ),
    "a Laplacian inside": lambda x: tf.add_n(
        [
            tf.gradients(tf.gradients(tf.sin(x) * x**2, x)[0][:, k], x)[0][:, k]
            for k in range(1)
        ]
    ),
    "a batchhess Laplacian inside": lambda x: batchhess.laplacians(tf.sin(x) * x, x)[0],
    "clip_by_norm of each": lambda x: tf.clip_by_norm(x, 1.0, axes=[1]) ** 3,
    "l2_normalize and cosine": lambda x: (
        tf.reduce_sum(tf.nn.l2_normalize(x, 1) * tf.nn.l2_normalize(tf.sin(x), 1), 1)
        ** 2
    ),
    "an if on N": lambda x: tf.cond(
        tf.shape(x)[0] > 2, lambda: tf.reduce_sum(x**3), lambda: tf.reduce_sum(x)
    ),
    "an assertion inside": lambda x: _asserted(x) ** 3,
    "check_numerics": lambda x: tf.check_numerics(tf.sin(x), "x") ** 2,
    "a print": lambda x: tf.identity(tf.sin(x)) ** 2,
    "a name scope and a device": lambda x: _placed(x),
    "a masked mean": lambda x: (
        tf.reduce_sum(tf.where(x > 0, x**3, tf.zeros_like(x)), 1)
        / tf.maximum(tf.reduce_sum(tf.cast(x > 0, x.dtype), 1), 1)
    ),
    "rank 3 by expand_dims": lambda x: tf.squeeze(tf.expand_dims(x, -1) ** 3, -1),
    "vectorized_map": lambda x: tf.vectorized_map(lambda row: row**3, x),
    "a dynamic slice": lambda x: (
        tf.slice(x, [0, 1], tf.stack([tf.shape(x)[0], 2])) ** 3
    ),
    "a ragged row sum": lambda x: (
        tf.math.segment_sum(
            tf.reshape(x**2, [-1]), tf.repeat(tf.range(tf.shape(x)[0]), 4)
        )
        ** 2
    ),
    "linear": lambda x: tf.matmul(x, weights(4, 2)),
    "a constant in x": lambda x: tf.reduce_sum(x**3) + tf.reduce_sum(weights(3, 3)),
}


def _asserted(x):
    with tf.control_dependencies([tf.debugging.assert_positive(tf.shape(x)[0])]):
        return tf.identity(x)


def _placed(x):
    with tf.name_scope("model"), tf.device("/cpu:0"):
        return tf.sin(x) ** 2


for what, build in ORDINARY.items():
    build = lambda x, f=build: tf.reduce_sum(f(x))  # noqa: E731
    looped = "TensorArray" in what or "variable" in what or "map_fn" in what
    add(
        what,
        build,
        SAFE if looped or "inside" in what else RIGHT,
        VALUE[:2, :2] if "inside" in what and "gradient" not in what else VALUE,
        flows=BOTH if "TensorArray" in what else ("v1",),
    )


def _keras(layers, **options):
    def build(x):
        for layer in layers():
            x = layer(x, **options)
        return x**3

    return build


K = tf.keras.layers
add(
    "Keras Dense",
    _keras(lambda: [K.Dense(3, "tanh", True, "ones", dtype="float64")]),
    SAFE,
)
add(
    "Keras LayerNormalization",
    _keras(lambda: [K.LayerNormalization(dtype="float64")]),
    SAFE,
)
add(
    "Keras LayerNormalization in float32",
    _keras(lambda: [K.LayerNormalization()]),
    SAFE,
    dtype="float32",
)
add(
    "Keras BatchNormalization in inference",
    _keras(lambda: [K.BatchNormalization(dtype="float64")], training=False),
    SAFE,
)
add(
    "Keras BatchNormalization in the default phase",
    _keras(lambda: [K.BatchNormalization(dtype="float64")]),
    SAFE,
)
add(
    "Keras BatchNormalization in training",
    _keras(lambda: [K.BatchNormalization(dtype="float64")], training=True),
    SAFE,
)
add("Keras Dropout, default", _keras(lambda: [K.Dropout(0.5, dtype="float64")]), SAFE)
add(
    "tf.layers.dense",
    lambda x: tf.layers.dense(x, 3, tf.tanh, True, tf.ones_initializer()) ** 2,
    RIGHT,
    only=ON_1,
)
add(
    "tf.layers.batch_normalization",
    lambda x: tf.layers.batch_normalization(tf.sin(x)) ** 3,
    RIGHT,
    only=ON_1,
)
add(
    "tf.layers.batch_normalization in training",
    lambda x: tf.layers.batch_normalization(tf.sin(x), training=True) ** 3,
    SAFE,
    only=ON_1,
)


def _weights_through(twice):
    """The gradient by weights of what a Hessian, or a Hessian of one, penalizes.

    Of sin(v x): H = -v^2 sin(v x), and the Hessian of H^2 is 2 v^6 cos(2 v x).
    """

    def build(x):
        v = tf.get_variable("v", initializer=tf.constant(1.0, x.dtype))

        def penalty(ys, x):
            found = batchhess.hessians(ys, x, method="columns")[0]
            if twice:
                y = tf.reduce_sum(tf.square(found))
                found = batchhess.hessians(y, x, method="columns")[0]
            return tf.gradients(tf.reduce_sum(tf.square(found)), v)[0]

        def truth():
            once = 4 * np.sin(SMALL) ** 2 + np.sin(2 * SMALL) * SMALL
            again = 48 * np.cos(2 * SMALL) ** 2 - 8 * np.sin(4 * SMALL) * SMALL
            return np.sum(again if twice else once)

        return Setup(tf.sin(v * x), call=penalty, truth=truth)

    return build


add("weights through a Hessian", _weights_through(False), RIGHT, value=SMALL)
# On 2.21 it is right, and takes a minute.
add(
    "weights through a Hessian of a Hessian",
    _weights_through(True),
    RIGHT,
    value=SMALL,
    only=ON_1,
)
