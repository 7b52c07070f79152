"""Variables that a run gives a value that depends on x, and then reads."""

from batchhess.analysis.region import Region, moving_in_calls
from batchhess.compat import tf
from batchhess.graph.tensors import tensor_key
from batchhess.ops.flow import called
from batchhess.ops.table import ENTER, PASSED, SWITCH, declared


def read_back(region, again=False, known=frozenset()):
    """The ops of a `Region` that read a variable after it was so assigned.

    A step of training is left to its author: what he trains are constants.

    Args:
      region: the `Region`, which may be of a function's graph.
      again: bool, whether it is a loop's, where all that is read may be read later.
      known: set of the Operations of which it is asked already what they assign.

    Returns:
      list of Operations, where they are: in the functions that `region` calls, too.
    """
    found, changes = [], {}
    for op in dict.fromkeys(region.above):
        sources = {tensor_key(s): s for s in map(_source, variables_read_by(op))}
        for key, source in sources.items():
            if key not in changes:
                changes[key] = list(_changes(source))
            if changes[key] and _is_read(op, source):
                found += [
                    op
                    for change in changes[key]
                    if change is not op and (again or comes_before(change, op))
                    if not _exclude_each_other(change, op, source)
                    if change not in known
                    if _is_moved(change, source, region.x, known | {change})
                ]
        for graph, moving in moving_in_calls(op, region.depends):
            inner = Region(list(graph.outputs), moving)
            found += read_back(inner, again or "body" in declared(op).calls, known)
    return found


def variables_read_by(op):
    """The references and handles of variables among the inputs of `op`.

    What a reference is read by, when it is made, answers its own memory.
    """
    given = list(op.inputs)
    given += [t.op.inputs[0] for t in given if declared(t.op).tangents == PASSED]
    return [t for t in given if _is_variable(t)]


def comes_before(change, op):
    """Whether `change` has run whenever `op` runs."""
    seen, pending = set(), list(op.control_inputs) + [t.op for t in op.inputs]
    while pending:
        before = pending.pop()
        if before is change:
            return True
        if before not in seen:
            seen.add(before)
            pending += [t.op for t in before.inputs] + list(before.control_inputs)
    return False


def _is_variable(tensor):
    return tensor.dtype == tf.resource or tensor.dtype != tensor.dtype.base_dtype


def _source(variable):
    """The variable itself, of another name that a branch or loop has for it."""
    while _is_another_name(variable.op):
        variable = variable.op.inputs[0]
    return variable


def _is_another_name(op):
    known = declared(op)
    return known.frame in (ENTER, SWITCH) or known.tangents == PASSED


def _names(variable):
    """`variable`, and what branches and loops of control flow v1 call it."""
    yield variable
    for op in filter(_is_another_name, variable.consumers()):
        for output in filter(_is_variable, op.outputs):
            yield from _names(output)


def _inside(op, variable):
    """What the functions that `op` calls know `variable` as."""
    return [
        argument
        for name in _names(variable)
        for arguments, graph in called(op)
        for given, argument in zip(arguments, graph.inputs)
        if given is name
    ]


def _is_read(op, variable):
    """Whether `op`, which has `variable`, may answer what it finds there."""
    if declared(op).calls:
        return any(_is_answered(t) for t in _inside(op, variable))
    return not declared(op).overwrites


def _is_answered(argument):
    """The same of the function that knows the variable as `argument`."""
    outputs = list(argument.graph.outputs)
    readers = set(argument.consumers()).intersection(Region(outputs, []).above)
    return any(_is_read(reader, argument) for reader in readers)


def _changes(variable):
    """The ops that assign `variable` a value, or call what does."""
    for op in {op for name in _names(variable) for op in name.consumers()}:
        inner = _inside(op, variable) if declared(op).calls else []
        if declared(op).overwrites or any(any(_changes(t)) for t in inner):
            yield op


def _exclude_each_other(change, op, variable):
    """Whether they assign and read it in other branches, by the same condition."""
    if not all(_has_branches(one) for one in (change, op)):
        return False
    if tensor_key(change.inputs[0]) != tensor_key(op.inputs[0]):
        return False
    changed = {
        _branch(change, t) for t in _inside(change, variable) if any(_changes(t))
    }
    read = {_branch(op, t) for t in _inside(op, variable) if _is_answered(t)}
    return changed.isdisjoint(read)


def _has_branches(op):
    return len(called(op)) > 1


def _branch(op, argument):
    return [graph for _, graph in called(op)].index(argument.graph)


def _is_moved(op, variable, x, known):
    """Whether what `op` assigns `variable` depends on x, be it by another variable."""
    region = Region(list(op.inputs), x)
    if not declared(op).calls:
        return region.depends(op.inputs[1:]) or bool(read_back(region, known=known))
    inner = [(c, t) for t in _inside(op, variable) for c in _changes(t)]
    moving = dict(moving_in_calls(op, region.depends))
    return any(
        _is_moved(c, t, moving[c.graph], known) for c, t in inner if c.graph in moving
    )
