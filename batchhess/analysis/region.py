"""The region: the ops that are descendants of x and ancestors of f."""

from itertools import zip_longest

from batchhess.compat import (
    captured_from,
    control_flow_context,
    is_made_by_custom_gradient,
    source_tensor,
)
from batchhess.graph.tensors import has_custom_gradient, tensor_key
from batchhess.ops.flow import bodies, called
from batchhess.ops.table import declared, is_affine


class Region:
    """The ops through which a small change of `x` can reach `ys`.

    Args:
      ys: list of Tensors.
      x: a Tensor or Variable, or a list of such, none of them computed from another.
      stop: list of Tensors to take for constants.
      left_out: dict from an op to a list of bool for its inputs, whether no derivative
        passes there; of `as_differentiated` alone, else None.

    Attributes:
      ops: list of Operations, from `ys` back towards `x`; empty if a small change of
        `x` leaves `ys` as they are, or if they are `x` itself.
      x: as given.
      above: list of the Operations from which a small change can reach `ys`, those
        behind `x` left out.
    """

    def __init__(self, ys, x, stop=(), left_out=None):
        self._given, self.left_out, self.x = (ys, x, stop), left_out, x
        self._bent = None
        xs = x if isinstance(x, (list, tuple)) else [x]
        sources = {tensor_key(source_tensor(x)) for x in xs}
        edges, reached = _walk_back(ys, sources, stop, left_out or {})
        frontier, self._inside = list(sources), set(sources)
        while frontier:
            for child in edges.get(frontier.pop(), ()):
                if child not in self._inside:
                    self._inside.add(child)
                    frontier.append(child)
        # A function's placeholder is only another name for the tensor that it captured.
        inside = [
            t.op
            for t in reached
            if tensor_key(t) in self._inside
            and tensor_key(t) not in sources
            and captured_from(t) is None
        ]
        self.ops = list(dict.fromkeys(inside))
        self.above = [tensor.op for tensor in reached]

    def depends(self, tensors):
        """Whether a small change of x can change one of `tensors`, all above `ys`."""
        return any(tensor_key(t) in self._inside for t in tensors)

    def bends(self, tensors):
        """Whether one of `tensors`, all above `ys`, may be other than linear in x."""
        if self._bent is None:
            pending = [op for op in self.ops if not self._is_affine(op)]
            self._bent, inside = set(pending), set(self.ops)
            while pending:
                for output in pending.pop().outputs:
                    more = set(output.consumers()) & inside - self._bent
                    self._bent |= more
                    pending += more
        return any(t.op in self._bent for t in tensors)

    def _is_affine(self, op):
        return is_affine(op, [i for i, t in enumerate(op.inputs) if self.depends([t])])

    def as_differentiated(self):
        """The same without what each tf.custom_gradient stands for.

        It makes an IdentityN of its results and of its arguments, and passes nothing on
        to what it has computed the results by.
        """
        results = {}
        for op in self.ops:
            if is_made_by_custom_gradient(op):
                reached = [self.depends([output]) for output in op.outputs]
                by_arguments = [
                    t for t, is_one in zip(op.inputs, reached) if not is_one
                ]
                if self.depends(by_arguments):
                    results[op] = reached
        return Region(*self._given, left_out=results)


def region(ys, x, stop=()):
    """The `ops` of the `Region` between `x` and `ys`."""
    return Region(ys, x, stop).ops


def depends(ys, x, stop=()):
    """Whether a small change of `x` can change `ys`, as far as the graph tells.

    The arguments are those of `region`.
    """
    return Region(ys, x, stop).depends(ys)


def _walk_back(ys, sources, stop, left_out):
    """Walks from `ys` back to `sources` along the edges that a derivative can pass.

    Returns:
      edges: dict from a tensor's key to the keys of the tensors computed from it.
      reached: list of the Tensors on the way, `ys` first.
    """
    edges, reached = {}, []
    ends = sources | {tensor_key(tensor) for tensor in stop}
    frontier = [y for y in ys if carries_derivative(y)]
    seen = {tensor_key(y) for y in frontier}
    while frontier:
        tensor = frontier.pop()
        reached.append(tensor)
        if tensor_key(tensor) in ends:
            continue
        for parent in _parents(tensor, left_out.get(tensor.op, ())):
            if not (tensor_key(parent) in sources or carries_derivative(parent)):
                continue  # A source may be a step or stopped: what follows is not.
            edges.setdefault(tensor_key(parent), []).append(tensor_key(tensor))
            if tensor_key(parent) not in seen:
                seen.add(tensor_key(parent))
                frontier.append(parent)
    return edges, reached


def _parents(tensor, left_out):
    """The Tensors that `tensor` is computed from; where it is bits, what had them."""
    outer = captured_from(tensor)
    if outer is not None:
        return [outer]
    parents = [t for t, out in zip_longest(tensor.op.inputs, left_out) if not out]
    return parents + _had_bits(parents[0]) if declared(tensor.op).bits else parents


def _had_bits(tensor):
    """The Tensors from whose bits the integers in `tensor` are computed."""
    found, pending, seen = [], [tensor], set()
    while pending:
        tensor = pending.pop()
        if tensor_key(tensor) in seen or not tensor.dtype.base_dtype.is_integer:
            continue
        seen.add(tensor_key(tensor))
        outer = captured_from(tensor)
        parents = list(tensor.op.inputs) if outer is None else [outer]
        found += parents if declared(tensor.op).bits else []
        pending += parents
    return found


def carries_derivative(tensor):
    """Whether a small change can pass through `tensor`.

    Not if it is an integer, a step function of its inputs, or stopped; unless its
    author says how.
    """
    dtype, known = tensor.dtype.base_dtype, declared(tensor.op)
    if dtype.is_integer or dtype.is_bool:
        return False
    # The sign of z is z / |z|.
    is_step = known.step and (known.size_only or not dtype.is_complex)
    return not (is_step or known.stops) or has_custom_gradient(tensor.op)


def moving_in_loop(moving, body):
    """What a loop carries that comes to depend on x in one of its steps.

    Args:
      moving: list of bool, for each argument whether it depends on x before the loop.
      body: the graph of its body.
    """
    moving, before = list(moving), None
    while moving != before:
        before = list(moving)
        xs = [t for t, moves in zip(body.inputs, moving) if moves]
        step = Region(list(body.outputs), xs)
        for i, output in enumerate(body.outputs):
            moving[i] = moving[i] or bool(xs) and step.depends([output])
    return moving


def moving_in_calls(op, depends):
    """Pairs of the graph of each function that `op` calls, and its arguments that move.

    Those are what depends on x; there is no pair where nothing does.
    """
    for arguments, graph in called(op):
        moving = [depends([t]) for t in arguments]
        if "body" in declared(op).calls:
            moving = moving_in_loop(moving, graph)
        xs = [t for t, moves in zip(graph.inputs, moving) if moves]
        if xs:
            yield graph, xs


def can_be_copied(op, graph, for_values=False):
    """Whether a copy of `op`, of `graph` itself, is as good as `op`.

    Args:
      for_values: bool, whether the copy will not be differentiated. Else what has a
        custom gradient cannot be copied: it may be a function of what the original
        reads.
    """
    known = declared(op)
    is_plain = known.frame is None and not control_flow_context(op)
    has_own = has_custom_gradient(op) and not known.calls and not for_values
    return op.graph is graph and is_plain and not has_own and not has_effect(op)


def has_effect(op):
    """Whether `op`, or what it calls, must not happen twice in a run.

    That are random draws, a dequeue, a call of Python, and all else that TensorFlow
    says to have a state, but for reading a variable.
    """
    if not op.op_def.is_stateful or declared(op).repeatable:
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
