"""What a model is, in a few digits: its ops, and the values of its variables."""

import contextlib
import hashlib
import re

import numpy as np

from batchhess.compat import raw_ops, tf
from batchhess.streaming.digests import as_bytes

_VARIABLES = ("VariableV2", "Variable", "VarHandleOp", "AutoReloadVariable")
_FED = ("Placeholder",)
_NAMED = _VARIABLES + _FED + ("PlaceholderWithDefault",)

# Tables, of which the contents are digested.
_TABLES = re.compile(r"(Anonymous)?(Mutable)?(Dense)?HashTable(OfTensors)?(V2)?")

# They change no number: where a tool has left notes, where a program was built, and the
# names by which the ops of a Session find each other, some of them random.
_NO_PART = ("_class", "_output_shapes", "_gradient_op_type", "_XlaScope", "shared_name")


def fingerprint(session, fetches, fed=()):
    """A digest of all that `fetches` are computed by, but for what is fed.

    The names of ops and functions do not count, so that a program that builds the same
    model twice finds the same digest. Variables and tables without a value do not count
    either, nor do the tables of a graph that is finalized.

    Args:
      session: a tf.Session.
      fetches: list of Tensors.
      fed: names of Tensors that are fed: what only they are made from is not run.

    Returns:
      str, hexadecimal.
    """
    ops = _ancestors([fetch.op for fetch in fetches], fed)
    functions = {f.signature.name: f for f in _library(session.graph)}
    digest = hashlib.sha256()
    number = {op: str(index) for index, op in enumerate(ops)}
    for op in ops:
        _digest_op(digest, op, number, functions)
    digest.update(" ".join(_place(number, f) for f in fetches).encode())
    for op in ops:
        is_table = _TABLES.fullmatch(op.type) and op.outputs[0].dtype == tf.resource
        if is_table and not session.graph.finalized:
            digest.update("\n".join(_contents(session, op)).encode())
    for name, value in _values(session, ops):
        text = isinstance(value, bytes)  # Of no axes.
        digest.update(name.encode())
        digest.update(as_bytes(np.asarray(value, object if text else None)))
    return digest.hexdigest()


def _ancestors(ops, fed):
    """All ops that `ops` need, in an order that their names have no part in.

    Of what is fed only the placeholders.
    """
    order, seen, stack = [], set(), list(reversed(ops))
    while stack:
        op = stack.pop()
        if op not in seen:
            seen.add(op)
            order.append(op)
            stack.extend(reversed(op.control_inputs))
            inputs = reversed(_that_count(op.type, list(op.inputs)))
            stack.extend(t.op for t in inputs if t.op.type in _FED or t.name not in fed)
    return order


def _that_count(kind, inputs):
    """The inputs of an op but for what it tells if it fails: places of a program."""
    return inputs[:1] if kind == "Assert" else inputs


def _place(number, tensor):
    """Where an input is from: the number of its op, or its name if it is fed."""
    place = number.get(tensor.op)
    return tensor.name if place is None else "{}:{}".format(place, tensor.value_index)


def _digest_op(digest, op, number, functions):
    parts = [op.type, op.name if op.type in _NAMED else ""]
    parts += [_place(number, t) for t in _that_count(op.type, list(op.inputs))]
    parts += sorted(number[before] for before in op.control_inputs)
    digest.update("\n{}\n".format(" ".join(parts)).encode())
    _digest_attributes(digest, op.node_def.attr, functions, ())


def _digest_attributes(digest, attributes, functions, around):
    for key in sorted(attributes):
        value = attributes[key]
        if key in _NO_PART:
            continue
        digest.update(key.encode())
        names = [value.func.name] if value.HasField("func") else []
        names += [f.name for f in value.list.func]
        if not names:
            digest.update(value.SerializeToString(deterministic=True))
        for name in names:
            # A function that calls itself is told by how far up it is.
            if name in around:
                digest.update(str(around.index(name)).encode())
            else:
                _digest_function(digest, name, functions, around + (name,))


def _digest_function(digest, name, functions, around):
    function = functions.get(name)
    if function is None:
        digest.update(name.encode())
        return
    number = {a.name: str(i) for i, a in enumerate(function.signature.input_arg)}
    nodes = _needed(function)
    for node in nodes:
        number[node.name] = str(len(number))

    def placed(text):
        name, colon, rest = text.lstrip("^").partition(":")
        return number.get(name, name) + colon + rest

    for node in nodes:
        kind = node.op
        if kind in functions:
            _digest_function(digest, kind, functions, around + (kind,))
            kind = ""
        data = [text for text in node.input if text[0] != "^"]
        parts = [kind] + [placed(text) for text in _that_count(node.op, data)]
        parts += sorted(placed(text) for text in node.input if text[0] == "^")
        digest.update("\n{}\n".format(" ".join(parts)).encode())
        _digest_attributes(digest, node.attr, functions, around)
    for output in function.signature.output_arg:
        digest.update(placed(function.ret[output.name]).encode())


def _needed(function):
    """The nodes of a function but those that make what others tell if they fail."""

    def read(node, kind):
        data = [text for text in node.input if text[0] != "^"]
        controls = [text for text in node.input if text[0] == "^"]
        texts = _that_count(kind, data) + controls
        return [text.lstrip("^").partition(":")[0] for text in texts]

    nodes = {node.name: node for node in function.node_def}
    inner = {name for node in nodes.values() for name in read(node, None)}
    pending = [name for name in nodes if name not in inner]
    pending += [text.partition(":")[0] for text in function.ret.values()]
    found = set(pending)
    while pending:
        name = pending.pop()
        if name in nodes:
            more = set(read(nodes[name], nodes[name].op)) - found
            found |= more
            pending += more
    return [node for name, node in nodes.items() if name in found]


def _library(graph):
    return graph.as_graph_def().library.function


def _values(session, ops):
    """The values of the variables among `ops`, each with its name."""
    found = {}
    for op in ops:
        if op.type in _VARIABLES:
            reader = _reader(op)
            if reader is not None:
                found[op.name] = reader
    values = {}
    try:
        values = session.run(found)
    except tf.errors.FailedPreconditionError:  # One has no value: one at a time.
        for name, reader in found.items():
            with contextlib.suppress(tf.errors.FailedPreconditionError):
                values[name] = session.run(reader)
    return sorted(values.items())


def table_contents(session, op):
    """The keys and the values of a table, two arrays."""
    kinds = {"Tkeys": op.get_attr("key_dtype"), "Tvalues": op.get_attr("value_dtype")}
    with op.graph.as_default(), tf.control_dependencies(None):
        exported = raw_ops.LookupTableExportV2(table_handle=op.outputs[0], **kinds)
    return session.run(list(exported))


def _contents(session, op):
    """The same in lines: in one order, whatever the table's."""
    try:
        keys, values = table_contents(session, op)
    except tf.errors.FailedPreconditionError:
        return []
    pairs = zip(keys.tolist(), values.tolist())
    return sorted("{!r} {!r}".format(*pair) for pair in pairs)


def _reader(op):
    """A tensor of the value of a variable, and of nothing else, or None."""
    if op.type != "VarHandleOp":
        return op.outputs[0]
    for consumer in op.outputs[0].consumers():
        if consumer.type == "ReadVariableOp" and not consumer.control_inputs:
            return consumer.outputs[0]
    if op.graph.finalized:
        return None
    with op.graph.as_default(), tf.control_dependencies(None):
        return raw_ops.ReadVariableOp(
            resource=op.outputs[0], dtype=op.get_attr("dtype")
        )
