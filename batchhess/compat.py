"""Every difference between TensorFlow versions, and every private TensorFlow name.

The rest of the library takes ``tf`` from here: the v1 API of whichever TensorFlow is
installed, from 1.15 to the newest 2.x.
"""

import contextlib
import os

import tensorflow as _tensorflow

tf = _tensorflow.compat.v1

# A tf.function around the user's code would rewrite the library's loops with AutoGraph.
do_not_convert = _tensorflow.autograph.experimental.do_not_convert

static_value = tf.get_static_value

raw_ops = _tensorflow.raw_ops

VERSION = _tensorflow.__version__

IS_V1 = VERSION.startswith("1.")

# In 1.15 the second derivative of the sparse cross entropy is "explicitly disabled".
LACKS_SPARSE_CROSS_ENTROPY = VERSION.startswith("1.")

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


def function_graph(op, attribute):
    """The graph of the function that `attribute` of `op` names, or None.

    Private: a graph's functions have no public reader but their protocol buffers, which
    know no shapes. A function imported from a meta graph has no graph: None.
    """
    name = op.get_attr(attribute).name
    for graph in outer_graphs(op.graph):
        function = graph._get_function(name)
        if function is not None:
            return getattr(function, "graph", None)
    return None


def gradient_is_none(op):
    """Whether TensorFlow has it that `op` has no derivative, and answers None.

    Private: the registry of gradients has no public reader (tf.RegisterGradient only
    writes). `get_gradient_function` has kept its name from 1.0 to 2.21.
    """
    from tensorflow.python.framework import ops

    try:
        return ops.get_gradient_function(op) is None
    except LookupError:  # tf.gradients raises this itself.
        return False


def where_built(op):
    """Where in the user's program `op` was built: ", built at file:line", or ""."""
    for frame in reversed(op.traceback or ()):
        filename, line = tuple(frame)[:2]
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


def control_flow_context(op):
    """The control flow v1 context in which `op` was built, or None.

    Private: it has no public reader.
    """
    context = op._get_control_flow_context()
    # Inside a program of XLA there is one around everything, which is no control flow.
    while context is not None and type(context).__name__ == "XLAControlFlowContext":
        context = context.outer_context
    return context


def v1_branch(op):
    """The predicate of the control flow v1 branch that `op` is in, and 1 or 0, which.

    Private, as above. (None, None) if `op` is in no branch.
    """
    context = control_flow_context(op)
    return getattr(context, "pred", None), getattr(context, "branch", None)


def has_back_prop(op):
    """Whether the author of the v1 loop that `op` is in wants its derivative.

    Private, as above.
    """
    return control_flow_context(op).back_prop


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


@tf.RegisterGradient("BatchhessWriteRow")
def _write_row_gradient(op, grad):
    """Of `write_row`, where each row is written once: what is overwritten is unread."""
    return grad, None, tf.gather(grad, op.inputs[1])


def empty_rows(count, size, dtype):
    """A Tensor [count, size] of whatever the memory holds, to be filled by `write_row`.

    `Empty` is never folded into a constant, which `write_row` would then change.
    """
    return raw_ops.Empty(shape=tf.stack([count, size]), dtype=dtype)


def write_row(rows, index, row):
    """`rows` with `row` at `index`, in the same memory; each index only once.

    TensorArray.stack and tf.concat hold the result twice, and tensor_scatter_nd_update
    copies all rows each time in 2.x. The gradient, which TensorFlow has not registered
    for this op, goes under a name of our own, so that other graphs keep theirs.
    """
    override = {"InplaceUpdate": "BatchhessWriteRow"}
    with tf.get_default_graph().gradient_override_map(override):
        return raw_ops.InplaceUpdate(
            x=rows, i=tf.reshape(index, [1]), v=tf.reshape(row, [1, -1])
        )


def compile_with_xla(function):
    """Builds `function()` as one program for XLA.

    Args:
      function: builds and returns a list of Tensors; what it reads from the graphs
        around it are the arguments of the program.

    Returns:
      the Tensors, and the list of Operations of the program that XLA has no kernel for.

    Raises:
      NotImplementedError: this TensorFlow has no jit_compile.
    """
    try:
        compiled = _tensorflow.function(function, autograph=False, jit_compile=True)
    except TypeError:
        raise NotImplementedError(
            "jit_compile=True needs TensorFlow 2.5 or newer; this is {}.".format(
                VERSION
            )
        ) from None
    program = compiled.get_concrete_function()
    known = _kernels_of_xla()
    lacking = [
        op
        for op in program.graph.get_operations()
        if op.type not in known and op.type not in ("Placeholder", "NoOp")
    ]
    return program(), lacking


def _kernels_of_xla():
    """The types of the ops that XLA can compile for the CPU.

    Private: the registry of kernels has no public reader.
    """
    from tensorflow.python.framework import kernels

    def names():
        return {
            kernel.op
            for kernel in kernels.get_all_registered_kernels().kernel
            if kernel.device_type == "XLA_CPU_JIT"
        }

    if not names():  # They are registered when the first program is compiled.
        with tf.Graph().as_default(), tf.Session() as session:
            session.run(_tensorflow.function(lambda: tf.zeros([]), jit_compile=True)())
    return names()


def batch_jacobian(output, x):
    """TensorFlow's own per-observation Jacobian by pfor, to compare with.

    Private in graph mode: the public one is a method of tf.GradientTape.
    """
    from tensorflow.python.ops.parallel_for import gradients

    return gradients.batch_jacobian(output, x)
