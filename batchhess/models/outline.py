"""What a graph is for: its outputs, without what trains, saves and watches it."""

import re

from batchhess.compat import tf

# What steers a graph, and what changes or holds its state.
_STEERS = re.compile(
    r"(Ref)?Switch|Const|Placeholder|RestoreV2|VarHandleOp|Variable\w*"
)
_CHANGES = re.compile(
    r"Assign\w*|\w*Apply\w*|\w*Scatter(Nd)?(Add|Sub|Update)\w*|Save\w*"
)
_GRADIENT = re.compile(r"(.*/)?gradients(_\d+)?/")


def placeholders_of(graph):
    """The Tensors that can be fed."""
    return [
        op.outputs[0]
        for op in graph.get_operations()
        if op.type in ("Placeholder", "PlaceholderWithDefault")
        and op.outputs[0].dtype.base_dtype not in (tf.resource, tf.variant)
    ]


def outputs_of(graph):
    """What the model answers, and what it is made from that has a name of its own.

    Returns:
      two lists of Tensors of floating dtype. The first: those that nothing is made
      from but gradients and summaries. The second: those at the top of the graph's
      names, the last first.
    """
    fed = [t for t in placeholders_of(graph) if t.dtype.base_dtype != tf.string]
    ops = [op for op in _below(fed) if not _STEERS.fullmatch(op.type)]
    if not any(_ends(t) for op in ops for t in op.outputs):  # It takes nothing.
        kinds = graph.get_operations()
        ops = [op for op in kinds if not _STEERS.fullmatch(op.type)]
    ops = [op for op in ops if not _CHANGES.fullmatch(op.type)]
    tensors = [t for op in ops for t in op.outputs if t.dtype.base_dtype.is_floating]
    ends = [t for t in tensors if _ends(t)]
    known = {t.name for t in ends}
    inner = [t for t in tensors if "/" not in t.name and t.name not in known]
    return ends, inner[::-1]


def _ends(tensor):
    """Whether nothing is made from `tensor` that belongs to the model."""
    return all(_watches(op) for op in tensor.consumers())


def _watches(op):
    return bool(_GRADIENT.match(op.name)) or "Summary" in op.type


def _below(tensors):
    """The ops that are made from `tensors`, in the graph's order, but gradients."""
    seen, stack = set(), list(tensors)
    while stack:
        for op in stack.pop().consumers():
            if op.name not in seen and not _watches(op):
                seen.add(op.name)
                stack.extend(op.outputs)
    operations = tensors[0].graph.get_operations() if tensors else []
    return [op for op in operations if op.name in seen]
