"""What a process of the command line does at its start: its noise, and Ctrl-C."""

import contextlib
import os
import re
import signal
import sys

# The levels that TF_CPP_MIN_LOG_LEVEL keeps back.
_KEPT_BACK = {"1": "I", "2": "IW", "3": "IWE"}


class CtrlC:
    """What Ctrl-C does: it ends the process, or raises KeyboardInterrupt.

    While modules are imported and graphs built, an exception is no way to stop: what
    it meets there raises another one, and TensorFlow prints it.

    Args:
      words: function that answers what is printed at the end.

    Attributes:
      came: bool, whether it has been pressed.
      raises: bool, whether it raises: while there is something to be left in order.
      stderr: int, the descriptor to print to.
    """

    def __init__(self, words):
        self._words = words
        self.came, self.raises, self.stderr = False, False, 2

    def watch(self):
        """Begins, where Ctrl-C is Python's to handle, and this the first thread."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGINT, self._handle)

    def _handle(self, number, frame):
        self.came = True
        if self.raises:
            raise KeyboardInterrupt
        os.write(self.stderr, (self._words() + "\n").encode())
        os._exit(130)


@contextlib.contextmanager
def quiet_import(ctrl_c):
    """In it an import says no more than TF_CPP_MIN_LOG_LEVEL allows.

    TensorFlow 2 writes lines before it has a logger that knows the level. They go
    through another process, so that the last words of a crash are not lost.

    Args:
      ctrl_c: a `CtrlC`, which is told where to print.
    """
    levels = _KEPT_BACK.get(os.environ.get("TF_CPP_MIN_LOG_LEVEL"))
    if not levels or "tensorflow" in sys.modules or not hasattr(os, "fork"):
        yield
        return
    try:
        stderr = os.dup(2)
    except OSError:  # It is closed.
        yield
        return
    child = _filter(stderr, levels)
    ctrl_c.stderr = stderr
    try:
        yield
    finally:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(stderr, 2)
        ctrl_c.stderr = 2
        os.close(stderr)
        os.waitpid(child, 0)


def _filter(stderr, levels):
    """Starts the process that copies to `stderr` what is written to descriptor 2."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(reader)
        os.dup2(writer, 2)
        os.close(writer)
        return child
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.close(writer)
        for line in os.fdopen(reader, "rb"):
            if not is_noise(line.decode("utf-8", "replace"), levels):
                os.write(stderr, line)
    finally:
        os._exit(0)


def is_noise(line, levels):
    """Whether a line is of a log of these levels, or tells that one begins."""
    begins = "WARNING: All log messages before absl::InitializeLog"
    return line.startswith(begins) or bool(
        re.match("[" + levels + r"]\d{4} \d\d:\d\d:\d+\.\d+ ", line)
    )
