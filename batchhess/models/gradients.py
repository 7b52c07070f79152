"""Gradients that authors have given to functions, as far as files have them.

A file of TensorFlow 1 names for a function another one that is its gradient; one of
TensorFlow 2 names for an op with a gradient of its author's own a function too, and
the tensors that this reads beside. Either becomes an op that holds all it reads, whose
gradient is built from what the function does.
"""

import hashlib

from batchhess.compat import tf
from batchhess.models.effects import called_by

_registered = set()


class Gradients:
    """The gradients that a MetaGraphDef has.

    Attributes:
      of_functions: dict from the name of a function to that of its gradient.
      of_types: dict from the name of a gradient to a function's, to the places of the
        op's inputs that its outputs are the gradients of, and to the tensors that it
        reads beside: pairs of the function that each is in, and its name there.
    """

    def __init__(self, meta):
        library = meta.graph_def.library
        self.of_functions = {
            gradient.function_name: gradient.gradient_func
            for gradient in library.gradient
        }
        self.of_types = {}
        # TensorFlow 1 has no such field.
        for one in getattr(library, "registered_gradients", ()):
            stored = meta.object_graph_def.concrete_functions.get(one.gradient_func)
            if stored is None:
                continue
            nodes = [meta.object_graph_def.nodes[i] for i in stored.bound_inputs]
            read = [node.captured_tensor for node in nodes]
            if all(node.HasField("captured_tensor") for node in nodes):
                places = [
                    place
                    for place, value in enumerate(_items(stored.output_signature))
                    if value.WhichOneof("kind") != "none_value"
                ]
                self.of_types[one.registered_op_type] = (
                    one.gradient_func,
                    places,
                    [(tensor.concrete_function, tensor.name) for tensor in read],
                )


def _items(signature):
    kind = signature.WhichOneof("kind")
    if kind in ("list_value", "tuple_value"):
        return getattr(signature, kind).values
    return [signature]


def register(name, build, sources, places):
    """Registers a gradient for ops of one type, unless it is registered.

    Args:
      name: str, of the gradient, which says all that it does: as of `named`.
      build: function without arguments that answers the tf.GraphDef of the gradient, of
        `as_graph`, when it is asked for.
      sources: list of what it is given: pairs of whether that is a gradient, and the
        place of the output that the gradient is of; or of the input.
      places: list of int, the inputs that its results are the gradients of.
    """
    if name in _registered:
        return
    _registered.add(name)

    @tf.RegisterGradient(name)
    def gradient(op, *seeds):
        given = {}
        for number, (is_seed, place) in enumerate(sources):
            value = seeds[place] if is_seed else op.inputs[place]
            if value is None:
                is_number = op.inputs[place].dtype not in (tf.resource, tf.variant)
                value = op.inputs[place]  # Of a handle there is no gradient to read.
                value = tf.zeros_like(value) if is_number else value
            given[_argument(number)] = tf.identity(value)  # In the graph of here.
        found = tf.import_graph_def(
            build(),
            given,
            [_result(number) + ":0" for number in range(len(places))],
            name="gradient",
        )
        results = [None] * len(op.inputs)
        for place, tensor in zip(places, found):
            results[place] = tensor
        return results


def named(function, functions, sources, places):
    """The name of a gradient: two of one name do the same, whatever file they are from.

    Args:
      function: FunctionDef, the gradient.
      functions: dict of those that it may call, by name.
      sources: as of `register`; `places`: likewise.
    """
    found, pending = {}, [function]
    while pending:
        one = pending.pop()
        if one.signature.name not in found:
            found[one.signature.name] = one.SerializeToString(deterministic=True)
            called = [name for node in one.node_def for name in called_by(node)]
            pending += [functions[name] for name in called if name in functions]
    told = hashlib.sha256(repr((function.signature.name, sources, places)).encode())
    for name in sorted(found):
        told.update(found[name])
    return "FromFile-" + told.hexdigest()


def as_graph(function, graph_def):
    """A tf.GraphDef that calls `function`, a FunctionDef of the library of another."""
    result = tf.GraphDef(library=graph_def.library, versions=graph_def.versions)
    call = tf.NodeDef(name="call", op=function.signature.name)
    for number, argument in enumerate(function.signature.input_arg):
        placeholder = result.node.add(op="Placeholder", name=_argument(number))
        placeholder.attr["dtype"].type = argument.type
        # What waits for an argument waits for this, which is there when it is built.
        given = result.node.add(op="Identity", name="given_{}".format(number))
        given.input.append(placeholder.name)
        given.attr["T"].type = argument.type
        call.input.append(given.name)
    result.node.add().CopyFrom(call)
    for number, argument in enumerate(function.signature.output_arg):
        end = result.node.add(op="Identity", name=_result(number))
        end.input.append("call:{}".format(number))
        end.attr["T"].type = argument.type
    return result


def _argument(number):
    return "argument_{}".format(number)


def _result(number):
    return "result_{}".format(number)
