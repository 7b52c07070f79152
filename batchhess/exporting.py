"""A SavedModel that answers gradients and Hessians beside what the model answers."""

import contextlib
import os
import shutil
from typing import Any, Dict, Optional, Tuple

from batchhess.calling import public
from batchhess.compat import raw_ops, tf
from batchhess.models.outline import mutable_tables, ops_above, unfilled_tables
from batchhess.operators import derivatives
from batchhess.streaming.fingerprint import table_contents
from batchhess.streaming.naming import as_key, numbered

# The collections of what a SavedModel runs at its start.
_MAIN_OPS = "saved_model_main_op", "legacy_init_op"


@public()
def export(
    session: tf.Session,
    directory: Any,
    ys: Any,
    xs: Any,
    *,
    signatures: Optional[Dict[str, Tuple[dict, dict]]] = None,
    batch_axis: int = 0,
    method: str = "auto",
    check: str = "auto",
) -> str:
    """Writes a SavedModel with a signature for gradients and Hessians.

    It is served as it is, by the TensorFlow that has written it or a newer one:
    batchhess is not needed to load or to run it. The signature "hessians" takes every
    placeholder that `ys` need, by name, and answers "values", and "gradients" and
    "hessians", which are followed by "_" and the x's name if there are several.

    Args:
      session: a tf.Session on the graph of `ys`, its variables initialized.
      directory: str or path, which must not exist, or be empty.
      ys: as in `derivatives`.
      xs: as in `derivatives`, of placeholders.
      signatures: dict from a name to inputs and outputs, two dicts from a key to a
        Tensor: what the model answers itself. "serving_default", from the placeholders
        to `ys`, if None.
      batch_axis: as in `derivatives`.
      method: as in `derivatives`.
      check: as in `derivatives`.

    Returns:
      str, the directory.

    Raises:
      TypeError: an x is no placeholder, or as `derivatives`.
      ValueError: the directory is not empty, a signature is called "hessians", or as
        `derivatives`.
      NotImplementedError: the graph is of a SavedModel, whose tables are filled from
        files.
    """
    return write(
        lambda: session,
        directory,
        ys,
        xs,
        signatures=signatures,
        batch_axis=batch_axis,
        method=method,
        check=check,
    )


def write(session_of, directory, ys, xs, *, signatures=None, **options):
    """As `export`, with a function from nothing to the Session.

    It is called when all is built: what has run cannot be differentiated always.
    """
    directory = os.fspath(directory)
    if os.path.isdir(directory) and os.listdir(directory):
        raise ValueError("'{}' is not empty.".format(directory))
    flat_ys, flat_xs = tf.nest.flatten(ys), tf.nest.flatten(xs)
    for x in flat_xs:
        if not isinstance(x, tf.Tensor) or not x.op.type.startswith("Placeholder"):
            raise TypeError(
                "{!r} is no placeholder, so a server cannot feed it.".format(x)
            )
    if not (flat_ys and flat_xs):
        raise ValueError("{} is an empty list.".format("xs" if flat_ys else "ys"))
    graph = flat_xs[0].graph
    assets = _assets(graph)
    needed = _placeholders(flat_ys, flat_xs)
    signatures = dict(signatures or {})
    inputs = dict(zip(_keys(needed, signatures), needed))
    if not signatures:
        outputs = dict(zip(_keys(flat_ys, {}), flat_ys))
        signatures["serving_default"] = (inputs, outputs)
    if "hessians" in signatures:
        raise ValueError("the model has a signature 'hessians' of its own.")
    with graph.as_default():
        built = derivatives(flat_ys, flat_xs, **options)
        signatures["hessians"] = (inputs, _answers(built, flat_xs))
        _save(session_of(), directory, signatures, assets)
    return directory


def _assets(graph):
    """The Tensors that name files which tables are filled from; they are copied.

    Raises:
      NotImplementedError: the model was loaded, and names files of where it was saved.
    """
    assets = graph.get_collection(tf.GraphKeys.ASSET_FILEPATHS)
    was_loaded = any(graph.get_collection(key) for key in _MAIN_OPS)
    if assets and was_loaded or _is_fed_at_start(graph):
        raise NotImplementedError(
            "the graph reads assets, which would not be copied: files that its tables "
            "are filled from, named where it was saved. Export it by batchhess.export "
            "where it is built."
        )
    return assets


def _is_fed_at_start(graph):
    """Whether what starts the model is fed names of files, as that of TensorFlow 2."""
    keys = (tf.GraphKeys.TABLE_INITIALIZERS,) + _MAIN_OPS
    starts = [one for key in keys for one in graph.get_collection(key)]
    return any(op.type == "Placeholder" for op in ops_above(starts))


def _placeholders(ys, xs):
    """The placeholders that `ys` need, the xs first."""
    found = list(xs)
    for op in ops_above(ys):
        if op.type == "Placeholder" and all(op.outputs[0] is not x for x in found):
            found.append(op.outputs[0])
    return found


def _keys(tensors, signatures):
    """A key of a signature for each tensor: the one that it has, or its name."""
    known = {}
    for inputs, _ in signatures.values():
        for key, tensor in inputs.items():
            known.setdefault(tensor.name, key)
    keys = [known.get(t.name) or as_key(t.name) for t in tensors]
    return numbered(keys)


def _answers(built, xs):
    ranks = {value.shape.ndims for value in built.values}
    # What is of each observation is added up where another y is not.
    values = [tf.reduce_sum(v) if len(ranks) > 1 else v for v in built.values]
    found = {"values": tf.add_n(values) if len(values) > 1 else values[0]}
    for key, gradient, hessian in zip(_keys(xs, {}), built.gradients, built.hessians):
        end = "_" + key if len(xs) > 1 else ""
        found["gradients" + end], found["hessians" + end] = gradient, hessian
    return found


def _save(session, directory, signatures, assets):
    """Writes a SavedModel, or nothing."""
    was_there = os.path.isdir(directory)
    tables = tf.get_collection(tf.GraphKeys.TABLE_INITIALIZERS)
    try:
        builder = tf.saved_model.Builder(directory)
        needed = ops_above(t for _, side in signatures.values() for t in side.values())
        variables = _variables(session, needed)
        with _without_main_ops(session.graph) as main_ops:
            starts = main_ops + tables
            starts += _fill_tables(session, needed, starts)
            builder.add_meta_graph_and_variables(
                session,
                [tf.saved_model.tag_constants.SERVING],
                {
                    name: tf.saved_model.predict_signature_def(inputs, outputs)
                    for name, (inputs, outputs) in signatures.items()
                },
                assets_collection=assets or None,
                main_op=tf.group(*starts) if starts else None,
                strip_default_attrs=True,
                saver=tf.train.Saver(variables, sharded=True) if variables else None,
            )
        builder.save()
    except BaseException:
        _clear(directory, was_there)
        raise


def _clear(directory, was_there):
    """Takes away what a builder has begun in a directory that was empty."""
    for name in os.listdir(directory) if os.path.isdir(directory) else []:
        path = os.path.join(directory, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
    if os.path.isdir(directory) and not was_there:
        os.rmdir(directory)


@contextlib.contextmanager
def _without_main_ops(graph):
    """Takes the main ops of a model that was loaded from their collections."""
    kept = {key: list(graph.get_collection_ref(key)) for key in _MAIN_OPS}
    try:
        for key in _MAIN_OPS:
            del graph.get_collection_ref(key)[:]
        yield [op for ops in kept.values() for op in ops]
    finally:
        for key, ops in kept.items():
            graph.get_collection_ref(key)[:] = ops


def _fill_tables(session, needed, starts):
    """Ops that fill tables of which only this run knows the values.

    Args:
      session: tf.Session.
      needed: Operations.
      starts: list of Operations, before which they must not run.

    Raises:
      ValueError: a table is filled by nothing that is saved.
      NotImplementedError: a table is of a kind that cannot be read.
    """
    for table in unfilled_tables(needed):
        raise ValueError("nothing fills table '{}'.".format(table.name))
    found = []
    for table in mutable_tables(needed):
        handle = table.outputs[0]
        if handle.dtype.base_dtype != tf.resource:
            raise NotImplementedError("table '{}' cannot be read.".format(table.name))
        kinds = [table.get_attr(name) for name in ("key_dtype", "value_dtype")]
        # Of a dense table they have one axis more than the shape function allows.
        keys, values = (
            tf.placeholder_with_default(tf.constant(held, kind), None)
            for held, kind in zip(table_contents(session, table), kinds)
        )
        with tf.control_dependencies(starts):
            found.append(
                raw_ops.LookupTableImportV2(
                    table_handle=handle, keys=keys, values=values
                )
            )
    return found


def _variables(session, needed):
    """What to save, by name: variables, and those that are in no collection.

    Raises:
      ValueError: one of the ops `needed` is a variable that has no value.
    """
    found = {_name(variable): variable for variable in tf.global_variables()}
    ops = session.graph.get_operations()
    others = [op for op in ops if op.type in _READS and op.name not in found]
    asked = [_HAS_VALUE[op.type](op.outputs[0]) for op in others]
    for op, has_value in zip(others, session.run(asked)):
        if has_value:  # A SavedModel of version 2 has them.
            found[op.name] = _READS[op.type](op)
        elif op in needed:
            raise ValueError("variable '{}' has no value.".format(op.name))
    return found


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


def _name(variable):
    handle = getattr(variable, "handle", None)
    return variable.op.name if handle is None else handle.op.name
