"""Stored models that reach beyond themselves are refused before anything runs."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow

import batchhess
from batchhess.cli import main
from batchhess.compat import IS_V1, raw_ops, tf
from batchhess.models import effects

GRAPH = b""  # What stands in it, no graph shows.


def of_a_dataset_in_a_string(x):
    text = tf.strings.join([tf.constant(GRAPH), tf.as_string(tf.reduce_sum(x))])
    dataset = raw_ops.DatasetFromGraph(graph_def=text)
    found = raw_ops.DatasetToSingleElement(
        dataset=dataset, output_types=[tf.int64], output_shapes=[[]]
    )
    return tf.nest.flatten(found)[0]


def of_a_file_of_words(x):
    del x
    found = tf.nn.fixed_unigram_candidate_sampler(
        tf.zeros([1, 1], tf.int64), 1, 1, False, 4, vocab_file="words.txt"
    )
    return tf.reduce_sum(found[0])


def of_a_file_of_messages(x):
    del x
    return tf.reduce_sum(
        raw_ops.DecodeProtoV2(
            bytes=tf.constant([b""]),
            message_type="a.B",
            field_names=["x"],
            output_types=[tf.int64],
            descriptor_source="messages.pb",
        ).sizes
    )


def of_words_that_are_given(x):
    del x
    found = tf.nn.fixed_unigram_candidate_sampler(
        tf.zeros([1, 1], tf.int64), 1, 1, False, 2, unigrams=[1.0, 2.0]
    )
    return tf.reduce_sum(found[0])


def saved(path, extra):
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 2], name="x")
        added = tf.stop_gradient(tf.cast(extra(x), tf.float32))
        tf.add(tf.reduce_sum(x**3, 1), added, name="f")
        path.write_bytes(graph.as_graph_def().SerializeToString())
    return str(path)


@pytest.mark.parametrize(
    "build, kind",
    [
        (of_a_dataset_in_a_string, "DatasetFromGraph"),
        (of_a_file_of_words, "FixedUnigramCandidateSampler"),
        (of_a_file_of_messages, "DecodeProtoV2"),
    ],
)
def test_what_an_op_reads_or_runs_unseen_is_refused(build, kind, tmp_path):
    path = saved(tmp_path / "model.pb", build)
    with batchhess.load(path) as model, pytest.raises(ValueError, match=kind):
        model.tensor("f", fed=[model.find("x")])


def test_the_same_op_without_a_file_is_not(tmp_path):
    path = saved(tmp_path / "model.pb", of_words_that_are_given)
    with batchhess.load(path) as model:
        assert model.tensor("f").name == "f:0"


def test_what_is_above_a_fed_tensor_is_not_run(tmp_path):
    """Not to know the model again either."""
    victim = tmp_path / "victim"
    with tf.control_dependencies([tf.write_file(str(victim), "harm")]):
        v = raw_ops.VariableV2(shape=[2], dtype=tf.float32)
    x = tf.add(tf.placeholder(tf.float32, [None, 2]), v, name="x")
    tf.reduce_sum(x**3, 1, name="f")
    graph = x.graph.as_graph_def()
    (tmp_path / "m.pb").write_bytes(graph.SerializeToString())
    np.save(str(tmp_path / "x.npy"), np.ones((3, 2)))
    command = ["run", str(tmp_path / "m.pb"), "--ys", "f", "--xs", "x", "--initialize"]
    command += ["--feed", "x={}".format(tmp_path / "x.npy")]
    assert main(command + ["--out", str(tmp_path / "out")]) == 0
    assert not victim.exists()


def initialized_by_a_function(path, name_of_file):
    """A SavedModel whose main op fills a table inside a function, from a file."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 2], name="x")
        table = raw_ops.HashTableV2(key_dtype=tf.int64, value_dtype=tf.string)

        @tensorflow.function
        def fill(handle, file):
            raw_ops.InitializeTableFromTextFileV2(
                table_handle=handle, filename=file, key_index=-1, value_index=-2
            )
            return tf.constant(1.0)

        file, assets = name_of_file()
        start = tf.identity(fill(table, file), name="start")
        f = tf.reduce_sum(x**3, 1, name="f")
        builder = tf.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            [tf.saved_model.tag_constants.SERVING],
            {
                "serving_default": tf.saved_model.predict_signature_def(
                    {"x": x}, {"f": f}
                )
            },
            assets_collection=assets,
            main_op=start.op,
        )
        builder.save()
    return str(path)


def test_a_file_that_a_function_is_called_with_is_given_or_refused(tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("a\nb\n")

    def of_the_model():
        file = tf.constant(str(words))
        tf.add_to_collection(tf.GraphKeys.ASSET_FILEPATHS, file)
        return file, tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS)

    def of_anyone():
        return tf.constant(str(words)), None

    given = initialized_by_a_function(tmp_path / "given", of_the_model)
    taken = initialized_by_a_function(tmp_path / "taken", of_anyone)
    with batchhess.load(given) as model:
        found = model.session.run("f:0", {"x:0": np.ones((1, 2))})
        np.testing.assert_allclose(found, [2.0])
    with batchhess.load(taken) as model:
        with pytest.raises(ValueError, match="InitializeTableFromTextFileV2"):
            model.session.run("f:0", {"x:0": np.ones((1, 2))})


@pytest.mark.skipif(not IS_V1, reason="protobuf of TensorFlow 2 refuses it itself")
def test_a_graph_that_ends_in_the_middle_is_not_read_by_half(tmp_path):
    path = tmp_path / "model.pb"
    saved(path, lambda x: tf.zeros([]))
    whole = path.read_bytes()
    graph = tf.GraphDef.FromString(whole)
    half = len(tf.GraphDef(node=graph.node[:3]).SerializeToString())
    path.write_bytes(whole[:half] + b"\x0c" + whole[half:])
    with pytest.raises(ValueError, match="no MetaGraph and no graph"):
        batchhess.load(str(path))


@pytest.mark.skipif(IS_V1, reason="the saver of TensorFlow 2 needs eager tensors")
def test_a_vocabulary_of_a_model_of_tensorflow_2_is_given(tmp_path):
    """It keeps the name of the file in a variable."""
    words, program = tmp_path / "words.txt", tmp_path / "save.py"
    words.write_text("a\nb\n")
    program.write_text(SAVE.format(words=str(words), out=str(tmp_path / "model")))
    subprocess.check_call([sys.executable, str(program)], stderr=subprocess.DEVNULL)
    with batchhess.load(str(tmp_path / "model")) as model:
        inputs, outputs = model.signatures["serving_default"]
        with model.graph.as_default():
            (hessian,) = batchhess.hessians(outputs["f"], inputs["x"])
        fed = {inputs["x"]: np.ones((1, 2))}
        found, whole = model.session.run([outputs["f"], hessian], fed)
        np.testing.assert_allclose(found, [2.0])
        np.testing.assert_allclose(whole, [6 * np.eye(2)])


SAVE = """
import tensorflow as tf

class Words(tf.Module):
    def __init__(self):
        file = tf.lookup.TextFileInitializer({words!r}, tf.string, -2, tf.int64, -1)
        self.table = tf.lookup.StaticHashTable(file, -1)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
    def serve(self, x):
        place = tf.cast(self.table.lookup(tf.constant("b")), tf.float32)
        return {{"f": place * tf.reduce_sum(x**3, 1)}}

words = Words()
tf.saved_model.save(words, {out!r}, words.serve)
"""


def test_what_a_loop_passes_on_is_given_by_nobody():
    body = function_def("body", ["i", "file"])
    reads = body.node_def.add(name="fill", op="InitializeTableFromTextFileV2")
    reads.input.extend(["table", "file"])
    functions = {"body": body}
    for kind, harmful in (("For", True), ("PartitionedCall", False)):
        node = tf.NodeDef(name="call", op=kind)
        node.input.extend(["file", "file"])
        node.attr["f"].func.name = "body"
        search = effects._Search(functions)
        search.visit(node, "call", lambda text: text == "file")
        assert bool(search.found) == harmful


def function_def(name, arguments):
    function = type(tf.GraphDef().library.function.add())()
    function.signature.name = name
    for argument in arguments:
        function.signature.input_arg.add(name=argument)
    return function
