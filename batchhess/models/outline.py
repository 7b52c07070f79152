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


# What has a value for each key, given while the model runs, and what is filled once.
_MUTABLE = re.compile(r"Mutable(Dense)?HashTable(OfTensors)?(V2)?")
_FILLED = re.compile(r"HashTable(V2)?")
_FILLS = re.compile(r"InitializeTable\w*|LookupTableImport(V2)?|\w*Call")


def above(ends, stops=()):
    """What is needed for Tensors or Operations.

    Args:
      ends: list of Tensors and Operations.
      stops: list of Tensors, of which nothing is needed: they are fed.

    Yields:
      Tensors; and Operations where one needs another to have run, and each of `ends`.
    """
    seen, stack = {_key(t) for t in stops}, list(ends)
    while stack:
        item = stack.pop()
        if _key(item) in seen:
            continue
        seen.add(_key(item))
        yield item
        op = item.op if isinstance(item, tf.Tensor) else item
        stack.extend([*op.inputs, *op.control_inputs])


def ops_above(ends, stops=()):
    """The Operations that are needed: see `above`."""
    found = above(ends, stops)
    return dict.fromkeys(t.op if isinstance(t, tf.Tensor) else t for t in found)


def _key(item):
    return (item.op, item.value_index) if isinstance(item, tf.Tensor) else item


def mutable_tables(ops):
    """Those of `ops` that are tables of which a checkpoint holds the values."""
    return [op for op in ops if _MUTABLE.fullmatch(op.type)]


def unfilled_tables(ops):
    """Those of `ops` that are tables which nothing in the graph fills."""
    return [
        op
        for op in ops
        if _FILLED.fullmatch(op.type)
        and not any(_FILLS.fullmatch(c.type) for c in op.outputs[0].consumers())
    ]


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
