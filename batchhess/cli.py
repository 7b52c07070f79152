"""The command line: python -m batchhess, or batchhess. TensorFlow comes in late.

Exit codes: 0, all is well; 1, it could not be done; 2, the command is not understood;
3, `verify` has found Hessians to be wrong; 130, stopped by Ctrl-C; 141, stopped because
nobody reads what it prints, as of `| head -1`.
"""

import os
import sys

_ERROR_LINES, _LINE = 5, 400


def main(arguments=None):
    """Runs the command that `arguments` (those of the process if None) name.

    Returns:
      int, the exit code.
    """
    options = ctrl_c = None
    try:
        # All imports are here, because Ctrl-C may come while they last.
        from batchhess import parsing, starting

        options = parsing.parse(arguments)
        if options is None:
            return 2
        options.ctrl_c = ctrl_c = starting.CtrlC(lambda: _stopped(options))
        if arguments is None:  # Else it is not our process.
            ctrl_c.watch()
        return _run(options)
    except KeyboardInterrupt:
        print(_stopped(options), file=sys.stderr)
        return 130
    except BrokenPipeError:  # Whoever reads has had enough, such as `head`.
        _close_broken_pipes()
        return 141
    except Exception as error:
        stopped = ctrl_c is not None and ctrl_c.came
        print(_stopped(options) if stopped else _told(error), file=sys.stderr)
        return 130 if stopped else 1


def _close_broken_pipes():
    """Lets nothing more be written to them, not at the end of the process either."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(options):
    import warnings

    from batchhess.starting import quiet_import

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=FutureWarning)
    with quiet_import(options.ctrl_c):
        from batchhess import commands
    status = getattr(commands, options.command)(options)
    sys.stdout.flush()
    return status


def _stopped(options):
    """What is said at Ctrl-C: also whether the next run may go on."""
    is_run = options is not None and options.command == "run" and not options.runner
    if is_run and os.path.exists(os.path.join(options.out, "journal.jsonl")):
        return "stopped. What is written stays: --resume goes on."
    return "stopped."


def _told(error):
    """An error in at most five lines that begin with its cause."""
    from batchhess.errors import lines_of
    from batchhess.parsing import in_options

    lines = lines_of(error)
    if isinstance(error, OSError) and error.strerror:
        file = ": '{}'".format(error.filename) if error.filename else ""
        lines = [error.strerror + file]
    lines = [in_options(line) for line in lines]
    lines = [line[:_LINE] for line in lines[:_ERROR_LINES]]
    return "\n".join(["error: " + lines[0]] + ["  " + line for line in lines[1:]])
