"""log(1 + exp(z)) as losses write it: max(z, 0) + log(1 + exp(-|z|)).

There may be a term between the two. At 0 the kinks of both cancel, so that f is smooth
there, and TensorFlow's derivatives are wrong.
"""

from batchhess.compat import static_value, tf
from batchhess.graph.tensors import tensor_key
from batchhess.ops.table import Guard, Rewrite


def _terms(op):
    """z, and what is taken from the sum, or None: of such a sum; else None."""
    for first, second in (op.inputs, reversed(op.inputs)):
        around, rest = _around(second), None
        if around is not None and first.op.type == "Sub":
            first, rest = first.op.inputs
        z = None if around is None else _bounded_by_zero(first)
        if z is None:
            continue
        apart = [z, z.op.inputs[0]] if z.op.type == "Neg" else [z]
        ranks = {tensor.shape.ndims for tensor in (z, first, second)}
        if tensor_key(around) in map(tensor_key, apart) and len(ranks) == 1:
            return z, rest
    return None


def _around(tensor):
    """z, where `tensor` is log(1 + exp(-|z|)); else None."""
    if tensor.op.type == "Log" and tensor.op.inputs[0].op.type in ("Add", "AddV2"):
        first, second = tensor.op.inputs[0].op.inputs
        if _is_all(second, 1):
            first, second = second, first
        return _argument(second, "Exp Neg Abs") if _is_all(first, 1) else None
    return _argument(tensor, "Log1p Exp Neg Abs")


def _bounded_by_zero(tensor):
    """z, where `tensor` is max(z, 0); else None."""
    if tensor.op.type == "Maximum":
        first, second = tensor.op.inputs
        if _is_all(first, 0):
            return second
        return first if _is_all(second, 0) else None
    return _argument(tensor, "Relu")


def _is_all(tensor, number):
    value = static_value(tensor)
    return value is not None and value.size == 1 and bool((value == number).all())


def _argument(tensor, types):
    """What ops of `types`, the last one first, are applied to; None if it is others."""
    for type_ in types.split():
        if tensor.op.type != type_:
            return None
        tensor = tensor.op.inputs[0]
    return tensor


def _is_sum(op, depends):
    terms = _terms(op)
    return terms is not None and depends([terms[0]])


def _whole(op):
    z, rest = _terms(op)
    return [tf.nn.softplus(z) if rest is None else tf.nn.softplus(z) - rest]


WHOLE_SOFTPLUS = Rewrite(_is_sum, _whole)
SOFTPLUS_IN_PARTS = Guard(
    "Write it as tf.nn.softplus.",
    zeros=lambda op: _terms(op)[0],
    why="a zero where the kinks of two terms cancel",
    holds=lambda op: _terms(op) is not None,
)
