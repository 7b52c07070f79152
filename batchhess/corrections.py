"""Parts of a model that TensorFlow differentiates wrongly, written in another way.

Each correction has the value and the first derivative of the part that it replaces, and
the right second derivative.
"""

from batchhess.analysis import audit
from batchhess.analysis.region import depends, region
from batchhess.analysis.sizes import shape_of
from batchhess.compat import (
    LACKS_SPARSE_CROSS_ENTROPY,
    control_flow_context,
    static_value,
    tf,
)
from batchhess.control_flow import rebuild_control_flow
from batchhess.rebuild import rebuild

_logged = set()


def correct(ys, x):
    """Builds `ys` again where TensorFlow would differentiate them wrongly twice.

    What cannot be built again, inside functions and branches, is left for the audit.

    Args:
      ys: list of Tensors of the default graph.
      x: a Tensor or Variable.

    Returns:
      list of Tensors of the same values; `ys` itself if there is nothing to correct.
    """
    ys = rebuild_control_flow(ys, x)
    return _rewrite(
        ys, x, _CORRECTIONS, lambda op: _IS_WRONG[op.type](op, x), notify=_log
    )


def take_apart(ys, x):
    """Builds `ys` again with softmax and cross entropies in their elementary ops.

    Those are element by element or linear, of which symmetric makes less work.

    Args:
      ys: list of Tensors of the default graph.
      x: a Tensor.

    Returns:
      list of Tensors of the same values and derivatives.
    """
    return _rewrite(ys, x, _PARTS, lambda op: not depends(op.inputs[1:], x))


def _rewrite(ys, x, forms, applies, notify=lambda op: None):
    """Builds `ys` again with each op to which `forms` applies in that form."""
    tried = set()
    while True:
        found = [op for op in _rewritable(ys, x, forms) if applies(op)]
        op = _last([op for op in found if op not in tried], ys)
        if op is None:
            return ys
        tried.add(op)
        rebuilt = rebuild(ys, [op.outputs[0]], [forms[op.type](op)])
        if rebuilt is not None:
            notify(op)
            ys = rebuilt


def _rewritable(ys, x, forms):
    graph = tf.get_default_graph()
    return [
        op
        for op in region(ys, x)
        if op.type in forms and op.graph is graph and control_flow_context(op) is None
    ]


def _last(ops, ys):
    """One of `ops` that no other of them depends on; None if there are none.

    The later op first: a correction copies all that follows, and a stopped mean would
    stay behind, the mean of another tensor than the copy's.
    """
    for op in ops:
        later = set(region(ys, op.outputs[0]))
        if not any(other in later for other in ops if other is not op):
            return op
    return None


def _log(op):
    if op.type not in _logged:
        _logged.add(op.type)
        tf.logging.info(
            "batchhess: '%s' (%s) is differentiated in another form, because "
            "TensorFlow's second derivative of it is wrong, or is not defined.",
            op.name,
            op.type,
        )


def _unstopped(op):
    """tf.nn.moments: the same with the mean not stopped."""
    return tf.square(op.inputs[0] - op.inputs[1].op.inputs[0])


def _x_log_y(op):
    """x log y, whose derivative by x does not break off at x = 0."""
    x, y = op.inputs
    shift = 1 if op.type == "Xlog1py" else 0
    # Where both are zero it stays a constant 0, as TensorFlow has it.
    both = tf.logical_and(tf.equal(x, 0), tf.less_equal(y + shift, 0))
    y = tf.where(both, tf.ones_like(x * y) - shift, y + tf.zeros_like(x))
    return x * (tf.math.log1p(y) if shift else tf.math.log(y))


def _cross_entropy(op):
    """-sum labels log softmax: differentiable by labels and logits alike."""
    logits, labels = op.inputs
    return -tf.reduce_sum(labels * tf.nn.log_softmax(logits), axis=-1)


def _softsign(op):
    return op.inputs[0] / (1 + tf.abs(op.inputs[0]))


def _softmax(op):
    return tf.exp(_shifted(op)[0])


def _log_softmax(op):
    return _shifted(op)[0]


def _log_softmax_loss(op):
    """Of labels that add up to one, as TensorFlow's first derivative has it."""
    logits, log_sum = _shifted(op)[1:]
    return log_sum - tf.reduce_sum(op.inputs[1] * logits, axis=-1)


def _sparse_loss(op):
    """The same of labels that are indices; NaN where there is no such class."""
    logits, log_sum = _shifted(op)[1:]
    classes = shape_of(logits)[-1] or tf.shape(logits)[-1]
    hot = tf.one_hot(op.inputs[1], classes, dtype=logits.dtype)
    found = tf.reduce_sum(hot, axis=-1)
    return (log_sum - tf.reduce_sum(hot * logits, axis=-1)) * (found / found)


def _shifted(op):
    """log softmax(z), and z and log sum exp(z), both less the maximum of z."""
    logits = tf.identity(op.inputs[0])
    logits.set_shape(shape_of(op.inputs[0]))
    # A constant along the axis: it changes neither value nor derivative.
    logits -= tf.stop_gradient(tf.reduce_max(logits, axis=-1, keepdims=True))
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(logits), axis=-1, keepdims=True))
    return logits - log_sum, logits, tf.squeeze(log_sum, axis=-1)


def _product(op):
    """Factor by factor, each axis in turn, the last one first."""
    tensor = op.inputs[0]
    for axis in _product_axes(op):
        tensor = _products(tensor, axis)[-1]
        if op.get_attr("keep_dims"):
            tensor = tf.expand_dims(tensor, axis)
    return tensor


def _cumulative_product(op):
    (axis,) = _product_axes(op)
    return tf.stack(_products(op.inputs[0], axis), axis=axis)


def _products(tensor, axis):
    """The products of the first 1, 2, ... slices of `tensor`."""
    products = []
    for factor in tf.unstack(tensor, axis=axis):
        products.append(products[-1] * factor if products else factor)
    return products


# More factors are left to TensorFlow, and guarded against zeros: see audit.guards.
_MOST_FACTORS = 64


def _is_short_product(op, x):
    shape, axes = op.inputs[0].shape, _product_axes(op)
    if axes is None or not depends([op.inputs[0]], x):
        return False
    if op.type == "Cumprod" and (op.get_attr("exclusive") or op.get_attr("reverse")):
        return False
    return all(0 < (shape.as_list()[axis] or 0) <= _MOST_FACTORS for axis in axes)


def _product_axes(op):
    """The axes of a product, the last one first; None if the graph does not tell."""
    axes, rank = static_value(op.inputs[1]), op.inputs[0].shape.ndims
    if axes is None or rank is None:
        return None
    return sorted({int(a) % rank for a in axes.reshape(-1)}, reverse=True)


_CORRECTIONS = {
    "Cumprod": _cumulative_product,
    "Prod": _product,
    "SoftmaxCrossEntropyWithLogits": _cross_entropy,
    "Softsign": _softsign,
    "SparseSoftmaxCrossEntropyWithLogits": _sparse_loss,
    "SquaredDifference": _unstopped,
    "Xlog1py": _x_log_y,
    "Xlogy": _x_log_y,
}

_PARTS = {
    "LogSoftmax": _log_softmax,
    "Softmax": _softmax,
    "SoftmaxCrossEntropyWithLogits": _log_softmax_loss,
    "SparseSoftmaxCrossEntropyWithLogits": _sparse_loss,
}

# What the audit refuses, or guards, is what is corrected; and what TensorFlow refuses.
_IS_WRONG = {
    "Cumprod": _is_short_product,
    "Prod": _is_short_product,
    "SoftmaxCrossEntropyWithLogits": audit.labels_depend,
    "Softsign": lambda op, x: True,
    "SparseSoftmaxCrossEntropyWithLogits": lambda op, x: LACKS_SPARSE_CROSS_ENTROPY,
    "SquaredDifference": audit.is_moments,
    "Xlog1py": lambda op, x: depends([op.inputs[0]], x),
    "Xlogy": lambda op, x: depends([op.inputs[0]], x),
}
