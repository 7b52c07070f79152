"""Calls of functions, replaced by what the functions do.

TensorFlow cannot differentiate a call in a graph that comes from a file twice: the
function has lost its Python half. What it does can be differentiated without end.
"""

from batchhess.compat import function_body, tf
from batchhess.models.effects import called_by, has_effects

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


# As many ops as a graph may have, once calls are replaced: TensorFlow itself hangs, or
# crashes, on functions that call each other without end.
_MOST = 100000


def _refuse_endless(graph_def, functions):
    """Raises ValueError if calls of functions become too many ops."""
    known = {}

    def size(name):
        if name not in known:
            known[name] = float("inf")  # Until all that it calls is known.
            known[name] = total(functions[name].node_def)
        return known[name]

    def total(nodes):
        called = [one for node in nodes for one in called_by(node)]
        return len(nodes) + sum(size(one) for one in called if one in functions)

    found = total(graph_def.node)
    if found > _MOST:
        raise ValueError(
            "its functions call each other {}, and at most {:,} are read".format(
                "without end"
                if found == float("inf")
                else "until there are {:,} ops".format(found),
                _MOST,
            )
        )


def inline(graph_def):
    """Replaces calls of functions without effects, and those inside them.

    Args:
      graph_def: tf.GraphDef, which is not changed.

    Returns:
      a tf.GraphDef, and a dict from the name of each output of a call that is gone to
      the name of the tensor that it was.

    Raises:
      ValueError: functions call each other without end, or too often.
    """
    functions = {f.signature.name: f for f in graph_def.library.function}
    names = {node.name for node in graph_def.node}
    aliases, controls, kept = {}, {}, []
    left = list(graph_def.node)
    _refuse_endless(graph_def, functions)
    library = tf.GraphDef(library=graph_def.library, versions=graph_def.versions)
    with tf.Graph().as_default():
        tf.import_graph_def(library, name="")  # Functions call each other by name.
        while left:
            node = left.pop()
            function = functions.get(_called(node, functions))
            if function is None or has_effects(function, functions):
                kept.append(node)
                continue
            left.extend(_body(node, function, names, aliases, controls))
    result = tf.GraphDef()
    result.CopyFrom(graph_def)
    del result.node[:]
    for node in kept:
        copy = result.node.add()
        copy.CopyFrom(node)
        _reconnect(copy, aliases, controls)
    return result, {name: _end(name, aliases) for name in aliases}


def _called(node, functions):
    if node.op in _CALLS:
        return node.attr["f"].func.name
    return node.op if node.op in functions else None


def _body(call, function, names, aliases, controls):
    """The nodes that stand for `call`; what it gave goes into the dicts."""
    graph_def, flat = function_body(function)
    prefix = call.name + "/"
    while any(prefix + node.name in names for node in graph_def.node):
        prefix = prefix[:-1] + "_/"
    given = [text for text in call.input if not text.startswith("^")]
    before = [text for text in call.input if text.startswith("^")]
    arguments = [argument.name for argument in function.signature.input_arg]
    inputs = dict(zip(arguments, given))

    def placed(text):
        if text.startswith("^"):
            source = inputs.get(text[1:])
            return "^" + (prefix + text[1:] if source is None else _op(source))
        name, colon, index = text.partition(":")
        return inputs.get(name, prefix + name + colon + index)

    body = []
    for node in graph_def.node:
        if node.name in inputs:
            continue
        copy = tf.NodeDef()
        copy.CopyFrom(node)
        copy.name = prefix + node.name
        names.add(copy.name)
        moved = [placed(text) for text in node.input]
        del copy.input[:]
        copy.input.extend(moved if moved else before)
        copy.attr.pop("_class", None)  # It names ops by what they were called.
        if call.device and not copy.device:
            copy.device = call.device
        body.append(copy)
    outputs = []
    for index, argument in enumerate(function.signature.output_arg):
        inner = function.ret[argument.name]
        target = placed(flat.get(inner, inner))
        aliases["{}:{}".format(call.name, index)] = _full(target)
        outputs.append("^" + _op(target))
    outputs += ["^" + prefix + name for name in function.control_ret.values()]
    controls[call.name] = outputs + before
    return body


def _reconnect(node, aliases, controls):
    """Lets `node` read what stands for the calls that are gone."""
    data, order = [], []
    for text in node.input:
        if not text.startswith("^"):
            data.append(_short(_end(_full(text), aliases)))
        else:
            stack, seen = [text], set()
            while stack:
                one = stack.pop()
                if one not in seen:
                    seen.add(one)
                    if one[1:] in controls:
                        stack.extend(controls[one[1:]])
                    elif one not in order:
                        order.append(one)
    del node.input[:]
    node.input.extend(data + order)


def _end(name, aliases):
    while name in aliases:
        name = aliases[name]
    return name


def _full(text):
    return text if ":" in text else text + ":0"


def _short(text):
    return text[:-2] if text.endswith(":0") else text


def _op(text):
    return text.partition(":")[0]
