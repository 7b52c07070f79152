"""Random models that were written to a file, and are read back into another graph."""

import re

import tensorflow

from batchhess.compat import tf

# How a model is read. "by a stranger": gradients that Python registers for each call or
# function are known by no such name, as in another process. "by another": those of
# calls are known by the name of another function's.
WAYS = ["meta graph", "graph def", "graph def with a prefix"]
PROCESSES = ["the same process", "a stranger", "another"]


def read_back(draw, random):
    """Draws a model in a graph of its own, and reads it into the default graph.

    Args:
      draw: function that draws a `Model` in the default graph.
      random: RandomState.

    Returns:
      the `Model`, its Tensors and Operations those of the default graph.
    """
    way = WAYS[random.randint(len(WAYS))]
    process = PROCESSES[random.randint(len(PROCESSES))]
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(1)
        model = draw()
        start = tf.global_variables_initializer()
        model = model._replace(restart=list(model.restart) + [start])
        decoy = _decoy() if process == "another" else None
        meta = tf.train.export_meta_graph(graph=graph, clear_devices=False)
    meta = _as_of(meta, process, decoy)
    model.words.append("read back as a {} by {}".format(way, process))
    prefix = ""
    if way == "meta graph":
        tf.train.import_meta_graph(meta)
    else:
        prefix = "read" if way.endswith("prefix") else ""
        tf.import_graph_def(meta.graph_def, name=prefix)
    return _moved(model, prefix + "/" if prefix else "")


def _decoy():
    """The name of the gradient of a function that a model has not."""
    v = tf.placeholder(tf.float64, [None])
    called = tensorflow.function(lambda t: tf.exp(t) * 7, autograph=False)(v)
    tf.gradients(called, v)
    try:
        return called.op.get_attr("_gradient_op_type").decode()
    except ValueError:
        return None


def _as_of(meta, process, decoy):
    """`meta` as if it were of another process."""
    if process == "the same process":
        return meta
    functions = meta.graph_def.library
    for nodes in [meta.graph_def.node] + [f.node_def for f in functions.function]:
        for node in nodes:
            name = node.attr["_gradient_op_type"].s.decode()
            if re.match("(Stateful)?PartitionedCall-", name):
                other = decoy if process == "another" and decoy else name + "-strange"
            elif re.match("CustomGradient-", name):
                other = name + "-strange"
            else:
                other = name
            if other:
                node.attr["_gradient_op_type"].s = other.encode()
            else:
                del node.attr["_gradient_op_type"]
    return meta


def _moved(model, prefix):
    """`model` with what has its Tensors' names in the default graph."""
    graph = tf.get_default_graph()

    def tensor(old):
        return graph.get_tensor_by_name(prefix + old.name)

    def operation(old):
        op = old if isinstance(old, tf.Operation) else old.op
        return graph.get_operation_by_name(prefix + op.name)

    def place(session, moved):
        placed = model.place(session, moved)
        return {prefix + old.name: value for old, value in placed.items()}

    return model._replace(
        ys=[tensor(y) for y in model.ys],
        xs=[tensor(x) for x in model.xs],
        feed={tensor(old): value for old, value in model.feed.items()},
        place=place,
        restart=[operation(op) for op in model.restart],
        stops=[tensor(stop) for stop in model.stops],
        fed=[(tensor(a), tensor(b)) for a, b in model.fed],
        train=None if model.train is None else operation(model.train),
    )
