"""Ops of a stored model that reach beyond it: files, processes, the network."""

import re

from batchhess.compat import is_stateful

# Of the ops with state, those whose state is the model's own.
_HARMLESS = re.compile(
    "|".join(
        [
            r"(Resource|Ref)?\w*(Apply|Scatter|Gather|StridedSlice)\w*",
            r"Assign\w*|Variable\w*|\w*VariableOp|VarHandleOp|VarIsInitializedOp",
            r"AutoReloadVariable|\w*CountUpTo|DestroyResourceOp|\w*TemporaryVariable",
            r"\w*(Random|Stateless|Stateful|TruncatedNormal|CandidateSampler)\w*",
            r"Multinomial|Rng\w*|NonDeterministicInts|SampleDistortedBoundingBox\w*",
            r"TensorArray\w*|TensorList\w*|Stack\w*|Empty\w*|Inplace\w*",
            r"\w*Queue\w*|Barrier\w*|Mutex\w*|ConsumeMutexLock|\w*Accumulator\w*",
            r"\w*HashTable\w*|LookupTable\w*|InitializeTable(V2)?|\w*Stage|Unstage",
            r"PartitionedCall|If|While|Case|For|Merge|Switch|Enter|Exit|NextIteration",
            r"Assert|Print|CheckNumerics(V2)?|GuaranteeConst|Timestamp|Cudnn\w*",
            r"BoostedTrees\w*|Skipgram|DeviceIndex|DisableCopyOnRead",
            r"(Anonymous|MultiDevice|OneShot|Make|Delete)?Iterator\w*",
            r"(Tensor|TensorSlice|Range|Shuffle|Batch|Map|Zip)Dataset\w*",
        ]
    )
)

# Ops with effects, though TensorFlow does not call all of them stateful.
_HARMFUL = re.compile(
    "|".join(
        [
            r"ReadFile|WriteFile|MatchingFiles|Save\w*|Restore\w*|MergeV2Checkpoints",
            r"Debug\w*|PrintV2|\w*PyFunc\w*|\w*Reader\w*|Abort|Remote\w*|Rpc\w*|TryRpc",
            r"_?(Host)?(Send|Recv)|\w*SummaryWriter\w*|Write\w*Summary|ImportEvent",
            r"InitializeTableFrom\w*|LoadAndRemapMatrix|GenerateVocabRemapping",
            r"ImmutableConst|FixedLengthRecord\w*|TextLine\w*|TFRecord\w*|DumpTensor",
            r"\w*(File|Snapshot|Cache|Service|Generator|Sql|LMDB|CSV)\w*Dataset\w*",
            r"\w*TPU\w*|Collective\w*|Nccl\w*",
        ]
    )
)


def has_effects(function, functions):
    """Whether a call of `function` does more than to give its outputs.

    Args:
      function: FunctionDef.
      functions: dict of those that it may call, by name.
    """
    for node in nodes_of([function.signature.name], functions):
        if is_stateful(node.op) and not re.fullmatch(
            r"ReadVariableOp|VarHandleOp|Placeholder|Random\w*|Stateless\w*|Multinomial"
            r"|TruncatedNormal|(Stateful)?PartitionedCall|If|While|Case|ResourceGather",
            node.op,
        ):
            return True
    return False


def nodes_of(names, functions):
    """All nodes of the functions of these names, and of those that they call."""
    seen, stack = set(), list(names)
    while stack:
        name = stack.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in functions[name].node_def:
            yield node
            stack.extend(called_by(node))


def called_by(node):
    """The names of the functions that a NodeDef may call."""
    found = [node.op]
    for value in node.attr.values():
        if value.HasField("func"):
            found.append(value.func.name)
        found.extend(function.name for function in value.list.func)
    return found


def is_harmful(kind, functions):
    """Whether an op of this type may reach beyond the model.

    What is not known is harmful if TensorFlow calls it stateful.
    """
    if kind in functions:
        return False  # Its body is looked at instead.
    if re.fullmatch(_HARMFUL, kind):
        return True
    return is_stateful(kind) and not re.fullmatch(_HARMLESS, kind)


def find_effects(graph, ops, functions, stops=(), allowed=None):
    """What ops would have an effect if `ops` ran.

    Args:
      graph: tf.Graph that they are in.
      ops: list of Operations.
      functions: dict of FunctionDefs by name.
      stops: Operations that are not run, because what they answer is fed.
      allowed: function from a NodeDef and a function from the name of an input to the
        NodeDef behind it: whether that one is harmless here.

    Returns:
      list of "name (type)".
    """
    found, seen, stack = [], set(stops), list(ops)
    while stack:
        op = stack.pop()
        if op in seen:
            continue
        seen.add(op)
        stack.extend([t.op for t in op.inputs] + list(op.control_inputs))
        node = op.node_def
        if is_harmful(op.type, functions):

            def behind(text):
                return graph.get_operation_by_name(text.partition(":")[0]).node_def

            if allowed is None or not allowed(node, behind):
                found.append("{} ({})".format(op.name, op.type))
        for name in called_by(node):
            found.extend(_inside(name, op, functions, allowed))
    return found


def _inside(name, op, functions, allowed):
    for outer in _closure(name, functions):
        nodes = {node.name: node for node in functions[outer].node_def}

        def named(text, at=nodes):
            return at.get(text.partition(":")[0])

        for node in nodes.values():
            harmful = is_harmful(node.op, functions)
            if harmful and not (allowed is not None and allowed(node, named)):
                yield "{}/{} ({})".format(op.name, node.name, node.op)


def _closure(name, functions):
    seen, stack = set(), [name]
    while stack:
        one = stack.pop()
        if one in functions and one not in seen:
            seen.add(one)
            for node in functions[one].node_def:
                stack.extend(called_by(node))
    return sorted(seen)
