"""Copies the region below one tensor onto another tensor in its place."""

from batchhess.analysis.region import region
from batchhess.compat import control_flow_context, in_v1_while_loop, tf


def rebuild(ys, old, new):
    """Builds `ys` again, with `new` in the place of `old`.

    Args:
      ys: list of Tensors of one graph, which is the default graph or around it.
      old: a Tensor of that graph.
      new: a Tensor of the default graph, of the shape and dtype of `old`.

    Returns:
      list of Tensors: `ys` as they would be if the model had been written with `new`;
      those that do not depend on `old` are the same Tensors. None if a part of the
      model is inside a function or branch, where it cannot be copied, or `old` is a
      Variable.
    """
    graph = ys[0].graph
    ops = region(ys, old)
    if any(op.graph is not graph or control_flow_context(op) for op in ops):
        return None
    if in_v1_while_loop():
        return None
    if not ops:
        return [new if y is old else y for y in ys]
    inside = set(ops)
    definition, outside = tf.GraphDef(), {}
    definition.versions.CopyFrom(graph.as_graph_def().versions)
    for op in ops:
        node = definition.node.add()
        node.CopyFrom(op.node_def)
        node.attr.pop("_class", None)  # Colocation with the op that it replaces.
        del node.input[len(op.inputs) :]  # Control inputs.
        for tensor in op.inputs:
            if tensor is old:
                outside[tensor.name] = new
            elif tensor.op not in inside and tensor.name not in outside:
                # A function's graph captures what it reads; import_graph_def does not.
                here = tensor.graph is tf.get_default_graph()
                outside[tensor.name] = tensor if here else tf.identity(tensor)
    if not any(tensor is new for tensor in outside.values()):
        return None  # What reads `old` reads it by another name.
    copied = [y for y in ys if y.op in inside]
    answers = tf.import_graph_def(
        definition,
        input_map=outside,
        return_elements=[y.name for y in copied],
        name="rebuilt",
    )
    by_name = {y.name: answer for y, answer in zip(copied, answers)}
    return [by_name.get(y.name, new if y is old else y) for y in ys]
