"""inspect, explain, verify, run and export, on models from files."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import batchhess
from batchhess import HessianError, commands
from batchhess.cli import main
from batchhess.compat import raw_ops, tf
from batchhess.streaming.progress import Progress

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODELS = os.path.join(ROOT, "tests", "data", "models", "tf1")


@pytest.fixture
def saved(tmp_path, random):
    """A model with a variable, its checkpoint, and its data."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, [None, 3], name="x")
        w = tf.get_variable("w", initializer=np.full(3, 2.0))
        tf.reduce_sum(w * x**3, name="f")
        mixed = tf.reduce_sum(tf.sin(x) * tf.reduce_mean(x, 0), name="mixed")
        assert mixed.name == "mixed:0"
        session.run(tf.global_variables_initializer())
        session.run(tf.assign(w, np.arange(1.0, 4)))
        prefix = tf.train.Saver().save(session, str(tmp_path / "model"))
    value = random.randn(11, 3)
    np.save(str(tmp_path / "x.npy"), value)
    return prefix, str(tmp_path / "x.npy"), value


def test_inspect_lists_what_a_model_has(saved, capsys):
    prefix, _, _ = saved
    assert main(["inspect", prefix + ".meta"]) == 0
    told = capsys.readouterr().out
    assert "MetaGraph '" in told and "x:0 float64 [?, 3]" in told
    assert "f:0 float64 []" in told and "variables: 1; checkpoint: " + prefix in told
    assert main(["inspect", os.path.join(MODELS, "saved_v2")]) == 0
    told = capsys.readouterr().out
    assert "signature serving_default" in told
    assert "takes x: serving_default_x:0 float32 [?, 3]" in told
    assert "gives f: StatefulPartitionedCall/Identity:0 float32 [?]" in told


def test_explain(saved, capsys):
    prefix, _, _ = saved
    assert main(["explain", prefix + ".meta", "--ys", "f:0", "--xs", "x:0"]) == 0
    told = capsys.readouterr().out
    assert "'f:0' with respect to 'x:0'" in told and "proven separate" in told


@pytest.mark.parametrize("answer", ["hessians", "diagonals", "laplacians"])
def test_run_writes_what_the_checkpoint_answers(saved, answer, tmp_path, capsys):
    prefix, path, value = saved
    arguments = ["run", prefix + ".meta", "--ys", "f", "--xs", "x"]
    arguments += ["--feed", "x=" + path, "--answer", answer]
    arguments += ["--out", str(tmp_path / "out"), "--batch-size", "4"]
    assert main(arguments) == 0
    assert "11 of 11 (100%)" in capsys.readouterr().err
    diagonal = 6 * value * np.arange(1.0, 4)
    expected = {
        "hessians": diagonal[:, :, None] * np.eye(3),
        "diagonals": diagonal,
        "laplacians": diagonal.sum(1),
    }[answer]
    found = np.load(str(tmp_path / "out" / (answer + ".npy")))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert main(arguments) == 1
    assert "Pass --resume" in capsys.readouterr().err
    assert main(arguments + ["--resume"]) == 0


@pytest.mark.parametrize(
    "name", ["model.meta", "saved_v1", "saved_v2", "frozen.pb", "frozen.pbtxt", "keras"]
)
def test_every_format_runs_and_verifies_by_one_command(name, tmp_path):
    np.save(str(tmp_path / "x.npy"), np.ones((5, 3), "float32"))
    ys, xs = {"keras": ("dense_1", "dense_input")}.get(name, ("f", "x"))
    if name == "saved_v2":
        xs = "serving_default_x"
    common = [os.path.join(MODELS, name), "--ys", ys, "--xs", xs]
    common += ["--feed", "{}={}".format(xs, tmp_path / "x.npy")]
    assert main(["verify"] + common) == 0
    assert main(["run"] + common + ["--out", str(tmp_path / "out")]) == 0
    assert np.load(str(tmp_path / "out" / "hessians.npy")).shape == (5, 3, 3)


def test_weights_that_are_missing_are_initialized_if_asked_for(saved, tmp_path, capsys):
    prefix, path, value = saved
    shutil.copy(prefix + ".meta", str(tmp_path / "bare.meta"))
    arguments = ["run", str(tmp_path / "bare.meta"), "--ys", "f:0", "--xs", "x:0"]
    arguments += ["--feed", "x:0=" + path, "--out", str(tmp_path / "o")]
    assert main(arguments) == 1
    assert "--initialize" in capsys.readouterr().err
    assert main(arguments + ["--initialize"]) == 0
    expected = 12 * value[:, :, None] * np.eye(3)
    found = np.load(str(tmp_path / "o" / "hessians.npy"))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_what_has_as_many_rows_is_batched_too(tmp_path, random):
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float64, [None, 2], name="x")
        z = tf.placeholder(tf.float64, [None, 2], name="z")
        tf.reduce_sum(x**3 * z, name="f")
        tf.train.export_meta_graph(str(tmp_path / "m.meta"), graph=graph)
    value, weight = random.randn(9, 2), random.randn(9, 2)
    np.savez(str(tmp_path / "d.npz"), x=value, z=weight)
    arguments = ["run", str(tmp_path / "m.meta"), "--ys", "f", "--xs", "x"]
    arguments += ["--feed"]
    arguments += ["{}={}".format(key, tmp_path / "d.npz") for key in "xz"]
    assert main(arguments + ["--out", str(tmp_path / "o"), "--batch-size", "4"]) == 0
    found = np.load(str(tmp_path / "o" / "hessians.npy"))
    expected = 6 * (value * weight)[:, :, None] * np.eye(2)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_text_and_a_number_for_each_observation(tmp_path, capsys):
    """A model with a table of words, as feature columns make them."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, [None, 2], name="x")
        colour = tf.placeholder(tf.string, [None], name="colour")
        weight = tf.placeholder(tf.float64, [None, 1], name="weight")
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(["red", "blue"]), tf.constant([2.0, 3.0])
            ),
            7.0,
        )
        factor = tf.cast(table.lookup(colour), tf.float64)
        f = tf.reduce_sum(x**3 * factor[:, None] * weight)
        tf.saved_model.simple_save(
            session,
            str(tmp_path / "m"),
            {"x": x, "colour": colour, "weight": weight},
            {"f": f},
            legacy_init_op=tf.tables_initializer(),
        )
    data = tmp_path / "d.csv"
    data.write_text("a,b,colour\n1,2,red\n3,4,blue\n5,6,green\n")
    arguments = ["run", str(tmp_path / "m"), "--ys", "f", "--xs", "x", "--feed"]
    arguments += ["x={}:a,b".format(data), "colour={}".format(data), "weight=0.5"]
    arguments += ["--signature", "serving_default", "--verify"]
    out = ["--out", str(tmp_path / "none")]
    assert main(arguments + out) == 1
    assert "Pass --batched colour:0 weight:0 if that" in capsys.readouterr().err
    arguments += ["--batched", "colour", "weight"]
    assert main(arguments + ["--out", str(tmp_path / "o"), "--batch-size", "2"]) == 0
    found = np.load(str(tmp_path / "o" / "hessians.npy"))
    diagonal = np.array([[1, 2], [3, 4], [5, 6]]) * [[6.0], [9.0], [21.0]]
    np.testing.assert_allclose(found, diagonal[:, :, None] * np.eye(2), rtol=1e-12)


@pytest.fixture
def weighted(tmp_path):
    """A command for cubes of x of 8 rows by a y with one open axis, and more."""

    def command(*given, shape=(None, 1), rows=8):
        with tf.Graph().as_default() as graph:
            x = tf.placeholder(tf.float64, [None, 2], name="x")
            y = tf.placeholder(tf.float64, shape, name="y")
            is_each = shape is None or len(shape) > 1
            tf.multiply(x**3, y if is_each else tf.reduce_sum(y), name="f")
            tf.train.export_meta_graph(str(tmp_path / "m.meta"), graph=graph)
        np.save(str(tmp_path / "x.npy"), np.arange(16.0).reshape(8, 2))
        of_y = [rows] + list((None, 1)[1:] if shape is None else shape[1:])
        np.save(str(tmp_path / "y.npy"), np.full(of_y, 2.0))
        found = ["run", str(tmp_path / "m.meta"), "--ys", "f", "--xs", "x"]
        found += ["--out", str(tmp_path / "out"), "--batch-size", "3"]
        return found + ["--feed", "x={}/x.npy".format(tmp_path)] + list(given)

    return command


def test_a_number_for_an_open_axis_is_asked_about(weighted, tmp_path, capsys):
    """It may be that of each observation, or one of something else."""
    assert main(weighted("y=2")) == 1
    told = capsys.readouterr().err
    assert "'y:0' takes [?, 1], and is fed one number. Pass --batched y:0 if" in told
    assert main(weighted("y=2", "--batched", "x")) == 1
    assert "'y:0' has shape [], and it takes [?, 1]" in capsys.readouterr().err
    assert main(weighted("y=2", "--batched", "y", shape=())) == 1
    told = capsys.readouterr().err
    assert "'y:0' has shape [], and no axis 0 of observations" in told
    assert main(weighted("y=2", shape=(3, 1))) == 1
    assert "'y:0' has shape [], and it takes [3, 1]" in capsys.readouterr().err
    assert main(weighted("y=2", "--batched", "y")) == 0
    found = np.load(str(tmp_path / "out" / "hessians.npy"))
    diagonal = 12 * np.arange(16.0).reshape(8, 2)
    np.testing.assert_allclose(found, diagonal[:, :, None] * np.eye(2), rtol=1e-12)


def test_a_number_for_an_x_goes_to_each_observation(weighted, tmp_path):
    assert main(weighted("y=2", "--xs", "y")) == 0
    found = np.load(str(tmp_path / "out" / "hessians_x.npy"))
    diagonal = 12 * np.arange(16.0).reshape(8, 2)
    np.testing.assert_allclose(found, diagonal[:, :, None] * np.eye(2), rtol=1e-12)
    assert np.load(str(tmp_path / "out" / "hessians_y.npy")).shape == (8, 1, 1)


@pytest.mark.parametrize("rows", [1, 5, 9])
def test_other_rows_than_those_of_x_are_asked_about(weighted, rows, tmp_path, capsys):
    """What is no observation is fed whole if --batched leaves it out."""
    feed = "y={}/y.npy".format(tmp_path)
    assert main(weighted(feed, shape=(None,), rows=rows)) == 1
    told = capsys.readouterr().err
    assert "'y:0' has {} rows and 'x:0' 8: if it holds".format(rows) in told
    assert "pass --batched with those that do: x:0." in told
    assert main(weighted(feed, "--batched", "y", shape=(None,), rows=rows)) == 1
    told = capsys.readouterr().err
    assert "and 'x:0' 8: if it holds observations, feed as many.\n" in told
    assert main(weighted(feed, "--batched", "x", shape=(None,), rows=rows)) == 0
    found = np.load(str(tmp_path / "out" / "hessians.npy"))
    diagonal = 12 * rows * np.arange(16.0).reshape(8, 2)
    np.testing.assert_allclose(found, diagonal[:, :, None] * np.eye(2), rtol=1e-12)


def test_a_placeholder_of_unknown_rank_is_open(weighted, tmp_path, capsys):
    feed, diagonal = "y={}/y.npy".format(tmp_path), np.arange(16.0).reshape(8, 2)
    expected = 12 * diagonal[:, :, None] * np.eye(2)
    assert main(weighted(feed, shape=None, rows=1)) == 1
    assert "'y:0' has 1 rows and 'x:0' 8" in capsys.readouterr().err
    for rows, given in ((8, [feed]), (1, [feed, "--batched", "x"]), (8, ["y=2"])):
        out = str(tmp_path / "out{}".format(len(given[0])) / str(rows))
        assert main(weighted(*given, "--out", out, shape=None, rows=rows)) == 0
        found = np.load(os.path.join(out, "hessians.npy"))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_other_rows_are_asked_about_in_a_graph_of_a_fixed_number(tmp_path, capsys):
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float64, [4, 3], name="x")
        w = tf.placeholder(tf.float64, [4], name="w")
        tf.reduce_sum(x**3 * tf.reduce_sum(w), 1, name="f")
        tf.train.export_meta_graph(str(tmp_path / "m.meta"), graph=graph)
    common = ["run", str(tmp_path / "m.meta"), "--ys", "f", "--xs", "x"]
    common += ["--batch-size", "4", "--out", str(tmp_path / "out")]
    for name, array in (("x", np.ones((6, 3))), ("w", np.ones(4))):
        np.save(str(tmp_path / name), array)
        common += ["--feed", "{}={}.npy".format(name, tmp_path / name)]
    assert main(common) == 1
    assert "'w:0' has 4 rows and 'x:0' 6" in capsys.readouterr().err
    assert main(common + ["--batched", "x"]) == 0
    found = np.load(str(tmp_path / "out" / "hessians.npy"))
    np.testing.assert_allclose(found, 24 * np.tile(np.eye(3), (6, 1, 1)), rtol=1e-12)


def test_what_has_one_axis_has_its_observations_there(tmp_path, random):
    """Whatever --batch-axis is of x."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float64, [3, None], name="x")
        w = tf.placeholder(tf.float64, [None], name="w")
        tf.reduce_sum(w * tf.reduce_sum(x**3, 0), name="f")
        tf.train.export_meta_graph(str(tmp_path / "m.meta"), graph=graph)
    value, weights = random.randn(3, 8), random.randn(8)
    common = ["run", str(tmp_path / "m.meta"), "--ys", "f", "--xs", "x", "--verify"]
    common += ["--batch-size", "3", "--batch-axis", "1"]
    for name, array in (("x", value), ("w", weights)):
        np.save(str(tmp_path / name), array)
        common += ["--feed", "{}={}.npy".format(name, tmp_path / name)]
    expected = 6 * (value * weights).T[:, :, None] * np.eye(3)
    for more in ([], ["--batched", "w"]):
        out = str(tmp_path / "out{}".format(len(more)))
        assert main(common + more + ["--out", out]) == 0
        found = np.load(os.path.join(out, "hessians.npy"))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_key_of_a_signature_finds_its_column(tmp_path):
    """Before the name of its tensor does."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, [None], name="tensor_x")
        w = tf.placeholder(tf.float64, [None], name="a")
        f = w * x**3
        given = {"a": x, "b": w}, {"f": f}
        tf.saved_model.simple_save(session, str(tmp_path / "m"), *given)
    data = tmp_path / "d.csv"
    data.write_text("a,b\n1,2\n3,4\n")
    np.savez(str(tmp_path / "d.npz"), a=[1.0, 3], b=[2.0, 4])
    for name in ("d.csv", "d.npz"):
        path, out = str(tmp_path / name), str(tmp_path / ("o" + name))
        command = ["run", str(tmp_path / "m"), "--ys", "f", "--xs", "tensor_x"]
        command += ["--feed", "tensor_x={}:a".format(path), "b=" + path, "--out", out]
        assert main(command) == 0
        found = np.load(os.path.join(out, "hessians.npy"))
        np.testing.assert_allclose(np.ravel(found), [12, 72], rtol=1e-12)


def test_nan_in_data_is_told_or_kept(saved, tmp_path, capsys):
    prefix, path, value = saved
    value[7, 1] = np.nan
    np.save(path, value)
    arguments = ["run", prefix + ".meta", "--ys", "f", "--xs", "x", "--feed"]
    arguments += ["x=" + path, "--out", str(tmp_path / "o")]
    assert main(arguments) == 1
    assert "fed for 'x:0' is NaN or Inf at observations 7" in capsys.readouterr().err
    assert main(arguments + ["--on-nonfinite", "keep", "--resume"]) == 0
    found = np.load(str(tmp_path / "o" / "hessians.npy"))
    assert np.isnan(found[7]).any() and np.isfinite(np.delete(found, 7, 0)).all()


def test_nan_in_data_is_no_wrong_hessian(saved, tmp_path, capsys):
    prefix, path, value = saved
    value[7, 1] = np.nan
    np.save(path, value)
    given = [prefix + ".meta", "--ys", "f", "--xs", "x", "--feed", "x=" + path]
    out = str(tmp_path / "out")
    assert main(["verify"] + given) == 1
    told = capsys.readouterr()
    assert "'x:0' is NaN or Inf at observations 7." in told.err + told.out
    assert main(["run"] + given + ["--out", out, "--verify"]) == 1
    told = capsys.readouterr()
    assert "Pass --on-nonfinite keep" in told.err + told.out
    keep = ["--out", out, "--verify", "--on-nonfinite", "keep"]
    assert main(["run"] + given + keep) == 0
    told = capsys.readouterr().out
    assert "NaN or Inf is fed: 1 observations" in told and "right" in told
    assert "not finite" not in told


def test_what_cannot_be_held_is_told_by_its_observation(tmp_path, capsys, monkeypatch):
    """Not by its place in the sample, on any axis."""
    monkeypatch.setattr(commands, "_SAMPLE", 5)
    x = tf.placeholder(tf.float32, [2, None], name="x")
    tf.reduce_sum(x**3, name="f")
    graph = tf.get_default_graph().as_graph_def()
    (tmp_path / "m.pb").write_bytes(graph.SerializeToString())
    value = np.ones((2, 41))
    value[1, 40] = 1e300
    np.save(str(tmp_path / "x.npy"), value)
    given = [str(tmp_path / "m.pb"), "--ys", "f", "--xs", "x", "--batch-axis", "1"]
    given += ["--feed", "x=" + str(tmp_path / "x.npy")]
    for command in (["verify"], ["run", "--out", str(tmp_path / "out")]):
        assert main(command[:1] + given + command[1:]) == 1
        told = capsys.readouterr()
        assert "for it at observation 40, column 1." in told.err + told.out


def test_a_queue_that_nobody_fills_is_told(tmp_path, capsys):
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    queue = tf.FIFOQueue(3, [tf.float32], shapes=[[]], name="labels")
    tf.reduce_sum(x**2 * queue.dequeue(), name="f")
    graph = tf.get_default_graph().as_graph_def()
    (tmp_path / "m.pb").write_bytes(graph.SerializeToString())
    np.save(str(tmp_path / "x.npy"), np.ones((3, 2)))
    given = [str(tmp_path / "m.pb"), "--ys", "f", "--xs", "x"]
    given += ["--feed", "x=" + str(tmp_path / "x.npy")]
    assert main(["verify"] + given) == 1
    assert "nothing is fed for 'labels_Dequeue:0'" in capsys.readouterr().err
    assert main(["verify"] + given + ["labels_Dequeue=2.0"]) == 0


def test_the_shape_of_a_placeholder_that_has_none(tmp_path, capsys):
    x = tf.placeholder(tf.float64, name="x")
    tf.reduce_sum(x**3, 1, name="f")
    graph = tf.get_default_graph().as_graph_def()
    (tmp_path / "m.pb").write_bytes(graph.SerializeToString())
    np.save(str(tmp_path / "x.npy"), np.ones((3, 2)))
    given = [str(tmp_path / "m.pb"), "--ys", "f", "--xs", "x"]
    given += ["--feed", "x=" + str(tmp_path / "x.npy"), "--out", str(tmp_path / "out")]
    assert main(["run"] + given) == 1
    assert "(--shape)" in capsys.readouterr().err
    assert main(["run"] + given + ["--shape", "x=?,2"]) == 0
    found = np.load(str(tmp_path / "out" / "hessians.npy"))
    np.testing.assert_allclose(found, np.tile(6 * np.eye(2), (3, 1, 1)))
    with pytest.raises(SystemExit):
        main(["run"] + given + ["--shape", "x=two"])
    assert "is not NAME=?,3" in capsys.readouterr().err


def test_a_staging_area_that_nobody_fills_is_told(tmp_path, capsys):
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    given = raw_ops.Unstage(dtypes=[tf.float32], name="given")
    tf.reduce_sum(x**2 * tf.reshape(given[0], []), name="f")
    graph = tf.get_default_graph().as_graph_def()
    (tmp_path / "m.pb").write_bytes(graph.SerializeToString())
    np.save(str(tmp_path / "x.npy"), np.ones((3, 2)))
    given = [str(tmp_path / "m.pb"), "--ys", "f", "--xs", "x"]
    given += ["--feed", "x=" + str(tmp_path / "x.npy")]
    assert main(["run"] + given + ["--out", str(tmp_path / "out")]) == 1
    assert "nothing is fed for 'given:0'" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="needs pipes")
def test_what_nobody_reads_is_not_told_as_done(saved):
    command = [sys.executable, "-m", "batchhess", "inspect", saved[0] + ".meta"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    process.stdout.close()
    assert process.wait() == 141


def test_explain_advises_no_arguments_of_python(saved, capsys):
    with tf.Graph().as_default() as graph:
        tf.placeholder(tf.float32, [None, 3], name="x")
        tf.reduce_sum(tf.placeholder(tf.float32, [None], name="w"), name="f")
    path = saved[0] + ".pb"
    with open(path, "wb") as file:
        file.write(graph.as_graph_def().SerializeToString())
    assert main(["explain", path, "--ys", "f", "--xs", "x"]) == 0
    assert "does not depend on 'x:0'.\n" in capsys.readouterr().out


def test_verify_tells_right_from_wrong(saved, capsys):
    prefix, path, _ = saved
    common = ["verify", prefix + ".meta", "--xs", "x:0", "--feed", "x:0=" + path]
    assert main(common + ["--ys", "f:0"]) == 0
    assert "right" in capsys.readouterr().out
    assert main(common + ["--ys", "mixed:0"]) == 1
    assert "are coupled" in capsys.readouterr().err


def test_dropout_is_told_to_be_random(tmp_path, capsys):
    """Without advice that the command line does not take."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float64, [None, 2], name="x")
        noise = tf.random_uniform(tf.shape(x), dtype=tf.float64)
        tf.reduce_sum(x**3 * noise, name="f")
        tf.train.export_meta_graph(str(tmp_path / "m.meta"), graph=graph)
    np.save(str(tmp_path / "x.npy"), np.ones((12, 2)))
    given = ["run", str(tmp_path / "m.meta"), "--ys", "f", "--xs", "x", "--out"]
    given += [str(tmp_path / "out"), "--feed", "x={}/x.npy".format(tmp_path)]
    for size, words in (("5", ", or is random: it is another"), ("12", "it is random")):
        assert main(given + ["--batch-size", size]) == 1
        told = capsys.readouterr().err
        assert words in told and "never" not in told


def test_verify_takes_a_sample_of_large_data(saved, capsys, monkeypatch):
    prefix, path, value = saved
    np.save(path, np.asfortranarray(np.tile(value, (2000, 1))))
    shapes, seen = [], commands.compute_hessian_error

    def noted(ys, xs, feed, *others, **options):
        shapes.extend(np.shape(value) for value in feed.values())
        found = seen(ys, xs, feed, *others, **options)
        return HessianError(0.5, found.x or "x:0", len(feed[xs[0]]) - 1)

    monkeypatch.setattr(commands, "compute_hessian_error", noted)
    common = ["verify", prefix + ".meta", "--ys", "f", "--xs", "x"]
    common += ["--feed", "x=" + path]
    assert main(common) == 3
    told = capsys.readouterr().out
    assert "a sample of 1,000 of 22,000 observations" in told
    assert "at observation 21999" in told
    assert main(common + ["--sample", "5"]) == 3
    monkeypatch.setattr(commands, "_ENTRIES", 63)
    assert main(common) == 3
    assert shapes == [(1000, 3), (5, 3), (7, 3)]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 10])
def test_a_graph_of_a_fixed_number_is_verified_and_run(count, tmp_path, random):
    """With a weight for each observation, which has to go along."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float64, [4, 3], name="x")
        w = tf.placeholder(tf.float64, [4], name="w")
        tf.identity(w * tf.reduce_sum(x**3, 1), name="f")
        tf.train.export_meta_graph(str(tmp_path / "m.meta"), graph=graph)
    value, weights = random.randn(count, 3), random.randn(count)
    common = [str(tmp_path / "m.meta"), "--ys", "f", "--xs", "x"]
    for name, array in (("x", value), ("w", weights)):
        np.save(str(tmp_path / name), array)
        common += ["--feed", "{}={}.npy".format(name, tmp_path / name)]
    assert main(["verify"] + common) == (0 if count else 1)
    out = ["--out", str(tmp_path / "out"), "--batch-size", "4", "--verify"]
    assert main(["run"] + common + out) == (0 if count else 1)
    if count:
        found = np.load(str(tmp_path / "out" / "hessians.npy"))
        expected = 6 * (weights[:, None] * value)[:, :, None] * np.eye(3)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_run_verifies_what_it_writes(saved, tmp_path, capsys, monkeypatch):
    prefix, path, value = saved
    np.save(path, np.tile(value, (200, 1)))
    common = ["run", prefix + ".meta", "--ys", "f", "--xs", "x", "--verify"]
    common += ["--feed", "x=" + path, "--out"]
    for answer in ("hessians", "diagonals", "laplacians"):
        command = common + [str(tmp_path / answer), "--answer", answer]
        assert main(command) == 0
        told = capsys.readouterr().out.splitlines()
        assert told[-3] == "right" and "is what was verified" in told[-1]
    written = np.load(str(tmp_path / "hessians" / "hessians.npy"))
    monkeypatch.setattr(commands, "evaluate", lambda *a, **o: {"hessians": written + 1})
    assert main(common + [str(tmp_path / "other")]) == 3
    assert "is not what was verified" in capsys.readouterr().out
    wrong = HessianError(0.5, "x:0", 7)
    monkeypatch.setattr(commands, "compute_hessian_error", lambda *a, **o: wrong)
    assert main(common + [str(tmp_path / "none")]) == 3
    command = common + [str(tmp_path / "none"), "--runner", "DirectRunner"]
    assert main(command) == 3  # Beam itself is not even asked for.
    assert not (tmp_path / "none").exists()


def test_verify_of_nothing_says_so(saved, capsys):
    prefix, path, value = saved
    np.save(path, value[:0])
    arguments = ["verify", prefix + ".meta", "--ys", "f", "--xs", "x"]
    assert main(arguments + ["--feed", "x=" + path]) == 1
    assert "nothing was checked" in capsys.readouterr().out


def test_verify_fails_where_the_error_is_large(saved, capsys, monkeypatch):
    prefix, path, _ = saved
    found = HessianError(0.5, "x:0", 7)
    name = "batchhess.commands.compute_hessian_error"
    monkeypatch.setattr(name, lambda *a, **o: found)
    arguments = ["verify", prefix + ".meta", "--ys", "f:0", "--xs", "x:0"]
    assert main(arguments + ["--feed", "x:0=" + path]) == 3
    told = capsys.readouterr().out
    assert "0.5, of 'x:0' at observation 7" in told and "wrong: above" in told


def test_export(saved, tmp_path, capsys):
    prefix, _, _ = saved
    arguments = ["export", prefix + ".meta", "--ys", "f", "--xs", "x"]
    assert main(arguments + ["--out", str(tmp_path / "m")]) == 0
    assert main(["inspect", str(tmp_path / "m")]) == 0
    told = capsys.readouterr().out
    assert "signature hessians" in told and "gives gradients: " in told


def test_errors_begin_with_the_cause_and_are_short(saved, capsys, tmp_path):
    prefix, path, _ = saved
    common = ["--ys", "g:0", "--xs", "x:0"]
    assert main(["explain", prefix + ".meta"] + common) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: '") and "has no tensor 'g:0'" in told
    assert main(["explain", "no such file"] + common) == 1
    told = capsys.readouterr().err
    assert told == "error: No such file or directory: 'no such file'\n"
    with pytest.raises(SystemExit):
        main(["verify", "m", "--ys", "f:0", "--xs", "x:0", "--feed", "x:0"])
    assert "is not NAME=FILE" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["inspect", "m", "--unknown"])
    capsys.readouterr()
    arguments = ["verify", prefix + ".meta", "--ys", "f", "--xs", "x", "--feed"]
    assert main(arguments + ["x=" + path + ".gone"]) == 1
    assert "no file '" in capsys.readouterr().err
    np.save(path, np.ones((4, 2)))
    assert main(arguments + ["x=" + path]) == 1
    assert len(capsys.readouterr().err.splitlines()) <= 5


def test_what_cannot_be_fed_is_told_before_anything_is_written(tmp_path, capsys):
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        y = tf.placeholder(tf.float32, [None], name="y")
        tf.multiply(tf.reduce_sum(x**3, 1), y, name="f")
        tf.train.export_meta_graph(str(tmp_path / "m.meta"), graph=graph)
    np.save(str(tmp_path / "x.npy"), np.ones((5, 3)))
    np.save(str(tmp_path / "y.npy"), np.ones((5, 4)))
    common = ["run", str(tmp_path / "m.meta"), "--ys", "f", "--xs", "x"]
    common += ["--out", str(tmp_path / "out"), "--feed"]
    assert main(common + ["x={}".format(tmp_path / "x.npy")]) == 1
    told = capsys.readouterr().err
    assert told == "error: nothing is fed for 'y:0'. Pass --feed y:0=FILE.\n"
    feeds = ["{0}={1}/{0}.npy".format(key, tmp_path) for key in "xy"]
    assert main(common + feeds) == 1
    assert "'y:0' has shape [5, 4], and it takes [?]" in capsys.readouterr().err
    assert main(common + ["x={}".format(tmp_path / "y.npy"), "y=1"]) == 1
    assert "'x:0' has shape [5, 4], and it takes [?, 3]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["explain", common[1], "--ys", "f", "--xs", "inputs"]) == 1
    assert "The nearest names are: y:0, x:0, f:0" in capsys.readouterr().err


def test_help_and_version_come_without_tensorflow():
    program = "import sys; from batchhess.cli import main\ntry: main([{!r}])\nfinally: "
    program += "print('tensorflow' in sys.modules)"
    for option in ("-h", "--version"):
        output = subprocess.check_output(
            [sys.executable, "-c", program.format(option)], cwd=ROOT
        )
        assert output.decode().endswith("False\n")
    assert batchhess.__version__ in output.decode()


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_ctrl_c_is_one_line_and_can_be_resumed(saved, tmp_path):
    prefix, path, value = saved
    np.save(path, np.tile(value, (2000, 1)))
    arguments = ["run", prefix + ".meta", "--ys", "f", "--xs", "x", "--feed"]
    arguments += ["x=" + path, "--out", str(tmp_path / "o"), "--batch-size", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "batchhess"] + arguments,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        # A script's background jobs, tests among them, are started to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "o" / "journal.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told = process.communicate()[1].decode().splitlines()
    assert process.returncode == 130
    assert told[-1] == "stopped. What is written stays: --resume goes on."
    arguments[-1] = "1000"
    assert main(arguments + ["--resume"]) == 0
    found = np.load(str(tmp_path / "o" / "hessians.npy"))
    assert found.shape == (22000, 3, 3)


def test_a_log_gets_a_line_now_and_then():
    class Log:
        text = ""

        def isatty(self):
            return False

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    log, clock = Log(), iter(range(0, 100000))
    progress = Progress(log, lambda: next(clock))
    for done in range(1000, 100001, 1000):
        progress(done, 100000)
    lines = log.text.splitlines()
    assert 3 <= len(lines) <= 5
    assert lines[1] == "31,000 of 100,000 (31%), 1,000/s, 1 min 9 s left"
    assert lines[-1] == "100,000 of 100,000 (100%), 1,000/s"
