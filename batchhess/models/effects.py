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
            r"BoostedTrees\w*|DeviceIndex|DisableCopyOnRead",
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
            r"\w*TPU\w*|Collective\w*|Nccl\w*|Skipgram|RegisterDataset(V2)?",
            r"DatasetFromGraph|XlaCustomCall\w*",  # What they run no graph shows.
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
            r"|TruncatedNormal|(Stateful)?PartitionedCall|If|While|Case|ResourceGather"
            r"|LookupTableFind(V2)?|LookupTableSize(V2)?",
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


# Attributes that name a file for an op that is harmless without one, and what names
# none.
_FILES = {"vocab_file": r"", "descriptor_source": r"(local://|bytes://.*)?"}

# Ops that read a file, whose name is the input at that place: they may read those that
# they are given.
_READERS = {
    "Restore": 0,
    "RestoreSlice": 0,
    "RestoreV2": 0,
    "InitializeTableFromTextFile": 1,
    "InitializeTableFromTextFileV2": 1,
}


# Ops that call functions with their inputs, and how many of these stand before.
_CALLS = {
    "PartitionedCall": 0,
    "StatefulPartitionedCall": 0,
    "If": 1,
    "StatelessIf": 1,
    "Case": 1,
    "StatelessCase": 1,
}


def is_harmful(node, functions):
    """Whether an op may reach beyond the model.

    What is not known is harmful if TensorFlow calls it stateful.

    Args:
      node: its NodeDef.
      functions: dict of FunctionDefs by name.
    """
    kind = node.op
    if kind in functions:
        return False  # Its body is looked at instead.
    if re.fullmatch(_HARMFUL, kind):
        return True
    for name, none in _FILES.items():
        if name in node.attr:
            text = node.attr[name].s.decode("latin-1")
            if not re.fullmatch(none, text, re.DOTALL):
                return True
    return is_stateful(kind) and not re.fullmatch(_HARMLESS, kind)


def find_effects(graph, ops, functions, stops=(), given=()):
    """What ops would have an effect if `ops` ran.

    Args:
      graph: tf.Graph that they are in.
      ops: list of Operations.
      functions: dict of FunctionDefs by name.
      stops: Operations that are not run, because what they answer is fed.
      given: names of ops that are fed names of files, which may be read.

    Returns:
      list of "name (type)".
    """
    search, known = _Search(functions), dict.fromkeys(given, True)

    def is_given(text):
        name = text.partition(":")[0]
        if name not in known:
            known[name] = False  # What goes round in a circle is given by nobody.
            op = graph.get_operation_by_name(name)
            known[name] = _passes_on(op.node_def, is_given) or (
                op.type == "ReadVariableOp" and _reads_what_is_given(op, is_given)
            )
        return known[name]

    seen, stack = set(stops), list(ops)
    while stack:
        op = stack.pop()
        if op not in seen:
            seen.add(op)
            stack.extend([t.op for t in op.inputs] + list(op.control_inputs))
            search.visit(op.node_def, op.name, is_given)
    return search.found


class _Search:
    """A search through the bodies of functions, once for each way to call one."""

    def __init__(self, functions):
        self._functions, self._seen, self.found = functions, set(), []

    def visit(self, node, name, is_given):
        """Notes a node that is harmful, and what it calls.

        Args:
          node: NodeDef.
          name: str, for the list.
          is_given: function from the text of an input of the node to whether it is the
            name of a file that is fed.
        """
        if is_harmful(node, self._functions):
            place = _READERS.get(node.op)
            if place is None or not is_given(node.input[place]):
                self.found.append("{} ({})".format(name, node.op))
        for function in called_by(node):
            if function in self._functions:
                self._enter(self._functions[function], node, name, is_given)

    def _enter(self, function, node, name, is_given):
        inputs = [text for text in node.input if text[0] != "^"]
        arguments = [argument.name for argument in function.signature.input_arg]
        # Not of loops: in its second step one is given what its first has made.
        if node.op in _CALLS:
            inputs = inputs[_CALLS[node.op] :]
        elif node.op not in self._functions:
            inputs = []
        pairs = zip(arguments, inputs)
        given = frozenset(a for a, text in pairs if is_given(text))
        key = function.signature.name, given
        if key in self._seen:
            return
        self._seen.add(key)
        nodes = {inner.name: inner for inner in function.node_def}
        told = dict.fromkeys(given, True)

        def is_given_inside(text):
            head = text.partition(":")[0]
            if head in nodes and head not in told:
                told[head] = False
                told[head] = _passes_on(nodes[head], is_given_inside)
            return told.get(head, False)

        for inner in function.node_def:
            self.visit(inner, "{}/{}".format(name, inner.name), is_given_inside)


def _passes_on(node, is_given):
    """Whether a node answers the name of a file that it is given."""
    passing = node.op in ("Identity", "PlaceholderWithDefault", "ShardedFilename")
    return passing and is_given(node.input[0])


def _reads_what_is_given(op, is_given):
    """Whether a variable is read that holds the name of a file that is given.

    TensorFlow 2 keeps the names of a SavedModel's assets so.
    """
    handle = op.inputs[0]
    if handle.op.type != "VarHandleOp":
        return False
    name = handle.op.get_attr("shared_name")
    for other in op.graph.get_operations():
        same = other.type == "VarHandleOp" and other.get_attr("shared_name") == name
        if same and other is not handle.op:
            return False
    assigned = [c for c in handle.consumers() if c.type == "AssignVariableOp"]
    harmless = "AssignVariableOp", "ReadVariableOp", "VarIsInitializedOp"
    return (
        all(c.type in harmless for c in handle.consumers())
        and bool(set(assigned) & set(op.control_inputs))
        and all(is_given(c.inputs[1].name) for c in assigned)
    )
