"""The region: the ops that are descendants of x and ancestors of f."""

import weakref

from batchhess.compat import captured_from, function_graphs, source_tensor

# Ops whose output does not change when an input changes a little: the derivative is
# zero, not lost. Ops with integer or boolean outputs are of this kind without a list.
_PIECEWISE_CONSTANT = frozenset(
    ["Ceil", "Floor", "FloorDiv", "OnesLike", "Rint", "Round", "Sign", "ZerosLike"]
)

# The functions that an op calls, by its attributes.
FUNCTIONS = {
    "Case": ("branches",),
    "If": ("then_branch", "else_branch"),
    "PartitionedCall": ("f",),
    "StatefulPartitionedCall": ("f",),
    "StatelessCase": ("branches",),
    "StatelessIf": ("then_branch", "else_branch"),
    "StatelessWhile": ("cond", "body"),
    "While": ("cond", "body"),
}

# Ops that have a state, and of which a second one in the same run does no harm.
_REPEATABLE = frozenset(
    [
        "Assert",
        "ReadVariableOp",
        "ResourceGather",
        "ResourceGatherNd",
        "VarIsInitializedOp",
        "VariableShape",
    ]
)

# The author's own word that no derivative passes here.
_STOPPED = frozenset(["StopGradient"])


def region(ys, x, stop=()):
    """The ops through which a small change of `x` can reach `ys`.

    Args:
      ys: list of Tensors.
      x: a Tensor or Variable.
      stop: list of Tensors to take for constants.

    Returns:
      list of Operations, from `ys` back towards `x`; empty if a small change of `x`
      leaves `ys` as they are, or if they are `x` itself.
    """
    source = source_tensor(x)
    edges, reached = _walk_back(ys, tensor_key(source), stop)
    frontier, descendants = [tensor_key(source)], set()
    while frontier:
        for child in edges.get(frontier.pop(), ()):
            if child not in descendants:
                descendants.add(child)
                frontier.append(child)
    # A function's placeholder is only another name for the tensor that it captured.
    inside = [
        t.op
        for t in reached
        if tensor_key(t) in descendants and captured_from(t) is None
    ]
    return list(dict.fromkeys(inside))


def ancestors(ys, x):
    """The ops from which a small change can reach `ys`, those behind `x` left out."""
    return [tensor.op for tensor in _walk_back(ys, tensor_key(source_tensor(x)))[1]]


def depends(ys, x, stop=()):
    """Whether a small change of `x` can change `ys`, as far as the graph tells.

    The arguments are those of `region`.
    """
    source = tensor_key(source_tensor(x))
    return any(tensor_key(y) == source for y in ys) or bool(region(ys, x, stop))


def _walk_back(ys, source, stop=()):
    """Walks from `ys` back to `source` along the edges that a derivative can pass.

    Returns:
      edges: dict from a tensor's key to the keys of the tensors computed from it.
      reached: list of the Tensors on the way, `ys` first.
    """
    edges, reached = {}, []
    ends = {source} | {tensor_key(tensor) for tensor in stop}
    frontier = [y for y in ys if carries_derivative(y)]
    seen = {tensor_key(y) for y in frontier}
    while frontier:
        tensor = frontier.pop()
        reached.append(tensor)
        if tensor_key(tensor) in ends:
            continue
        outer = captured_from(tensor)
        for parent in tensor.op.inputs if outer is None else [outer]:
            if not (tensor_key(parent) == source or carries_derivative(parent)):
                continue  # The source may be a step or stopped: what follows is not.
            edges.setdefault(tensor_key(parent), []).append(tensor_key(tensor))
            if tensor_key(parent) not in seen:
                seen.add(tensor_key(parent))
                frontier.append(parent)
    return edges, reached


def carries_derivative(tensor):
    """Whether a small change can pass through `tensor`: not if it is an integer, a step
    function of its inputs, or stopped.
    """
    dtype = tensor.dtype.base_dtype
    return not (
        dtype.is_integer
        or dtype.is_bool
        or tensor.op.type in _PIECEWISE_CONSTANT
        or tensor.op.type in _STOPPED
    )


def has_custom_gradient(op):
    """Whether TensorFlow differentiates `op` by a function of its own.

    Of a copy of `op` that is still a function of what the original reads.
    """
    return "_gradient_op_type" in op.node_def.attr


def bodies(op):
    """The graphs of the functions that `op` calls; None for one that is not known."""
    attributes = FUNCTIONS.get(op.type, ())
    return [graph for name in attributes for graph in function_graphs(op, name)]


def has_effect(op):
    """Whether `op`, or what it calls, must not happen twice in a run.

    That are random draws, a dequeue, a call of Python, and all else that TensorFlow
    says to have a state, but for reading a variable.
    """
    if not op.op_def.is_stateful or op.type in _REPEATABLE:
        return False
    graphs = bodies(op)
    if not graphs or None in graphs:
        return True
    return any(has_effect(o) for graph in graphs for o in ops_of(graph))


def ops_of(graph):
    """The ops that a call of the function whose graph it is runs, arguments left out.

    Args:
      graph: the graph of a function, as of `bodies`.

    Returns:
      list of Operations, the outputs first.
    """
    arguments = {t.op for t in graph.inputs}
    pending = [t.op for t in graph.outputs] + list(control_outputs(graph))
    found = dict.fromkeys(pending)
    while pending:
        op = pending.pop()
        for parent in [t.op for t in op.inputs] + list(op.control_inputs):
            if parent not in found:
                found[parent] = None
                pending.append(parent)
    return [op for op in found if op not in arguments]


def control_outputs(graph):
    """The ops of a function's graph that run although no output reads them."""
    return list(getattr(graph, "control_outputs", None) or ())


def tensor_key(tensor):
    """What identifies `tensor`: in 2.x Tensors compare by value, not identity."""
    return tensor.op, tensor.value_index


# From a copy to a weak reference to the op that it copies.
_COPIED_FROM = weakref.WeakKeyDictionary()


def note_copies(ops, copies):
    """Keeps in mind that `copies` are those of `ops`, for errors to name the latter."""
    for op, made in zip(ops, copies):
        _COPIED_FROM[made] = weakref.ref(op)


def original(op):
    """The op of the user's model of which `op` is a copy; `op` itself if it is none."""
    while op in _COPIED_FROM and _COPIED_FROM[op]() is not None:
        op = _COPIED_FROM[op]()
    return op
