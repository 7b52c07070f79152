"""Data files as arrays that are read batch by batch.

What a format cannot give a part of is written once, in chunks, to a temporary file
that has no name and goes with the process: so data larger than memory may be in any.
"""

import itertools
import os
import re

import numpy as np

from batchhess.compat import tf
from batchhess.errors import cause
from batchhess.stores import is_text, store_of
from batchhess.tabular import (
    CHUNK,
    first_of,
    is_number,
    read_csv,
    read_parquet,
    refuse_rounded,
)


def read(text, name, dtype=None, rank=None, header=None, called=None):
    """What to feed for a placeholder.

    Args:
      text: str: a number, or FILE, or FILE:COLUMNS. A .npy file; a .npz file, of which
        COLUMNS is the key; a .csv or .parquet file, of which COLUMNS are the names
        between commas; a .tfrecord file of tf.train.Example, of which it is the
        feature. Without COLUMNS it is what the placeholder is called, or all.
      name: str, of the placeholder.
      dtype: np.dtype of the placeholder, to read text in; None for float64, and
        `object` for text itself, which is held in memory, each different word once.
      rank: int, of the placeholder: an axis of one number is added to what is read, or
        left out, where it then has that rank; None for what is read.
      header: bool, whether the first row of a .csv file holds names. None to tell: it
        does if its cells are different words, none of them a number or a word for a
        missing value; else all must be numbers, but for 0, 1, 2 ..., which may be both.
      called: str, what the placeholder is called too, such as a key of a signature:
        COLUMNS are that before they are its name.

    Returns:
      a number, or an array or memory map.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is damaged, has no such columns, or holds other things than
        numbers.
      ImportError: it is Parquet, and pyarrow is not installed.
    """
    number = as_number(text, name, dtype)
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
    short = dict.fromkeys(n.partition(":")[0] for n in (called, name) if n)
    try:
        found = _READERS[ends[0]](path, columns, list(short), dtype, header)
        return _of_rank(found, rank)
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


def as_number(text, name, dtype):
    """The number that `text` is for a placeholder; None if it is none, or of text."""
    if is_text(dtype):
        return None
    words = {"true": 1, "false": 0}
    if dtype is not None and dtype.kind == "b" and text.lower() in words:
        return words[text.lower()]
    if not is_number(text):
        return None
    if dtype is None or dtype.kind not in "biu":
        refuse_rounded(text, dtype, "'{}' is {{}}, and".format(name))
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


def _npy(path, columns, names, dtype, header):
    if columns:
        raise ValueError("'{}' is one array, and has no '{}'.".format(path, columns))
    with open(path, "rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise ValueError("'{}' is no .npy file.".format(path))
    try:
        found = np.load(path, mmap_mode="r")
    except ValueError as error:
        if "object" in str(error).lower():
            _refuse_objects(path, dtype)
        if "mmap" not in str(error):
            raise
        found = np.load(path)  # An empty one cannot be mapped.
    return _numbers(found, path, dtype)


def _numbers(array, path, dtype):
    if array.dtype.kind not in "biufcSU" and array.dtype.name != "bfloat16":
        _refuse_objects(path, dtype)
    return array


def _refuse_objects(path, dtype):
    raise ValueError(
        "'{}' holds Python objects or records, and not {}. Save it anew as {}.".format(
            path,
            _wanted(dtype),
            "words: array.astype(str)" if is_text(dtype) else "an array of numbers",
        )
    )


def _npz(path, columns, names, dtype, header):
    archive = np.load(path, allow_pickle=False)
    if isinstance(archive, np.ndarray):
        raise ValueError("'{}' is one array: it is a .npy file.".format(path))
    with archive:
        keys = archive.files
        key = columns or (keys[0] if len(keys) == 1 else first_of(names, keys))
        if key not in keys:
            raise ValueError(
                "'{}' has no key '{}'; it has {}. Pass FILE:KEY.".format(
                    path, columns or names[0], ", ".join(keys)
                )
            )
        try:
            return _numbers(archive[key], path, dtype)
        except ValueError as error:
            if "allow_pickle" in str(error):
                _refuse_objects("{}:{}".format(path, key), dtype)
            raise


def _tfrecord(path, columns, names, dtype, header):
    records = _records(path)
    store, number = None, 0
    with tf.Graph().as_default(), tf.Session() as session:
        serialized = tf.placeholder(tf.string, [None])
        parsed = None
        while True:
            chunk = list(itertools.islice(records, CHUNK))
            if not chunk:
                break
            if parsed is None:
                may_be_only = columns is None
                asked = [columns] if columns else names
                feature = _feature(chunk[0], path, asked, may_be_only, dtype)
                key, spec = feature
                parsed = tf.io.parse_example(serialized, {key: spec})[key]
            try:
                rows = session.run(parsed, {serialized: chunk})
            except tf.errors.OpError:

                def parse(record, parsed=parsed, serialized=serialized):
                    session.run(parsed, {serialized: [record]})

                at, why = _first_failure(parse, chunk)
                raise ValueError(
                    "'{}' has no {} {} as feature '{}' in record {}: {}".format(
                        path, spec.shape, _wanted(dtype), key, number + at, why
                    )
                ) from None
            store = store or store_of(rows.shape[1:], rows.dtype)
            store.append(rows)
            number += len(rows)
    if store is None:
        raise ValueError("'{}' has no records.".format(path))
    return store.array()


def _wanted(dtype):
    return "text" if is_text(dtype) else "numbers"


def _first_failure(parse, records):
    """The index of the first of `records` that `parse` fails on, and why."""
    for at, record in enumerate(records):
        try:
            parse(record)
        except tf.errors.OpError as error:
            return at, re.sub(r"^Name: <unknown>, | Index: \d+\.", "", cause(error))
    raise AssertionError("all of them can be parsed alone")


def _records(path):
    try:
        yield from tf.io.tf_record_iterator(path)
    except tf.errors.OpError as error:
        raise ValueError("'{}' is damaged: {}".format(path, cause(error))) from None


def _feature(record, path, names, may_be_only, dtype):
    try:
        features = tf.train.Example.FromString(record).features.feature
    except Exception:
        raise ValueError("'{}' holds no tf.train.Example.".format(path)) from None
    name = first_of(names, features)
    if name is None and may_be_only and len(features) == 1:
        name = list(features)[0]
    if name is None:
        raise ValueError(
            "'{}' has no feature '{}'; it has {}.".format(
                path, names[0], ", ".join(sorted(features))
            )
        )
    kind = features[name].WhichOneof("kind")
    types = {"float_list": tf.float32, "int64_list": tf.int64}
    if is_text(dtype):
        types = {"bytes_list": tf.string}
    if kind not in types:
        words = {"bytes_list": "bytes", None: "nothing"}
        raise ValueError(
            "'{}' holds {} as feature '{}', and not {}.".format(
                path, words.get(kind, "numbers"), name, _wanted(dtype)
            )
        )
    length = len(getattr(features[name], kind).value)
    return name, tf.io.FixedLenFeature([length], types[kind])


_READERS = {
    ".npy": _npy,
    ".npz": _npz,
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".tfrecord": _tfrecord,
    ".tfrecords": _tfrecord,
}
