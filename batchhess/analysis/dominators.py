"""Where a part of the model sees x through fewer numbers than x has coordinates.

There the Hessian of what follows is that of a function of fewer coordinates, taken back
to x by a product with the tangents on each side.
"""

import collections

from batchhess.graph.tensors import tensor_key

# tensor: the Tensor; after: list of the Operations that see x through it alone.
Narrow = collections.namedtuple("Narrow", "tensor after")


def narrows(start, ops, parts, is_nonlinear, is_read_by, wanted=()):
    """Finds where to start anew, so that it saves operations.

    Args:
      start: the Tensor by which `ops` are to be differentiated twice.
      ops: list of Operations, in order, that see x through `start` alone.
      parts: the `Partition` that they are of.
      is_nonlinear: function from an Operation to a bool.
      is_read_by: function from an Operation to a bool, whether it needs the tangents of
        its inputs.
      wanted: the keys of the Tensors whose tangents others than `ops` need.

    Returns:
      list of `Narrow`, no two with an Operation in common; and the list of the other
      Operations.
    """
    found, rest, tree = [], set(ops), _Dominators(start, ops, parts)
    for _, tensor in _worthwhile(start, ops, tree, parts, is_nonlinear):
        if tensor.op not in rest:
            continue  # It follows another.
        after = tree.below(tensor)
        leaving = {tensor_key(t) for op in after for t in op.outputs}
        readers = [op for op in rest - after if is_read_by(op)]
        # What reads what follows needs the tangents of x's own coordinates.
        read = {tensor_key(t) for op in readers for t in op.inputs}.union(wanted)
        if after <= rest and leaving.isdisjoint(read):
            found.append(Narrow(tensor, [op for op in ops if op in after]))
            rest -= after
    return found, [op for op in ops if op in rest]


def _worthwhile(start, ops, tree, parts, is_nonlinear):
    """Pairs of (operations saved, Tensor), what saves most first."""
    met = collections.Counter()  # By tensor: the places of what sees x through it.
    for op in reversed(ops):
        above = tree.above[op]
        if is_nonlinear(op):
            met[above] += max(parts.places(t) for t in tree.inputs[op])
        for tensor in op.outputs:
            met[above] += met[tensor_key(tensor)]
    pairs, size = [], parts.places(start)
    for tensor in [t for op in ops for t in op.outputs if parts.is_batched(t)]:
        few = parts.places(tensor)
        if few is None or parts.state(tensor).each > 1:
            continue  # It is not read, or no place to start from.
        saved = (size**2 - few**2) * met[tensor_key(tensor)]
        saved -= size * few * (size + few)  # To take it back to x.
        if 0 < few < size and saved > 0:
            pairs.append((saved, tensor))
    return sorted(pairs, key=lambda pair: -pair[0])


class _Dominators:
    """For each op the last tensor through which all of its inputs depend on `start`.

    Attributes:
      inputs: dict from Operation to the list of Tensors that depend on `start`.
      above: dict from Operation to the key of that tensor.
    """

    def __init__(self, start, ops, parts):
        self.inputs, self.above = {}, {}
        depths, parents = {tensor_key(start): 0}, {}

        def common(first, second):
            while first != second:
                if depths[first] < depths[second]:
                    first, second = second, first
                first = parents[first]
            return first

        for op in ops:
            self.inputs[op] = parts.depending(op)
            first, *others = [tensor_key(t) for t in self.inputs[op]]
            for other in others:
                first = common(first, other)
            self.above[op] = first
            for tensor in op.outputs:
                parents[tensor_key(tensor)] = first
                depths[tensor_key(tensor)] = depths[first] + 1

    def below(self, tensor):
        """The set of Operations that see `start` through `tensor` alone."""
        inside, ops = {tensor_key(tensor)}, set()
        for op, above in self.above.items():
            if above in inside:
                ops.add(op)
                inside.update(tensor_key(t) for t in op.outputs)
        return ops
