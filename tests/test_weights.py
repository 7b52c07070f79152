"""Weights of stored models: from checkpoints, moved and whole or not, or fresh ones."""

import shutil

import numpy as np
import pytest

from batchhess.cli import main
from batchhess.compat import tf
from batchhess.models import load


def subset(folder):
    """A MetaGraph, and a checkpoint of one of its two variables."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, [None, 2], name="x")
        v = tf.get_variable("v", initializer=np.float64(2))
        w = tf.get_variable("w", initializer=np.float64(3))
        tf.get_variable("unused", initializer=np.float64(0))
        tf.multiply(v * w, tf.reduce_sum(x**3, 1), name="f")
        session.run([v.initializer, w.initializer])
        session.run(tf.assign(v, 7.0))
        return tf.train.Saver([v]).save(session, str(folder / "m"))


def value_of(model):
    return model.session.run(model.tensor("f"), {"x:0": [[1.0, 0.0]]})


def test_what_a_checkpoint_lacks_is_named_or_initialized_alone(tmp_path):
    prefix = subset(tmp_path)
    with load(prefix + ".meta") as model:
        words = "variable 'w' has no value beside those of '.*m': .* initialize=True"
        with pytest.raises(ValueError, match=words):
            value_of_asked(model)
    with load(prefix + ".meta", initialize=True) as model:
        np.testing.assert_allclose(value_of(model), [21.0])
    other = tmp_path / "other"
    other.mkdir()
    with tf.Graph().as_default(), tf.Session() as session:
        u = tf.get_variable("u", initializer=1.0)
        session.run(u.initializer)
        tf.train.Saver().save(session, str(other / "m"))
    for initialize in (False, True):
        with load(prefix + ".meta", checkpoint=other, initialize=initialize) as model:
            words = "m' does not restore '.*': .*v not found.*of this one.{}$"
            end = " Only what .*" if initialize else ""
            with pytest.raises(ValueError, match=words.format(end)):
                value_of_asked(model)


def value_of_asked(model):
    model.tensor("f")
    return value_of(model)


def test_a_graph_of_variables_alone(tmp_path):
    """Without collections: it takes a checkpoint, or its initializers."""
    prefix = subset(tmp_path)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.placeholder(tf.float64, [None, 2], name="x")
        v = tf.get_variable("v", initializer=np.float64(2), use_resource=True)
        tf.multiply(v, tf.reduce_sum(x**3, 1), name="f")
        session.run(v.initializer)
        (tmp_path / "g.pb").write_bytes(graph.as_graph_def().SerializeToString())
    for options, expected in (
        ({"checkpoint": prefix}, 7.0),
        ({"initialize": True}, 2.0),
    ):
        with load(tmp_path / "g.pb", **options) as model:
            np.testing.assert_allclose(value_of(model), [expected])


def test_a_checkpoint_is_found_where_it_was_moved(tmp_path):
    prefix = subset(tmp_path)
    state = tmp_path / "checkpoint"
    state.write_text('model_checkpoint_path: "/elsewhere/m"')
    for given in (tmp_path, state, prefix + ".data-00000-of-00001"):
        with load(prefix + ".meta", checkpoint=given) as model:
            assert model.stored.checkpoint == prefix
    state.unlink()
    with load(prefix + ".meta", checkpoint=tmp_path) as model:
        assert model.stored.checkpoint == prefix
    shutil.copy(prefix + ".index", str(tmp_path / "n.index"))
    with pytest.raises(ValueError, match="several checkpoints, .*: m, n. Pass one"):
        load(prefix + ".meta", checkpoint=tmp_path)


def test_a_checkpoint_of_the_first_version_in_several_files(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, [None, 2], name="x")
        v = tf.get_variable("v", initializer=np.float64(2))
        tf.multiply(v, tf.reduce_sum(x**3, 1), name="f")
        session.run(v.initializer)
        version = tf.train.SaverDef.V1
        saver = tf.train.Saver(sharded=True, write_version=version)
        saver.save(session, str(tmp_path / "m"))
    with load(tmp_path / "m.meta") as model:
        np.testing.assert_allclose(value_of(model), [2.0])


def test_devices_of_a_cluster_are_left_out(tmp_path, capsys):
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float64, [None, 2], name="x")
        with tf.device("/job:ps/task:3"):
            v = tf.get_variable("v", initializer=np.float64(2))
        with tf.device("/job:localhost/device:CPU:0"):
            tf.multiply(v, tf.reduce_sum(x**3, 1), name="f")
        meta = tf.train.export_meta_graph(str(tmp_path / "m.meta"))
    assert any("ps" in node.device for node in meta.graph_def.node)
    with load(tmp_path / "m.meta", initialize=True) as model:
        np.testing.assert_allclose(value_of(model), [2.0])
        assert "localhost" in model.find("f").device
    assert main(["inspect", str(tmp_path / "m.meta")]) == 0
    assert "ops are run here, and not on: /job:ps/task:3" in capsys.readouterr().out
