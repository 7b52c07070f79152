"""A stored model as one MetaGraphDef, whatever its format."""

import collections
import contextlib
import os
import re
import warnings

from batchhess.compat import (
    VERSION,
    message_errors,
    op_definition,
    saved_model_proto,
    text_format,
    tf,
)
from batchhess.errors import cause
from batchhess.models.weights import existing

Stored = collections.namedtuple(
    "Stored", ["kind", "path", "meta_graph", "checkpoint", "assets", "others"]
)

_META, _SAVED, _FROZEN = "MetaGraph", "SavedModel", "frozen graph"


def read(path, tags=None):
    """Reads a model.

    Args:
      path: str: a .meta file, the directory of a SavedModel, or a .pb or .pbtxt file of
        a graph; binary or text.
      tags: str or list of str, which of the graphs of a SavedModel, "" for the one
        without tags; None for "serve", or the only one.

    Returns:
      a `Stored`: the kind in words, the path, a MetaGraphDef, the prefix of the
      checkpoint beside it or None, the directory of its assets or None, and the tags
      of its other graphs.

    Raises:
      OSError: it cannot be read.
      ValueError: it is none of these, or damaged.
    """
    path = os.path.normpath(path)
    if os.path.basename(path) in ("saved_model.pb", "saved_model.pbtxt"):
        path = os.path.dirname(path) or "."
    if os.path.isdir(path):
        return _saved_model(path, tags)
    with open(path, "rb") as file:
        data = file.read()
    if not data:
        raise ValueError("'{}' is empty.".format(path))
    if data[:8] == b"\x89HDF\r\n\x1a\n" or data[:2] == b"PK":
        raise ValueError(
            "'{}' is a model of Keras alone. Load it with Keras, and save it as a "
            "SavedModel: model.export(directory), or tf.saved_model.save.".format(path)
        )
    kinds = [(_META, tf.MetaGraphDef), (_FROZEN, tf.GraphDef)]
    if not path.endswith(".meta"):
        kinds.reverse()
    for kind, message in kinds:
        proto = _parsed(path, message(), data)
        if kind == _FROZEN and proto is not None:
            proto = tf.MetaGraphDef(graph_def=proto)
        if proto is not None and _is_graph(proto.graph_def):
            prefix = path[: -len(".meta")] if path.endswith(".meta") else None
            return Stored(kind, path, proto, existing(prefix), None, [])
    raise ValueError(
        "'{}' is no MetaGraph and no graph, binary or text, or it is damaged. A "
        "SavedModel is a directory.".format(path)
    )


def _saved_model(path, tags):
    for name in ("saved_model.pb", "saved_model.pbtxt"):
        file_name = os.path.join(path, name)
        if os.path.exists(file_name):
            break
    else:
        raise ValueError(
            "'{}' is a directory without a saved_model.pb: it holds {}. Pass the .meta "
            "or .pb file.".format(path, ", ".join(sorted(os.listdir(path))[:8]) or "-")
        )
    with open(file_name, "rb") as file:
        proto = _parsed(file_name, saved_model_proto(), file.read())
    graphs = [] if proto is None else list(proto.meta_graphs)
    if not graphs or not all(_is_graph(g.graph_def) for g in graphs):
        raise ValueError("'{}' is damaged: it is no SavedModel.".format(file_name))
    known = [sorted(graph.meta_info_def.tags) for graph in graphs]
    tags = [tags] if isinstance(tags, str) else tags
    wanted = sorted(filter(None, tags)) if tags else ["serve"]  # Some have no tags.
    if not tags and wanted not in known and len(known) == 1:
        wanted = known[0]
    if wanted not in known:
        raise ValueError(
            "'{}' has graphs of the tags {}, and none of {}.".format(
                path, known, wanted
            )
        )
    return Stored(
        _SAVED,
        path,
        graphs[known.index(wanted)],
        existing(os.path.join(path, "variables", "variables")),
        os.path.join(path, "assets"),
        [other for other in known if other != wanted],
    )


def _parsed(path, message, data):
    """`message` with what `data` say, binary or text, or None."""
    # On 1.15 it warns of what it has left out, and goes on.
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            message.ParseFromString(data)
            left_out = [w for w in told if issubclass(w.category, RuntimeWarning)]
        except message_errors:
            left_out = [data]
    if not left_out:
        return message
    message.Clear()
    try:
        text_format.Parse(data.decode("utf-8"), message)
        return message
    except (
        UnicodeDecodeError,
        text_format.ParseError,
        RecursionError,
        ValueError,
    ) as e:
        newer = re.search(r'"(experimental_\w+|registered_gradients)"', str(e))
        if newer:
            raise ValueError(
                "'{}' has a field '{}', which TensorFlow {} does not know. Take the "
                "TensorFlow that has written it, or a binary file.".format(
                    path, newer.group(1), VERSION
                )
            ) from None
        return None


def _is_graph(graph_def):
    """Whether this may be a graph, and not another message that looks like one."""
    return bool(graph_def.node) and all(n.name and n.op for n in graph_def.node)


def assets_of(meta_graph):
    """The AssetFileDefs of a MetaGraphDef, which are in one of two places."""
    found = list(meta_graph.asset_file_def)
    if not found and "saved_model_assets" in meta_graph.collection_def:
        kind = type(tf.MetaGraphDef().asset_file_def.add())
        values = meta_graph.collection_def["saved_model_assets"].any_list.value
        found = [kind.FromString(value.value) for value in values]
    return found


def told_by(stored):
    """Which TensorFlow has written a model and reads it; and which to take instead."""
    writer = stored.meta_graph.meta_info_def.tensorflow_version
    known = "TensorFlow " + writer if writer else "a TensorFlow that it does not tell"
    words = "written by {}, and this is {}".format(known, VERSION)
    numbers = [re.findall(r"\d+", version)[:2] for version in (writer, VERSION)]
    if not writer:
        return words, "the TensorFlow that has written it"
    newer = [int(n) for n in numbers[0]] > [int(n) for n in numbers[1]]
    return words, "TensorFlow {} or newer".format(writer if newer else VERSION)


# Attributes that change no number; and newer ones, with what they are where an op does
# as it always did.
_NOTES = ("debug_name",)
_FALSE = ["grad_a", "grad_b", "grad_x", "grad_y", "resize_if_index_out_of_bounds"]
_NEWER = dict.fromkeys(_FALSE, tf.AttrValue(b=False))
_NEWER["bad_indices_policy"] = tf.AttrValue(s=b"")
_NEWER["Tshape"] = tf.AttrValue(type=tf.int32.as_datatype_enum)


# A machine of a cluster; the one that reads the file is called localhost.
_CLUSTER = re.compile(r"/job:(?!localhost\b)")


def devices_of_cluster(graph_def):
    """The devices of ops on machines of a cluster: a sorted list of str."""
    nodes = [graph_def.node, *(f.node_def for f in graph_def.library.function)]
    found = {node.device for part in nodes for node in part}
    return sorted(device for device in found if _CLUSTER.search(device))


def drop_notes(graph_def):
    """Takes away what newer TensorFlow only notes or hints, and older does not know.

    And where ops were run in the cluster that has written it.
    """
    _drop_notes_of(graph_def.node)
    for function in graph_def.library.function:
        hints = _drop_notes_of(function.node_def)
        ends = function.control_ret
        for key in [key for key in ends if "^" + ends[key] in hints]:
            del ends[key]
            function.signature.control_output.remove(key)


def set_shapes(path, graph_def, shapes):
    """Gives placeholders shapes, from which those of all behind them follow.

    Args:
      path: str, of the file.
      graph_def: tf.GraphDef.
      shapes: dict from their names to lists of int, None for what is open.

    Raises:
      ValueError: there is no such placeholder, or it has another shape.
    """
    nodes = {node.name: node for node in graph_def.node}
    for name, shape in shapes.items():
        node = nodes.get(name[:-2] if name.endswith(":0") else name)
        if node is None or node.op not in ("Placeholder", "PlaceholderWithDefault"):
            raise ValueError("'{}' has no placeholder '{}'.".format(path, name))
        if not all(size is None or isinstance(size, int) for size in shape):
            raise ValueError(
                "'{}' cannot have placeholder '{}' of shape {}: sizes are ints, or "
                "None for what is open.".format(path, name, shape)
            )
        known, given = tf.TensorShape(node.attr["shape"].shape), tf.TensorShape(shape)
        if not known.is_compatible_with(given):
            raise ValueError(
                "'{}' has placeholder '{}' of shape {}, and not {}.".format(
                    path, name, known, given
                )
            )
        node.attr["shape"].shape.CopyFrom(known.merge_with(given).as_proto())
    if shapes:
        for node in graph_def.node:
            node.attr.pop("_output_shapes", None)  # These follow anew.


def _drop_unknown(node, name):
    """Takes an attribute away that this TensorFlow does not know."""
    known = op_definition(node.op)
    if known is not None and all(one.name != name for one in known.attr):
        del node.attr[name]


def _drop_notes_of(nodes):
    """The same of these nodes; answers the names of those that are gone, after "^"."""
    hints = {"^" + n.name for n in nodes if n.op == "DisableCopyOnRead"}
    kept = [node for node in nodes if "^" + node.name not in hints]
    for node in kept:
        if _CLUSTER.search(node.device):
            node.device = ""
        for name in _NOTES:
            node.attr.pop(name, None)
        for name, unused in _NEWER.items():
            if name in node.attr and node.attr[name] == unused:
                _drop_unknown(node, name)
        inputs = [text for text in node.input if text not in hints]
        if len(inputs) < len(node.input):
            del node.input[:]
            node.input.extend(inputs)
    if hints:
        copies = [type(node).FromString(node.SerializeToString()) for node in kept]
        del nodes[:]
        nodes.extend(copies)
    return hints


@contextlib.contextmanager
def named(path):
    """Raises what a damaged file makes TensorFlow or protobuf raise with its name."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        ours = type(error) is ValueError and str(error).startswith("'")
        if ours:  # They begin with the name.
            raise
        words = "'{}' is damaged: {}.".format(path, first_line(error))
        raise ValueError(words) from error


def first_line(error):
    """What an error says, in a few words."""
    return cause(error)[:300].rstrip(".")
