"""explain, verify and run, on a graph from a file."""

import numpy as np
import pytest

from batchhess import HessianError
from batchhess.cli import main
from batchhess.compat import tf


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


def test_explain(saved, capsys):
    prefix, _, _ = saved
    assert main(["explain", prefix + ".meta", "--ys", "f:0", "--xs", "x:0"]) == 0
    told = capsys.readouterr().out
    assert "'f:0' with respect to 'x:0'" in told and "proven separate" in told


@pytest.mark.parametrize("answer", ["hessians", "diagonals", "laplacians"])
def test_run_writes_what_the_checkpoint_answers(saved, answer, tmp_path, capsys):
    prefix, path, value = saved
    arguments = ["run", prefix + ".meta", "--ys", "f:0", "--xs", "x:0"]
    arguments += ["--checkpoint", prefix, "--feed", "x:0=" + path, "--answer", answer]
    arguments += ["--out", str(tmp_path / "out"), "--batch-size", "4"]
    assert main(arguments) == 0
    assert "8 of 11" in capsys.readouterr().out
    (file,) = (tmp_path / "out").glob("*.npy")
    diagonal = 6 * value * np.arange(1.0, 4)
    expected = {
        "hessians": diagonal[:, :, None] * np.eye(3),
        "diagonals": diagonal,
        "laplacians": diagonal.sum(1),
    }[answer]
    np.testing.assert_allclose(np.load(str(file)), expected, rtol=1e-12)
    assert main(arguments) == 1
    assert "Pass resume=True" in capsys.readouterr().err
    assert main(arguments + ["--resume"]) == 0


def test_without_a_checkpoint_variables_are_initialized(saved, tmp_path):
    prefix, path, value = saved
    arguments = ["run", prefix + ".meta", "--ys", "f:0", "--xs", "x:0"]
    assert (
        main(arguments + ["--feed", "x:0=" + path, "--out", str(tmp_path / "o")]) == 0
    )
    (file,) = (tmp_path / "o").glob("*.npy")
    expected = 12 * value[:, :, None] * np.eye(3)
    np.testing.assert_allclose(np.load(str(file)), expected, rtol=1e-12)


def test_verify_tells_right_from_wrong(saved, capsys):
    prefix, path, _ = saved
    common = ["verify", prefix + ".meta", "--xs", "x:0", "--feed", "x:0=" + path]
    common += ["--checkpoint", prefix, "--ys"]
    assert main(common + ["f:0"]) == 0
    assert "right" in capsys.readouterr().out
    assert main(common + ["mixed:0"]) == 1
    assert "are coupled" in capsys.readouterr().err


def test_errors_are_told_in_a_line(saved, capsys):
    prefix, path, _ = saved
    assert main(["explain", prefix + ".meta", "--ys", "g:0", "--xs", "x:0"]) == 1
    assert "KeyError" in capsys.readouterr().err
    assert main(["explain", "no such file", "--ys", "f:0", "--xs", "x:0"]) == 1
    assert "no such file" in capsys.readouterr().err
    for feed in ("x:0", "x:0=" + path + ".missing"):
        with pytest.raises(SystemExit):
            main(["verify", "m", "--ys", "f:0", "--xs", "x:0", "--feed", feed])
        assert feed.split("=")[-1] in capsys.readouterr().err


def test_verify_fails_where_the_error_is_large(saved, capsys, monkeypatch):
    prefix, path, _ = saved
    found = HessianError(0.5, "x:0", 7)
    monkeypatch.setattr("batchhess.cli.compute_hessian_error", lambda *a, **o: found)
    arguments = ["verify", prefix + ".meta", "--ys", "f:0", "--xs", "x:0"]
    assert main(arguments + ["--feed", "x:0=" + path]) == 1
    told = capsys.readouterr().out
    assert "0.5, of 'x:0' at observation 7" in told and "wrong: above" in told
