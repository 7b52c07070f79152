"""Models from files: MetaGraphs, SavedModels and frozen graphs."""

import os
from typing import Any, Dict, List, Optional, Sequence, Union

from batchhess.calling import public
from batchhess.compat import tf
from batchhess.models import protos, weights
from batchhess.models.effects import find_effects
from batchhess.models.gradients import Gradients
from batchhess.models.inlining import inline
from batchhess.models.names import Names, read_signatures
from batchhess.models.outline import (
    mutable_tables,
    ops_above,
    outputs_of,
    placeholders_of,
    unfilled_tables,
)

_VARIABLES = ("VariableV2", "Variable", "VarHandleOp", "AutoReloadVariable")


@public()
def load(
    path: Any,
    *,
    checkpoint: Optional[Any] = None,
    tags: Union[str, List[str], None] = None,
    signature: Optional[str] = None,
    initialize: bool = False,
    allow_effects: bool = False,
    shapes: Optional[Dict[str, Sequence[Optional[int]]]] = None,
) -> "Model":
    """Loads a model that TensorFlow 1 or 2 has saved, into a graph of its own.

    Takes a MetaGraph (`.meta`), a SavedModel of either version (its directory), and a
    frozen graph (`.pb`, `.pbtxt`), binary or text. Calls of functions are replaced by
    what the functions do, so that the model can be differentiated twice. Nothing of
    it runs before its `session` is asked for.

    Args:
      path: str or path.
      checkpoint: the prefix of a checkpoint to restore variables from, or a directory
        of such; None for the one beside a MetaGraph, or in a SavedModel.
      tags: str or list of str, which graph of a SavedModel; "" for the one without
        tags, None for "serve", or its only one.
      signature: str, of which signature the keys name Tensors; None for any, and of a
        key that has several meanings for that in "serving_default".
      initialize: bool, whether variables get fresh values that no checkpoint gives any.
      allow_effects: bool, whether the model may read and write files, start processes
        and use the network. Pass True only for a model of someone whom you trust.
      shapes: dict from names of placeholders to shapes, with None for what is open:
        for those that the file leaves open, as of `tf.placeholder(tf.float32)`.

    Returns:
      a `Model`.

    Raises:
      OSError: the file cannot be read.
      ValueError: it holds no model, is damaged, or this TensorFlow cannot read it.
    """
    with protos.named(os.fspath(path)):
        stored = protos.read(os.fspath(path), tags)
        if checkpoint is not None:
            stored = stored._replace(
                checkpoint=weights.find_checkpoint(os.fspath(checkpoint))
            )
        model = Model(stored, signature, initialize, allow_effects, shapes or {})
        if checkpoint is not None and not model.variables:
            raise ValueError(
                "'{}' has no variables, so no checkpoint can be restored.".format(path)
            )
        return model


class Model:
    """A model from a file, as `load` answers it; it is not built by its constructor.

    It is a context manager, which closes its Session at the end.

    Attributes:
      path: str, where it is from.
      kind: str, the format in words.
      graph: tf.Graph.
      signatures: dict from the name of a signature of a SavedModel to its inputs and
        outputs: two dicts from a key to a Tensor.
      placeholders: list of Tensors that can be fed.
      outputs: list of Tensors of floating dtype, which nothing is made from but
        gradients and summaries.
      inner: list of those that it has on the way, with names without a "/".
      variables: list of the Operations that hold variables, or tables of which a
        checkpoint has the values.
      stored: the file, as a `Stored`.
    """

    def __init__(self, stored, signature, initialize, allow_effects, shapes):
        self.path, self.kind = stored.path, stored.kind
        self.stored, self._initialize = stored, initialize
        self._allow_effects, self._session, self._asked = allow_effects, None, []
        self.graph = tf.Graph()
        meta = tf.MetaGraphDef()
        meta.CopyFrom(stored.meta_graph)
        functions = meta.graph_def.library.function
        self._functions = {f.signature.name: f for f in functions}
        protos.set_shapes(stored.path, meta.graph_def, shapes)
        # What only messages raise is the file's fault, whatever TensorFlow calls it.
        try:
            protos.drop_notes(meta.graph_def)
            inlined, self._aliases = inline(meta.graph_def, Gradients(meta))
            meta.graph_def.CopyFrom(inlined)
            with self.graph.as_default():
                self._saver = tf.train.import_meta_graph(meta)
        except Exception as error:
            raise ValueError(
                "'{}' cannot be read: {}. It was {}: if it is whole, take {}.".format(
                    self.path, protos.first_line(error), *protos.told_by(stored)
                )
            ) from error
        try:
            self.signatures = read_signatures(
                self.graph, meta.signature_def, self._aliases
            )
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(
                "'{}' is damaged: a signature names what is not there: {}.".format(
                    self.path, protos.first_line(error)
                )
            ) from error
        operations = self.graph.get_operations()
        self.variables = [op for op in operations if op.type in _VARIABLES]
        self.variables += mutable_tables(operations)
        of_saver = self._read_by_saver()
        self.placeholders = [
            t for t in placeholders_of(self.graph) if t.op not in of_saver
        ]
        self.outputs, self.inner = outputs_of(self.graph)
        self._names = Names(
            self.path,
            self.graph,
            self._aliases,
            self.signatures,
            signature,
            self.placeholders[-3:] + self.outputs + self.inner,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """Closes the Session, if there is one."""
        if self._session is not None:
            self._session.close()
            self._session = None

    @property
    def session(self):
        """A tf.Session on the graph, its variables restored: made when asked for."""
        if self._session is None:
            session = tf.Session(
                graph=self.graph, config=tf.ConfigProto(allow_soft_placement=True)
            )
            try:
                self.restore(session)
            except BaseException:
                session.close()
                raise
            self._session = session
        return self._session

    def tensor(self, name: str, fed: Any = ()) -> tf.Tensor:
        """The Tensor of a name: "f:0", "f" for that, or a key of a signature.

        Args:
          name: str.
          fed: list of Tensors that are going to be fed: what only they are made from
            is not run.

        Returns:
          a Tensor of `graph`.

        Raises:
          ValueError: there is none, or two; it needs ops with effects, and
            `allow_effects` is False; or a table that nothing fills.
        """
        found = self.find(name)
        self._refuse_effects([found.op], "'{}'".format(name), {t.op for t in fed})
        self._asked.append((found, list(fed)))
        for table in unfilled_tables(ops_above([found], fed)):
            raise ValueError(
                "'{}': '{}' needs table '{}', and nothing in the file fills it. A "
                "frozen graph leaves that out: save a SavedModel.".format(
                    self.path, name, table.name
                )
            )
        return found

    def find(self, name: str) -> tf.Tensor:
        """As `tensor`, of what is going to be fed: what it is made from is not run.

        Args:
          name: str, as in `tensor`.

        Returns:
          a Tensor of `graph`.

        Raises:
          ValueError: there is none, or there are two.
        """
        return self._names.find(name)

    def effects(self) -> List[str]:
        """The ops that its outputs need and that reach beyond it.

        Returns:
          a list of str, sorted, the "name (type)" of each.
        """
        ops = [tensor.op for tensor in self.outputs]
        for _, outputs in self.signatures.values():
            ops.extend(tensor.op for tensor in outputs.values())
        return sorted(set(find_effects(self.graph, ops, self._functions)))

    def restore(self, session: tf.Session) -> None:
        """Gives the variables their values, in any Session on `graph`.

        Args:
          session: a tf.Session, of this process or of a cluster.

        Raises:
          ValueError: there is no checkpoint, it is damaged or of another model, or
            restoring needs ops with effects, and `allow_effects` is False.
        """
        with self.graph.as_default(), protos.named(self.path):
            self._restore(session)

    def _restore(self, session):
        prefix = self.stored.checkpoint
        starts, feed = self._starts()
        local = {v.op.name for v in tf.local_variables()}  # The main op sets them.
        filled = {t.op.name for op in ops_above(starts) for t in op.inputs}
        variables = [op for op in self.variables if op.name not in local]
        tables = {op.name for op in mutable_tables(variables)}
        missing = [op for op in variables if op.name not in tables & filled]
        if variables and prefix:
            self._restore_variables(session, prefix)
        elif missing and not self._initialize:
            raise ValueError(
                "'{}' has {} variables, and no checkpoint is beside it. Pass "
                "checkpoint=PREFIX (--checkpoint), or initialize=True (--initialize) "
                "for fresh values.".format(self.path, len(missing))
            )
        if self._initialize:
            self._initialize_rest(session)
        try:
            if starts:
                self._run(session, starts, "its initializers", feed)
        except tf.errors.OpError as error:
            raise ValueError(
                "'{}' cannot be started: {}.".format(
                    self.path, protos.first_line(error)
                )
            ) from error
        self._refuse_unknown(session)

    def _needed(self):
        """The variables that the Tensors need which were asked for."""
        found = {}
        for tensor, fed in self._asked:
            found.update(ops_above([tensor], fed))
        return weights.readable(found)

    def _without_value(self, session, variables):
        self._refuse_effects(variables, "reading its variables")
        known = weights.have_values(session, variables)
        return [op for op, is_known in zip(variables, known) if not is_known]

    def _initialize_rest(self, session):
        """Gives those variables their first values that no checkpoint has given one."""
        names = {v.op.name for v in tf.global_variables()}
        are_all = not names and not self._asked
        known = [op for op in self.variables if are_all or op.name in names]
        rest = dict.fromkeys(weights.readable(known) + self._needed())
        rest = self._without_value(session, list(rest))
        found = [weights.initializer(op) for op in rest]
        self._run(session, [op for op in found if op is not None], "its initializers")

    def _refuse_unknown(self, session):
        """Raises if a variable that is needed has no value."""
        for variable in self._without_value(session, self._needed()):
            why, other = (
                "its Saver leaves it out",
                ", or initialize=True (--initialize)",
            )
            if self._initialize:
                why, other = "nothing in the file initializes it", ""
            raise ValueError(
                "'{}': variable '{}' has no value beside those of '{}': {}. Pass "
                "checkpoint=PREFIX (--checkpoint) of one that has it{}.".format(
                    self.path, variable.name, self.stored.checkpoint, why, other
                )
            )

    def _restore_variables(self, session, prefix):
        saver_def = self.stored.meta_graph.saver_def
        try:
            if not saver_def.restore_op_name:
                saver_def = self._new_saver().saver_def
            restore = self.graph.get_operation_by_name(saver_def.restore_op_name)
            filename = self.graph.get_tensor_by_name(saver_def.filename_tensor_name)
            self._run(session, [restore], "its saver", {filename: prefix})
        except (KeyError, TypeError, tf.errors.OpError) as error:
            more = " Only what its Saver leaves out is initialized." * self._initialize
            raise ValueError(
                "'{}' does not restore '{}': {}{}. It is of another model, or damaged: "
                "pass checkpoint=PREFIX (--checkpoint) of this one.{}".format(
                    prefix,
                    self.path,
                    weights.assigned_by(error),
                    protos.first_line(error),
                    more,
                )
            ) from error
        for name, own, stored in weights.other_shapes(session, self.variables):
            raise ValueError(
                "'{}' does not restore '{}': variable '{}' has shape {}, and {} there. "
                "It is of another model: pass checkpoint=PREFIX (--checkpoint) of this "
                "one.".format(prefix, self.path, name, own, stored)
            )

    def _read_by_saver(self):
        """The ops that tell a Saver the name of its file."""
        name = self.stored.meta_graph.saver_def.filename_tensor_name
        try:
            return ops_above([self.graph.get_tensor_by_name(name)])
        except (KeyError, ValueError):  # There is none.
            return {}

    def _new_saver(self):
        """A Saver, where the file has none."""
        for table in mutable_tables(self.variables):
            raise ValueError(
                "'{}' does not tell how table '{}' is restored: it has no "
                "Saver.".format(self.path, table.name)
            )
        if tf.global_variables():
            return tf.train.Saver()
        return tf.train.Saver(weights.by_name(weights.readable(self.variables)))

    def _starts(self):
        """What fills tables, and what else a SavedModel runs at its start.

        Returns:
          list of Operations, and a dict of the names of files that they are fed.
        """
        meta = self.stored.meta_graph
        names = [
            name
            for key in ("saved_model_main_op", "legacy_init_op")
            if key in meta.collection_def
            for name in meta.collection_def[key].node_list.value
        ]
        start = meta.signature_def.get("__saved_model_init_op")
        if start is not None:
            names += [info.name for info in start.outputs.values()]
        feed = {}
        for asset in protos.assets_of(meta):
            file = os.path.basename(asset.filename)
            tensor = self.graph.get_tensor_by_name(asset.tensor_info.name)
            feed[tensor] = os.path.join(self.stored.assets or "", file)
        if not names:
            return self.graph.get_collection(tf.GraphKeys.TABLE_INITIALIZERS), feed
        found = [
            self.graph.as_graph_element(self._aliases.get(name, name)) for name in names
        ]
        return [f.op if isinstance(f, tf.Tensor) else f for f in found], feed

    def _run(self, session, ops, what, feed=None):
        """Runs ops that may read the files that are fed to them, and no others."""
        feed = feed or {}
        given = [tensor.op.name for tensor in feed]
        self._refuse_effects(ops, what, given=given)
        session.run([op.name for op in ops], feed)

    def _refuse_effects(self, ops, what, stops=(), given=()):
        if self._allow_effects:
            return
        found = find_effects(self.graph, ops, self._functions, stops, given)
        if found:
            raise ValueError(
                "'{}': {} needs ops that reach files, processes or the network: {}. "
                "Pass allow_effects=True (--allow-effects) if you trust its "
                "author.".format(self.path, what, ", ".join(sorted(set(found))[:5]))
            )
