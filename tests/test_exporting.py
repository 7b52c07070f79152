"""A SavedModel with Hessians: served by a process that has no batchhess."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from batchhess.cli import main
from batchhess.compat import raw_ops, tf
from batchhess.exporting import export, write
from batchhess.models import load

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "models")

SERVE = """
import json, sys
sys.modules["batchhess"] = None  # It cannot be imported.
import numpy as np, tensorflow
tf = tensorflow.compat.v1
directory, how = sys.argv[1:]
x = np.array([[1.0, -2.0, 0.5], [0.3, 2.0, -1.0]], "float32")
if how == "v1":
    with tf.Graph().as_default(), tf.Session() as session:
        meta = tf.saved_model.load(session, ["serve"], directory)
        s = meta.signature_def["hessians"]
        (key,) = s.inputs
        found = session.run({k: t.name for k, t in s.outputs.items()},
                            {s.inputs[key].name: x})
        own = sorted(meta.signature_def)
else:
    tf.enable_v2_behavior()
    loaded = tensorflow.compat.v2.saved_model.load(directory)
    own = sorted(loaded.signatures)
    f = loaded.signatures["hessians"]
    found = {k: v.numpy() for k, v in f(x=tensorflow.constant(x)).items()}
print(json.dumps([own, {k: np.asarray(v).tolist() for k, v in found.items()}]))
"""


def served(directory, how):
    output = subprocess.check_output(
        [sys.executable, "-c", SERVE, str(directory), how], stderr=subprocess.PIPE
    )
    return json.loads(output.decode().splitlines()[-1])


@pytest.mark.parametrize(
    "name, how", [("saved_v1", "v1"), ("saved_v2", "v1"), ("saved_v1", "v2")]
)
def test_what_is_exported_is_served_without_batchhess(tmp_path, name, how):
    out = tmp_path / "out"
    with load(os.path.join(DATA, "tf1", name)) as model:
        inputs, outputs = model.signatures["serving_default"]
        export(
            model.session,
            out,
            outputs["f"],
            list(inputs.values()),
            signatures=model.signatures,
        )
    signatures, found = served(out, how)
    assert signatures == ["hessians", "serving_default"]
    x, w = np.array([[1.0, -2.0, 0.5], [0.3, 2.0, -1.0]]), np.arange(1.0, 4)
    np.testing.assert_allclose(found["values"], (w * x**3).sum(1), rtol=1e-5)
    np.testing.assert_allclose(found["gradients"], 3 * w * x**2, rtol=1e-5)
    expected = 6 * (w * x)[:, :, None] * np.eye(3)
    np.testing.assert_allclose(found["hessians"], expected, rtol=1e-5)


def test_the_inputs_are_all_that_the_model_needs(tmp_path):
    x = tf.placeholder(tf.float64, [None, 2], name="scope/x")
    z = tf.placeholder(tf.float64, [None, 1], name="z")
    tf.placeholder(tf.float64, [], name="unused")
    w = tf.placeholder(tf.float64, [], name="w")
    y = w * tf.reduce_sum(x**3 * z**2, 1)
    with tf.Session() as session:
        export(session, tmp_path / "m", y, [x, z])
    with load(tmp_path / "m") as model:
        inputs, outputs = model.signatures["hessians"]
        assert sorted(inputs) == ["scope_x", "w", "z"]
        assert sorted(outputs) == [
            "gradients_scope_x",
            "gradients_z",
            "hessians_scope_x",
            "hessians_z",
            "values",
        ]
        feed = {inputs["scope_x"]: [[1, 2]], inputs["z"]: [[3]], inputs["w"]: 2}
        found = model.session.run(outputs, feed)
    np.testing.assert_allclose(found["hessians_scope_x"], [[[108, 0], [0, 216]]])
    np.testing.assert_allclose(found["hessians_z"], [[[36]]])


def test_what_cannot_be_exported_is_refused(tmp_path):
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    y = tf.reduce_sum(x**3)
    (tmp_path / "mine").write_text("mine")
    with tf.Session() as session:
        with pytest.raises(ValueError, match="is not empty"):
            export(session, tmp_path, y, x)
        with pytest.raises(ValueError, match="mine' is a file, and no directory"):
            export(session, tmp_path / "mine", y, x)
        with pytest.raises(TypeError, match="is no placeholder"):
            export(session, tmp_path / "m", y, tf.identity(x))
        with pytest.raises(ValueError, match="a signature 'hessians' of its own"):
            export(session, tmp_path / "m", y, x, signatures={"hessians": ({}, {})})


def answers_of(directory, feed):
    with load(directory) as model:
        found = model.signatures["hessians"][1]["hessians"]
        return model.session.run(found, feed)


def exported_from(saved, out):
    """The exit code of the command for a model that is saved in a directory."""
    command = ["export", str(saved), "--ys", "f", "--xs", "x", "--out", str(out)]
    return main(command)


def save(session, directory, x, f, **options):
    builder = tf.saved_model.Builder(str(directory))
    builder.add_meta_graph_and_variables(
        session,
        [tf.saved_model.tag_constants.SERVING],
        {"serving_default": tf.saved_model.predict_signature_def({"x": x}, {"f": f})},
        **options,
    )
    builder.save()


def test_a_model_with_a_main_op_of_its_own(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, [None, 2], name="x")
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant([0], tf.int64), tf.constant([5.0], tf.float64)
            ),
            -1.0,
        )
        weight = table.lookup(tf.constant(0, tf.int64))
        local = tf.get_variable(
            "local", initializer=2.0, collections=[tf.GraphKeys.LOCAL_VARIABLES]
        )
        f = tf.reduce_sum(x**3, 1) * weight * tf.cast(local, tf.float64)
        start = tf.group(tf.tables_initializer(), tf.local_variables_initializer())
        save(session, tmp_path / "model", x, f, main_op=start)
    with load(tmp_path / "model") as model:
        inputs, outputs = model.signatures["serving_default"]
        found = model.session.run(outputs["f"], {inputs["x"]: [[1.0, 2.0]]})
        np.testing.assert_allclose(found, [90.0])
    assert exported_from(tmp_path / "model", tmp_path / "out") == 0
    found = answers_of(tmp_path / "out", {"x:0": [[1.0, 2.0]]})
    np.testing.assert_allclose(found, [[[60.0, 0], [0, 120]]])


SAVE_TABLE = """
import os, sys
import tensorflow as tf
tf.compat.v1.enable_v2_behavior()
folder = sys.argv[1]
words = os.path.join(folder, "words")
with open(words, "w") as file:
    file.write("a\\nb\\n")
text, integer = tf.string, tf.int64

class Model(tf.Module):
    def __init__(self):
        self.w = tf.Variable([1.0, 2.0, 3.0])
        self.table = tf.lookup.StaticHashTable(tf.lookup.{}, -1)

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def answer(self, x):
        scale = tf.cast(self.table.lookup(tf.constant("b")), tf.float32)
        return {{"f": scale * tf.reduce_sum(self.w * x**3, 1)}}

model = Model()
path = os.path.join(folder, "model")
tf.saved_model.save(model, path, signatures=model.answer)
"""
KEYS = 'KeyValueTensorInitializer(["a", "b"], tf.constant([0, 1], integer))'
FILE = "TextFileInitializer(words, text, {0}.WHOLE_LINE, integer, {0}.LINE_NUMBER)"


def save_with_table(folder, initializer):
    """Saves a model as TensorFlow 2 does; answers the command that exports it."""
    program = [sys.executable, "-c", SAVE_TABLE.format(initializer), str(folder)]
    subprocess.check_output(program, stderr=subprocess.PIPE)
    return ["export", str(folder / "model"), "--ys", "f", "--xs", "serving_default_x"]


def test_tables_of_version_2_are_filled_where_it_is_served(tmp_path):
    command = save_with_table(tmp_path, KEYS)
    assert main(command + ["--out", str(tmp_path / "out")]) == 0
    x, w = np.array([[1.0, -2.0, 0.5], [0.3, 2.0, -1.0]]), np.arange(1.0, 4)
    for how in ("v1", "v2"):
        _, found = served(tmp_path / "out", how)
        expected = 6 * (w * x)[:, :, None] * np.eye(3)
        np.testing.assert_allclose(found["hessians"], expected, rtol=1e-5)


def test_tables_of_version_2_from_files_are_refused(tmp_path, capsys):
    command = save_with_table(tmp_path, FILE.format("tf.lookup.TextFileIndex"))
    assert main(command + ["--out", str(tmp_path / "out")]) == 1
    assert "reads assets, which would not be copied" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_with_a_loop(tmp_path):
    tf.enable_control_flow_v2()
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, [None, 2], name="x")
        v = tf.get_variable("v", initializer=np.float64(2))
        _, y = tf.while_loop(
            lambda i, _: i < 2, lambda i, y: (i + 1, v * y * y), (0, x)
        )
        session.run(tf.global_variables_initializer())
        save(session, tmp_path / "model", x, tf.reduce_sum(y, 1))
    assert exported_from(tmp_path / "model", tmp_path / "out") == 0
    found = answers_of(tmp_path / "out", {"x:0": [[1.0, 2.0]]})
    np.testing.assert_allclose(found, [[[96.0, 0], [0, 384]]])  # Of 8 x**4.


def test_handles_of_variables_without_a_value_are_left_out(tmp_path):
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    raw_ops.VarHandleOp(dtype=tf.float32, shape=[2], shared_name="nobody")
    v = tf.get_variable("v", initializer=np.float64(2), use_resource=True)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        export(session, tmp_path / "out", v * tf.reduce_sum(x**3, 1), x)
        lost = raw_ops.VarHandleOp(dtype=tf.float64, shape=[], shared_name="lost")
        y = raw_ops.ReadVariableOp(resource=lost, dtype=tf.float64) * x[:, 0] ** 3
        with pytest.raises(ValueError, match="variable 'VarHandleOp_1' has no value"):
            export(session, tmp_path / "none", y, x)
    assert not (tmp_path / "none").exists()
    found = answers_of(tmp_path / "out", {"x:0": [[1.0, 2.0]]})
    np.testing.assert_allclose(found, [[[12.0, 0], [0, 24]]])


def test_what_fails_leaves_no_directory(tmp_path):
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    v = tf.get_variable("v", initializer=np.float64(2))
    y = v * tf.reduce_sum(x**3, 1)
    with tf.Session() as session:
        with pytest.raises(ValueError, match="variable 'v' has no value. Restore or"):
            export(session, tmp_path / "out", y, x)
        assert not list(tmp_path.iterdir())
        session.run(tf.global_variables_initializer())
        export(session, tmp_path / "out", y, x)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_directory_is_kept_and_filled(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    os.symlink(str(tmp_path / "real"), str(tmp_path / "link"))
    (tmp_path / "link.partial").mkdir()
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    with tf.Session() as session:
        export(session, tmp_path / "link", tf.reduce_sum(x**3, 1), x)
        with pytest.raises(ValueError, match="xs is an empty list"):
            export(session, tmp_path / "other", x, [])
    assert (tmp_path / "real" / "saved_model.pb").exists()
    assert (tmp_path / "link").is_symlink() and (tmp_path / "link.partial").is_dir()


def test_what_appears_meanwhile_is_anothers(tmp_path):
    """A file in the new directory is kept, and nothing is written beside it."""
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    y = tf.reduce_sum(x**3, 1)
    out = tmp_path / "out"

    def session_of():
        out.mkdir()
        (out / "mine").write_text("mine")
        return session

    with tf.Session() as session:
        with pytest.raises(ValueError, match="out' is not empty"):
            write(session_of, out, y, x)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in out.iterdir()] == ["mine"]


@pytest.mark.parametrize("ref", [False, True])
def test_what_is_run_to_save_has_no_effects(tmp_path, ref):
    """Neither a variable of no use whose op waits for one, nor one of a signature."""
    victim = tmp_path / "victim"
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, [None, 2], name="x")
        f = tf.reduce_sum(x**3, 1, name="f")
        with tf.control_dependencies([tf.write_file(str(victim), "harm")]):
            if ref:
                v = raw_ops.VariableV2(shape=[], dtype=tf.float64)
            else:
                handle = raw_ops.VarHandleOp(dtype=tf.float64, shape=[], shared_name="")
                v = raw_ops.ReadVariableOp(resource=handle, dtype=tf.float64)
        tf.train.export_meta_graph(str(tmp_path / "m.meta"), graph=x.graph)
        signatures = {"other": ({"x": x}, {"g": v * f})}
        with pytest.raises(ValueError, match=r"only after ops .* \(WriteFile\)"):
            export(session, tmp_path / "out", f, x, signatures=signatures)
    command = ["export", str(tmp_path / "m.meta"), "--ys", "f", "--xs", "x"]
    command += ["--initialize", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert not victim.exists()


def test_slots_without_a_value_are_left_out(tmp_path):
    """Of a Saver that has saved what is trained alone."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, [None, 2], name="x")
        v = tf.get_variable("v", initializer=np.float64(2))
        f = tf.multiply(v, tf.reduce_sum(x**3, 1), name="f")
        tf.train.AdamOptimizer().minimize(tf.reduce_mean(f))
        session.run(tf.global_variables_initializer())
        tf.train.Saver([v]).save(session, str(tmp_path / "m"))
    command = ["export", str(tmp_path / "m.meta"), "--ys", "f", "--xs", "x"]
    assert main(command + ["--out", str(tmp_path / "out")]) == 0
    found = answers_of(tmp_path / "out", {"x:0": [[1.0, 2.0]]})
    np.testing.assert_allclose(found, [[[12.0, 0], [0, 24]]])


def test_names_that_make_one_key_are_numbered(tmp_path):
    xs = [
        tf.placeholder(tf.float64, [None, 1], name=n) for n in ("a/b", "a_b", "a_b_0")
    ]
    with tf.Session() as session:
        export(session, tmp_path / "m", tf.reduce_sum(sum(x**2 for x in xs)), xs)
    with load(tmp_path / "m") as model:
        inputs, outputs = model.signatures["hessians"]
        assert len(inputs) == 3 and len(outputs) == 7


def test_ys_of_observations_and_of_all_are_added_up(tmp_path):
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    ys = [tf.reduce_sum(x**3, 1), tf.reduce_sum(x**2)]
    with tf.Session() as session:
        export(session, tmp_path / "m", ys, x)
    with load(tmp_path / "m") as model:
        inputs, outputs = model.signatures["hessians"]
        found = model.session.run(outputs, {inputs["x"]: [[1.0, 2.0], [3.0, 0.0]]})
    np.testing.assert_allclose(found["values"], 9 + 27 + 14)
    expected = 6 * np.array([[1.0, 2.0], [3.0, 0.0]])[:, :, None] * np.eye(2)
    np.testing.assert_allclose(found["hessians"], expected + 2 * np.eye(2))


@pytest.mark.parametrize("how", ["v1", "v2"])
def test_files_that_tables_are_filled_from_go_with_it(tmp_path, how):
    words = tmp_path / "words.txt"
    words.write_text("a\nb\n")
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    initializer = tf.lookup.TextFileInitializer(
        str(words),
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    table = tf.lookup.StaticHashTable(initializer, -1)
    f = tf.reduce_sum(x**3, 1) * tf.cast(table.lookup(tf.constant("b")), x.dtype)
    with tf.Session() as session:
        session.run(tf.tables_initializer())
        export(session, tmp_path / "out", f, x)
    words.write_text("other\n")
    _, found = served(tmp_path / "out", how)
    x = np.array([[1.0, -2.0, 0.5], [0.3, 2.0, -1.0]])
    expected = 6 * x[:, :, None] * np.eye(3)
    np.testing.assert_allclose(found["hessians"], expected, rtol=1e-5)
    with load(tmp_path / "out") as model:
        with pytest.raises(NotImplementedError, match="Export it by batchhess.export"):
            inputs, outputs = model.signatures["serving_default"]
            export(model.session, tmp_path / "m", list(outputs.values()), inputs["x"])
