"""log(1 + exp(z)) as losses write it: max(z, 0) + log(1 + exp(-|z|)).

And log(exp(p) + exp(q)), as max(p, q) + log(1 + exp(-|p - q|)); with a minimum, too.
Where p is q the kinks of the two terms cancel, so that f is smooth there, and
TensorFlow's derivatives of each are wrong.
"""

import collections

from batchhess.compat import static_value, tf
from batchhess.graph.tensors import tensor_key
from batchhess.ops.table import Guard, Rewrite

# max(p, q) + log(1 + exp(-|p - q|)) - rest if `sign` is 1, and min(p, q) less that
# logarithm if it is -1. q and rest may be None, for zero.
_Sum = collections.namedtuple("_Sum", "sign p q rest")


def _sum(op):
    """The `_Sum` that `op` adds up, or that is taken from zero by it; else None."""
    first, second = op.inputs
    sign = -1 if op.type == "Sub" else 1
    return _matched(sign, first, second) or _matched(sign, second, first)


def _matched(sign, selection, logarithm):
    apart, rest = _apart(logarithm), None
    if apart is not None and sign > 0 and selection.op.type == "Sub":
        selection, rest = selection.op.inputs
    pair = None if apart is None else _selected(selection, sign)
    if pair is None or _pair(*pair) != apart:
        return None
    ranks = {t.shape.ndims for t in (pair[0], selection, logarithm)}
    return _Sum(sign, *pair, rest) if len(ranks) == 1 else None


def _apart(tensor):
    """The `_pair` of p and q, where `tensor` is log(1 + exp(-|p - q|)); else None."""
    exponent = _exponent(tensor)
    if exponent is None:
        return None
    if exponent.op.type == "Sub":
        return _pair(*_selected(exponent.op.inputs[1], 1))
    z = _argument(exponent, "Neg Abs")
    return _pair(*z.op.inputs) if z.op.type == "Sub" else _pair(z, None)


def _exponent(tensor):
    """-|z|, or min(p, q) - max(p, q), where `tensor` is log(1 + exp of it)."""
    if tensor.op.type == "Log" and tensor.op.inputs[0].op.type in ("Add", "AddV2"):
        first, second = tensor.op.inputs[0].op.inputs
        if _is_all(second, 1):
            first, second = second, first
        found = _argument(second, "Exp") if _is_all(first, 1) else None
    else:
        found = _argument(tensor, "Log1p Exp")
    if found is None or _argument(found, "Neg Abs") is not None:
        return found
    if found.op.type != "Sub":
        return None
    pairs = [_selected(t, sign) for t, sign in zip(found.op.inputs, (-1, 1))]
    return found if None not in pairs and _pair(*pairs[0]) == _pair(*pairs[1]) else None


def _selected(tensor, sign):
    """p and q, or None for zero, of the larger of two; of the smaller if sign < 0."""
    if tensor.op.type == "Relu" and sign > 0:
        return tensor.op.inputs[0], None
    if tensor.op.type != ("Maximum" if sign > 0 else "Minimum"):
        return None
    first, second = tensor.op.inputs
    if _is_all(first, 0):
        return second, None
    return first, None if _is_all(second, 0) else second


def _pair(p, q):
    """What is the same for p and q, for q and p, and for -p and -q if one is zero."""
    if q is None and p.op.type == "Neg":
        p = p.op.inputs[0]
    return frozenset(None if t is None else tensor_key(t) for t in (p, q))


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
    found = _sum(op)
    return found is not None and depends([t for t in found[1:3] if t is not None])


def _whole(op):
    sign, p, q, rest = _sum(op)
    value = sign * tf.nn.softplus(sign * (p if q is None else p - q))
    value = value if q is None else q + value
    if sign < 0 and _apart(op.inputs[0]) is not None:  # The logarithm less a minimum.
        value = -value
    return [value if rest is None else value - rest]


WHOLE_SOFTPLUS = Rewrite(_is_sum, _whole)
IN_PARTS = Guard(
    "Write the sum that it is a part of as tf.nn.softplus or tf.reduce_logsumexp.",
    zeros=lambda op: _exponent(op.outputs[0]),
    why="a zero of its exponent, where its kink may cancel that of another term",
    holds=lambda op: _exponent(op.outputs[0]) is not None,
)
