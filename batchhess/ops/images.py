"""Convolutions, pooling and normalization: images on axis 0."""

from batchhess.compat import in_v1_while_loop, tf
from batchhess.ops.inputs import NEVER, OUTPUT_SHAPE, PARAMETER, each, may_differ
from batchhess.ops.states import (
    FREE,
    FREED,
    NotProvenError,
    batched,
    need_batched,
    need_each,
    rank_of,
)
from batchhess.ops.table import (
    IN_EACH,
    SOUND,
    YES,
    Fault,
    Rewrite,
    no_gradient_by,
    op,
)


def _image(op, states, walk):
    """Images on axis 0, and filters that do not depend on x."""
    return _images_at(0, states)


def _transposed(op, states, walk):
    return _images_at(2, states)


def _images_at(place, states):
    if any(s.kind != FREE for i, s in enumerate(states) if i != place):
        raise NotProvenError("has a filter that depends on x")
    if need_batched(states[place]).axis != 0:
        raise NotProvenError("mixes along the observation axis")
    return states[place]


def _channel_axis(op):
    channels_first = op.get_attr("data_format").startswith(b"NC")
    return 1 if channels_first else rank_of(op.inputs[0]) - 1


def _batch_norm(op, states, walk):
    if any(s.kind != FREE for s in states[1:]):
        raise NotProvenError("has parameters that depend on x")
    state, statistics = need_each(states[0]), len(op.outputs) - 1
    if not op.get_attr("is_training"):
        return [state] + [FREED] * statistics
    if need_batched(state).axis != _channel_axis(op):
        raise NotProvenError("normalizes by statistics of the batch")
    # Each channel by statistics of its own. What a GPU keeps for itself has no shape.
    own = batched(0, state.origin)
    return [state] + [own if t.shape.ndims == 1 else FREED for t in op.outputs[1:]]


def _channel_parameters(op, place, states, walk):
    is_empty = op.inputs[place].shape.as_list() == [
        0
    ]  # In training no moments are given.
    if states[0].axis == _channel_axis(op) and not is_empty:
        return 0
    if op.inputs[place].shape.ndims != 1:
        raise may_differ()
    return None


def _loses_a_part(op, depends):
    return op.get_attr("is_training") and in_v1_while_loop()


def _normalized(op):
    """With given moments it writes no others, nor what its gradient would read."""
    return op.outputs if op.get_attr("is_training") else op.outputs[:1]


_LOST_IN_LOOPS = Fault(
    _loses_a_part,
    "loses a part when it is differentiated inside a while loop of control flow v1",
    "Build the Hessian outside of the loop, or call "
    "tf.compat.v1.enable_control_flow_v2() first.",
)

# The gradients of its other outputs are not asked for.
_LOSES_STATISTICS = Fault(
    lambda op, depends: op.get_attr("is_training") and depends(op.outputs[1:3]),
    "passes no derivative to the mean and variance that it answers",
    "Compute them by tf.reduce_mean and tf.math.reduce_variance.",
    spoils_values=True,
    wrong_once=True,
)

_NOT_BY_GIVEN = no_gradient_by(
    3,
    4,
    of="the mean and variance that it is given",
    when=lambda op: not op.get_attr("is_training"),
)

_FILTERED = each(NEVER, PARAMETER)

op(
    "Conv2D Conv3D DepthwiseConv2dNative",
    _image,
    _FILTERED,
    IN_EACH,
    twice=SOUND,
)
op(
    "Conv2DBackpropInput",
    _transposed,
    each(OUTPUT_SHAPE, PARAMETER, NEVER),
    IN_EACH,
    twice=SOUND,
)
op(
    "AvgPool AvgPool3D DepthToSpace ExtractImagePatches SpaceToDepth",
    _image,
    NEVER,
    YES,
    twice=SOUND,
)
# TensorFlow differentiates these once only, and says so.
op("ResizeBilinear ResizeBicubic ResizeNearestNeighbor", _image, _FILTERED, YES)
op("LRN Dilation2D", _image, _FILTERED)
op(
    "FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3",
    _batch_norm,
    each(NEVER, _channel_parameters),
    twice=SOUND,
    faults=[_LOST_IN_LOOPS, _LOSES_STATISTICS, _NOT_BY_GIVEN],
    written=_normalized,
)


# Where windows overlap, TensorFlow's second derivative counts an input that is the
# maximum of several windows once.


def _overlaps(op, depends):
    windows, steps = op.get_attr("ksize"), op.get_attr("strides")
    return any(window > step for window, step in zip(windows, steps))


def _can_be_written_out(op, depends):
    plain = op.type == "MaxPool" and op.get_attr("data_format") == b"NHWC"
    known = None not in op.inputs[0].shape.as_list()[1:3]
    return plain and known and (_overlaps(op, depends) or _is_explicit(op))


def _is_explicit(op):
    """Whether it has pads of its own, with which there is no second derivative."""
    return op.get_attr("padding") == b"EXPLICIT"


def _maximum_of_slices(op):
    """The maximum over each window, place by place; the first of equals counts."""
    images, sizes = op.inputs[0], op.inputs[0].shape.as_list()
    windows, steps = op.get_attr("ksize"), op.get_attr("strides")
    outcome = op.outputs[0].shape.as_list()
    lowest, pads = images.dtype.min, [[0, 0], [0, 0], [0, 0], [0, 0]]
    for axis in (1, 2):
        needed = (outcome[axis] - 1) * steps[axis] + windows[axis]
        missing = max(0, needed - sizes[axis])
        pads[axis] = [missing // 2, missing - missing // 2]
        if _is_explicit(op):
            pads[axis] = op.get_attr("explicit_paddings")[2 * axis : 2 * axis + 2]
    if any(sum(pad) for pad in pads):
        images = tf.pad(images, pads, constant_values=lowest)
    largest = None
    for i in range(windows[1]):
        for j in range(windows[2]):
            rows = slice(i, i + (outcome[1] - 1) * steps[1] + 1, steps[1])
            columns = slice(j, j + (outcome[2] - 1) * steps[2] + 1, steps[2])
            part = images[:, rows, columns]
            largest = part if largest is None else tf.maximum(largest, part)
    return [largest]


_OVERLAPPING = Fault(
    _overlaps,
    "counts an input that is the maximum of several windows once",
    "Use strides as large as the windows, or the tf.maximum of slices.",
)

# Its gradient has kernels for windows of rows and columns alone.
_OF_CHANNELS = Fault(
    lambda op, depends: op.get_attr("ksize")[_channel_axis(op)] > 1,
    "has no gradient for windows over channels",
    "Reshape the channels to [..., groups, channels of a group], and take the "
    "tf.reduce_max of each group.",
    spoils_values=True,
    wrong_once=True,
)

op(
    "MaxPool",
    _image,
    NEVER,
    twice=SOUND,
    faults=[_OF_CHANNELS, _OVERLAPPING],
    rewrites=[Rewrite(_can_be_written_out, _maximum_of_slices)],
)
op("MaxPool3D", _image, NEVER, twice=SOUND, faults=[_OVERLAPPING])
op(
    "ImageProjectiveTransformV2 ImageProjectiveTransformV3",
    twice=SOUND,
    faults=[
        no_gradient_by(1, 3, of="its transforms and what it fills with"),
        Fault(
            lambda op, depends: depends([op.inputs[0]]),
            "takes the image of the inverse map for its gradient, which is another",
            "Write the map as a product with a matrix, or with tf.gather_nd.",
            spoils_values=True,
            wrong_once=True,
        ),
    ],
)
op("ScaleAndTranslate", faults=[no_gradient_by(2, 3, of="its scale and translation")])
op(
    "QuantizeAndDequantizeV2 QuantizeAndDequantizeV3",
    faults=[no_gradient_by(1, 2, of="the bounds of its range")],
)
