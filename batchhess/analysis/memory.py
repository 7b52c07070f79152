"""What reads the memory of a variable, which an assignment of the same run changes.

A variable that is a reference is no value: an op that reads it, or another name for it,
reads what is there when the op runs, and its derivative reads it again, later.
"""

from batchhess.analysis.region import can_be_copied
from batchhess.compat import captured_from, tf
from batchhess.graph.tensors import tensor_key
from batchhess.ops.table import (
    ADDED,
    JOINED,
    PASSED,
    RESHAPED,
    SUBTRACTED,
    TRANSPOSED,
    YES,
    declared,
    is_of_flow,
    linearity,
)

# The derivative of what is linear in this way reads none of its terms.
_READ_ONCE = ADDED, JOINED, PASSED, RESHAPED, SUBTRACTED, TRANSPOSED


def readers(ops):
    """Those of `ops` whose derivative reads again what they have read of a variable.

    Args:
      ops: list of Operations.

    Returns:
      list of Operations of the default graph, each of which can be done twice: with
      those that turn the lists of a loop into values.
    """
    graph, clean = tf.get_default_graph(), set()
    plain = [op for op in ops if can_be_copied(op, graph, for_values=True)]
    found = dict.fromkeys(
        op for op in plain if any(_is_read_again(op, t, clean) for t in op.inputs)
    )
    inside, pending = set(plain), list(found)
    while pending:
        lists = [t for t in pending.pop().outputs if t.dtype == tf.variant]
        more = {op for t in lists for op in t.consumers()} & inside - set(found)
        found.update(dict.fromkeys(more))
        pending += more
    return list(found)


def values_of(ops):
    """The outputs of `ops` that can be compared."""
    outputs = [t for op in ops for t in declared(op).written(op)]
    return [t for t in outputs if t.dtype not in (tf.variant, tf.resource)]


def _is_read_again(op, tensor, clean):
    is_term = tensor.dtype.is_floating or tensor.dtype.is_complex
    if is_term and declared(op).tangents in _READ_ONCE:
        return False
    return _is_memory(tensor, clean)


def _is_memory(tensor, clean):
    """Whether `tensor` may be the memory of a variable itself.

    Args:
      clean: set of the keys of Tensors that are not; more are added.
    """
    pending, seen = [tensor], set()
    while pending:
        found = pending.pop()
        if tensor_key(found) in seen or tensor_key(found) in clean:
            continue
        seen.add(tensor_key(found))
        if found.dtype != found.dtype.base_dtype:
            return True
        pending += _handed_on(found)
    clean |= seen
    return False


def _handed_on(tensor):
    """The inputs of the op of `tensor` whose memory may be that of `tensor`."""
    outer = captured_from(tensor)
    if outer is not None:
        return [outer]
    op, known = tensor.op, declared(tensor.op)
    inputs = [t for t in op.inputs if t.dtype.base_dtype == tensor.dtype.base_dtype]
    if is_of_flow(op):
        return inputs
    # What moves elements may have nothing to do: a slice of all, a sum over no axis.
    is_new = len(inputs) > 1 or known.elementwise and linearity(op) != YES
    return [] if is_new else inputs
