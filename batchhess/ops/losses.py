"""Softmax, and the losses that TensorFlow has an op for."""

from batchhess.compat import IS_V1, tf, where
from batchhess.ops.inputs import FIRST_AXIS, NEVER, each
from batchhess.ops.reductions import along_axis
from batchhess.ops.sizes import shape_of
from batchhess.ops.softmax import less_largest
from batchhess.ops.states import (
    FREE,
    NotProvenError,
    alive_of,
    batched,
    need_batched,
    rank_of,
)
from batchhess.ops.table import (
    PASSED,
    RESHAPED,
    SOUND,
    Fault,
    Guard,
    Rewrite,
    declared,
    op,
)


def _softmaxes(op, states, walk):
    return along_axis(op, states[0], rank_of(op.inputs[0]) - 1)


def _cross_entropy(op, states, walk):
    inputs = alive_of(op, states)
    for _, state in inputs:
        if need_batched(state).axis != 0:
            raise NotProvenError("takes the softmax along the observation axis")
    if len({s.origin for _, s in inputs}) > 1:
        raise NotProvenError("meets labels of other observations")
    return inputs[0][1]


def _ctc_loss(op, states, walk):
    """Inputs [time, N, classes]; outputs the losses [N], and the gradient as inputs."""
    if need_batched(states[0]).axis != 1 or any(s.kind != FREE for s in states[1:]):
        raise NotProvenError("mixes along the observation axis")
    return [batched(0, states[0].origin), states[0]]


def _labels_depend(op, depends):
    return depends([op.inputs[1]])


def _is_lacking(op, depends):
    """In 1.15 its second derivative is "explicitly disabled"."""
    return IS_V1


def _from_log_softmax(op):
    """-sum labels log softmax: differentiable by labels and logits alike."""
    logits, labels = op.inputs
    log_softmax = tf.nn.log_softmax(logits)
    return [-tf.reduce_sum(labels * log_softmax, axis=-1), tf.exp(log_softmax) - labels]


def _softmax(op, bends):
    return [tf.exp(_shifted(op, bends)[0])]


def _log_softmax(op, bends):
    return [_shifted(op, bends)[0]]


def _dense_loss(op, bends):
    """Of labels that add up to one, as TensorFlow's first derivative has it."""
    log_softmax, logits, log_sum = _shifted(op, bends)
    loss = log_sum - tf.reduce_sum(op.inputs[1] * logits, axis=-1)
    return [loss, tf.exp(log_softmax) - op.inputs[1]]


# What labels of a dtype miss one by when they are rounded, or were of float32 before.
_ROUNDED = {"bfloat16": 2e-2, "float16": 5e-3, "float32": 1e-5, "float64": 1e-6}


def _add_up(op):
    """Where labels add up to one; none but these have the gradient of TensorFlow."""
    labels = given = op.inputs[1]
    limit = _ROUNDED[labels.dtype.base_dtype.name]
    while given.op.type == "Cast" or declared(given.op).tangents in (PASSED, RESHAPED):
        given = given.op.inputs[0]
        limit = max(limit, _ROUNDED.get(given.dtype.base_dtype.name, 0))
    classes = shape_of(labels)[-1] or 1
    if labels.dtype.base_dtype.size < 4:
        labels = tf.cast(labels, tf.float32)
    total = tf.reduce_sum(labels, axis=-1)
    # So many numbers are added up with an error of their own.
    fit = (tf.abs(total - 1) < limit * max(1, classes / 1000)) | tf.is_nan(total)
    return tf.cast(fit, tf.int32)


def _sparse_loss(op, bends):
    """The same of labels that are indices; NaN where there is no such class."""
    log_softmax, logits, log_sum = _shifted(op, bends)
    hot, found = _hot(op)
    # A class that is ruled out by a logit of -inf is no number times zero.
    own = where(hot > 0, logits, tf.zeros_like(logits))
    loss = (log_sum - tf.reduce_sum(own, axis=-1)) * found
    return [loss, tf.exp(log_softmax) - hot]


def _from_indices(op):
    """The same in a log softmax, which TensorFlow 1.15 differentiates twice."""
    hot, found = _hot(op)
    log_softmax = tf.nn.log_softmax(op.inputs[0])
    own = where(hot > 0, log_softmax, tf.zeros_like(log_softmax))
    return [-tf.reduce_sum(own, axis=-1) * found, tf.exp(log_softmax) - hot]


def _hot(op):
    """The labels one-hot, and for each observation 1, or NaN if there is no class."""
    logits, labels = op.inputs
    classes = shape_of(logits)[-1] or tf.shape(logits)[-1]
    hot = tf.one_hot(labels, classes, dtype=logits.dtype)
    found = tf.reduce_sum(hot, axis=-1)
    return hot, found / found


def _shifted(op, bends):
    """log softmax(z), and z and log sum exp(z), both less the largest of z.

    Where the logits are linear in x that is a constant: their tangents are the weights.
    """
    logits = tf.identity(op.inputs[0])
    logits.set_shape(shape_of(op.inputs[0]))
    if bends([op.inputs[0]]):
        logits = less_largest(logits, -1)
    else:
        logits -= tf.stop_gradient(tf.reduce_max(logits, axis=-1, keepdims=True))
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(logits), axis=-1, keepdims=True))
    return logits - log_sum, logits, tf.squeeze(log_sum, axis=-1)


def _in_parts(build):
    """The `parts` of an op of logits, if nothing else of it depends on x."""

    def parts(op, region):
        if region.depends(op.inputs[1:]):
            return None
        return lambda op: build(op, region.bends)

    return parts


# The second output is the gradient by the logits, which a model may read as well: what
# is left of the op would be written anew without end.

# Even if the labels' first axis is 1: 1.15 broadcasts them, but not their gradient.
_BY_ROW = each(NEVER, FIRST_AXIS)

op("Softmax", _softmaxes, NEVER, twice=SOUND, parts=_in_parts(_softmax))
op("LogSoftmax", _softmaxes, NEVER, twice=SOUND, parts=_in_parts(_log_softmax))
op(
    "SoftmaxCrossEntropyWithLogits",
    _cross_entropy,
    FIRST_AXIS,
    twice=SOUND,
    faults=[
        Fault(
            _labels_depend,
            "drops the derivative by labels and logits, and the labels depend on x",
            "Use -tf.reduce_sum(labels * tf.nn.log_softmax(logits), -1), or "
            "tf.stop_gradient(labels).",
        )
    ],
    rewrites=[Rewrite(_labels_depend, _from_log_softmax)],
    guard=Guard(
        "Divide them by their sum, or write -tf.reduce_sum(labels * "
        "tf.nn.log_softmax(logits), -1).",
        zeros=_add_up,
        why="labels that do not add up to one",
        wrong_once=True,
        convention=True,
        weighed=True,
    ),
    parts=_in_parts(_dense_loss),
)
op(
    "SparseSoftmaxCrossEntropyWithLogits",
    _cross_entropy,
    _BY_ROW,
    twice=SOUND,
    rewrites=[Rewrite(_is_lacking, _from_indices)],
    parts=_in_parts(_sparse_loss),
)
# TensorFlow differentiates it once only, and says so.
op("CTCLoss CTCLossV2", _ctc_loss)
