"""Copies parts of the graph onto other inputs."""

from batchhess.analysis.region import region
from batchhess.compat import (
    control_flow_context,
    in_v1_while_loop,
    static_value,
    tf,
)
from batchhess.graph.tensors import note_copies, tensor_key
from batchhess.ops.inputs import SHAPE
from batchhess.ops.sizes import shape_of


def rebuild(ys, olds, news):
    """Builds `ys` again, with `news` in the places of `olds`.

    Args:
      ys: list of Tensors of one graph, which is the default graph or around it.
      olds: list of Tensors of that graph, none computed from another.
      news: list of Tensors of the default graph, of the shapes and dtypes of `olds`.

    Returns:
      list of Tensors: `ys` as they would be if the model had been written with `news`;
      those that do not depend on `olds` are the same Tensors. None if a part of the
      model is inside a function or branch, where it cannot be copied, or one of `olds`
      is a Variable.
    """
    graph, ops, replaced = ys[0].graph, [], {}
    for old, new in zip(olds, news):
        between = region(ys, old)
        places = {
            (op, place): new
            for op in between
            for place, tensor in enumerate(op.inputs)
            if tensor is old
        }
        if between and not places:
            return None  # What reads `old` reads it by another name.
        ops += between
        replaced.update(places)
    if any(op.graph is not graph or control_flow_context(op) for op in ops):
        return None
    if in_v1_while_loop():
        return None
    inside = dict.fromkeys(ops)
    built = {tensor_key(old): new for old, new in zip(olds, news)}
    wanted = [y for y in ys if y.op in inside]
    copies = copy(list(inside), replaced, wanted) if wanted else []
    built.update(zip(map(tensor_key, wanted), copies))
    return [built.get(tensor_key(y), y) for y in ys]


def copy(ops, replaced, wanted):
    """Builds `ops` again in the default graph.

    Args:
      ops: list of Operations of one graph, which is the default graph or around it.
      replaced: dict from (Operation, place of the input) to the Tensor to read there.
        Other inputs are read from the copies, else from where the originals read.
      wanted: list of Tensors that `ops` compute.

    Returns:
      list of Tensors, the copies of `wanted`.
    """
    graph, inside, outside = ops[0].graph, set(ops), {}
    definition = tf.GraphDef()
    definition.versions.CopyFrom(graph.graph_def_versions)
    for op in ops:
        node = definition.node.add()
        node.CopyFrom(op.node_def)
        node.attr.pop("_class", None)  # Colocation with the op that it replaces.
        del node.input[len(op.inputs) :]  # Control inputs.
        for place, tensor in enumerate(op.inputs):
            if (op, place) in replaced:
                source = here(replaced[op, place])
            elif tensor.op in inside:
                continue
            else:
                source = here(tensor)
            node.input[place] = "outside_{}".format(len(outside))
            outside[node.input[place] + ":0"] = source
    made = tf.import_graph_def(
        definition,
        input_map=outside,
        return_elements=[op.name for op in ops] + [tensor.name for tensor in wanted],
        name="rebuilt",
    )
    note_copies(ops, made[: len(ops)])
    return made[len(ops) :]


def copies_of(ops, replaced):
    """As `copy`, but answers the copies of `ops`."""
    if not ops:
        return []
    outputs = [next(iter(op.outputs)) for op in ops]
    return [tensor.op for tensor in copy(ops, replaced, outputs)]


def here(tensor):
    """`tensor`, which may be of a graph around the default graph, to be read here."""
    if tensor.graph is tf.get_default_graph():
        return tensor
    value = static_value(tensor) if tensor.dtype.is_integer else None
    if value is not None and value.size < 1000:
        return tf.constant(value, tensor.dtype)  # XLA needs to know axes and shapes.
    # A function's graph captures what it reads; import_graph_def does not.
    return tf.identity(tensor)


def on_observations(ops, parts, values, pick, count):
    """What `copy` must replace for `ops` to act on other observations.

    Args:
      ops: list of Operations before the frontier.
      parts: the `Partition` that they are of.
      values: dict from the key of a Tensor to the Tensor to read in its place.
      pick: function from a Tensor that does not depend on x, and its observation axis,
        to that Tensor with the other observations.
      count: int or scalar int32 Tensor, the number of the other observations.

    Returns:
      dict as `copy` takes it.
    """
    replaced = {}
    for op in ops:
        for place, axis in enumerate(parts.alignments[op]):
            tensor = op.inputs[place]
            if tensor_key(tensor) in values:
                replaced[op, place] = values[tensor_key(tensor)]
            elif axis is SHAPE:
                output = op.outputs[0]
                replaced[op, place] = shape_with(
                    output, parts.state(output).axis, count, tensor.dtype
                )
            elif axis is not None and not parts.depends(tensor):
                replaced[op, place] = pick(tensor, axis)
    return replaced


def shape_with(tensor, axis, count, dtype=tf.int32):
    """The static shape of `tensor`, with `count` along `axis`."""
    shape = shape_of(tensor)
    shape = shape[:axis] + [count] + shape[axis + 1 :]
    if all(isinstance(size, int) for size in shape):
        return tf.constant(shape, dtype)
    return tf.cast(tf.stack(shape), dtype)


def tile_along(tensor, axis, times):
    """`tensor`, of known rank, `times` after itself along `axis`."""
    multiples = [times if a == axis else 1 for a in range(tensor.shape.ndims)]
    return tf.tile(tensor, tf.stack(multiples))
