"""Models from files, of both TensorFlows, and files that hold none."""

import os
import shutil

import numpy as np
import pytest
import tensorflow
from oracles import difference_blocks

import batchhess
from batchhess.compat import IS_V1, VERSION, raw_ops, tf
from batchhess.models import load, protos

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "models")
WRITERS = ["tf1", "tf2"]
FORMATS = ["model.meta", "text.meta", "saved_v1", "frozen.pb", "frozen.pbtxt"]
FORMATS += ["saved_v2", "keras"]
X = np.array([[1.0, -2.0, 0.5], [0.3, 2.0, -1.0]], "float32")


def weighted_cubes():
    """The Hessians of sum(w x**3), w = 1, 2, 3."""
    return 6 * np.arange(1.0, 4) * X[:, :, None] * np.eye(3)


def keras_values(writer):
    return np.load(os.path.join(DATA, writer, "keras_values.npy"))


def names(format_):
    """The names of x and f, as a user would give them."""
    return ("x", "f") if format_ != "keras" else (None, None)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_of_both_versions(writer, format_):
    path = os.path.join(DATA, writer, format_)
    checkpoint = os.path.join(DATA, writer, "model") if format_ == "text.meta" else None
    with load(path, checkpoint=checkpoint) as model:
        if format_ == "keras":
            inputs, outputs = model.signatures["serving_default"]
            (x,), (f,) = inputs.values(), outputs.values()
        else:
            x = model.tensor("x" if format_ != "saved_v2" else "serving_default_x:0")
            f = model.tensor("f", fed=[x])
        with model.graph.as_default():
            built = batchhess.derivatives(f, x)
        value, hessian = model.session.run([f, built.hessians[0]], {x: X})
    if format_ == "keras":
        np.testing.assert_allclose(value, keras_values(writer), rtol=1e-5)
        assert np.abs(hessian).max() > 1e-3
    else:
        np.testing.assert_allclose(value, (np.arange(1, 4) * X**3).sum(1), rtol=1e-5)
        np.testing.assert_allclose(hessian, weighted_cubes(), rtol=1e-5)


def path_of(name):
    return os.path.join(DATA, "tf1", name)


def test_names_that_are_nearly_right_are_told():
    with load(path_of("model.meta")) as model:
        assert model.tensor("f") is model.tensor("f:0")
        with pytest.raises(ValueError, match="no tensor 'X:1'. The nearest .* x:0"):
            model.tensor("X:1")
        with pytest.raises(ValueError, match="nearest names are: .*placeholder|x:0"):
            model.tensor("nothing like it")


def test_a_key_that_two_tensors_go_by_is_refused(tmp_path):
    with tf.Session() as session:
        x = tf.placeholder(tf.float32, [None], name="x")
        other = tf.placeholder(tf.float32, [None], name="other")
        tf.saved_model.simple_save(
            session, str(tmp_path / "m"), {"x": other}, {"f": x + other}
        )
    with load(tmp_path / "m") as model:
        with pytest.raises(ValueError, match="several .* called 'x': 'x:0', 'other:0'"):
            model.tensor("x")


def test_a_key_of_several_signatures(tmp_path):
    first, second, f, g = [
        tf.placeholder(tf.float32, [None], name=name) for name in ("p", "q", "f", "g")
    ]

    def save(directory, *names):
        definitions = {
            name: tf.saved_model.predict_signature_def({"x": x}, {"y": y})
            for name, x, y in zip(names, (first, second), (f, g))
        }
        with tf.Session() as session:
            builder = tf.saved_model.Builder(str(tmp_path / directory))
            builder.add_meta_graph_and_variables(
                session, ["serve"], signature_def_map=definitions
            )
            builder.save()
        return tmp_path / directory

    served = save("served", "other", "serving_default")
    with load(served) as model:
        assert model.find("x").name == "q:0" and model.find("y").name == "g:0"
    with load(served, signature="other") as model:
        assert model.find("x").name == "p:0" and model.find("y").name == "f:0"
    with load(save("two", "one", "two")) as model:
        with pytest.raises(ValueError, match=r"called 'x': 'p:0', 'q:0'.*=KEY \(--sig"):
            model.find("x")
    with pytest.raises(ValueError, match="no signature 'no'; it has: other, serving_d"):
        load(served, signature="no")
    with pytest.raises(ValueError, match="no signature 'no'; it has: none"):
        load(path_of("model.meta"), signature="no")


def test_keys_of_a_signature_that_was_not_asked_for(tmp_path):
    """They are not advised; and neither is a signature where none of them helps."""
    x, y = [tf.placeholder(tf.float32, [None], name=name) for name in ("a", "b")]
    signature = tf.saved_model.predict_signature_def
    definitions = {
        "one": signature({"same": x, "only_one": x}, {"same": y}),
        "two": signature({"same": x, "only_two": x}, {"same": y}),
    }
    with tf.Session() as session:
        builder = tf.saved_model.Builder(str(tmp_path / "m"))
        builder.add_meta_graph_and_variables(
            session, ["serve"], signature_def_map=definitions
        )
        builder.save()
    with load(tmp_path / "m", signature="one") as model:
        with pytest.raises(ValueError, match="names are: only_one((?!only_two).)*$"):
            model.find("only_on")
        with pytest.raises(ValueError, match="'only_two', but in signature 'two'"):
            model.find("only_two")
        assert model.find("only_one").name == "a:0"
    for signature in (None, "one"):  # Of either, it is two tensors.
        with load(tmp_path / "m", signature=signature) as model:
            with pytest.raises(ValueError, match="Pass one of these names.$"):
                model.find("same")


def test_tags_are_a_word_or_words_or_none(tmp_path):
    x = tf.placeholder(tf.float32, [None], name="x")
    with tf.Session() as session:
        builder = tf.saved_model.Builder(str(tmp_path / "m"))
        builder.add_meta_graph_and_variables(session, ["train"])
        builder.add_meta_graph([])
        builder.save()
    assert x.name == "x:0"
    for tags, others in (
        ("train", []),
        (["train"], []),
        ("", "train"),
        ([""], "train"),
    ):
        with load(tmp_path / "m", tags=tags) as model:
            assert model.stored.others == [[others] if others else []]
    with pytest.raises(ValueError, match=r"and none of \['serve'\]"):
        load(tmp_path / "m")


def test_weights_are_initialized_only_if_asked_for(tmp_path):
    shutil.copy(path_of("model.meta"), str(tmp_path))
    with load(tmp_path / "model.meta") as model:
        with pytest.raises(ValueError, match="no checkpoint is beside it. Pass checkp"):
            assert model.session
    with load(tmp_path / "model.meta", initialize=True) as model:
        (w,) = model.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
        np.testing.assert_allclose(model.session.run(w), [5.0, 5.0, 5.0])


def test_what_is_no_model_is_refused_by_name(tmp_path):
    for name, data, words in (
        ("a.meta", b"", "a.meta' is empty"),
        ("b.pb", b"\x00\x01\x02", "b.pb' is no MetaGraph and no graph"),
        ("c.pbtxt", b"node { name: 3", "c.pbtxt' is no MetaGraph and no graph"),
        ("d.h5", b"\x89HDF\r\n\x1a\n", "d.h5' is a model of Keras alone"),
        ("e.pbtxt", b'node { name: "a" op: "NoSuchOp" }', "e.pbtxt' cannot be read"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=words):
            load(tmp_path / name)
    with pytest.raises(ValueError, match="without a saved_model.pb: it holds a.meta"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.pb")
    (tmp_path / "saved_model.pb").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="saved_model.pb' is damaged"):
        load(tmp_path)


def test_a_newer_writer_is_told(tmp_path):
    meta = tf.MetaGraphDef()
    meta.graph_def.node.add(name="a", op="OpOfTomorrow")
    meta.meta_info_def.tensorflow_version = "9.9.0"
    path = tmp_path / "new.meta"
    path.write_bytes(meta.SerializeToString())
    words = "written by TensorFlow 9.9.0, and this is {}.*take TensorFlow 9.9.0 or"
    with pytest.raises(ValueError, match=words.format(VERSION)):
        load(path)


def test_a_damaged_checkpoint_is_told(tmp_path):
    for name in ("model.meta", "model.index", "model.data-00000-of-00001"):
        shutil.copy(path_of(name), str(tmp_path))
    with open(str(tmp_path / "model.index"), "r+b") as file:
        file.write(bytes(50))
    with load(tmp_path / "model.meta") as model:
        with pytest.raises(ValueError, match="does not restore '.*model.meta'"):
            assert model.session


@pytest.mark.parametrize("name", ["gone/m", "gone", "model"])
def test_a_checkpoint_that_is_not_there_is_told(tmp_path, name):
    shutil.copy(path_of("model.meta"), str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no checkpoint '.*{}'".format(name)):
        load(tmp_path / "model.meta", checkpoint=tmp_path / name)


def with_variable(path, shape, resource, **options):
    """A MetaGraph of sum(w) x**3, for a w of ones, and its checkpoint."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, [None], name="x")
        options.update(initializer=tf.ones_initializer(), dtype=tf.float64)
        w = tf.get_variable("w", shape, use_resource=resource, **options)
        total = tf.reduce_sum(tf.convert_to_tensor(w))
        tf.multiply(x**3, total, name="f")
        session.run(tf.global_variables_initializer())
        return tf.train.Saver().save(session, str(path))


@pytest.mark.parametrize("resource", [True, False])
def test_a_checkpoint_of_other_shapes_is_refused(tmp_path, resource):
    own = with_variable(tmp_path / "own", [4, 3], resource)
    for name, shape in (("wide", [4, 5]), ("flat", [12]), ("turned", [3, 4])):
        other = with_variable(tmp_path / name, shape, resource)
        told = [[4, 3], shape]
        if not resource:  # TensorFlow's own words.
            told = [str(s).replace(" ", "") for s in told]
        words = "'{}' does not restore '.*': variable 'w'.* {}.* {}".format(
            other, *told
        )
        words = words.replace("[", r"\[").replace("]", r"\]")
        with load(own + ".meta", checkpoint=other) as model:
            with pytest.raises(ValueError, match=words):
                assert model.session
    with load(own + ".meta") as model:
        assert model.session.run("f:0", {"x:0": [2.0]}) == [8 * 12]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", ["saved_v2", "keras"])
def test_a_checkpoint_of_other_shapes_is_refused_where_a_function_restores(
    tmp_path, name, writer
):
    path = os.path.join(DATA, writer, name)
    own = os.path.join(path, "variables", "variables")
    reader, other = tf.train.load_checkpoint(own), str(tmp_path / "other")
    with tf.Graph().as_default(), tf.Session() as session:
        found = {
            key: np.asarray(reader.get_tensor(key), None if shape else object)
            for key, shape in reader.get_variable_to_shape_map().items()
        }
        key = next(key for key in sorted(found) if found[key].ndim)
        found[key] = np.stack([found[key]] * 2)
        variables = {
            key: tf.get_variable("v{}".format(at), initializer=tf.constant(value))
            for at, (key, value) in enumerate(found.items())
        }
        session.run(tf.global_variables_initializer())
        tf.train.Saver(variables).save(session, other, write_meta_graph=False)
    with load(path, checkpoint=other) as model:
        with pytest.raises(ValueError, match=r"variable '.*' has shape \[.*and \[2, "):
            assert model.session


@pytest.mark.parametrize("resource", [True, False])
def test_slices_of_a_variable_are_restored_from_the_whole(tmp_path, resource):
    parts = {"partitioner": tf.fixed_size_partitioner(2)}
    own = with_variable(tmp_path / "own", [4, 3], resource, **parts)
    whole = with_variable(tmp_path / "whole", [4, 3], resource)
    for checkpoint in (own, whole):
        with load(own + ".meta", checkpoint=checkpoint) as model:
            assert model.session.run("f:0", {"x:0": [2.0]}) == [8 * 12]
    other = with_variable(tmp_path / "other", [6, 3], resource)
    with load(own + ".meta", checkpoint=other) as model:
        with pytest.raises(ValueError, match="does not restore"):
            assert model.session


def saved(tmp_path, build):
    """A MetaGraph of what `build` makes of x."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None], name="x")
        tf.identity(build(x), name="f")
        path = str(tmp_path / "model.meta")
        tf.train.export_meta_graph(path, graph=graph)
    return path


@pytest.mark.parametrize("op", ["read", "write", "py_func"])
def test_models_with_effects_are_refused_before_they_run(tmp_path, op):
    victim = tmp_path / "victim"

    def build(x):
        if op == "read":
            return x + tf.strings.to_number(tf.read_file(str(victim)))
        if op == "write":
            with tf.control_dependencies([tf.write_file(str(victim), "harm")]):
                return x + 1
        return tf.py_func(lambda value: value, [x], tf.float32)

    path = saved(tmp_path, build)
    with load(path) as model:
        with pytest.raises(ValueError, match=r"reach files, .*\((Read|Write|Py)"):
            model.tensor("f")
    with load(path, allow_effects=True) as model:
        model.tensor("f")
    assert not victim.exists()


def test_effects_inside_functions_and_loops_are_found(tmp_path, control_flow):
    def body(i):
        with tf.control_dependencies([tf.write_file(str(tmp_path / "victim"), "a")]):
            return i + 1

    path = saved(tmp_path, lambda x: x + tf.while_loop(lambda i: i < 3.0, body, [0.0]))
    with load(path) as model, pytest.raises(ValueError, match="WriteFile"):
        model.tensor("f")


def test_effects_inside_one_of_many_branches_are_found(tmp_path):
    tf.enable_control_flow_v2()

    def harmful():
        with tf.control_dependencies([tf.write_file(str(tmp_path / "victim"), "a")]):
            return tf.constant(1.0)

    def build(x):
        index = tf.cast(tf.reduce_sum(x), tf.int32)
        return x + tensorflow.switch_case(index, [lambda: tf.constant(0.0), harmful])

    path = saved(tmp_path, build)
    with load(path) as model, pytest.raises(ValueError, match="WriteFile"):
        model.tensor("f")


def test_an_initializer_with_an_effect_is_refused(tmp_path):
    with tf.Graph().as_default() as graph:
        text = tf.read_file(str(tmp_path / "victim"))
        tf.get_variable("w", initializer=lambda: tf.strings.to_number(text), dtype=None)
        path = str(tmp_path / "model.meta")
        tf.train.export_meta_graph(path, graph=graph)
    with load(path, initialize=True) as model:
        with pytest.raises(ValueError, match=r"its initializers needs? ops .*ReadFile"):
            assert model.session


def test_what_is_fed_is_not_run(tmp_path):
    def build(x):
        read = tf.identity(tf.strings.length(tf.read_file("nothing")), name="read")
        return x * tf.cast(read, tf.float32)

    with load(saved(tmp_path, build)) as model:
        with model.graph.as_default():
            read = model.graph.get_tensor_by_name("read:0")
            f = model.tensor("f", fed=[read])
        assert f.name == "f:0"


def test_tables_are_filled_from_the_assets(tmp_path):
    (tmp_path / "words.txt").write_text("a\nb\nc\n")
    with tf.Graph().as_default(), tf.Session() as session:
        asset = tf.constant(str(tmp_path / "words.txt"))
        tf.add_to_collection(tf.GraphKeys.ASSET_FILEPATHS, asset)
        table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                asset,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            -1,
        )
        x = tf.placeholder(tf.float32, [None], name="x")
        index = table.lookup(tf.constant("c"))
        f = tf.multiply(x**2, tf.cast(index, tf.float32), name="f")
        session.run(tf.tables_initializer())
        builder = tf.saved_model.Builder(str(tmp_path / "m"))
        signature = tf.saved_model.predict_signature_def({"x": x}, {"f": f})
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": signature},
            assets_collection=tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS),
            main_op=tf.tables_initializer(),
        )
        builder.save()
    os.remove(str(tmp_path / "words.txt"))
    with load(tmp_path / "m") as model:
        x, f = model.tensor("x"), model.tensor("f")
        np.testing.assert_allclose(model.session.run(f, {x: [3.0]}), [18.0])


def test_a_model_of_random_bytes_never_raises_another_error(tmp_path, random):
    """A damaged file is an error that names it."""
    for name in ("model.meta", "text.meta", "frozen.pb", "frozen.pbtxt"):
        with open(path_of(name), "rb") as file:
            whole = bytearray(file.read())
        for _ in range(10):
            spoiled = bytearray(whole)
            for at in random.randint(0, len(whole), 3):
                spoiled[at] = random.randint(256)
            path = tmp_path / name
            path.write_bytes(bytes(spoiled[: random.randint(1, len(whole))]))
            try:
                load(path).close()
            except ValueError as error:
                assert str(path) in str(error)


def test_outputs_are_those_of_the_model_and_not_of_its_training(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        y = tf.placeholder(tf.float32, [None], name="y")
        training = tf.placeholder_with_default(False, [], name="training")
        hidden = tf.cond(training, lambda: 2 * x, lambda: tf.tanh(x))
        v = tf.get_variable("v", initializer=np.ones(3, "float32"))
        f = tf.reduce_sum(v * hidden, 1, name="f")
        loss = tf.reduce_mean((f - y) ** 2, name="loss")
        tf.train.AdamOptimizer().minimize(loss)
        mean = tf.get_variable("mean", initializer=0.0)
        tf.assign(mean, 0.9 * mean + 0.1 * tf.reduce_mean(f))
        tf.summary.scalar("loss", loss)
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver().save(session, str(tmp_path / "model")) + ".meta"
    with load(path) as model:
        assert [t.name for t in model.outputs] == ["loss:0"]
        assert "f:0" in [t.name for t in model.inner]
        assert not model.effects()
        with pytest.raises(ValueError, match=r"The nearest names are: .*loss:0"):
            model.find("no such name")


def test_what_takes_nothing_has_outputs_too(tmp_path):
    with tf.Graph().as_default() as graph:
        tf.identity(tf.random_uniform([2]), name="drawn")
        tf.train.export_meta_graph(str(tmp_path / "m.meta"), graph=graph)
    with load(tmp_path / "m.meta") as model:
        assert [t.name for t in model.outputs] == ["drawn:0"]


def with_table(more=0.0):
    """x [N, 2], and sum(x**2) times the numbers of a table for keys k: 10, 20, else 1.

    The table is filled in the Session, and `more` is added to f.
    """
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    k = tf.placeholder(tf.int64, [None], name="k")
    table = tf.lookup.experimental.DenseHashTable(
        tf.int64, tf.float64, np.float64(1), empty_key=-1, deleted_key=-2
    )
    fill = table.insert(
        tf.constant([1, 2], tf.int64), tf.constant([10, 20.0], tf.float64)
    )
    f = tf.add(tf.reduce_sum(x**2, 1) * table.lookup(k), more, name="f")
    return x, k, f, fill


def factors(model):
    x, k, f = (model.find(name) for name in "xkf")
    with model.graph.as_default():
        (hessian,) = batchhess.hessians(f, x)
    feed = {x: np.ones((3, 2)), k: [2, 1, 7]}
    return model.session.run(hessian, feed)[:, 0, 0] / 2


@pytest.mark.parametrize("more", [False, True])
def test_tables_that_change_are_restored_and_exported(tmp_path, more):
    with tf.Session() as session:
        v = tf.Variable(np.float64(3)) if more else 0.0
        x, k, f, fill = with_table(v)
        session.run([tf.global_variables_initializer(), fill])
        tf.train.Saver().save(session, str(tmp_path / "m"))
        batchhess.export(session, tmp_path / "out", f, x)
    with load(tmp_path / "m.meta") as model:
        np.testing.assert_allclose(factors(model), [20, 10, 1])
    (tmp_path / "m.index").rename(tmp_path / "n.index")
    with load(tmp_path / "m.meta") as model:
        with pytest.raises(ValueError, match="no checkpoint is beside it"):
            assert model.session
    with load(tmp_path / "out") as model:
        signature = model.signatures["hessians"]
        feed = {signature[0]["x"]: np.ones((3, 2)), signature[0]["k"]: [2, 1, 7]}
        found = model.session.run(signature[1]["hessians"], feed)
        np.testing.assert_allclose(found[:, 0, 0] / 2, [20, 10, 1])


def test_a_table_that_nothing_fills_is_told(tmp_path):
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    table = raw_ops.HashTableV2(key_dtype=tf.int64, value_dtype=tf.float64)
    found = raw_ops.LookupTableFindV2(
        table_handle=table, keys=[1], default_value=np.float64(1)
    )
    f = tf.multiply(tf.reduce_sum(x**2, 1), found, name="f")
    frozen = tf.get_default_graph().as_graph_def()
    (tmp_path / "frozen.pb").write_bytes(frozen.SerializeToString())
    with load(tmp_path / "frozen.pb") as model:
        with pytest.raises(ValueError, match="table 'HashTableV2', and nothing in the"):
            model.tensor("f")
        assert model.tensor("f", fed=[model.find(found.name)]).name == "f:0"
    with pytest.raises(ValueError, match="has no variables, so no checkpoint"):
        load(tmp_path / "frozen.pb", checkpoint=os.path.join(DATA, "tf1", "model"))
    with tf.Session() as session:
        with pytest.raises(ValueError, match="nothing fills table 'HashTableV2'"):
            batchhess.export(session, tmp_path / "out", f, x)


@pytest.mark.parametrize("calls", [1, 2])
def test_functions_without_end_are_refused(tmp_path, calls):
    """One that calls itself; and forty, each of which calls the next one twice."""
    x = tf.placeholder(tf.float32, [None], name="x")
    graph = x.graph.as_graph_def()
    for level in range(1 if calls == 1 else 40):
        function = graph.library.function.add()
        function.signature.name = "f{}".format(level)
        for side in (function.signature.input_arg, function.signature.output_arg):
            argument = side.add()
            argument.name, argument.type = "z", x.dtype.as_datatype_enum
        source = "z"
        for number in range(calls):
            last = calls == 2 and level == 39
            node = function.node_def.add()
            node.name, node.op = "call{}".format(number), "PartitionedCall"
            if last:
                node.op = "Identity"
                node.attr["T"].type = x.dtype.as_datatype_enum
            else:
                following = 0 if calls == 1 else level + 1
                node.attr["f"].func.name = "f{}".format(following)
                for key in ("Tin", "Tout"):
                    node.attr[key].list.type.append(x.dtype.as_datatype_enum)
            node.input.append(source)
            source = node.name + ":output:0"
        function.ret["z"] = source
    node = graph.node.add()
    node.name, node.op = "y", "PartitionedCall"
    node.input.append("x")
    node.attr["f"].func.name = "f0"
    for key in ("Tin", "Tout"):
        node.attr[key].list.type.append(x.dtype.as_datatype_enum)
    (tmp_path / "m.pb").write_bytes(graph.SerializeToString())
    words = "without end" if calls == 1 else "until there are [0-9,]{10,} ops"
    with pytest.raises(
        ValueError, match="m.pb' cannot be read: its functions.*" + words
    ):
        load(tmp_path / "m.pb")


def test_what_newer_ops_of_functions_do_as_ever_is_dropped():
    """2.21 tells of a TensorList what 1.15 does not know, and does not differ in."""
    graph = tf.GraphDef()
    function = graph.library.function.add()
    function.signature.name = "body"
    for name, shape in (("short", tf.int32), ("long", tf.int64)):
        node = function.node_def.add(name=name, op="TensorListGetItem")
        node.attr["Tshape"].type = shape.as_datatype_enum
    node = function.node_def.add(name="set", op="TensorListSetItem")
    node.attr["resize_if_index_out_of_bounds"].b = False
    node = function.node_def.add(name="reshape", op="Reshape")
    node.attr["Tshape"].type = tf.int32.as_datatype_enum
    protos.drop_notes(graph)
    short, long, put, reshape = (set(n.attr) for n in function.node_def)
    assert "Tshape" in reshape & long  # Known to both; and not as ever.
    known = {"Tshape"} & short, {"resize_if_index_out_of_bounds"} & put
    assert [bool(k) for k in known] == [not IS_V1] * 2


def test_a_field_of_newer_text_is_told(tmp_path):
    path = tmp_path / "model.pbtxt"
    path.write_text('node { name: "a" op: "NoOp" experimental_future { type_id: 1 } }')
    with pytest.raises(ValueError, match="a field 'experimental_future', which Tensor"):
        batchhess.load(str(path))


@pytest.mark.parametrize("is_training", [False, True])
def test_batch_normalization_of_a_frozen_graph(is_training, tmp_path, random):
    """It has forgotten which branch its ops are of."""
    tf.disable_control_flow_v2()
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float64, [None, 3], name="x")
        training = tf.placeholder_with_default(False, [], name="training")
        kept = tuple(tf.constant(random.rand(3)) for _ in range(2))
        moments = tuple(tf.nn.moments(x, [0]))
        mean, variance = tf.cond(training, lambda: moments, lambda: kept)
        scaled = tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3)
        tf.reduce_sum(scaled**3, axis=1, name="f")
        definition = graph.as_graph_def()
    (tmp_path / "m.pb").write_bytes(definition.SerializeToString())
    value = random.randn(4, 3)
    with batchhess.load(str(tmp_path / "m.pb")) as model, model.graph.as_default():
        f, x = model.tensor("f"), model.tensor("x")
        feed = {model.tensor("training"): is_training}
        method = "observations" if is_training else "auto"
        (h,) = batchhess.hessians(f, x, method=method)
        found = model.session.run(h, {**feed, x: value})
        expected = difference_blocks(f, x, value, feed)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def without_shapes(path):
    x = tf.placeholder(tf.float64, name="x")
    w = tf.constant([[1.0, 2.0], [0.5, -1.0], [0.3, 0.1]], tf.float64)
    tf.reduce_sum(tf.sin(tf.matmul(x, w)), 1, name="f")
    tf.placeholder(tf.float64, [None, 2], name="z")
    graph = tf.get_default_graph().as_graph_def(add_shapes=True)
    path.write_bytes(graph.SerializeToString())
    return str(path)


def test_shapes_that_the_file_leaves_open(tmp_path, random):
    path, value = without_shapes(tmp_path / "m.pb"), random.randn(4, 3)
    with batchhess.load(path) as model, model.graph.as_default():
        with pytest.raises(ValueError, match="by shapes= of batchhess.load"):
            batchhess.hessians(model.tensor("f"), model.tensor("x"))
    with batchhess.load(path, shapes={"x": [None, 3]}) as model:
        f, x = model.tensor("f"), model.tensor("x")
        with model.graph.as_default():
            (h,) = batchhess.hessians(f, x)
            assert h.shape.as_list() == [None, 3, 3]
            expected = difference_blocks(f, x, value)
        found = model.session.run(h, {x: value})
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize(
    "shapes, told",
    [
        ({"y": [3]}, "has no placeholder 'y'"),
        ({"f": [None]}, "has no placeholder 'f'"),
        ({"x": [3.5]}, "sizes are ints, or None"),
        ({"z": [None, 3]}, "'z' of shape .* and not"),
    ],
)
def test_shapes_that_do_not_fit_are_told(shapes, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        batchhess.load(without_shapes(tmp_path / "m.pb"), shapes=shapes)
