"""Tables, of text or of Parquet, as arrays."""

import contextlib
import csv
import itertools
import re

import numpy as np

from batchhess.casting import changed
from batchhess.stores import is_text, store_of

# The rows that are read at a time.
CHUNK = 4096


def is_number(text):
    if "_" in text:  # Of Python's own numbers alone.
        return False
    try:
        float(text)
        return True
    except ValueError:
        return False


# The integers up to which each float dtype holds all.
_EXACT = {"bfloat16": 2**8, "float16": 2**11, "float32": 2**24, "float64": 2**53}


def refuse_rounded(text, dtype, where):
    """Raises if `text` is an integer that the float `dtype` cannot hold, or too large.

    As where integers are read from a file that tells them from others. Fractions are
    rounded.
    """
    number, name = float(text), "float64" if dtype is None else dtype.name
    limit = _EXACT.get(name, 2**53)
    try:
        digits = int(text)
    except ValueError:
        lost = np.isinf(number) and "inf" not in text.lower()
    else:  # It may have trailing zeros in base 2.
        lost = abs(digits) > limit and (digits == 0 or _odd(digits) > limit)
    if lost:
        raise ValueError("{} cannot hold {}.".format(where.format(name), text.strip()))


def _odd(number):
    """The odd factor of an int that is not 0."""
    return abs(number) // (number & -number)


def first_of(names, known):
    """The first of `names` that is known, or None."""
    return next((name for name in names if name in known), None)


def read_csv(path, columns, names, dtype, header):
    with open(path, newline="", encoding="utf-8-sig") as file, _long_cells():
        rows = _rows(csv.reader(_whole_lines(file, path), strict=True))
        first = next(rows, None)
        if first is None:
            raise ValueError("'{}' is empty.".format(path))
        if is_text(dtype) and header is None:
            header = _has_names(first, path, columns, names)
        header = _header(first, path, header, columns)
        lines = rows if header else itertools.chain([first], rows)
        wanted = _columns(path, columns, names, header, len(first))
        titles = [header[i] if header else str(i) for i in wanted]
        kind = _read_as(dtype)
        shape = (len(wanted),) if columns or len(wanted) > 1 else ()
        store = store_of(shape, kind)
        number = 0
        while True:
            chunk = list(itertools.islice(lines, CHUNK))
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
            place = path, titles, number
            found = _parsed_cells(cells, kind, place, dtype)
            store.append(found.reshape((len(chunk),) + shape))
            number += len(chunk)


def _read_as(dtype):
    """The dtype in which text is read for a placeholder of `dtype`."""
    if is_text(dtype):
        return dtype
    if dtype is None or dtype.kind not in "biu":
        return np.float64
    return np.uint64 if dtype == np.uint64 else np.int64


def _whole_lines(file, path):
    """The lines of a file, none with zero bytes, as one that was cut off has them."""
    for number, line in enumerate(file):
        if "\0" in line:
            raise ValueError("'{}' has a zero byte in line {}.".format(path, number))
        yield line


@contextlib.contextmanager
def _long_cells():
    """Python's own limit of 128 KB for a cell is lifted."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _rows(lines):
    """The rows of a reader, for which blank lines are rows without cells.

    Of a file with one column they are empty cells. Of others they are left out at the
    end.
    """
    blank, is_single = 0, False
    for row in lines:
        if not row:
            blank += 1
            continue
        is_single = len(row) == 1
        yield from ([""] * is_single for _ in range(blank))
        blank = 0
        yield row
    if is_single:
        yield from ([""] for _ in range(blank))


# A name begins with a letter, or with "_". Words that stand where a value is missing,
# and for values, are none.
_NAME = re.compile(r"[^\W\d]")
_NO_NAME = re.compile(
    "na|n/a|nan|nat|null|none|nil|missing|unknown|undefined|void|true|false|yes|no"
)


def _has_names(first, path, columns, names):
    """Whether the first row holds names, of a file of which text is read.

    Raises:
      ValueError: it may, and it may not.
    """
    cells = [cell.strip() for cell in first]
    if columns is None and first_of(names, cells) is not None:
        return True
    asked = (columns or "").split(",")
    are_places = all(column in map(str, range(len(cells))) for column in asked)
    if columns and not are_places and all(column in cells for column in asked):
        return True
    if are_places and not all(map(_may_be_name, cells)) and not set(asked) & set(cells):
        return False
    several = columns is None and len(cells) > 1
    raise ValueError(
        "'{}' has {!r} in its first row, and text is read from it: a name, or what is "
        "fed. Pass header=True if that row holds names, header=False if it does not{}"
        ".".format(path, first[0], ", and FILE:COLUMN for one column" * several)
    )


def _may_be_name(cell):
    return _NAME.match(cell) and not _NO_NAME.fullmatch(cell.lower())


def _header(first, path, header, columns):
    """The names in the first row, or None if it holds numbers.

    Args:
      first: list of str.
      path: str.
      header: bool, whether it holds names; None to tell by what stands there.
      columns: str, those that are asked for; None for all.

    Raises:
      ValueError: it may be either, or is neither.
    """
    cells = [cell.strip() for cell in first]
    if header is not None:
        return cells if header else None
    words = (
        "'{}' has {!r} in its first row, column {}, {}. Pass header=True if that row "
        "holds names, header=False if it does not."
    )
    numbers = [is_number(cell) for cell in cells]
    if cells == [str(at) for at in range(len(cells))]:
        why = "and counts on: numbers, or what pandas calls columns without names"
        raise ValueError(words.format(path, cells[0], 0, why))
    asked = set((columns or "").split(",")) & set(cells)
    if asked and all(cell.isdigit() for cell in cells) and len(set(cells)) > 1:
        why = "and column {} may be the one of that name or place".format(min(asked))
        raise ValueError(words.format(path, min(asked), cells.index(min(asked)), why))
    if all(numbers):
        return None
    for at, cell in enumerate(cells):
        why = "which is no number, and not all of that row are names"
        is_name = _may_be_name(cell)
        if not is_name and not numbers[at]:
            raise ValueError(words.format(path, cell, at, why))
        if is_name and (any(numbers) or cell in cells[:at]):
            why = "which is there twice" if cell in cells[:at] else why
            raise ValueError(words.format(path, cell, at, why))
    return cells


_TRUTHS = {"true": "1", "false": "0"}


def _parsed_cells(cells, kind, place, dtype):
    """What is in the text `cells`, as `kind`; `place`: path, titles, first row."""
    if is_text(dtype):
        return _words(np.array(cells, object))
    if dtype is not None and dtype.kind == "b":
        cells = [[_TRUTHS.get(c.strip().lower(), c) for c in row] for row in cells]
    try:
        found = _parsed(cells, kind)
    except (ValueError, OverflowError):
        is_truth = dtype is not None and dtype.kind == "b"
        told = dtype if is_truth else kind
        _refuse_cell(cells, place, lambda cell: _parsed([[cell]], kind), told)
        raise
    exact = _EXACT.get("float64" if dtype is None else dtype.name, 2**53)
    if kind == np.float64 and np.any(~(np.abs(found) < exact)):
        _refuse_cell(cells, place, lambda cell: refuse_rounded(cell, dtype, ""), dtype)
    return found


def _words(array):
    """The words in an array as bytes, in which TensorFlow keeps text."""
    found = [w.encode("utf-8") if isinstance(w, str) else w for w in array.flat]
    return np.array(found, object).reshape(array.shape)


def _parsed(cells, kind):
    if kind == np.uint64:  # Of text numpy takes -1 for a large one.
        return np.array([[_unsigned(cell) for cell in row] for row in cells], kind)
    if any("_" in cell for row in cells for cell in row):  # Python's own numbers.
        raise ValueError("no number")
    return np.array(cells, dtype=str).astype(kind)


def _unsigned(text):
    number = int(text)
    if not 0 <= number < 2**64 or "_" in text:
        raise OverflowError(text)
    return number


def _refuse_cell(cells, place, read, kind):
    """Raises with the place of the first of `cells` that `read` fails on."""
    path, titles, number = place
    for at, row in enumerate(cells):
        for title, cell in zip(titles, row):
            try:
                read(cell)
            except (ValueError, OverflowError):
                raise ValueError(
                    "'{}' has {!r} in row {}, column '{}', which is no {}.".format(
                        path, cell, number + at, title, np.dtype(kind).name
                    )
                ) from None


def _columns(path, columns, names, header, width):
    """The indices of the columns that are asked for."""
    if columns is None:
        columns = first_of(names, header or ())
        if columns is None:
            return list(range(width))
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


def read_parquet(path, columns, names, dtype, header):
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise ImportError(
            "'{}' needs pyarrow: in a checkout, pip install '.[parquet]'.".format(path)
        ) from None
    file = parquet.ParquetFile(path)
    header = file.schema_arrow.names
    wanted = _columns(path, columns, names, header, len(header))
    titles = [header[i] for i in wanted]
    _columns(path, ",".join(titles), names, header, len(header))  # Each is there once.
    store, number, shapes = None, 0, {}
    for batch in file.iter_batches(batch_size=CHUNK, columns=titles):
        parts = []
        for title in titles:
            values = batch.column(title)
            found = _arrow_values(values, path, title, number, is_text(dtype))
            if found.shape[1:] != shapes.setdefault(title, found.shape[1:]):
                sizes = found.shape[-1], shapes[title][-1]
                _refuse_size(path, title, number, *sizes, is_text(dtype))
            parts.append(found)
        is_list = parts[0].ndim > 1
        if len(parts) == 1 and (columns is None or is_list):
            rows = parts[0]
        else:
            rows = _beside(parts, path, titles, number, dtype)
        store = store or store_of(rows.shape[1:], rows.dtype)
        store.append(rows)
        number += len(rows)
    if store is None:
        store = store_of((len(wanted),), _read_as(dtype))
    return store.array()


def _arrow_values(values, path, column, number, for_text):
    """A column of a table from row `number` on, as an array."""
    shape = [len(values)]
    while str(values.type).split("<")[0] in _LISTS:
        each = int(np.prod(shape[1:]))
        _refuse_nulls(values, path, column, number, each)
        sizes = np.diff([0, *np.cumsum([len(item) for item in values])])
        if len(set(sizes)) > 1:
            other = int(np.flatnonzero(sizes != sizes[0])[0])
            row = number + other // each
            _refuse_size(path, column, row, sizes[other], sizes[0], for_text)
        shape.append(int(sizes[0]) if len(sizes) else 0)
        values = values.flatten()
    _refuse_nulls(values, path, column, number, int(np.prod(shape[1:])))
    found = values.to_numpy(zero_copy_only=False)
    if for_text and all(isinstance(word, (str, bytes)) for word in found):
        found = _words(found)
    elif for_text or found.dtype.kind not in "biuf":
        raise ValueError(
            "'{}' holds {} in column '{}', and not {}.".format(
                path, values.type, column, "text" if for_text else "numbers"
            )
        )
    return found.reshape(shape)


def _refuse_size(path, column, row, size, before, for_text):
    words = "'{}' has {} {} in column '{}' of row {}, and {} before."
    kind = "words" if for_text else "numbers"
    raise ValueError(words.format(path, size, kind, column, row, before))


# What Arrow calls lists, each of another kind.
_LISTS = "list", "large_list", "fixed_size_list"


def _refuse_nulls(values, path, column, number, each):
    """Raises with the row of the first value that is missing; `each` are of one row."""
    if values.null_count:
        missing = int(np.argmax(np.asarray(values.is_null()))) // each
        raise ValueError(
            "'{}' has no value in column '{}' of row {}.".format(
                path, column, number + missing
            )
        )


def _beside(parts, path, titles, number, dtype):
    """Columns beside each other, in a dtype that holds all of them."""
    if is_text(dtype):
        return np.stack(parts, 1)
    kinds = [np.result_type(*parts)]
    if dtype is not None and dtype.kind == "f" == kinds[0].kind:
        kinds.append(dtype)  # In which they are fed: that of integers would be lost.
    for part, title in zip(parts, titles):
        for kind in kinds if part.dtype.kind in "iu" else ():
            lost = changed(part.astype(kind), part)
            if np.any(lost):
                raise ValueError(
                    "'{}' has in row {}, column '{}', an integer that {} cannot hold, "
                    "which it is fed as, or its other columns are.".format(
                        path, number + int(np.argmax(lost)), title, kind.name
                    )
                )
    return np.stack(parts, 1).astype(kinds[0], copy=False)
