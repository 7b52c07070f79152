"""What benchmarks/compare.py and operators.py time: each way to compute an answer.

Every peer answers the same, [N, ...] of a workload's observations, by the operator that
is asked for: whole Hessians, or a part of them.
"""

import os
import time

import numpy as np
from workloads import graph_of, in_jax, in_torch, logits_of

OURS = ["auto", "symmetric", "columns", "jit"]

# The peers of each operator, beside TensorFlow's gradients chained by hand.
HESSIANS = [
    "jax_hessian",
    "jax_jacrev_grad",
    "torch_hessian",
    "tf_pfor",
    "tf_while",
    "tf_hessians_sliced",
]
PEERS = {
    "hessians": HESSIANS,
    "derivatives": ["tf_by_hand", "jax_derivatives"],
    "hessian_diagonals": ["tf_by_hand", "jax_diagonal"],
    "laplacians": ["tf_by_hand", "jax_trace", "jax_folx"],
    "hessian_vector_products": ["tf_by_hand", "jax_products"],
    "several_products": ["tf_by_hand", "jax_products"],
    "gauss_newton_products": ["tf_by_hand", "jax_gauss_newton"],
}

# What readers call them.
LABELS = {
    "auto": "batchhess",
    "symmetric": "batchhess, method='symmetric'",
    "columns": "batchhess, method='columns'",
    "jit": "batchhess, jit_compile=True",
    "jax_hessian": "JAX, hessian",
    "jax_jacrev_grad": "JAX, jacrev of grad",
    "jax_derivatives": "JAX",
    "jax_diagonal": "JAX",
    "jax_trace": "JAX",
    "jax_folx": "folx",
    "jax_products": "JAX",
    "jax_gauss_newton": "JAX",
    "torch_hessian": "PyTorch, hessian",
    "tf_pfor": "TensorFlow, batch_jacobian by pfor",
    "tf_while": "TensorFlow, batch_jacobian by a loop",
    "tf_hessians": "tf.hessians",
    "tf_hessians_sliced": "tf.hessians, of 8 at a time, sliced",
    "tf_by_hand": "tf.gradients, chained",
}
VECTORS = 8  # Of several products.


def prepare(workload, operator, peer):
    """The seconds to build, a function that runs, and one that runs and answers.

    What runs leaves the answer where it is, for to fetch it is to copy it.
    """
    if peer.startswith("jax"):
        return _jax(workload, operator, peer)
    if peer.startswith("torch"):
        return _torch(workload)
    return _tensorflow(workload, operator, peer)


def vectors(workload, operator):
    """An array of the shape of x; or of several vectors of a product, along axis 1."""
    draw = np.random.RandomState(1).randn
    if operator == "several_products":
        event = workload.x.shape[1:]
        return draw(len(workload.x), VECTORS, *event).astype("float32")
    return draw(*workload.x.shape).astype("float32")


def _tensorflow(workload, operator, peer):
    import tensorflow

    tf = tensorflow.compat.v1
    tf.disable_eager_execution()
    fixed = peer in ("tf_pfor", "tf_while")  # batch_jacobian needs to know N.
    if fixed:
        tf.disable_v2_tensorshape()  # It compares Dimensions.
    tf.logging.set_verbosity(tf.logging.ERROR)

    x, y, feed = graph_of(tf, workload, fixed)
    start = time.time()
    if peer in OURS:
        answers = _ours(tf, workload, operator, peer, x, y)
    elif workload.batch_axis:
        raise NotImplementedError("observation axis 1")
    elif peer == "tf_by_hand":
        answers = _by_hand(tf, workload, operator, x, y)
    elif fixed:
        from tensorflow.python.ops.parallel_for.gradients import batch_jacobian

        gradient = tf.reshape(tf.gradients(y, x)[0], [len(workload.x), _size(workload)])
        answers = [batch_jacobian(gradient, x, use_pfor=peer == "tf_pfor")]
    else:
        answers = tf.hessians(y, x)
    built = time.time() - start
    session = tf.Session()
    if peer == "tf_hessians_sliced":

        def sliced():
            return _sliced(session, answers[0], workload, feed)

        return built, sliced, sliced
    ops = [answer.op for answer in answers]
    return (
        built,
        lambda: session.run(ops, feed),
        lambda: session.run(answers[-1], feed),
    )


def _size(workload):
    return workload.x.size // workload.x.shape[workload.batch_axis]


def _ours(tf, workload, operator, peer, x, y):
    import batchhess

    options = {"batch_axis": workload.batch_axis}
    if operator in ("hessian_vector_products", "several_products"):
        v = tf.constant(vectors(workload, operator))
        return batchhess.hessian_vector_products(y, x, v, **options)
    if operator == "gauss_newton_products":
        v = tf.constant(vectors(workload, operator))
        return batchhess.gauss_newton_products(logits_of(y), y, x, v, **options)
    options.update({"jit": {"jit_compile": True}}.get(peer, {"method": peer}))
    found = getattr(batchhess, operator)(y, x, **options)
    if operator == "derivatives":
        return [y] + found.gradients + found.hessians
    return found


def _by_hand(tf, workload, operator, x, y):
    """What is written with nothing but tf.gradients."""

    def along(outputs, inputs, v):
        """The derivative of `outputs` along `v`, by the seed of a reverse pass."""
        seed = tf.zeros_like(outputs)
        pulled = tf.gradients(outputs, inputs, seed)[0]
        return tf.gradients(pulled, seed, v)[0]

    (gradient,) = tf.gradients(y, x)
    v = vectors(workload, operator)
    if operator == "hessian_vector_products":
        return tf.gradients(gradient * v, x)
    if operator == "several_products":
        each = [tf.gradients(gradient * v[:, i], x)[0] for i in range(VECTORS)]
        return [tf.stack(each, 1)]
    if operator == "gauss_newton_products":
        logits = logits_of(y)
        (slope,) = tf.gradients(y, logits)
        (curved,) = tf.gradients(slope * along(logits, x, v), logits)
        return tf.gradients(logits, x, curved)
    size = _size(workload)
    flat = tf.reshape(gradient, [-1, size])
    columns = [
        tf.reshape(tf.gradients(flat[:, i], x)[0], [-1, size]) for i in range(size)
    ]
    if operator == "derivatives":
        return [y, gradient, tf.stack(columns, 2)]
    diagonal = [column[:, i] for i, column in enumerate(columns)]
    return [tf.add_n(diagonal) if operator == "laplacians" else tf.stack(diagonal, 1)]


def _sliced(session, result, workload, feed):
    """The diagonal of tf.hessians, of 8 observations at a time."""
    blocks = []
    for n in range(0, len(workload.x), 8):
        part = {k: v[n : n + 8] for k, v in feed.items()}
        full = session.run(result, part)
        blocks += [
            np.take(full[i], i, axis=workload.x.ndim - 1) for i in range(len(full))
        ]
    return np.stack(blocks)


def _jax(workload, operator, peer):
    import jax

    weights = [jax.numpy.asarray(w) for w in workload.weights]
    function = in_jax(jax, workload.kind, weights)
    answer = _of_one(jax, function, workload, weights, peer)
    axis = 1 if workload.batch_axis else 0
    axes = [workload.batch_axis] + [axis] * len(workload.data)
    given = [workload.x] + workload.data
    if peer in ("jax_products", "jax_gauss_newton"):
        axes.append(0)
        given.append(vectors(workload, operator))
        if operator == "several_products":
            single = answer

            def answer(*given):
                product = jax.vmap(single, [None] * (len(given) - 1) + [0])
                return product(*given)

    compiled = jax.jit(jax.vmap(answer, in_axes=tuple(axes)))
    given = [jax.numpy.asarray(v) for v in given]

    def run():
        return jax.block_until_ready(compiled(*given))

    return 0.0, run, lambda: np.asarray(jax.tree_util.tree_leaves(run())[-1])


def _of_one(jax, function, workload, weights, peer):
    """The function of one observation, its data, and a vector if it takes one."""

    def of(x, data):
        return lambda at: function(at, *data)

    def trace(x, *data):
        hessian = jax.hessian(of(x, data))(x)
        return jax.numpy.trace(hessian.reshape(x.size, x.size))

    def diagonal(x, *data):
        hessian = jax.hessian(of(x, data))(x)
        return jax.numpy.diagonal(hessian.reshape(x.size, x.size)).reshape(x.shape)

    def product(x, *rest):
        *data, v = rest
        return jax.jvp(jax.grad(of(x, data)), (x,), (v,))[1]

    def gauss_newton(x, *rest):
        *data, v = rest
        logits = in_jax(jax, workload.kind, weights, logits=True)
        loss = in_jax(jax, "softmax", [])
        at, pushed = jax.jvp(logits, (x,), (v,))
        curved = jax.jvp(jax.grad(lambda z: loss(z, *data)), (at,), (pushed,))[1]
        return jax.vjp(logits, x)[1](curved)[0]

    def derivatives(x, *data):
        f = of(x, data)
        return (*jax.value_and_grad(f)(x), jax.hessian(f)(x))

    def folx(x, *data):
        from folx import forward_laplacian

        return forward_laplacian(of(x, data))(x).laplacian

    return {
        "jax_hessian": jax.hessian(function),
        "jax_jacrev_grad": jax.jacrev(jax.grad(function)),
        "jax_trace": trace,
        "jax_diagonal": diagonal,
        "jax_folx": folx,
        "jax_products": product,
        "jax_gauss_newton": gauss_newton,
        "jax_derivatives": derivatives,
    }[peer]


def _torch(workload):
    import torch

    torch.set_num_threads(os.cpu_count())
    weights = [torch.tensor(w) for w in workload.weights]
    function = in_torch(torch, workload.kind, weights)
    axis = 1 if workload.batch_axis else 0
    axes = [workload.batch_axis] + [axis] * len(workload.data)
    batched = torch.func.vmap(torch.func.hessian(function), in_dims=tuple(axes))
    given = [torch.tensor(v) for v in [workload.x] + workload.data]

    def run():
        return batched(*given)

    return 0.0, run, lambda: run().detach().numpy()
