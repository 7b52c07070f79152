"""The region by value: the ops whose value depends on x, whether or not by derivative.

A copy of a model must hold all of these. What is stopped, rounded or compared would
otherwise stay behind at the original's value.
"""

from batchhess.analysis.frames import Frames, is_end_of_branches
from batchhess.compat import captured_from, tf
from batchhess.graph.tensors import has_custom_gradient, tensor_key
from batchhess.ops.elementwise import is_mean_of_moments
from batchhess.ops.flow import bodies
from batchhess.ops.table import declared


def value_region(ys, olds, shared=None):
    """The ops through which a change of `olds`, small or not, can reach `ys`.

    It passes what carries no derivative: integers, comparisons, stopped gradients, and
    the predicates of branches. It does not pass what only tells the size of a tensor.

    Args:
      ys: list of Tensors.
      olds: list of Tensors.
      shared: function from an Operation to bool. If it is given, what depends on a
        size alone is listed too, but for the ops for which it is true, and what depends
        on x through these: random draws of that size, say.

    Returns:
      list of Operations, from `ys` back towards `olds`.
    """
    ends = {tensor_key(old) for old in olds}
    children, reached = _walk_back(ys, ends, shared)
    pending, found = list(ends), set()
    while pending:
        for child in children.get(pending.pop(), ()):
            if child not in found:
                found.add(child)
                pending.append(child)
    inside = [
        t.op for t in reached if tensor_key(t) in found and captured_from(t) is None
    ]
    return list(dict.fromkeys(inside))


def stops_between(ys, x):
    """What the author of a model has declared constant, though its value depends on x.

    The mean of tf.nn.moments is none of these: it is stopped because the variance has
    no first derivative by it, and has to move for the second.

    Args:
      ys: list of Tensors.
      x: a Tensor. What reads a Variable is not known: nothing is found.

    Returns:
      list of Tensors, those that differences have to hold still; and a list of such
      Operations inside of functions, branches and loops, where nothing can hold them.
    """
    if not isinstance(x, tf.Tensor):
        return [], []
    ops = value_region(ys, [x])
    held = [op.outputs[0] for op in ops if _is_still(op)]
    return held, [stop for op in ops for stop in _stops_inside(op)]


def _is_still(op):
    stops = declared(op).stops and not has_custom_gradient(op)
    return stops and not is_mean_of_moments(op)


def _stops_inside(op):
    found = []
    for graph in bodies(op):
        if graph is not None and list(graph.inputs):
            for inner in value_region(list(graph.outputs), list(graph.inputs)):
                found += [inner] if _is_still(inner) else _stops_inside(inner)
    return found


def _walk_back(ys, ends, shared):
    """From a tensor's key to the keys of those computed from it; and all it met."""
    children, reached, frames = {}, list(ys), Frames()
    seen = {tensor_key(y) for y in ys}
    for tensor in reached:  # It grows.
        if tensor_key(tensor) in ends:
            continue
        for parent in _parents(tensor, frames, shared):
            children.setdefault(tensor_key(parent), []).append(tensor_key(tensor))
            if tensor_key(parent) not in seen:
                seen.add(tensor_key(parent))
                reached.append(parent)
    return children, reached


def _parents(tensor, frames, shared):
    op = tensor.op
    if declared(op).size_only if shared is None else shared(op):
        return []
    outer = captured_from(tensor)
    if outer is not None:
        return [outer]
    parents = list(op.inputs)
    if is_end_of_branches(op):
        # Constants of two branches: what chooses has no other way to them.
        predicate = frames.predicate(op)
        parents += [] if predicate is None else [predicate]
    return parents
