"""The start of the command line: TensorFlow's noise, and Ctrl-C at any moment."""

import os
import signal
import subprocess
import sys
import time

import pytest

from batchhess.starting import is_noise

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs signals")

# A TensorFlow that says what 2.21 says, and then waits, or crashes.
NOISE = [
    "WARNING: All log messages before absl::InitializeLog() is called are written",
    "I0000 00:00:1795982253.838147     561 port.cc:153] oneDNN custom operations are",
    "E0000 00:00:1795982253.838543     561 cuda_platform.cc:52] failed call to cuInit",
]
FAKE = """
import os, time
os.write(2, {!r})
open(os.path.join(os.path.dirname(__file__), "begun"), "w").close()
try:
    {}
except KeyboardInterrupt:
    raise ImportError("IMPORTANT: PLEASE READ THIS")
"""


def started(arguments, folder, level=None):
    """A process of the command line, with the modules in `folder` before others."""
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(folder), ROOT]))
    env.pop("TF_CPP_MIN_LOG_LEVEL", None)
    if level:
        env["TF_CPP_MIN_LOG_LEVEL"] = level
    return subprocess.Popen(
        [sys.executable] + arguments,
        env=env,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A script's background jobs, tests among them, are started to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def fake_tensorflow(folder, what):
    said = "\n".join(NOISE + ["F0000 00:00:1.1 1 no AVX", ""]).encode()
    (folder / "tensorflow").mkdir()
    (folder / "tensorflow" / "__init__.py").write_text(FAKE.format(said, what))


def test_ctrl_c_while_tensorflow_is_imported(tmp_path):
    fake_tensorflow(tmp_path, "time.sleep(60)")
    process = started(["-m", "batchhess", "inspect", "m"], tmp_path)
    while not (tmp_path / "tensorflow" / "begun").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    told = process.communicate()[1].decode().splitlines()
    assert process.returncode == 130
    assert sorted(told) == ["F0000 00:00:1.1 1 no AVX", "stopped."]


@pytest.mark.parametrize("level, lines", [(None, 1), ("1", 2), ("0", 4)])
def test_the_last_words_of_a_crash_are_kept(tmp_path, level, lines):
    fake_tensorflow(tmp_path, "os.abort()")
    process = started(["-m", "batchhess", "inspect", "m"], tmp_path, level)
    told = process.communicate()[1].decode().splitlines()
    assert process.returncode == -signal.SIGABRT
    assert told[-1].endswith("no AVX") and len(told) == lines


def test_noise():
    assert all(is_noise(line, "IWE") for line in NOISE)
    assert [is_noise(line, "I") for line in NOISE] == [True, True, False]
    assert not is_noise("Import of x failed", "IWE")


def test_an_error_is_all_that_is_said(tmp_path):
    process = started(["-m", "batchhess", "inspect", "gone"], tmp_path)
    told = process.communicate()[1].decode()
    assert process.returncode == 1
    assert told == "error: No such file or directory: 'gone'\n"


INTERRUPTED = """
import os, signal, sys, time
from batchhess import cli, commands

def run(options):
    options.ctrl_c.raises = {}
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt:
        raise AttributeError("what TensorFlow makes of it")

commands.run = run
sys.argv = "batchhess run m --ys f --xs x --out o".split()
sys.exit(cli.main())
"""


@pytest.mark.parametrize("raises", [True, False])
def test_what_ctrl_c_is_made_into_is_not_told(tmp_path, raises):
    process = started(["-c", INTERRUPTED.format(raises)], tmp_path, "3")
    told = process.communicate()[1].decode().splitlines()
    assert process.returncode == 130
    assert told[-1] == "stopped." and "AttributeError" not in "".join(told)
