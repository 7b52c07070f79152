"""Softmax, losses and images."""

from batchhess.compat import raw_ops, tf
from op_programs.base import FAR, REAL, constant, image, images, matrix, program, volume

# Softmax and losses.
program("softmax", tf.nn.softmax, REAL, FAR)
program("softmax_of_matrices", lambda x: tf.nn.softmax(matrix(x), axis=1), REAL, FAR)
program("log_softmax", tf.nn.log_softmax, REAL, FAR)
program(
    "cross_entropy",
    lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.ones_like(x) / 16, logits=x
    )[:, None],
    REAL,
    FAR,
)
program(
    "cross_entropy_of_labels",
    lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.nn.softmax(x), logits=2 * x
    )[:, None],
)
program(
    "sparse_cross_entropy",
    lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.ones(tf.shape(x)[:1], tf.int32), logits=x
    )[:, None],
    REAL,
    FAR,
)
program(
    "sigmoid_cross_entropy",
    lambda x: tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.ones_like(x) / 3, logits=x
    ),
    REAL,
    [20.0, -20.0],
)

# Images.
program(
    "conv2d",
    lambda x: tf.nn.conv2d(image(x), constant(3, 3, 1, 2), [1, 1, 1, 1], "SAME") ** 2,
)
program(
    "conv2d_strided",
    lambda x: tf.nn.conv2d(image(x), constant(2, 2, 1, 2), [1, 2, 1, 1], "VALID") ** 3,
)
program(
    "conv2d_transpose",
    lambda x: (
        tf.nn.conv2d_transpose(
            images(x),
            constant(3, 3, 2, 4),
            tf.stack([tf.shape(x)[0], 4, 4, 2]),
            [1, 2, 2, 1],
            "SAME",
        )
        ** 3
    ),
)
program(
    "conv3d",
    lambda x: (
        tf.nn.conv3d(volume(x), constant(2, 2, 2, 1, 2), [1, 1, 1, 1, 1], "SAME") ** 3
    ),
)
program(
    "depthwise_conv2d",
    lambda x: (
        tf.nn.depthwise_conv2d(image(x), constant(2, 2, 1, 2), [1, 1, 1, 1], "VALID")
        ** 2
    ),
)
program("max_pool", lambda x: tf.nn.max_pool(image(x), 2, 2, "VALID") ** 2, kinks=[0.5])
program("max_pool_overlapping", lambda x: tf.nn.max_pool(image(x), 2, 1, "SAME") ** 2)
program(
    "max_pool3d",
    lambda x: (
        tf.cast(
            tf.nn.max_pool3d(volume(tf.cast(x, tf.float32)), 2, 2, "VALID"), tf.float64
        )
        ** 2
    ),
    step=0.05,
    tolerance=1e-4,
)
program("avg_pool", lambda x: tf.nn.avg_pool(image(x), 3, 1, "SAME") ** 2)
program(
    "avg_pool3d",
    lambda x: (
        tf.cast(
            tf.nn.avg_pool3d(volume(tf.cast(x, tf.float32)), 2, 1, "VALID"), tf.float64
        )
        ** 3
    ),
    step=0.05,
    tolerance=1e-4,
)
program("depth_to_space", lambda x: tf.nn.depth_to_space(images(x), 2) ** 3)
program("space_to_depth", lambda x: tf.nn.space_to_depth(image(x), 2) ** 3)
program(
    "extract_patches",
    lambda x: (
        tf.image.extract_image_patches(
            image(x), [1, 2, 2, 1], [1, 1, 1, 1], [1, 1, 1, 1], "SAME"
        )
        ** 3
    ),
)
for version in ("", "V2", "V3"):
    for training in (False, True):

        def normalize(x, v=version, training=training):
            x = tf.cast(x, tf.float32)
            if training:  # Each observation is a channel.
                x = tf.reshape(tf.transpose(x), tf.stack([4, 2, 2, tf.shape(x)[0]]))
                ones = tf.ones([tf.shape(x)[3]])
                mean = variance = tf.zeros([0])
            else:
                x, ones = images(x), tf.constant([1.0, 2.0, 3.0, 4.0])
                mean = variance = ones
            y = getattr(raw_ops, "FusedBatchNorm" + v)(
                x=x,
                scale=ones,
                offset=2 * ones,
                mean=mean,
                variance=variance,
                epsilon=0.1,
                is_training=training,
            )[0]
            y = tf.cast(y, tf.float64) ** 3
            return tf.transpose(tf.reshape(y, [16, -1])) if training else y

        program(
            "batch_norm{}_{}".format(version, training),
            normalize,
            step=0.1,
            tolerance=1e-3,
        )
