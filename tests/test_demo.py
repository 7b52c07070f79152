"""The demo runs, shows what it says, and fails when the numbers are wrong."""

import io
import mmap
import os
import subprocess
import sys

import numpy as np
import pytest

from batchhess import demo
from batchhess.cli import main

ROOT = os.path.join(os.path.dirname(__file__), "..")


def test_the_command_prints_gradients_hessians_check_and_table():
    answer = subprocess.run(
        [sys.executable, "-m", "batchhess", "demo", "--sizes", "20", "40"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert answer.returncode == 0, answer.stderr
    assert "gradients (150, 4), hessians (150, 4, 4)" in answer.stdout
    assert (
        "tf.hessians gives (150, 4, 150, 4); its 150 diagonal blocks" in answer.stdout
    )
    table = answer.stdout.split("batchhess.hessians\n")[1].splitlines()
    assert [int(row.split()[0]) for row in table if not row.startswith("...")] == [
        20,
        40,
    ]


def test_wrong_hessians_end_the_demo(monkeypatch):
    class Wrong:
        hessians = [1.0]

    class Session:
        def run(self, fetches, feed):
            return np.ones((2, 3, 3)), np.zeros((2, 3, 2, 3))

    with pytest.raises(AssertionError, match="disagree"):
        say = demo._Progress(io.StringIO())
        demo._check(Session(), Wrong.hessians[0], None, None, say)


def test_iris_is_the_published_table():
    features, labels = demo.load_iris()
    assert features.shape == (150, 4)
    assert np.bincount(labels).tolist() == [50, 50, 50]
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(features.std(0), 1, atol=1e-5)


def test_measure_sees_time_and_memory():
    def fill():  # What np.ones takes may be what an earlier test has given back.
        memory = mmap.mmap(-1, int(64e6))
        np.frombuffer(memory, np.uint8)[:] = 1
        return memory

    seconds, megabytes = demo.measure(fill)
    assert seconds > 0
    if os.path.exists("/proc/self/statm"):
        assert 50 < megabytes < 100


def test_no_command_prints_help_and_fails(capsys):
    assert main([]) == 2
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize("count", ["0", "-3", "many"])
def test_sizes_must_be_observations(count, capsys):
    with pytest.raises(SystemExit):
        main(["demo", "--sizes", count])
    assert "N" in capsys.readouterr().err
