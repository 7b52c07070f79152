"""Calls of functions, replaced by what the functions do.

TensorFlow cannot differentiate a call in a graph that comes from a file twice: the
function has lost its Python half. What it does can be differentiated without end.
"""

from batchhess.compat import function_body, tf
from batchhess.models.effects import called_by, has_effects
from batchhess.models.gradients import as_graph, named, register

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


def inline(graph_def, gradients):
    """Replaces calls of functions without effects, and those inside them.

    Args:
      graph_def: tf.GraphDef, which is not changed.
      gradients: the `Gradients` of its file. A function that has one becomes what it
        does, and an op with that gradient behind it.

    Returns:
      a tf.GraphDef, and a dict from the name of each output of a call that is gone to
      the name of the tensor that it was.

    Raises:
      ValueError: functions call each other without end, or too often.
    """
    functions = {f.signature.name: f for f in graph_def.library.function}
    _refuse_endless(graph_def, functions)
    library = tf.GraphDef(library=graph_def.library, versions=graph_def.versions)
    with tf.Graph().as_default():
        tf.import_graph_def(library, name="")  # Functions call each other by name.
        inlining = _Inlining(graph_def, functions, gradients)
        inlining.replace(graph_def.node)
        result = tf.GraphDef()
        result.CopyFrom(graph_def)
        for function in result.library.function:  # Of loops and branches, those stay.
            inlining.give_gradients(function)
    del result.node[:]
    for node in inlining.kept:
        copy = result.node.add()
        copy.CopyFrom(node)
        _reconnect(copy, inlining.aliases, inlining.controls)
    aliases = inlining.aliases
    return result, {name: _end(name, aliases) for name in aliases}


class _Inlining:
    """What has become of the nodes of a graph so far.

    Attributes:
      kept: list of NodeDefs, those that stay and those of bodies.
      aliases: dict from the name of an output of a call to that of what it is.
      controls: dict from the name of a call to the "^name" of what has run when it has.
    """

    def __init__(self, graph_def, functions, gradients):
        self.kept, self.aliases, self.controls = [], {}, {}
        self._graph_def, self._functions = graph_def, functions
        self._gradients, self._scopes = gradients, {}
        self._names = {node.name for node in graph_def.node}

    def replace(self, nodes):
        left = list(nodes)
        while left:
            node = left.pop()
            function = self._functions.get(_called(node, self._functions))
            if function is None or has_effects(function, self._functions):
                self.kept.append(node)
                continue
            left.extend(self._body(node, function))

    def _body(self, call, function):
        """The nodes that stand for `call`."""
        graph_def, flat = function_body(function)
        scope = _Scope(call, function, self._prefix(call, graph_def))
        scope.outer = self._scopes.get(call.name)
        body = []
        for node in graph_def.node:
            if node.name not in scope.inputs:
                body.append(scope.copy(node))
                self._names.add(body[-1].name)
                self._scopes[body[-1].name] = scope
                self._with_gradient(body[-1], scope.find)
        targets = []
        for argument in function.signature.output_arg:
            inner = function.ret[argument.name]
            targets.append(scope.placed(flat.get(inner, inner)))
        outputs = ["^" + _op(target) for target in targets]
        outputs += ["^" + scope.prefix + n for n in function.control_ret.values()]
        self.controls[call.name] = outputs + scope.before
        if function.signature.name in self._gradients.of_functions:
            end = self._end_with_gradient(function, scope, targets)
            self._names.add(end.name)
            body.append(end)
            targets = ["{}:{}".format(end.name, i) for i in range(len(targets))]
        for index, target in enumerate(targets):
            self.aliases["{}:{}".format(call.name, index)] = _full(target)
        return body

    def _prefix(self, call, graph_def):
        prefix = call.name + "/"
        while any(prefix + node.name in self._names for node in graph_def.node):
            prefix = prefix[:-1] + "_/"
        return prefix

    def _end_with_gradient(self, function, scope, targets):
        """The op behind a function that takes the gradient which the file has of it."""
        own = function.signature
        outputs, inputs = len(own.output_arg), len(own.input_arg)
        end = tf.NodeDef(name=scope.prefix + "with_gradient", op="IdentityN")
        while end.name in self._names:
            end.name += "_"
        end.input.extend(targets + list(scope.inputs.values()))
        types = [argument.type for argument in [*own.output_arg, *own.input_arg]]
        end.attr["T"].list.type.extend(types)
        places = list(range(outputs, outputs + inputs))
        sources = [(False, place) for place in places]
        sources += [(True, place) for place in range(outputs)]
        name = self._gradients.of_functions[own.name]
        known = self._registered(name, sources, places)
        end.attr["_gradient_op_type"].s = (known or name).encode()
        return end

    def give_gradients(self, function):
        """Gives the ops of a FunctionDef the gradients that the file has of them."""
        types = {_type_of_gradient(node) for node in function.node_def}
        if not types & set(self._gradients.of_types):
            return
        known = {name: inner for inner, name in function_body(function)[1].items()}
        known.update((a.name + ":0", a.name) for a in function.signature.input_arg)

        def find(name, tensor):
            return known.get(tensor) if name == function.signature.name else None

        for node in function.node_def:
            self._with_gradient(node, find)

    def _with_gradient(self, node, find):
        """Gives an op the gradient that the file has of it, and all that this reads.

        Args:
          node: NodeDef, which is changed.
          find: function from the name of a function and that of a tensor in it to what
            this is called where `node` is; None where it cannot be read.
        """
        if _type_of_gradient(node) not in self._gradients.of_types:
            return
        name, places, read = self._gradients.of_types[_type_of_gradient(node)]
        beside = [find(function, tensor) for function, tensor in read]
        if None in beside or (beside and node.op != "IdentityN"):
            return
        count = sum(not text.startswith("^") for text in node.input)
        sources = [(True, place) for place in range(count)]
        sources += [(False, count + number) for number in range(len(beside))]
        known = self._registered(name, sources, places)
        if known is None:
            return
        node.attr["_gradient_op_type"].s = known.encode()
        if beside:
            given = [text for text in node.input if not text.startswith("^")] + beside
            given += [text for text in node.input if text.startswith("^")]
            del node.input[:]
            node.input.extend(given)
            node.attr.pop("_output_shapes", None)
            own = self._functions[name].signature.input_arg[count:]
            node.attr["T"].list.type.extend(argument.type for argument in own)

    def _registered(self, name, sources, places):
        """The name of a gradient that calls function `name`; None if it cannot."""
        function = self._functions.get(name)
        if function is None or has_effects(function, self._functions):
            return None
        own, made = function.signature, []
        if (len(own.input_arg), len(own.output_arg)) != (len(sources), len(places)):
            return None

        def build():
            if not made:
                found = inline(as_graph(function, self._graph_def), self._gradients)[0]
                if not any(
                    n in self._functions for o in found.node for n in called_by(o)
                ):
                    found.ClearField("library")
                made.append(found)
            return made[0]

        known = named(function, self._functions, sources, places)
        register(known, build, sources, places)
        return known


class _Scope:
    """The body of one call.

    Attributes:
      name: str, of the function.
      prefix: str, of the names of its ops.
      inputs: dict from the name of an argument to what it is.
      before: list of "^name", what the call waits for.
      outer: the `_Scope` that the call is in, or None.
    """

    def __init__(self, call, function, prefix):
        self.name, self.prefix, self.outer = function.signature.name, prefix, None
        self._call = call
        given = [text for text in call.input if not text.startswith("^")]
        self.before = [text for text in call.input if text.startswith("^")]
        arguments = [argument.name for argument in function.signature.input_arg]
        self.inputs = dict(zip(arguments, given))

    def placed(self, text):
        """What `text`, the name of an input in the function, is in the graph."""
        if text.startswith("^"):
            source = self.inputs.get(text[1:])
            return "^" + (self.prefix + text[1:] if source is None else _op(source))
        name, colon, index = text.partition(":")
        return self.inputs.get(name, self.prefix + name + colon + index)

    def find(self, function, name):
        """What is called `name` in `function`, this or one around it, or None."""
        scope = self
        while scope is not None and scope.name != function:
            scope = scope.outer
        return scope and _short(scope.placed(name))

    def copy(self, node):
        copy = tf.NodeDef()
        copy.CopyFrom(node)
        copy.name = self.prefix + node.name
        moved = [self.placed(text) for text in node.input]
        del copy.input[:]
        copy.input.extend(moved if moved else self.before)
        copy.attr.pop("_class", None)  # It names ops by what they were called.
        if self._call.device and not copy.device:
            copy.device = self._call.device
        return copy


def _type_of_gradient(node):
    """The name of the gradient of its author's own that a NodeDef has, or None."""
    if "_gradient_op_type" not in node.attr:  # Which reading it would change.
        return None
    return node.attr["_gradient_op_type"].s.decode()


def _called(node, functions):
    if node.op in _CALLS:
        return node.attr["f"].func.name
    return node.op if node.op in functions else None


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
