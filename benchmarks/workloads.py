"""The workloads of compare.py and operators.py, for TensorFlow, JAX and PyTorch.

Each is a function of one observation (JAX, PyTorch) and of the batch (TensorFlow), with
the same numbers: float32, weights drawn from N(0, 1 / fan_in).
"""

import argparse
import collections

import numpy as np

# x: array, batch_axis: its observation axis; data: arrays with the observations along
# the same axis, fed with x; weights: arrays. flops: of the products that the symmetric
# method cannot do without. tf, jax, torch: names of the functions below.
Workload = collections.namedtuple("Workload", "x batch_axis data weights flops kind")


def weights(random, *shape):
    fan_in = int(np.prod(shape[:-1]))
    return (random.randn(*shape) / np.sqrt(fan_in)).astype("float32")


def mlp(sizes, count):
    random = np.random.RandomState(0)
    layers = [weights(random, a, b) for a, b in zip(sizes, sizes[1:])]
    size = sizes[0]
    tangents = sum(2 * size * a * b for a, b in zip(sizes[1:-1], sizes[2:-1]))
    products = sum(2 * size * size * b for b in sizes[1:-1])
    x = random.randn(count, size).astype("float32")
    return Workload(x, 0, [], layers, count * (tangents + products), "mlp")


def toy():
    x = np.random.RandomState(0).randn(2, 3).astype("float32")
    return Workload(x, 0, [], [], 0, "toy")


def softmax10(count=100000):
    random = np.random.RandomState(0)
    labels = np.eye(10, dtype="float32")[random.randint(10, size=count)]
    x = random.randn(count, 10).astype("float32")
    return Workload(x, 0, [labels], [], 0, "softmax")


def conv():
    random = np.random.RandomState(0)
    labels = np.eye(10, dtype="float32")[random.randint(10, size=256)]
    layers = [
        weights(random, 3, 3, 1, 16),
        weights(random, 3, 3, 16, 16),
        weights(random, 8 * 8 * 16, 10),
    ]
    x = random.randn(256, 8, 8, 1).astype("float32")
    tangents = 64 * 2 * (64 * 9 * 16 * 16 + 1024 * 10)
    products = 2 * 64 * 64 * (1024 + 1024 + 10)
    return Workload(x, 0, [labels], layers, 256 * (tangents + products), "conv")


def attention():
    random = np.random.RandomState(0)
    layers = [weights(random, 8, 8) for _ in range(3)] + [weights(random, 64, 1)]
    x = random.randn(512, 8, 8).astype("float32")
    flops = 512 * 64 * (3 + 2 * 2) * 2 * 8 * 64
    return Workload(x, 0, [], layers, flops, "attention")


def glm():
    """Negative binomial log-likelihood of each gene; observation axis 1."""
    random = np.random.RandomState(0)
    genes, cells = 10000, 500
    design_mean = random.randn(cells, 3).astype("float32") / 3
    design_scale = random.randn(cells, 2).astype("float32") / 3
    counts = random.poisson(3.0, size=(cells, genes)).astype("float32")
    x = (random.randn(5, genes) / 3).astype("float32")
    flops = genes * cells * 2 * 5 * 5 * 3
    return Workload(x, 1, [counts], [design_mean, design_scale], flops, "glm")


def classifier(count=1024):
    random = np.random.RandomState(0)
    labels = np.eye(10, dtype="float32")[random.randint(10, size=count)]
    network = mlp([32, 256, 256, 10], count)
    return network._replace(data=[labels], flops=0, kind="classifier")


def wave(count=500):
    """log |determinant| of 4 orbitals at 4 electrons, which see each other's mean."""
    random = np.random.RandomState(0)
    layers = [weights(random, 6, 32), weights(random, 64, 32), weights(random, 32, 4)]
    x = random.randn(count, 12).astype("float32")
    return Workload(x, 0, [], layers, 0, "wave")


WORKLOADS = {
    "toy": toy,
    "softmax10": softmax10,
    "pinn": lambda: mlp([3, 50, 50, 50, 50, 1], 10000),
    "mlp16": lambda: mlp([16, 128, 128, 128, 1], 1024),
    "mlp32": lambda: mlp([32, 256, 256, 256, 1], 1024),
    "mlp256": lambda: mlp([256, 512, 512, 1], 128),
    "conv": conv,
    "attention": attention,
    "glm": glm,
}

# Of which a part of the Hessian is asked for.
OPERATORS = {
    "classifier": classifier,
    "net12": lambda: mlp([12, 256, 256, 256, 1], 2000),
    "net48": lambda: mlp([48, 256, 256, 256, 1], 1000),
    "net96": lambda: mlp([96, 256, 256, 256, 1], 500),
    "wave": wave,
}

# What a reader calls them.
WORDS = {
    "toy": "sum of squares, K = 3",
    "softmax10": "cross entropy of 10 logits",
    "pinn": "PINN 3-50-50-50-50-1",
    "mlp16": "network 16-128-128-128-1",
    "mlp32": "network 32-256-256-256-1",
    "mlp256": "network 256-512-512-1",
    "conv": "convolutions, 8 x 8",
    "attention": "attention, 8 tokens of 8",
    "glm": "negative binomial",
}


# Of one number: the observations of softmax10 or mlp32, or the coordinates of 64
# observations of a network.
SCALES = {
    "mlp32": lambda count: mlp([32, 256, 256, 256, 1], count),
    "observations": softmax10,
    "coordinates": lambda size: mlp([size, 256, 256, 1], 64),
}


def workload_of(name):
    """The `Workload` of a name such as "mlp32", or "observations:1000"."""
    kind, _, number = name.partition(":")
    return SCALES[kind](int(number)) if number else {**WORKLOADS, **OPERATORS}[kind]()


def in_tensorflow(tf, kind, x, data, w):
    """ys of the whole batch, from Tensors."""

    def loss(logits):
        logits = tf.identity(logits, "logits")
        return tf.nn.softmax_cross_entropy_with_logits_v2(labels=data[0], logits=logits)

    if kind == "toy":
        return tf.reduce_sum(tf.multiply(x, x))
    if kind == "softmax":
        return loss(x)
    if kind in ("mlp", "classifier"):
        for layer in w[:-1]:
            x = tf.tanh(tf.matmul(x, layer))
        x = tf.matmul(x, w[-1])
        return tf.reduce_sum(x) if kind == "mlp" else loss(x)
    if kind == "conv":
        for layer in w[:-1]:
            x = tf.tanh(tf.nn.conv2d(x, layer, strides=[1, 1, 1, 1], padding="SAME"))
        return loss(tf.matmul(tf.reshape(x, [-1, 1024]), w[-1]))
    if kind == "wave":
        places = tf.reshape(x, [-1, 4, 3])
        distances = tf.sqrt(tf.reduce_sum(tf.square(places), 2, keepdims=True))
        hidden = places
        for layer in w[:2]:
            mean = tf.reduce_mean(hidden, 1, keepdims=True)
            seen = tf.concat([hidden, tf.tile(mean, [1, 4, 1])], 2)
            hidden = tf.tanh(tf.tensordot(seen, layer, 1))
        orbitals = tf.tensordot(hidden, w[2], 1) * tf.exp(-distances)
        return tf.linalg.slogdet(orbitals)[1]
    if kind == "attention":
        query, key, value = (tf.einsum("nti,ij->ntj", x, layer) for layer in w[:3])
        scores = tf.matmul(query, key, transpose_b=True) / np.float32(np.sqrt(8))
        mixed = tf.tanh(tf.matmul(tf.nn.softmax(scores), value))
        return tf.reduce_sum(tf.matmul(tf.reshape(mixed, [-1, 64]), w[3]))
    mean = tf.exp(tf.matmul(w[0], x[:3]))
    scale = tf.exp(tf.matmul(w[1], x[3:]))
    counts = data[0]
    return tf.reduce_sum(
        tf.math.lgamma(scale + counts)
        - tf.math.lgamma(scale)
        + counts * tf.math.log(mean)
        + scale * tf.math.log(scale)
        - (scale + counts) * tf.math.log(scale + mean)
    )


def graph_of(tf, workload, fixed=False):
    """Builds `workload` on placeholders; N is unknown, unless `fixed`.

    Returns:
      x and ys, Tensors, and the feed_dict of a run.
    """

    def fed(value, axis):
        shape = [
            None if a == axis and not fixed else d for a, d in enumerate(value.shape)
        ]
        return tf.placeholder(tf.float32, shape)

    x = fed(workload.x, workload.batch_axis)
    data = [fed(d, d.ndim - 1 if workload.batch_axis else 0) for d in workload.data]
    weights = [tf.constant(w) for w in workload.weights]
    y = in_tensorflow(tf, workload.kind, x, data, weights)
    return x, y, dict(zip([x] + data, [workload.x] + workload.data))


def trace(tf, session, fetch, feed):
    """The statistics of each op of the second traced run: the first has its own."""
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    for _ in range(2):
        metadata = tf.RunMetadata()
        session.run(fetch, feed, options=options, run_metadata=metadata)
    return [
        node for device in metadata.step_stats.dev_stats for node in device.node_stats
    ]


def logits_of(y):
    """The Tensor of the logits that the losses `y` of `in_tensorflow` are of."""
    return y.graph.get_tensor_by_name("logits:0")


def in_jax(jax, kind, w, logits=False):
    """The function of one observation and its data; or its logits, from x alone."""
    np = jax.numpy

    def loss(x, labels):
        return -np.sum(labels * jax.nn.log_softmax(x))

    if kind == "toy":
        return lambda x: np.sum(x * x)
    if kind == "softmax":
        return (lambda x: x) if logits else loss
    if kind in ("mlp", "classifier"):

        def mlp(x):
            for layer in w[:-1]:
                x = np.tanh(x @ layer)
            return (x @ w[-1])[0] if kind == "mlp" else x @ w[-1]

        if kind == "mlp" or logits:
            return mlp
        return lambda x, labels: loss(mlp(x), labels)
    if kind == "conv":

        def conv(x):
            x = x[None]
            for layer in w[:-1]:
                x = np.tanh(
                    jax.lax.conv_general_dilated(
                        x,
                        layer,
                        (1, 1),
                        "SAME",
                        dimension_numbers=("NHWC", "HWIO", "NHWC"),
                    )
                )
            return x.reshape(-1) @ w[-1]

        return conv if logits else lambda x, labels: loss(conv(x), labels)
    if kind == "wave":

        def wave(x):
            hidden = places = x.reshape(4, 3)
            distances = np.sqrt(np.sum(places**2, 1, keepdims=True))
            for layer in w[:2]:
                mean = np.broadcast_to(np.mean(hidden, 0), hidden.shape)
                hidden = np.tanh(np.concatenate([hidden, mean], 1) @ layer)
            orbitals = (hidden @ w[2]) * np.exp(-distances)
            return np.linalg.slogdet(orbitals)[1]

        return wave
    if kind == "attention":

        def attention(x):
            query, key, value = (x @ layer for layer in w[:3])
            scores = jax.nn.softmax(query @ key.T / np.sqrt(8.0))
            return (np.tanh(scores @ value).reshape(-1) @ w[3])[0]

        return attention

    def glm(x, counts):
        mean, scale = np.exp(w[0] @ x[:3]), np.exp(w[1] @ x[3:])
        gammaln = jax.scipy.special.gammaln
        return np.sum(
            gammaln(scale + counts)
            - gammaln(scale)
            + counts * np.log(mean)
            + scale * np.log(scale)
            - (scale + counts) * np.log(scale + mean)
        )

    return glm


def in_torch(torch, kind, w):
    """The function of one observation and its data."""
    if kind == "toy":
        return lambda x: (x * x).sum()
    if kind == "softmax":
        return lambda x, labels: -(labels * torch.log_softmax(x, -1)).sum()
    if kind == "mlp":

        def mlp(x):
            for layer in w[:-1]:
                x = torch.tanh(x @ layer)
            return (x @ w[-1])[0]

        return mlp
    if kind == "conv":
        filters = [layer.permute(3, 2, 0, 1) for layer in w[:-1]]

        def conv(x, labels):
            x = x.permute(2, 0, 1)[None]
            for layer in filters:
                x = torch.tanh(torch.nn.functional.conv2d(x, layer, padding=1))
            logits = x[0].permute(1, 2, 0).reshape(-1) @ w[-1]
            return -(labels * torch.log_softmax(logits, -1)).sum()

        return conv
    if kind == "attention":

        def attention(x):
            query, key, value = (x @ layer for layer in w[:3])
            scores = torch.softmax(query @ key.T / 8.0**0.5, -1)
            return (torch.tanh(scores @ value).reshape(-1) @ w[3])[0]

        return attention

    def glm(x, counts):
        mean, scale = torch.exp(w[0] @ x[:3]), torch.exp(w[1] @ x[3:])
        return (
            torch.lgamma(scale + counts)
            - torch.lgamma(scale)
            + counts * torch.log(mean)
            + scale * torch.log(scale)
            - (scale + counts) * torch.log(scale + mean)
        ).sum()

    return glm


def asked_for(known, description, kind):
    """The names that the command line asks for: list of str; of all, if of none.

    Args:
      known: dict, of which they are keys.
      description: str, for `-h`.
      kind: str, what they are names of.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    help_text = "of {}; all if none".format(", ".join(known))
    parser.add_argument("names", nargs="*", metavar=kind.upper(), help=help_text)
    names = parser.parse_args().names or list(known)
    unknown = sorted(set(names) - set(known))
    if unknown:
        parser.error("no {} {}".format(kind, ", ".join(unknown)))
    return names
