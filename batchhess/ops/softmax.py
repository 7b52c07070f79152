"""Softmax as it is written by hand, and how it is taken apart.

Second derivatives along tangents square what all logits have in common, such as 100 in
a product of inputs. That cancels, and leaves the rounding of its square. A constant
along the axis changes neither the value of a softmax nor a derivative: so the largest
logit is taken off first, as a function of x and not as a constant.
"""

from batchhess.compat import tf, where
from batchhess.graph.tensors import tensor_key
from batchhess.ops.sizes import ints_of, shape_of
from batchhess.ops.table import declared


def less_largest(logits, axis):
    """`logits` less the largest along `axis`, which is a function of x too."""
    return logits - _largest(logits, axis)


def quotient(op, region):
    """How to build exp(z) / sum(exp(z)), of z less its largest as a constant."""
    above, below = op.inputs
    total, added = _without_new_axis(below)
    found = _sum_of_exponentials(total)
    if found is None or not region.bends([found[0]]):
        return None
    logits, axis, is_kept = found
    is_kept = added is None if is_kept else added == axis
    if not is_kept or tensor_key(above) != tensor_key(total.op.inputs[0]):
        return None

    def build(op):
        shifted = less_largest(logits, axis)
        total = tf.reduce_sum(tf.exp(shifted), axis, keepdims=True)
        return [tf.exp(shifted - tf.math.log(total))]

    return build


def logarithm(op, region):
    """How to build log(sum(exp(z))), of z less its largest as a constant."""
    found = _sum_of_exponentials(op.inputs[0])
    if found is None or not region.bends([found[0]]):
        return None
    logits, axis, is_kept = found

    def build(op):
        largest = _largest(logits, axis)
        shifted = logits - largest
        total = tf.math.log(tf.reduce_sum(tf.exp(shifted), axis, keepdims=True))
        total += largest
        return [total if is_kept else tf.squeeze(total, [axis])]

    return build


def _largest(logits, axis):
    """The largest of `logits` along `axis`, which stays, as a function of x; or 0."""
    classes = shape_of(logits)[axis]
    classes = tf.shape(logits)[axis] if classes is None else classes
    place = tf.argmax(logits, axis=axis)
    hot = tf.one_hot(place, classes, axis=axis, dtype=logits.dtype.base_dtype)
    # Those of -inf are no NaN. Gradients of a maximum, or of a gather, take longer.
    if logits.dtype.base_dtype == tf.bfloat16:  # 1.15 lacks that op.
        of_each = where(hot > 0, logits, tf.zeros_like(logits))
    else:
        of_each = tf.math.multiply_no_nan(logits, hot)
    largest = tf.reduce_sum(of_each, axis, keepdims=True)
    return where(tf.is_finite(largest), largest, tf.zeros_like(largest))


def _sum_of_exponentials(tensor):
    """z, the axis, and whether it is kept, where `tensor` is sum(exp(z)); else None.

    Nothing where z is not less its largest, which then may overflow, or where that was
    taken off as a function of x, as in what is built here; and nothing where the sum is
    over more than one axis.
    """
    op = tensor.op
    if op.type != "Sum" or op.inputs[0].op.type != "Exp":
        return None
    logits = op.inputs[0].op.inputs[0]
    axes = ints_of(op.inputs[1])
    rank = logits.shape.ndims
    if axes is None or len(axes) != 1 or rank is None or not _is_shifted(logits):
        return None
    if logits.shape.as_list()[axes[0]] == 0:  # None of them is the largest.
        return None
    return logits, axes[0] % rank, op.get_attr("keep_dims")


def _is_shifted(tensor):
    """Whether `tensor` is another less its largest elements as constants."""
    if tensor.op.type != "Sub" or not declared(tensor.op.inputs[1].op).stops:
        return False
    largest, _ = _without_new_axis(tensor.op.inputs[1].op.inputs[0])
    if largest.op.type in ("Select", "SelectV2"):  # Of what is finite.
        largest = largest.op.inputs[1]
    return largest.op.type == "Max"


def _without_new_axis(tensor):
    """What `tensor` is but for an axis of size 1, and that axis; itself, and None."""
    op = tensor.op
    if op.type == "ExpandDims":
        axis = ints_of(op.inputs[1])
        if axis is not None and tensor.shape.ndims is not None:
            return op.inputs[0], axis[0] % tensor.shape.ndims
    elif op.type == "StridedSlice":
        masks = ("new_axis", "shrink_axis", "ellipsis", "begin", "end")
        new, shrunk, ellipsis, begin, end = (op.get_attr(m + "_mask") for m in masks)
        begins = ints_of(op.inputs[1])
        if begins is not None and new and not (new & new - 1 or shrunk or ellipsis):
            rest = (1 << len(begins)) - 1 - new
            if rest & begin & end == rest and set(ints_of(op.inputs[3]) or []) == {1}:
                return op.inputs[0], new.bit_length() - 1
    return tensor, None
