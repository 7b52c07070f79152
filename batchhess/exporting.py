"""A SavedModel that answers gradients and Hessians beside what the model answers."""

import contextlib
import os
import tempfile
from typing import Any, Dict, Optional, Tuple

from batchhess.calling import public
from batchhess.compat import raw_ops, tf
from batchhess.models import weights
from batchhess.models.effects import find_effects
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
      ValueError: the directory is not empty, a signature is called "hessians", a
        variable has no value, or can be read only after ops that reach files; or as
        `derivatives`.
      OSError: the directory cannot be written beside where it is to be.
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


def write(
    session_of, directory, ys, xs, *, signatures=None, allow_effects=False, **options
):
    """As `export`, with a function from nothing to the Session.

    It is called when all is built: what has run cannot be differentiated always. With
    `allow_effects` what is read may reach files, as in `load`.
    """
    directory = os.fspath(directory)
    _refuse_full(directory)
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
        session = session_of()
        with _made_whole(directory) as beside:
            _save(session, beside, signatures, assets, allow_effects)
    return directory


def _refuse_full(directory):
    if os.path.exists(directory) and not os.path.isdir(directory):
        raise ValueError("'{}' is a file, and no directory.".format(directory))
    if os.path.isdir(directory) and os.listdir(directory):
        raise ValueError("'{}' is not empty.".format(directory))


@contextlib.contextmanager
def _made_whole(directory):
    """A directory to write, which gets its name at the end: all of it, or nothing."""
    if "://" in directory:  # A store that has no directories, and so no names of them.
        yield directory
        return
    final = os.path.realpath(directory)
    parent, name = os.path.split(final)
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=name + ".", dir=parent) as beside:
        made = os.path.join(beside, name)
        yield made
        _refuse_full(final)  # What is there now is another's.
        if os.name == "nt" and os.path.isdir(final):
            os.rmdir(final)
        os.rename(made, final)


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


def _save(session, directory, signatures, assets, allow_effects):
    """Writes a SavedModel."""
    builder = tf.saved_model.Builder(directory)
    tables = tf.get_collection(tf.GraphKeys.TABLE_INITIALIZERS)
    with _without_main_ops(session.graph) as main_ops:
        starts = main_ops + tables
        needed = ops_above(t for _, side in signatures.values() for t in side.values())
        read = weights.readable({**needed, **ops_above(starts)})
        if not allow_effects:
            _refuse_effects(session.graph, read + mutable_tables(needed))
        variables = _variables(session, read, needed)
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


def _refuse_effects(graph, ops):
    """Raises if to read variables or tables takes ops that reach beyond the model."""
    functions = graph.as_graph_def().library.function
    found = find_effects(graph, ops, {f.signature.name: f for f in functions})
    if found:
        raise ValueError(
            "its variables can be read only after ops that reach files, processes or "
            "the network: {}. Export it by the command line with --allow-effects if "
            "you trust its author.".format(", ".join(sorted(set(found))[:5]))
        )


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


def _variables(session, read, needed):
    """What to save, by name: those of the variables `read` that have a value.

    Raises:
      ValueError: one that is among the ops `needed` has none.
    """
    found = []
    for op, has_value in zip(read, weights.have_values(session, read)):
        if has_value:
            found.append(op)
        elif op in needed:
            raise ValueError(
                "variable '{}' has no value. Restore or initialize it in the "
                "Session.".format(op.name)
            )
    return weights.by_name(found)
