"""Data files as arrays that are read batch by batch.

What a format cannot give a part of is written once, in chunks, to a temporary file
that has no name and goes with the process: so data larger than memory may be in any.
"""

import csv
import itertools
import os
import tempfile

import numpy as np

from batchhess.casting import changed
from batchhess.compat import tf
from batchhess.errors import cause

_CHUNK = 4096


def read(text, name, dtype=None, rank=None):
    """What to feed for a placeholder.

    Args:
      text: str: a number, or FILE, or FILE:COLUMNS. A .npy file; a .npz file, of which
        COLUMNS is the key; a .csv or .parquet file, of which COLUMNS are the names
        between commas; a .tfrecord file of tf.train.Example, of which it is the
        feature. Without COLUMNS it is what the placeholder is called, or all.
      name: str, of the placeholder.
      dtype: np.dtype of the placeholder, to read text in; None for float64.
      rank: int, of the placeholder: an axis of one number is added to what is read, or
        left out, where it then has that rank; None for what is read.

    Returns:
      a number, or an array or memory map.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is damaged, has no such columns, or holds other things than
        numbers.
      ImportError: it is Parquet, and pyarrow is not installed.
    """
    number = _number(text, name, dtype)
    if number is not None:
        return number
    path, columns = text, None
    if not os.path.exists(path) and ":" in text:
        path, _, columns = text.rpartition(":")
    if not os.path.exists(path):
        raise FileNotFoundError("no file '{}' to feed for '{}'.".format(path, name))
    ends = [end for end in _READERS if path.lower().endswith(end)]
    if not ends:
        raise ValueError(
            "'{}' is of no format that is known: {}.".format(path, ", ".join(_READERS))
        )
    short = name.partition(":")[0]
    try:
        return _of_rank(_READERS[ends[0]](path, columns, short, dtype), rank)
    except (ImportError, MemoryError):
        raise
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError("'{}' cannot be read: {}".format(path, cause(error))) from error
    except Exception as error:
        first = cause(error)
        if path in first:
            raise ValueError(first) from None
        raise ValueError("'{}' cannot be read: {}".format(path, first)) from error


def _number(text, name, dtype):
    """The number that `text` is; None if it is none."""
    words = {"true": 1, "false": 0}
    if dtype is not None and dtype.kind == "b" and text.lower() in words:
        return words[text.lower()]
    if not _is_number(text):
        return None
    if dtype is None or dtype.kind not in "biu":
        return float(text)
    try:
        return int(text)
    except ValueError:
        raise ValueError(
            "'{}' is {}, and {} is not written as an integer.".format(
                name, dtype.name, text
            )
        ) from None


def _of_rank(array, rank):
    """`array`, with or without a last axis of one number."""
    if rank == array.ndim - 1 and array.shape[-1] == 1:
        return array[..., 0]
    return array[..., None] if rank is not None and rank == array.ndim + 1 else array


def _npy(path, columns, name, dtype):
    if columns:
        raise ValueError("'{}' is one array, and has no '{}'.".format(path, columns))
    with open(path, "rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise ValueError("'{}' is no .npy file.".format(path))
    try:
        found = np.load(path, mmap_mode="r")
    except ValueError as error:
        if "mmap" in str(error) and "object" not in str(error).lower():
            found = np.load(path)  # An empty one cannot be mapped.
        else:
            raise
    return _numbers(found, path)


def _numbers(array, path):
    if array.dtype.kind not in "biufcSU" and array.dtype.name != "bfloat16":
        raise ValueError(
            "'{}' holds Python objects or records, and not numbers. Save it anew as an "
            "array of numbers.".format(path)
        )
    return array


def _npz(path, columns, name, dtype):
    archive = np.load(path, allow_pickle=False)
    if isinstance(archive, np.ndarray):
        raise ValueError("'{}' is one array: it is a .npy file.".format(path))
    with archive:
        keys = archive.files
        key = columns or (keys[0] if len(keys) == 1 else name)
        if key not in keys:
            raise ValueError(
                "'{}' has no key '{}'; it has {}. Pass FILE:KEY.".format(
                    path, key, ", ".join(keys)
                )
            )
        try:
            return _numbers(archive[key], path)
        except ValueError as error:
            if "allow_pickle" in str(error):
                raise ValueError(
                    "'{}' holds Python objects under '{}', and not numbers. Save it "
                    "anew as an array of numbers.".format(path, key)
                ) from None
            raise


def _csv(path, columns, name, dtype):
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = _but_blank_ends(csv.reader(file, strict=True))
        first = next(rows, None)
        if first is None:
            raise ValueError("'{}' is empty.".format(path))
        header = _header(first, path)
        lines = rows if header else itertools.chain([first], rows)
        wanted = _columns(path, columns, name, header, len(first))
        titles = [header[i] if header else str(i) for i in wanted]
        kind = np.int64 if dtype is not None and dtype.kind in "biu" else np.float64
        store = _Store((len(wanted),) if columns or len(wanted) > 1 else (), kind)
        number = 0
        while True:
            chunk = list(itertools.islice(lines, _CHUNK))
            if not chunk:
                return store.array()
            for at, row in enumerate(chunk):
                if len(row) != len(first):
                    raise ValueError(
                        "'{}' has {} columns for {} in row {}.".format(
                            path, len(row), len(first), number + at
                        )
                    )
            cells = [[row[i] for i in wanted] for row in chunk]
            store.append(_parsed_cells(cells, kind, path, titles, number))
            number += len(chunk)


def _but_blank_ends(rows):
    """`rows`, but for blank lines at the end of the file."""
    blank = 0
    for row in rows:
        if not row:
            blank += 1
            continue
        yield from ([] for _ in range(blank))
        blank = 0
        yield row


def _header(first, path):
    """The names in the first row, or None if it holds numbers."""
    cells = [cell.strip() for cell in first]
    numbers = [_is_number(cell) for cell in cells]
    if all(numbers):
        return None
    missing = [cell in ("", "NA", "N/A", "NULL", "?", "-") for cell in cells]
    for at, cell in enumerate(cells):
        if any(numbers) and not numbers[at] or all(missing):
            raise ValueError(
                "'{}' has {!r} in its first row, column {}, which is no number, and "
                "not all of that row are names.".format(path, cell, at)
            )
    return cells


def _parsed_cells(cells, kind, path, titles, number):
    try:
        return np.array(cells, dtype=str).astype(kind)
    except (ValueError, OverflowError):
        for at, row in enumerate(cells):
            for title, cell in zip(titles, row):
                try:
                    np.array([cell], dtype=str).astype(kind)
                except (ValueError, OverflowError):
                    raise ValueError(
                        "'{}' has {!r} in row {}, column '{}', which is no {}.".format(
                            path, cell, number + at, title, np.dtype(kind).name
                        )
                    ) from None
        raise


def _columns(path, columns, name, header, width):
    """The indices of the columns that are asked for."""
    if columns is None:
        if not header or name not in header:
            return list(range(width))
        columns = name
    known = header or [str(i) for i in range(width)]
    for column in columns.split(","):
        if known.count(column) != 1:
            raise ValueError(
                "'{}' has {} column '{}'; it has {}.".format(
                    path,
                    "more than one" if column in known else "no",
                    column,
                    ", ".join(known[:20]),
                )
            )
    return [known.index(column) for column in columns.split(",")]


def _is_number(text):
    try:
        float(text)
        return True
    except ValueError:
        return False


def _parquet(path, columns, name, dtype):
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise ImportError(
            "'{}' needs pyarrow: pip install 'batchhess[parquet]'.".format(path)
        ) from None
    file = parquet.ParquetFile(path)
    header = file.schema_arrow.names
    wanted = _columns(path, columns, name, header, len(header))
    titles = [header[i] for i in wanted]
    _columns(path, ",".join(titles), name, header, len(header))  # Each is there once.
    store, number = None, 0
    for batch in file.iter_batches(batch_size=_CHUNK, columns=titles):
        parts = [
            _arrow_numbers(batch.column(title), path, title, number) for title in titles
        ]
        is_list = parts[0].ndim > 1
        if len(parts) == 1 and (columns is None or is_list):
            rows = parts[0]
        else:
            rows = _beside(parts, path, titles, number)
        store = store or _Store(rows.shape[1:], rows.dtype)
        store.append(rows)
        number += len(rows)
    if store is None:
        store = _Store((len(wanted),), np.float64)
    return store.array()


def _arrow_numbers(values, path, column, number):
    """A column of a table from row `number` on, as an array."""
    if values.null_count:
        raise ValueError(
            "'{}' has no value in column '{}', in rows {} to {}.".format(
                path, column, number, number + len(values)
            )
        )
    found = np.asarray(values.to_pylist())
    if found.dtype.kind not in "biuf":
        raise ValueError(
            "'{}' holds {} in column '{}', and not numbers.".format(
                path, values.type, column
            )
        )
    return found


def _beside(parts, path, titles, number):
    """Columns beside each other, in a dtype that holds all of them."""
    kind = np.result_type(*parts)
    for part, title in zip(parts, titles):
        lost = changed(part.astype(kind), part) if part.dtype.kind in "iu" else part[:0]
        if np.any(lost):
            raise ValueError(
                "'{}' has in row {}, column '{}', an integer that {}, which its other "
                "columns are, cannot hold. Write that column to a file of its "
                "own.".format(
                    path, number + int(np.argmax(lost)), title, np.dtype(kind).name
                )
            )
    return np.stack(parts, 1).astype(kind, copy=False)


def _tfrecord(path, columns, name, dtype):
    records = _records(path)
    store, number = None, 0
    with tf.Graph().as_default(), tf.Session() as session:
        serialized = tf.placeholder(tf.string, [None])
        parsed = None
        while True:
            chunk = list(itertools.islice(records, _CHUNK))
            if not chunk:
                break
            if parsed is None:
                feature = _feature(chunk[0], path, columns or name, columns is None)
                key, spec = feature
                parsed = tf.io.parse_example(serialized, {key: spec})[key]
            try:
                rows = session.run(parsed, {serialized: chunk})
            except tf.errors.OpError as error:
                raise ValueError(
                    "'{}' has no {} numbers as feature '{}' in each of its records {} "
                    "to {}: {}".format(
                        path,
                        spec.shape,
                        key,
                        number,
                        number + len(chunk),
                        cause(error),
                    )
                ) from None
            store = store or _Store(rows.shape[1:], rows.dtype)
            store.append(rows)
            number += len(rows)
    if store is None:
        raise ValueError("'{}' has no records.".format(path))
    return store.array()


def _records(path):
    try:
        yield from tf.io.tf_record_iterator(path)
    except tf.errors.OpError as error:
        raise ValueError("'{}' is damaged: {}".format(path, cause(error))) from None


def _feature(record, path, name, may_be_only):
    try:
        features = tf.train.Example.FromString(record).features.feature
    except Exception:
        raise ValueError("'{}' holds no tf.train.Example.".format(path)) from None
    if name not in features and may_be_only and len(features) == 1:
        name = list(features)[0]
    if name not in features:
        raise ValueError(
            "'{}' has no feature '{}'; it has {}.".format(
                path, name, ", ".join(sorted(features))
            )
        )
    kind = features[name].WhichOneof("kind")
    types = {"float_list": tf.float32, "int64_list": tf.int64}
    if kind not in types:
        raise ValueError(
            "'{}' holds {} as feature '{}', and not numbers.".format(
                path, "bytes" if kind else "nothing", name
            )
        )
    length = len(getattr(features[name], kind).value)
    return name, tf.io.FixedLenFeature([length], types[kind])


class _Store:
    """Rows in a temporary file, which has no name where the system can do without."""

    def __init__(self, shape, dtype):
        self._shape, self._dtype, self._count = tuple(shape), np.dtype(dtype), 0
        self._file = tempfile.TemporaryFile(prefix="batchhess")

    def append(self, rows):
        if rows.dtype != self._dtype:
            if not np.can_cast(rows.dtype, self._dtype, "safe"):
                raise ValueError(
                    "the rows from {} on are {}, and those before {}.".format(
                        self._count, rows.dtype, self._dtype
                    )
                )
            rows = rows.astype(self._dtype)
        rows = rows.reshape((len(rows),) + self._shape)
        try:
            self._file.write(np.ascontiguousarray(rows).tobytes())
            self._file.flush()
        except OSError as error:
            words = error.strerror + " for a temporary copy of the data"
            raise OSError(error.errno, words, tempfile.gettempdir()) from None
        self._count += len(rows)

    def array(self):
        shape = (self._count,) + self._shape
        if not np.prod(shape):
            return np.zeros(shape, self._dtype)
        return np.memmap(self._file, self._dtype, "r", shape=shape)


_READERS = {
    ".npy": _npy,
    ".npz": _npz,
    ".csv": _csv,
    ".parquet": _parquet,
    ".tfrecord": _tfrecord,
    ".tfrecords": _tfrecord,
}
