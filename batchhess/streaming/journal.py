"""An append-only file of records, each with its checksum."""

import contextlib
import json
import os
import uuid
import zlib

_FORMAT = "batchhess journal 1"


class Journal:
    """A header, then a record for each batch, then that all is complete.

    A line is the checksum of a JSON text, and that text. A last line that a stop has
    cut is as if it were not there.
    """

    def __init__(self, path):
        self._path, self._file = path, None

    def exists(self):
        return os.path.exists(self._path)

    def create(self, header):
        """Begins with `header`, at once: a stop leaves all of it or nothing."""
        new = "{}.{}".format(self._path, uuid.uuid4().hex)  # No file of another's.
        try:
            with open(new, "xb") as file:
                file.write(_line({"format": _FORMAT, "header": header}))
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.remove(new)
            raise
        sync_directory(os.path.dirname(self._path))

    def append(self, record):
        if self._file is None:
            self._file = open(self._path, "ab")
        self._file.write(_line(record))
        self._file.flush()

    def complete(self):
        self.append({"complete": True})
        self.sync()

    def sync(self):
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self):
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self):
        """The header, the records, and whether all is complete.

        Lines at the end that are no records are taken away, to be written anew.

        Raises:
          ValueError: it does not begin as a journal does.
        """
        with open(self._path, "rb") as file:
            lines = file.read().splitlines(keepends=True)
        first = _parsed(lines[0]) if lines else None
        header = first.get("header") if first else None
        if not isinstance(header, dict) or first.get("format") != _FORMAT:
            raise ValueError(
                "'{}' is damaged{}: nothing tells what the results beside it "
                "are of. Begin anew in another directory, or remove this one.".format(
                    self._path, " (empty)" if not lines else ""
                )
            )
        records, complete, length = [], False, len(lines[0])
        for line in lines[1:]:
            record = _parsed(line)
            if record is None:
                break
            length += len(line)
            complete = complete or bool(record.get("complete"))
            if "start" in record:
                records.append(record)
        if length < sum(map(len, lines)):
            complete = False
            with open(self._path, "r+b") as file:
                file.truncate(length)
        return header, records, complete


def sync_directory(path):
    """Puts the names in a directory on the disk, where the system can."""
    try:
        descriptor = os.open(path or ".", os.O_RDONLY)
    except OSError:  # Windows opens no directories.
        return
    try:
        os.fsync(descriptor)
    except OSError:  # Some file systems cannot.
        pass
    finally:
        os.close(descriptor)


def _line(record):
    text = json.dumps(record, sort_keys=True).encode("utf-8")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parsed(line):
    """The record in a line, or None if it is damaged."""
    checksum, _, text = line.partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text[:-1]):
        return None
    try:
        record = json.loads(text.decode("utf-8"))
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
