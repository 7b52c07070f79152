"""What passes values on: identities, calls, branches and loops."""

from batchhess.compat import IS_V1, function_graphs, tf
from batchhess.graph.tensors import tensor_key
from batchhess.ops.inputs import PARAMETER
from batchhess.ops.sizes import of_input
from batchhess.ops.states import (
    BATCHED,
    FREE,
    FREED,
    LOOSE,
    OWN,
    SCATTERED,
    SUM,
    SUMMED,
    UNPROVEN,
    NotProvenError,
    labelled,
    unproven,
)
from batchhess.ops.table import (
    CONDITION,
    ENTER,
    EXIT,
    NEXT,
    PASSED,
    SOUND,
    SWITCH,
    YES,
    Fault,
    declared,
    op,
)


def bodies(op):
    """The graphs of the functions that `op` calls; None for one that is not known."""
    calls = declared(op).calls
    return [graph for name in calls for graph in function_graphs(op, name)]


def called(op):
    """Pairs of the arguments, and the graph, of each function that `op` calls.

    But not of a loop's condition: no derivative passes it.
    """
    graphs, calls = bodies(op), declared(op).calls
    if "cond" in calls:
        graphs = graphs[1:]
    arguments = list(op.inputs)[0 if "body" in calls or "f" in calls else 1 :]
    return [(arguments, graph) for graph in graphs if graph is not None]


def _same(op, states, walk):
    return states[0]


def _each_same(op, states, walk):
    return list(states)


op(
    "Identity EnsureShape CheckNumerics CheckNumericsV2",
    _same,
    PARAMETER,
    YES,
    PASSED,
    twice=SOUND,
    elements=of_input,
)
op("PyFunc PyFuncStateless", python=True)
op(
    "Assign AssignVariableOp ScatterUpdate ResourceScatterUpdate ScatterNdUpdate "
    "ResourceScatterNdUpdate",
    overwrites=True,
)
# May be fed: what is built anew would not see it. So its readers stay as they are.
op("PlaceholderWithDefault", _same, twice=SOUND)
op("Print", _same, twice=SOUND)
op("ReadVariableOp", _same, twice=SOUND, repeatable=True, reads=True)
op("Assert VarIsInitializedOp VariableShape", twice=SOUND, repeatable=True)
op("Switch", _same, twice=SOUND, frame=SWITCH)
op("RefSwitch", _same, frame=SWITCH)
# TensorFlow does not differentiate these, and says so.
op("PreventGradient Snapshot", _same, PARAMETER, YES, PASSED)
op("Enter RefEnter", twice=SOUND, frame=ENTER)
op("Exit RefExit", twice=SOUND, frame=EXIT)
op("NextIteration RefNextIteration", twice=SOUND, frame=NEXT)
op("LoopCond", twice=SOUND, frame=CONDITION)
op("IdentityN", _each_same, twice=SOUND)
op("StopGradient", stops=True, twice=SOUND, elements=of_input)
op("Placeholder Const", twice=SOUND)


def _call(op, states, walk):
    return _body(op, bodies(op)[0], states, walk)


def _cond(op, states, walk):
    """One of several branches; the first input chooses."""
    branches = [_body(op, graph, states[1:], walk) for graph in bodies(op)]
    return [_joined(op, after) for after in zip(*branches)]


def _while(op, states, walk):
    _, body = bodies(op)
    for _ in range(len(states) + 1):
        after = _body(op, body, states, walk, loops=True)
        joined = [_joined(op, pair) for pair in zip(states, after)]
        joined = [labelled(state, (op, i)) for i, state in enumerate(joined)]
        if joined == list(states):
            return joined
        states = joined
    raise NotProvenError("carries values whose observations change from step to step")


def _joined(op, states):
    """The state of a value that is one of several."""
    alive = [s for s in states if s.kind != FREE]
    if not alive or all(s == alive[0] for s in alive):
        return alive[0] if alive else FREED
    mixed = [s for s in alive if s.kind == UNPROVEN]
    if mixed:
        return mixed[0]
    if any(s.kind == SUM for s in alive):
        return SUMMED
    if all(s.kind in (BATCHED, LOOSE) for s in alive):
        return SCATTERED
    return unproven(op, "joins values of different kinds")


def _body(op, graph, states, walk, loops=False):
    """The states of what the function `graph` that `op` calls returns.

    Which observations its own ops picked may differ from call to call, and from step to
    step of a loop: outside, these have a name for each output.
    """
    if graph is None:
        raise NotProvenError("has a body that cannot be read")
    inner = walk.within({tensor_key(t): s for t, s in zip(graph.inputs, states)})
    outside = {OWN, None}
    if not loops:
        outside |= {state.origin for state in states}
    after = []
    for i, tensor in enumerate(graph.outputs):
        state = inner.state(tensor)
        unchanged = loops and tensor is graph.inputs[i]
        if state.origin not in outside and not unchanged:
            state = state._replace(origin=(op, i))
        after.append(state)
    return after


def _is_untrained(op, depends):
    """TensorFlow 1.15 takes the gradients of bfloat16 there for those of integers."""
    if not IS_V1:
        return False
    tensors = [t for t in [*op.inputs, *op.outputs] if depends([t])]
    for graph in bodies(op):
        inner = graph.get_operations() if graph is not None else []
        tensors += [t for each in inner for t in each.outputs]
    return any(t.dtype.base_dtype == tf.bfloat16 for t in tensors)


_CALLS = {
    "twice": SOUND,
    "faults": [
        Fault(
            _is_untrained,
            "loses derivatives of bfloat16 in functions, branches and loops",
            "Cast to float32 around it.",
            spoils_values=True,
            wrong_once=True,
        )
    ],
}
op("PartitionedCall StatefulPartitionedCall", _call, calls=["f"], **_CALLS)
op("If StatelessIf", _cond, calls=["then_branch", "else_branch"], **_CALLS)
# What a branch that has been differentiated keeps for its gradient.
op("OptionalFromValue OptionalGetValue OptionalNone", twice=SOUND)
op("Case StatelessCase", _cond, calls=["branches"], **_CALLS)
op("While StatelessWhile", _while, calls=["cond", "body"], **_CALLS)

# How the gradient of a v1 loop reads the loop's values: no edge leads back to them.
STACK_POP = frozenset(["StackPop", "StackPopV2"])
STACK_PUSH = frozenset(["StackPush", "StackPushV2"])
