"""Where `evaluate` writes: arrays, or a directory that survives a stop.

A directory holds, while it is written, for each output NAME:

    NAME.npy.partial   the whole file, its space taken beforehand
    journal.jsonl      what is computed, and of which data; a line for each batch
    .lock              held by the one process that writes

and NAME.npy only once all of it is written and on the disk. A line of the journal holds
the checksums of a batch of data and of its results. So what a stop, another writer or
a failing disk has spoiled is found and computed again, and other data is refused.
"""

import contextlib
import errno
import io
import os
import zlib
from concurrent import futures

import numpy as np

from batchhess.calling import told
from batchhess.compat import VERSION, tf
from batchhess.streaming import journal, lock

# What loss of power may cost, in bytes of results and in seconds.
_SYNC_BYTES = 1 << 30
_CHUNK = 1 << 24


class Arrays:
    """Writes into arrays, the caller's or new ones.

    Attributes:
      arrays: list of arrays, one for each fetch; None before the first batch is known.
    """

    def __init__(self, out, fetches, count):
        self._given, self._count = None, count
        self.arrays = None
        if out is not None:
            self._given = _arrays_of(out, fetches)

    def begin(self, answers):
        """Makes room for all, where `answers` are those of one batch."""
        shapes = [(self._count,) + a.shape[1:] for a in answers]
        self.arrays = self._given or [
            np.empty(shape, a.dtype) for shape, a in zip(shapes, answers)
        ]
        for array, shape, answer in zip(self.arrays, shapes, answers):
            if (array.shape, array.dtype) != (shape, answer.dtype):
                raise ValueError(
                    "out has an array of {} {}, and the answer is {} {}.".format(
                        array.dtype, array.shape, answer.dtype, shape
                    )
                )

    def write(self, answers, start, stop, sums):
        del sums  # Memory needs none.
        for array, answer in zip(self.arrays, answers):
            array[start:stop] = answer

    def row(self, index):
        """The answers for one observation that is written: a list of [1, ...]."""
        return [array[index : index + 1] for array in self.arrays]

    def finish(self):
        return self.arrays


def _arrays_of(out, fetches):
    """The arrays in `out`, which is made like `fetches`."""
    try:
        tf.nest.assert_same_structure(fetches, out)
    except (TypeError, ValueError) as error:  # It prints all that is in the arrays.
        words = "out has not the structure of fetches: it is a {}, and that a {}."
        kinds = [type(one).__name__ for one in (out, fetches)]
        raise type(error)(words.format(*kinds)) from None
    found = tf.nest.flatten(out)
    for array in found:
        if not (hasattr(array, "shape") and hasattr(array, "dtype")):
            raise TypeError("out holds {!r}, no array.".format(array))
        if isinstance(array, np.ndarray) and not array.flags.writeable:
            raise ValueError("out has an array that can only be read.")
    return found


class Directory:
    """Writes a .npy file for each output, and a journal of what is in them.

    Args:
      path: str.
      names: list of str, of the outputs.
      what: dict of what the results are of, to be held against a journal that is there.
    """

    def __init__(self, path, names, what):
        self.path, self._names = path, names
        self._what = dict({"names": names}, **what)
        self._journal = journal.Journal(os.path.join(path, "journal.jsonl"))
        self._finals = [os.path.join(path, name + ".npy") for name in names]
        self._files, self._offsets, self._header = [], [], None
        self._unsynced = 0
        self._writing, self._last = None, {}
        self.is_complete = False

    @contextlib.contextmanager
    def opened(self, resume):
        """Holds the lock, and answers the records of what is there.

        Args:
          resume: bool, whether to go on with what is there, or refuse.
        """
        os.makedirs(self.path, exist_ok=True)
        with lock.held(self.path):
            try:
                with futures.ThreadPoolExecutor(1) as self._writer:
                    yield self._begin_again(resume)
            finally:
                self._journal.close()
                for file in self._files:
                    file.close()

    def _begin_again(self, resume):
        if not self._journal.exists():
            for file in self._finals + [_partial(f) for f in self._finals]:
                if os.path.lexists(file):
                    raise FileExistsError(
                        "'{}' is there, and no journal says that evaluate "
                        "wrote it. Move it, or pass another directory.".format(file)
                    )
            return []
        if not resume:
            raise ValueError(
                "'{}' holds results. Pass resume=True to go on with them, or "
                "another directory.".format(self.path)
            )
        self._header, records, self.is_complete = self._journal.read()
        self._compare(self._header)
        self._open_files(fresh=not records)
        return records

    def _compare(self, header):
        for key, mine in self._what.items():
            if header.get(key) == mine:
                continue
            told_apart = ": {}, not {}".format(_shown(header.get(key)), _shown(mine))
            if key == "model":  # Of digests nobody can tell.
                writer = header.get("tensorflow", VERSION)
                told_apart = "" if writer == VERSION else ", or TensorFlow: {} and {}"
                told_apart = told_apart.format(writer, VERSION)
            raise ValueError(
                "'{}' holds results of another {}{}. Pass what they were begun "
                "with, or another directory.".format(
                    self.path, _WORDS.get(key, key), told_apart
                )
            )

    def begin(self, answers):
        """Takes the space for all, where `answers` are those of one batch."""
        outputs = [
            {"dtype": np.lib.format.dtype_to_descr(a.dtype), "shape": list(a.shape[1:])}
            for a in (self._kept(answer) for answer in answers)
        ]
        if self._header is not None:
            if self._header["outputs"] != outputs:
                raise ValueError(
                    "'{}' holds results of shapes {}, not {}.".format(
                        self.path, self._header["outputs"], outputs
                    )
                )
            return
        self._header = dict(self._what, outputs=outputs, tensorflow=VERSION)
        self._check_space()
        self._journal.create(self._header)
        self._open_files(fresh=True)

    def _kept(self, answer):
        """`answer` in a dtype that a .npy file can hold without pickle."""
        if answer.dtype.kind == "O":
            raise TypeError(
                "an output is of strings, which a .npy file cannot hold. Pass out=None."
            )
        if answer.dtype.name == "bfloat16":  # A wider one, which holds it exactly.
            return answer.astype(np.float32)
        return answer

    def _layout(self, output):
        """The bytes before the data of an output, its dtype and its shape."""
        shape = (self._what["observations"],) + tuple(output["shape"])
        dtype = np.dtype(output["dtype"])
        return _npy_header(dtype, shape), dtype, shape

    def _size(self, output):
        header, dtype, shape = self._layout(output)
        return len(header) + dtype.itemsize * _product(shape)

    def _check_space(self):
        need = sum(self._size(output) for output in self._header["outputs"])
        if not hasattr(os, "statvfs"):
            return
        stat = os.statvfs(self.path)
        free = stat.f_bavail * stat.f_frsize
        if need > free:
            raise OSError(
                errno.ENOSPC,
                told(
                    "the results need {:,} bytes, and {:,} are free where they are to "
                    "be written. Free some, pass another directory, or ask for "
                    "diagonals or Laplacians"
                ).format(need, free),
                self.path,
            )

    def _open_files(self, fresh):
        for final, output in zip(self._finals, self._header["outputs"]):
            header, size = self._layout(output)[0], self._size(output)
            path = _partial(final)
            if not os.path.exists(path) and os.path.exists(final):
                path = final
            elif fresh and not _is_whole(path, size):
                _allocate(path, header, size)
            _check_file(path, header, size)
            # A file under its final name may be the user's to read alone.
            writable = path != final or os.access(path, os.W_OK)
            self._files.append(open(path, "r+b" if writable else "rb", buffering=0))
            self._offsets.append(len(header))

    def _span(self, index, start, stop):
        """Where observations `start` to `stop` of an output are: offset and length."""
        _, dtype, shape = self._layout(self._header["outputs"][index])
        row = dtype.itemsize * _product(shape[1:])
        return self._offsets[index] + start * row, (stop - start) * row

    def write(self, answers, start, stop, sums):
        """Writes the answers of a batch, and then that they are written.

        It is done while the next batch is computed; what fails is raised by the next
        call of this object.

        Args:
          answers: list of arrays [stop - start, ...].
          start: int.
          stop: int.
          sums: list of int, the checksums of the data that they are of.
        """
        self._wait()
        self._last = {stop - 1: [np.array(a[-1:]) for a in answers]}
        self._writing = self._writer.submit(self._write, answers, start, stop, sums)

    def _wait(self):
        if self._writing is not None:
            self._writing.result()

    def _write(self, answers, start, stop, sums):
        results = []
        for index, answer in enumerate(answers):
            block = np.ascontiguousarray(self._kept(answer))
            offset, length = self._span(index, start, stop)
            assert block.nbytes == length
            view = memoryview(block).cast("B") if length else b""
            self._files[index].seek(offset)
            while view:
                view = view[self._files[index].write(view) :]
            results.append(zlib.crc32(block) if length else 0)
            self._unsynced += length
        self.is_complete = False
        if self._unsynced > _SYNC_BYTES:
            self._sync()
        self._journal.append(
            {"start": start, "stop": stop, "data": sums, "results": results}
        )

    def _sync(self):
        for file in self._files:
            os.fsync(file.fileno())
        self._journal.sync()
        self._unsynced = 0

    def is_sound(self, record):
        """Whether the results that a record tells of are on the disk, unchanged."""
        start, stop = record["start"], record["stop"]
        for index, expected in enumerate(record["results"]):
            offset, left = self._span(index, start, stop)
            self._files[index].seek(offset)
            found = 0
            while left:
                data = self._files[index].read(min(left, _CHUNK))
                if not data:
                    return False
                found, left = zlib.crc32(data, found), left - len(data)
            if found != expected:
                return False
        return True

    def read(self, start, stop):
        """The results of observations `start` to `stop`, a list of arrays."""
        found = []
        for index, output in enumerate(self._header["outputs"]):
            _, dtype, shape = self._layout(output)
            offset, length = self._span(index, start, stop)
            self._files[index].seek(offset)
            data = self._files[index].read(length) if length else b""
            found.append(
                np.frombuffer(data, dtype).reshape((stop - start,) + shape[1:])
            )
        return found

    def row(self, index):
        """The answers for one observation that is written: a list of [1, ...]."""
        if index in self._last:
            return self._last[index]
        self._wait()
        return self.read(index, index + 1)

    def finish(self):
        """Puts what is whole under its final name, and answers memory maps."""
        self._wait()
        if not self.is_complete or any(
            os.path.exists(_partial(final)) for final in self._finals
        ):
            self._sync()
            self._journal.complete()
            for final in self._finals:
                _publish(final)
            journal.sync_directory(self.path)
        return [_mapped(final) for final in self._finals]


_WORDS = {
    "observations": "number of observations",
    "names": "set of outputs",
    "model": "model, other weights, or another method",
    "fed": "value that is fed",
    "data": "kind of data",
}


def _shown(value):
    text = str(value)
    return text if len(text) < 200 else text[:200] + "..."


def _partial(final):
    return final + ".partial"


def _product(shape):
    size = 1
    for length in shape:
        size *= int(length)
    return size


def _npy_header(dtype, shape):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer,
        {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": tuple(int(length) for length in shape),
        },
    )
    return buffer.getvalue()


def _allocate(path, header, size):
    """Makes a file of `size` bytes that has its space, so that no write lacks it."""
    with open(path, "wb", buffering=0) as file:
        try:
            file.write(header)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        except OSError as error:
            unable = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
            if error.errno not in unable:
                os.remove(path)
                raise OSError(
                    error.errno,
                    told("no room for {:,} bytes of results: {}").format(
                        size, error.strerror
                    ),
                    path,
                ) from None
            file.truncate(size)  # Then a write that lacks space raises.


def _is_whole(path, size):
    return os.path.exists(path) and os.path.getsize(path) == size


def _check_file(path, header, size):
    if not os.path.exists(path):
        raise FileNotFoundError(
            errno.ENOENT,
            "the journal tells of results in a file that is missing. Put it "
            "back, or begin anew in another directory",
            path,
        )
    found = os.path.getsize(path)
    with open(path, "rb") as file:
        same = file.read(len(header)) == header
    if found != size or not same:
        raise ValueError(
            "'{}' is not the file that the journal tells of: it has {:,} "
            "bytes for {:,}{}. Put that one back, or begin anew in another "
            "directory.".format(
                path, found, size, "" if same else ", and another header"
            )
        )


def _publish(final):
    """Gives a partial file its final name, if nobody else's file has it."""
    partial = _partial(final)
    if not os.path.exists(partial):
        return
    try:
        os.link(partial, final)
    except FileExistsError:
        if not (os.path.exists(final) and os.path.samefile(partial, final)):
            raise FileExistsError(
                errno.EEXIST,
                "another file has the name of the results, which are whole "
                "in '{}'. Move it, and resume".format(partial),
                final,
            ) from None
    except OSError:  # A file system without links.
        os.rename(partial, final)
        return
    os.remove(partial)


def _mapped(path):
    try:
        return np.load(path, mmap_mode="r")
    except ValueError:  # Nothing cannot be mapped.
        return np.load(path)
