"""Variables and checkpoints: what has values, what saves and what initializes it."""

import glob
import os
import re

from batchhess.compat import raw_ops, tf

# By the type of a variable: whether it has a value, and what a Saver takes for it.
_HAS_VALUE = {
    "VarHandleOp": lambda handle: raw_ops.VarIsInitializedOp(resource=handle),
    "VariableV2": lambda ref: raw_ops.IsVariableInitialized(ref=ref),
    "Variable": lambda ref: raw_ops.IsVariableInitialized(ref=ref),
}
_READS = {
    "VarHandleOp": lambda op: raw_ops.ReadVariableOp(
        resource=op.outputs[0], dtype=op.get_attr("dtype")
    ),
    "VariableV2": lambda op: op.outputs[0],
    "Variable": lambda op: op.outputs[0],
}


def readable(ops):
    """Those of `ops` that are variables which can be read and saved."""
    return [op for op in ops if op.type in _READS]


def have_values(session, ops):
    """Whether each of the variables `ops` has a value: a list of bool."""
    return session.run([_HAS_VALUE[op.type](op.outputs[0]) for op in ops])


def by_name(ops):
    """What a Saver takes for the variables `ops`: a dict."""
    return {op.name: _READS[op.type](op) for op in ops}


def initializer(op):
    """The Operation that gives a variable its first value, or None."""
    for variable in tf.global_variables() + tf.local_variables():
        if _op_of(variable) is op and variable.initializer is not None:
            return variable.initializer
    for consumer in op.outputs[0].consumers():  # As TensorFlow itself calls it.
        if consumer.name == op.name + "/Assign":
            return consumer
    return None


def other_shapes(session, ops):
    """Those of the variables `ops` whose value has another shape than they have.

    What is restored through a handle may have any, whichever way it is restored.

    Returns:
      list of tuples of the name of a variable, its shape and that of its value.
    """
    handles = [op for op in ops if op.type == "VarHandleOp"]
    pairs = zip(handles, have_values(session, handles))
    known = [op for op, has_value in pairs if has_value]
    shapes = session.run([raw_ops.VariableShape(input=op.outputs[0]) for op in known])
    found = []
    for op, shape in zip(known, shapes):
        own = tf.TensorShape(op.get_attr("shape"))
        if own.ndims is not None and not own.is_compatible_with(shape.tolist()):
            found.append((op.name, own.as_list(), shape.tolist()))
    return found


def assigned_by(error):
    """Words for the variable that an error tells could not be assigned, if any."""
    op = getattr(error, "op", None)
    if op is None or op.type != "Assign":
        return ""
    return "variable '{}': ".format(op.inputs[0].op.name)


def _op_of(variable):
    handle = getattr(variable, "handle", None)
    return variable.op if handle is None else handle.op


def existing(prefix):
    """`prefix` as a Saver takes it, if there is a checkpoint of it; else None."""
    if not prefix:
        return None
    if os.path.exists(prefix + ".index") or os.path.isfile(prefix):
        return prefix
    parts = "-?????-of-?????"  # Of the first version, in several files.
    if glob.glob(glob.escape(prefix) + parts):
        return prefix + parts
    try:
        return prefix if tf.train.checkpoint_exists(prefix) else None
    except tf.errors.NotFoundError:  # On 1.15, of a directory that is not there.
        return None


def find_checkpoint(path):
    """The prefix of a checkpoint that `path` is, or the last one in that directory.

    Raises:
      OSError: there is none.
      ValueError: a directory has none, or several and nothing tells which is the last.
    """
    if os.path.basename(path) == "checkpoint" and os.path.isfile(path):
        path = os.path.dirname(path) or "."
    if os.path.isdir(path):
        return _last_in(path)
    prefix = re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path)
    found = existing(prefix)
    if found is None:
        raise FileNotFoundError(
            "no checkpoint '{0}': there is no '{0}.index'.".format(prefix)
        )
    return found


def _last_in(directory):
    """The prefix of the checkpoint that a directory names as its last, or its only one.

    A directory that was moved may name it where it was.
    """
    state = tf.train.get_checkpoint_state(directory)
    named = state.model_checkpoint_path if state else ""
    for prefix in (os.path.join(directory, os.path.basename(named)), named):
        if named and existing(prefix):
            return existing(prefix)
    files = sorted(os.listdir(directory))
    found = [file[: -len(".index")] for file in files if file.endswith(".index")]
    if len(found) == 1:
        return os.path.join(directory, found[0])
    raise ValueError(
        "'{}' is a directory {}.".format(
            directory,
            "with several checkpoints, none of them named as the last: {}. Pass one of "
            "them".format(", ".join(found))
            if found
            else "without a checkpoint",
        )
    )
