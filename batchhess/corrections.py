"""Parts of a model that TensorFlow differentiates wrongly, written in another way.

Each correction has the value and the first derivative of the part that it replaces, and
the right second derivative.
"""

from batchhess.analysis import audit
from batchhess.analysis.region import depends, region
from batchhess.compat import control_flow_context, static_value, tf
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
    tried = set()
    while True:
        op = _last([op for op in _correctable(ys, x) if op not in tried], ys)
        if op is None:
            return ys
        tried.add(op)
        rebuilt = rebuild(ys, op.outputs[0], _CORRECTIONS[op.type](op))
        if rebuilt is not None:
            _log(op)
            ys = rebuilt


def _correctable(ys, x):
    graph = tf.get_default_graph()
    return [
        op
        for op in region(ys, x)
        if op.type in _CORRECTIONS
        and op.graph is graph
        and control_flow_context(op) is None
        and _IS_WRONG[op.type](op, x)
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
            "TensorFlow's second derivative of it is wrong.",
            op.name,
            op.type,
        )


def _unstopped(op):
    """tf.nn.moments: the same with the mean not stopped."""
    return tf.square(op.inputs[0] - op.inputs[1].op.inputs[0])


def _cross_entropy(op):
    """-sum labels log softmax: differentiable by labels and logits alike."""
    logits, labels = op.inputs
    return -tf.reduce_sum(labels * tf.nn.log_softmax(logits), axis=-1)


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
    "SquaredDifference": _unstopped,
}

# What the audit refuses, or guards, is what is corrected.
_IS_WRONG = {
    "Cumprod": _is_short_product,
    "Prod": _is_short_product,
    "SoftmaxCrossEntropyWithLogits": audit.labels_depend,
    "SquaredDifference": audit.is_moments,
}
