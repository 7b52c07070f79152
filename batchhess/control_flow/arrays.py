"""TensorArrays, built again as lists.

What a v1 loop keeps in a TensorArray, its copy keeps in a list: a tensor that carries
the elements, in the place of the "flow" that only orders the operations on the array.
The first input of each operation is the array, the last one the flow.
"""

from batchhess.compat import raw_ops, static_value, tf
from batchhess.control_flow.scope import NotBuiltError, register


def is_array(op):
    """Whether `op` is a TensorArray, or reads or writes one."""
    return op.type in _ARRAYS


def _all_but_the_array(scope, op):
    del scope
    return list(op.inputs)[1:]


def _on_array(type_):
    return register(type_, needs=_all_but_the_array)


@register("TensorArrayV3")
def make(scope, op):
    shape = tf.TensorShape(op.get_attr("element_shape"))
    value = raw_ops.TensorListReserve(
        element_shape=_shape_tensor(shape),
        num_elements=scope.value(op.inputs[0]),
        element_dtype=op.get_attr("dtype"),
    )
    scope.set(op.outputs[1], value)


@_on_array("TensorArrayReadV3")
def read(scope, op):
    value = raw_ops.TensorListGetItem(
        input_handle=_list(scope, op),
        index=scope.value(op.inputs[1]),
        element_shape=_shape_tensor(op.outputs[0].shape),
        element_dtype=op.get_attr("dtype"),
    )
    scope.set(op.outputs[0], value)


@_on_array("TensorArrayWriteV3")
def write(scope, op):
    index, item = (scope.value(t) for t in op.inputs[1:3])
    elements = _list(scope, op)
    if _grows(op):
        length = raw_ops.TensorListLength(input_handle=elements)
        elements = raw_ops.TensorListResize(
            input_handle=elements, size=tf.maximum(length, index + 1)
        )
    value = raw_ops.TensorListSetItem(input_handle=elements, index=index, item=item)
    scope.set(op.outputs[0], value)


@_on_array("TensorArrayScatterV3")
def scatter(scope, op):
    _must_be_new(op)
    indices, value = (scope.value(t) for t in op.inputs[1:3])
    shape = _shape_tensor(op.inputs[2].shape[1:])
    if _is_in_order(op.inputs[1]):
        flow = raw_ops.TensorListFromTensor(tensor=value, element_shape=shape)
    else:
        flow = raw_ops.TensorListScatter(
            tensor=value, indices=indices, element_shape=shape
        )
    scope.set(op.outputs[0], flow)


@_on_array("TensorArrayGatherV3")
def gather(scope, op):
    options = {
        "input_handle": _list(scope, op),
        "element_shape": _shape_tensor(op.outputs[0].shape[1:]),
        "element_dtype": op.get_attr("dtype"),
    }
    if _is_in_order(op.inputs[1]):
        value = raw_ops.TensorListStack(**options)
    else:
        indices = scope.value(op.inputs[1])
        value = raw_ops.TensorListGather(indices=indices, **options)
    scope.set(op.outputs[0], value)


@_on_array("TensorArrayConcatV3")
def concat(scope, op):
    elements = _list(scope, op)
    shape = [None] + _sizes(op, op.get_attr("element_shape_except0"))
    value, lengths = raw_ops.TensorListConcatV2(
        input_handle=elements,
        element_shape=_shape_tensor(tf.TensorShape(shape)),
        leading_dims=tf.zeros([0], tf.int64),
        element_dtype=op.get_attr("dtype"),
    )
    scope.set(op.outputs[0], value)
    scope.set(op.outputs[1], lengths)


def _sizes(op, shape):
    shape = tf.TensorShape(shape)
    if shape.ndims is None:  # It concatenates elements of an unknown rank.
        raise NotBuiltError(op)
    return shape.as_list()


@_on_array("TensorArraySplitV3")
def split(scope, op):
    _must_be_new(op)
    value, lengths = (scope.value(t) for t in op.inputs[1:3])
    shape = tf.TensorShape([None]).concatenate(op.inputs[1].shape[1:])
    flow = raw_ops.TensorListSplit(
        tensor=value, element_shape=_shape_tensor(shape), lengths=lengths
    )
    scope.set(op.outputs[0], flow)


@_on_array("TensorArraySizeV3")
def size(scope, op):
    scope.set(op.outputs[0], raw_ops.TensorListLength(input_handle=_list(scope, op)))


_ARRAYS = frozenset(
    "TensorArray{}V3".format(name)
    for name in ["Concat", "Gather", "Read", "Scatter", "Size", "Split", "Write"] + [""]
)


def _list(scope, op):
    """The list in the place of the flow."""
    value = scope.value(op.inputs[-1])
    if value.dtype != tf.variant:
        raise NotBuiltError(op)  # Written by a loop that does not depend on x.
    return value


def _must_be_new(op):
    """Raises if the array has been written to, which a new list would forget."""
    if op.inputs[3].op.type != "TensorArrayV3":
        raise NotBuiltError(op)


def _grows(op):
    """Whether the array of `op` may grow, as far as its handle tells."""
    source = op.inputs[0].op
    while source.type in ("Enter", "Identity", "Switch"):
        source = source.inputs[0].op
    return source.type != "TensorArrayV3" or source.get_attr("dynamic_size")


def _is_in_order(indices):
    """Whether `indices` are 0, 1, ..., as of TensorArray.stack and unstack."""
    value = static_value(indices)
    if value is not None:
        return list(value) == list(range(len(value)))
    if indices.op.type != "Range":
        return False
    start, _, step = (static_value(t) for t in indices.op.inputs)
    return (start, step) == (0, 1)


def _shape_tensor(shape):
    """`shape` as the list ops take it, -1 for what is unknown."""
    if shape.ndims is None:
        return tf.constant(-1)
    return tf.constant([-1 if d is None else d for d in shape.as_list()], tf.int32)
