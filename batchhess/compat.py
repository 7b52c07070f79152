"""Every difference between TensorFlow versions, and every private TensorFlow name.

The rest of the library takes ``tf`` from here: the v1 API of whichever TensorFlow is
installed, from 1.15 to the newest 2.x.
"""

import contextlib
import os

import tensorflow as _tensorflow
from google.protobuf import text_format as text_format
from google.protobuf.message import DecodeError

tf = _tensorflow.compat.v1

# A tf.function around the user's code would rewrite the library's loops with AutoGraph.
do_not_convert = _tensorflow.autograph.experimental.do_not_convert

static_value = tf.get_static_value

raw_ops = _tensorflow.raw_ops

graph_function = _tensorflow.function

# The v1 one warns in 1.15 that it will go.
where = _tensorflow.compat.v2.where

VERSION = _tensorflow.__version__

# What parsing a damaged message raises: the C++ parser another than the Python one.
message_errors = (DecodeError, RuntimeError)

IS_V1 = VERSION.startswith("1.")

# In 2.x the variables of tf.function do not derive from compat.v1's Variable, but all
# derive from this one; in 1.15 the two are the same class.
Variable = _tensorflow.Variable


def is_eager(tensor):
    """Whether `tensor` belongs to eager execution, and so to no graph."""
    # Eager tensors hold numbers, graph tensors do not; the class has no public name.
    return isinstance(tensor, tf.Tensor) and type(tensor).__name__ == "EagerTensor"


def source_tensor(x):
    """The tensor from which a graph reads `x`: the handle or reference of a variable.

    Args:
      x: a Tensor, or a ref or resource Variable.

    Returns:
      The Tensor that consumers of `x` have among their ancestors.
    """
    if not isinstance(x, Variable):
        return x
    handle = getattr(x, "handle", None)  # Ref variables have none.
    return x.op.outputs[0] if handle is None else handle


def outer_graphs(graph):
    """`graph` and, if it is a function's, the graphs around it, innermost first."""
    chain = []
    while graph is not None:
        chain.append(graph)
        graph = getattr(graph, "outer_graph", None)
    return chain


def captured_from(tensor):
    """The outer tensor that a function's placeholder `tensor` stands for, or None."""
    if tensor.op.type != "Placeholder":
        return None
    # 2.x: a list of pairs; 1.15: a dict's values, which are the same pairs.
    for outer, inner in getattr(tensor.graph, "captures", ()) or ():
        if inner is tensor:
            return outer
    return None


def function_graphs(op, attribute):
    """The graphs of the functions that `attribute` of `op` names; None for an unknown.

    Private: a graph's functions have no public reader but their protocol buffers, which
    know no shapes.
    """
    named = op.get_attr(attribute)
    named = named if isinstance(named, list) else [named]
    return [_graph_named(op, function.name) for function in named]


def _graph_named(op, name):
    from tensorflow.python.framework import function_def_to_graph as imported

    for graph in outer_graphs(op.graph):
        function = graph._get_function(name)
        if function is None:
            continue
        if not hasattr(function, "graph") and not hasattr(function, "batchhess_graph"):
            with graph.as_default():  # It was imported.
                body = imported.function_def_to_graph(function.definition)
            function.batchhess_graph = body
        return getattr(function, "graph", None) or function.batchhess_graph
    return None


def know_functions_around():
    """Lets the default graph, if it is a function's, know the functions around it.

    Private: where a call is differentiated inside of a loop, 1.15 looks for what it
    calls in the graph of the loop's body alone, and finds no function that was
    imported. 2.x looks around.
    """
    graph, *around = outer_graphs(tf.get_default_graph()) if IS_V1 else [None]
    for outer in around:
        for name, function in outer._functions.items():
            graph._functions.setdefault(name, function)


def know_function_of(op):
    """Lets the default graph know the function whose name is the type of `op`, if any.

    Private: TensorFlow 1's functions tell no graph of themselves but the one in which
    the user has called them.
    """
    graph, function = tf.get_default_graph(), op.graph._get_function(op.type)
    if function is not None and graph._get_function(op.type) is None:
        function.add_to_graph(graph)


def differentiate_alike(made, op):
    """Lets TensorFlow differentiate `made`, a copy of `op`, by the function for `op`.

    Private: since 2.12 the call of a function keeps it as an attribute of Python's.
    """
    if getattr(op, "_gradient_function", None) is not None:
        made._gradient_function = op._gradient_function


def gradient_function(op):
    """The function by which TensorFlow differentiates `op`; None if it answers None.

    Private, as below: tf.gradients calls it, after a walk through all that follows.

    Raises:
      LookupError: there is none.
    """
    from tensorflow.python.framework import ops

    return ops.get_gradient_function(op)


def is_made_by_custom_gradient(op):
    """Whether tf.custom_gradient has made `op`: it numbers the gradients of such."""
    return op.node_def.attr["_gradient_op_type"].s.startswith(b"CustomGradient-")


def has_gradient_of_another_process(op, call):
    """Whether the gradient of `op` is found by a number that another process gave it.

    Private: tf.custom_gradient numbers gradients anew in each process, so that the
    number of an op from a file is that of any other here. Only tracebacks tell; and
    that of an op inside a function which TensorFlow has read anew does not.

    Args:
      op: an Operation.
      call: the Operation that calls the function that it is in; or `op` itself.
    """

    def is_through(op, module):
        frames = [tuple(frame)[0] for frame in op.traceback or ()]
        return any(module in os.path.basename(filename) for filename in frames)

    if not is_made_by_custom_gradient(op) or is_through(op, "custom_gradient"):
        return False
    read_anew = is_through(op, "function_def_to_graph")
    if read_anew and call is not op and not is_through(call, "importer"):
        return False
    try:
        found = gradient_function(op)
    except LookupError:
        return False
    return getattr(found, "__module__", "").endswith("custom_gradient")


def gradient_is_none(op):
    """Whether TensorFlow has it that `op` has no derivative, and answers None.

    Private: the registry of gradients has no public reader (tf.RegisterGradient only
    writes). `get_gradient_function` has kept its name from 1.0 to 2.21.
    """
    try:
        return gradient_function(op) is None
    except LookupError:  # tf.gradients raises this itself.
        return False


def read_instead(op, place, tensor):
    """Lets `op`, which no Session has run, read `tensor` as its input number `place`.

    Private: nothing public changes an op. Without it the op reads what it did, which is
    as right and slower.
    """
    update = getattr(op, "_update_input", None)
    if update is not None:
        update(place, tensor)


def where_built(op):
    """Where in the user's program `op` was built: ", built at file:line", or "".

    Of the body of a function that 1.15 reads anew nothing tells.
    """
    frames = [tuple(frame)[:2] for frame in op.traceback or ()]
    if any("function_def_to_graph" in filename for filename, _ in frames):
        return ""
    for filename, line in reversed(frames):
        if not any(part in filename for part in _LIBRARIES):
            return ", built at {}:{}".format(filename, line)
    return ""


_LIBRARIES = [
    os.path.dirname(_tensorflow.__file__),
    os.path.dirname(os.path.abspath(__file__)),
    os.sep + "tensorflow" + os.sep,
    "tensorflow_core",
    "tensorflow_estimator",
]


def forward_op(op):
    """The op of which `op` computes the derivative, of any order; `op` itself if none.

    Private: tf.gradients notes it for the errors of a Session. Without it messages name
    the op of the derivative.
    """
    while getattr(op, "_original_op", None) is not None:
        op = op._original_op
    return op


def derivative_of(op):
    """A context: what is built in it is a part of the derivative of `op`.

    Private, as above, and as tf.gradients notes it.
    """
    note = getattr(tf.get_default_graph(), "_original_op", None)
    return contextlib.nullcontext() if note is None else note(op)


def ops_differentiated(error):
    """The ops whose gradients raised `error`: one, or first the loop that it is in.

    Private: TensorFlow passes on what a gradient raises, which may name no op; the
    frame that has called it knows. Were it renamed, there would be none: [].
    """
    found, trace = [], error.__traceback__
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        if frame.f_code.co_name in _DIFFERENTIATES and "op" in frame.f_locals:
            found.append(frame.f_locals["op"])
    return found


# What calls the gradient of an `op`: tf.gradients, and our own pass through one op.
_DIFFERENTIATES = "_GradientsHelper", "_pulled_back"


def control_flow_context(op):
    """The control flow v1 context in which `op` was built, or None.

    Private: it has no public reader.
    """
    context = op._get_control_flow_context()
    # Inside a program of XLA there is one around everything, which is no control flow.
    while context is not None and type(context).__name__ == "XLAControlFlowContext":
        context = context.outer_context
    return context


def has_back_prop(op):
    """Whether the author of the v1 loop that `op` is in wants its derivative.

    Private, as above. A loop that was imported does not tell: True.
    """
    context = control_flow_context(op)
    context = None if context is None else context.GetWhileContext()
    return getattr(context, "back_prop", True)


def in_v1_while_loop():
    """Whether the default graph is being built inside a control flow v1 while loop.

    Private: a graph's control flow context has no public reader.
    """
    context = tf.get_default_graph()._get_control_flow_context()
    return context is not None and context.GetWhileContext() is not None


@contextlib.contextmanager
def differentiable_control_flow():
    """Builds `tf.while_loop` as control flow v2, whatever the program has chosen.

    A v1 loop can be differentiated once: a second time TensorFlow raises, or answers
    None without a word. A v2 loop can be differentiated without end, and works in
    a v1 graph and Session. The one place where it does not is inside a v1 loop, whose
    frames it cannot enter when it is differentiated: there the v1 loop stays.
    """
    enabled = tf.control_flow_v2_enabled()
    if enabled or in_v1_while_loop():
        yield
        return
    tf.enable_control_flow_v2()
    try:
        yield
    finally:
        tf.disable_control_flow_v2()


def _complete_gradient_of_pop():
    """Has 1.15 differentiate a list of which one element is not read, but the rest is.

    Its gradient of TensorListPopBack raises; that of 2.x takes zeros, as this one does.
    Several results of one loop that are differentiated apart, and again, come to it.
    Private: RegisterGradient refuses a type that has one. What worked stays as it was.
    """
    from tensorflow.python.framework import ops

    entry = ops._gradient_registry._registry["TensorListPopBack"]
    of_read = entry["type"]

    def gradient(op, rest, element):
        element = tf.zeros_like(op.outputs[1]) if element is None else element
        return of_read(op, rest, element)

    entry["type"] = gradient


def _read_bodies_alone():
    """Has 1.15 read the body of a loop anew without a copy of all that the graph knows.

    Each time it differentiates a loop of control flow v2, it imports its functions
    together with every function of the graph: twenty models in one graph, as a notebook
    builds them, took 23 GB. A body finds them by their names as well.
    Private, as the functions of a graph are: there is no public way to either.
    """
    from tensorflow.python.framework import function_def_to_graph as imported

    read = imported.function_def_to_graph

    def function_def_to_graph(fdef, input_shapes=None, copy_functions=None):
        if copy_functions is not None:
            return read(fdef, input_shapes, copy_functions)
        body = read(fdef, input_shapes, copy_functions=False)
        for name, function in tf.get_default_graph()._functions.items():
            body._functions.setdefault(name, function)
        return body

    imported.function_def_to_graph = function_def_to_graph


if IS_V1:
    _complete_gradient_of_pop()
    _read_bodies_alone()


def kernels_of_xla():
    """The types of the ops that XLA can compile for the CPU, if TensorFlow tells.

    Private: the registry of kernels has no public reader. There are none before the
    first program of the process is compiled.
    """
    from tensorflow.python.framework import kernels

    found = kernels.get_all_registered_kernels().kernel
    return {kernel.op for kernel in found if kernel.device_type == "XLA_CPU_JIT"}


def skip_deprecation_warnings():
    """Has TensorFlow not look for deprecated arguments in what is called from now on.

    Private: the switch has no public name. For tests: 1.15 inspects a signature per op.
    """
    from tensorflow.python.util import deprecation

    deprecation._PRINT_DEPRECATION_WARNINGS = False


def batch_jacobian(output, x):
    """TensorFlow's own per-observation Jacobian by pfor, to compare with.

    Private in graph mode: the public one is a method of tf.GradientTape.
    """
    from tensorflow.python.ops.parallel_for import gradients

    return gradients.batch_jacobian(output, x)


def function_body(function):
    """A FunctionDef as a GraphDef, and a dict from its names of tensors to the graph's.

    Private: in a FunctionDef an output goes by the name that its op has for it, in a
    GraphDef by its number, and the one public way from one to the other is to run it.
    """
    from tensorflow.python.framework import function_def_to_graph

    return function_def_to_graph.function_def_to_graph_def(function)


def op_definition(kind):
    """The OpDef of the ops of this type, or None where TensorFlow does not know it.

    Private: the registry of ops has no public reader.
    """
    from tensorflow.python.framework import op_def_registry

    if hasattr(op_def_registry, "get"):
        return op_def_registry.get(kind)
    return op_def_registry.get_registered_ops().get(kind)


def is_stateful(kind):
    """Whether ops of this type have state or effects. An unknown op has."""
    definition = op_definition(kind)
    return definition is None or definition.is_stateful


def saved_model_proto():
    """An empty SavedModel message.

    Private: it has no public name, while MetaGraphDef, which it is a list of, has one.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    return saved_model_pb2.SavedModel()
