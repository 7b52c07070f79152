"""Programs for XLA, and what it cannot compile of them."""

import itertools

from batchhess.compat import IS_V1, VERSION, graph_function, kernels_of_xla, tf


def compile_with_xla(function):
    """Builds `function()` as one program for XLA.

    Args:
      function: builds and returns a list of Tensors; what it reads from the graphs
        around it are the arguments of the program.

    Returns:
      the Tensors, and the list of Operations of the program that XLA has no kernel for.

    Raises:
      NotImplementedError: this TensorFlow cannot compile.
    """
    program, answer = _as_program(function)
    known = _kernels()
    lacking = [
        op
        for op in program.graph.get_operations()
        if op.type not in known.union(("Placeholder", "NoOp")) or _crashes_xla(op)
    ]
    return answer, lacking


def _crashes_xla(op):
    """Whether XLA of TensorFlow 1.15 ends the process: `reduce_all` of many."""
    if not IS_V1 or op.type != "All":
        return False
    count = op.inputs[0].shape.num_elements()
    return count is None or count > 64


def _as_program(function):
    """A ConcreteFunction of what `function()` builds, and what XLA answers for it.

    TensorFlow 1.15 compiles no functions by themselves: a call of one is compiled.
    """
    try:
        compiled = graph_function(function, autograph=False, jit_compile=True)
    except TypeError:
        compiled = None
    if compiled is not None:
        program = compiled.get_concrete_function()
        return program, program()
    if not hasattr(tf, "xla"):
        raise NotImplementedError(
            "jit_compile=True has no XLA on this TensorFlow, {}.".format(VERSION)
        )
    made = []

    def call():
        # Made in here its loops stay functions: XLA has no kernels for Enter and Exit.
        compiled = graph_function(function, autograph=False)
        made.append(compiled.get_concrete_function())
        return made[0]()

    # What has one name is one cluster, be it in the bodies of two loops.
    with tf.name_scope("xla_{}".format(next(_CLUSTERS))):
        answer = tf.xla.experimental.compile(call)
    return made[0], answer


_CLUSTERS = itertools.count()


def _kernels():
    """The types of the ops that XLA can compile for the CPU."""
    if not kernels_of_xla():  # They are registered when the first program is compiled.
        with tf.Graph().as_default(), tf.Session() as session:
            session.run(_as_program(lambda: [tf.zeros([])])[1])
    return kernels_of_xla()
