"""The lock of a directory into which one process at a time may write."""

import contextlib
import os


@contextlib.contextmanager
def held(directory):
    """Holds the lock of a directory, which a process that ends lets go of."""
    path = os.path.join(directory, ".lock")
    file = open(path, "a+b")
    try:
        if not _try_lock(file):
            file.seek(0)
            holder = file.read(100).decode("ascii", "replace").strip()
            raise RuntimeError(
                "'{}' is being written by another evaluation{}. Wait for it, "
                "or pass another directory.".format(
                    directory, " (process {})".format(holder) if holder else ""
                )
            )
        file.seek(0)
        if not _is_ours(file.read()):
            raise ValueError(
                "'{}' is not of batchhess, and would be overwritten. Pass another "
                "directory.".format(path)
            )
        file.truncate(0)
        file.write(str(os.getpid()).encode("ascii"))
        file.flush()
        yield
    finally:
        file.close()


def _is_ours(content):
    """Whether a file holds nothing, or the number of a process."""
    return not content or content.isdigit()


def _try_lock(file):
    try:
        import fcntl
    except ImportError:  # Windows.
        import msvcrt

        try:
            file.seek(1 << 30)  # Beyond what others read.
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
