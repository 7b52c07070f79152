"""Variables and checkpoints: what has values, what saves and what initializes it."""

import glob
import os
import re

from batchhess.compat import raw_ops, static_value, tf

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


def other_shapes(restore_ops, prefix):
    """Variables of another shape than a checkpoint has for them.

    Those with a handle take a value of any shape when they are restored. A part of a
    partitioned variable is a slice, of which TensorFlow holds the whole to its shape.

    Args:
      restore_ops: iterable of Operations, all that restoring runs.
      prefix: str, as a Saver takes it.

    Returns:
      list of tuples of the name of a variable, its shape and that in the checkpoint.
    """
    found, shapes = [], None
    for op in restore_ops:
        if op.type != "RestoreV2":
            continue
        names, slices = (static_value(tensor) for tensor in op.inputs[1:3])
        if names is None or slices is None:
            continue
        if shapes is None:
            reader = tf.train.NewCheckpointReader(prefix)
            shapes = reader.get_variable_to_shape_map()
        for output, name, part in zip(op.outputs, names, slices):
            stored = shapes.get(name.decode())
            for variable, shape in _assigned(output):
                if stored is not None and not part and shape != list(stored):
                    found.append((variable.name, shape, list(stored)))
    return found


def _assigned(value):
    """The variables of a known shape that a value is assigned to, with their shapes."""
    for consumer in value.consumers():
        if consumer.type in ("Identity", "ReadVariableOp", "Cast"):
            yield from _assigned(consumer.outputs[0])
        elif consumer.type in ("AssignVariableOp", "Assign"):
            variable = consumer.inputs[0].op
            if consumer.inputs[1] is value and variable.type in _READS:
                shape = tf.TensorShape(variable.get_attr("shape"))
                if shape.is_fully_defined():
                    yield variable, shape.as_list()


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
    return prefix if tf.train.checkpoint_exists(prefix) else None


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
