"""Variables to differentiate by, as the one tensor that the model reads them by."""

from batchhess.analysis.values import value_region
from batchhess.compat import (
    Variable,
    captured_from,
    control_flow_context,
    source_tensor,
    tf,
)
from batchhess.graph.tensors import has_custom_gradient, note_name, tensor_key
from batchhess.ops.table import PASSED, declared
from batchhess.rebuild import rebuild, stand_for


def read_once(ys, xs, stands_for):
    """Takes a Tensor for each Variable that the model only reads the value of.

    Where it reads one several times, the model is built again, on the first of these
    values; that stands for the others, so that a run in which they differ fails.

    Args:
      ys: list of Tensors.
      xs: list of Tensors or Variables, none of them computed from another.
      stands_for: dict as of `stand_for`, to which what is built is added.

    Returns:
      list of Tensors of the values of `ys`; and list of the xs, of which those that are
      read in another way, in a loop, say, are Variables still.
    """
    found = []
    for x in xs:
        reads = _reads(ys, x) if isinstance(x, Variable) else []
        if len(reads) > 1:
            first = [tf.identity(reads[0]) for _ in reads[1:]]
            for read, same in zip(reads[1:], first):
                stand_for(stands_for, read, same)
            rebuilt = rebuild(ys, reads[1:], first, stands_for=stands_for)
            ys, reads = (ys, []) if rebuilt is None else (rebuilt, reads)
        if reads:
            note_name(reads[0], x.name)
        found.append(reads[0] if reads else x)
    return ys, found


def _reads(ys, x):
    """The Tensors that hold the value of the Variable `x`; none, if not all uses do."""
    source = source_tensor(x)
    key, reads = tensor_key(source), []
    for op in value_region(ys, [source]):
        if any(captured_from(t) is not None for t in op.inputs):
            return []  # A function may read it by another name.
        if any(tensor_key(t) == key for t in op.inputs):
            known = declared(op)
            plain = known.reads or known.tangents == PASSED
            if not plain or has_custom_gradient(op) or control_flow_context(op):
                return []
            reads.append(op.outputs[0])
    return reads if all(t.graph is source.graph for t in reads) else []
