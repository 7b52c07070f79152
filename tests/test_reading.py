"""Data files: each format gives the same numbers, or tells what is wrong with it."""

import csv

import numpy as np
import pytest

from batchhess.compat import tf
from batchhess.reading import read
from batchhess.stores import store_of
from batchhess.tabular import CHUNK


@pytest.fixture
def x(random):
    return random.randn(5000, 3).astype("float32").astype(float)


def test_numbers_and_npy(tmp_path, x):
    assert read("2.5", "w:0") == 2.5
    assert isinstance(read("3", "n:0", np.dtype("int32")), int)
    np.save(str(tmp_path / "x.npy"), x)
    found = read(str(tmp_path / "x.npy"), "x:0")
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, x)


def test_npz_by_key_by_name_or_the_only_one(tmp_path, x):
    path = str(tmp_path / "data.npz")
    np.savez(path, x=x, other=x + 1)
    np.testing.assert_array_equal(read(path, "x:0"), x)
    np.testing.assert_array_equal(read(path + ":other", "x:0"), x + 1)
    with pytest.raises(ValueError, match="no key 'z'; it has x, other. Pass FILE:KEY"):
        read(path, "z:0")


def test_csv_with_and_without_a_header(tmp_path, x):
    bare, named = tmp_path / "bare.csv", tmp_path / "named.csv"
    lines = "\n".join(",".join(map(repr, row)) for row in x.tolist())
    bare.write_text("" + lines + "\n")
    named.write_text("a,b,x\n" + lines)
    np.testing.assert_array_equal(read(str(bare), "x:0"), x)
    np.testing.assert_array_equal(read(str(named), "y:0"), x)
    np.testing.assert_array_equal(read(str(named), "x:0"), x[:, 2])
    np.testing.assert_array_equal(read(str(named) + ":b,a", "y:0"), x[:, [1, 0]])
    with pytest.raises(ValueError, match="no column 'c'; it has a, b, x"):
        read(str(named) + ":c", "y:0")


@pytest.mark.parametrize(
    "text, words",
    [
        ("a,b\n1,2\n3,x\n", "'x' in row 1, column 'b', which is no float64"),
        ("a,b\n1,2\n3,\n", "'' in row 1, column 'b'"),
        ("a,b\n1,2\n3\n", "has 1 columns for 2 in row 1"),
        ("", "is empty"),
        ("1,,3\n4,5,6\n", "'' in its first row, column 1"),
        ("1,NA,3\n4,5,6\n", "'NA' in its first row, column 1"),
        ("NA,\n4,5\n", "'NA' in its first row, column 0"),
        ('1,2,"3\n4,5,6\n', "cannot be read: unexpected end of data"),
        ("1,2\n\n3,4\n", "has 0 columns for 2 in row 1"),
        ("a,b\n1,2\n3,1e400\n", "'1e400' in row 1, column 'b', which is no float64"),
        ("1\n9007199254740993\n", "'9007199254740993' in row 1, column '0'"),
        ("1,2\n3,6.7\0\0\n", "(has a|NUL)"),
        ("1,2\n3,1_0\n", "'1_0' in row 1, column '1', which is no float64"),
        ("1_0,2\n3,4\n", "'1_0' in its first row, column 0"),
        ("0,1,2\n30,10,20\n", "'0' in its first row, column 0, and counts on"),
        (",a,b\n0,1,2\n", "'' in its first row, column 0.*Pass header=True if"),
        ("a,b,a\n0,1,2\n", "'a' in its first row, column 2, which is there twice"),
    ],
)
def test_csv_that_is_wrong_is_told_by_row_and_column(tmp_path, text, words):
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        read(str(tmp_path / "d.csv"), "x:0")


@pytest.mark.parametrize(
    "first",
    ["null", "None", "n/a", "#N/A", "missing", "1.5.2", "1,234", "$3", "NaT", "nil"]
    + ["--", ".", "unknown", "5;6", "na", "1;2", "True", "5 kg"],
)
def test_a_first_observation_is_not_taken_for_a_header(tmp_path, first):
    for text in ('"{0}"\n1\n2\n', '"{0}","{0}"\n1,2\n3,4\n'):
        (tmp_path / "d.csv").write_text(text.format(first))
        with pytest.raises(ValueError, match="in its first row, column 0"):
            read(str(tmp_path / "d.csv"), "x:0")


def test_csv_whose_header_is_told(tmp_path):
    (tmp_path / "d.csv").write_text("1,0,2\n30,10,20\n")
    path = str(tmp_path / "d.csv")
    np.testing.assert_array_equal(read(path, "x:0"), [[1, 0, 2], [30, 10, 20]])
    found = read(path + ":0,1,2", "x:0", header=True)
    np.testing.assert_array_equal(found, [[10, 30, 20]])
    (tmp_path / "d.csv").write_text("0,1\n2,3\n")
    np.testing.assert_array_equal(read(path, "x:0", header=False), [[0, 1], [2, 3]])


@pytest.mark.parametrize("names", [",a,b", "Na,a,b"])
def test_csv_with_a_column_of_no_name_or_an_odd_one(tmp_path, names):
    (tmp_path / "d.csv").write_text(names + "\n0,1,2\n1,3,4\n")
    found = read(str(tmp_path / "d.csv") + ":a,b", "x:0", header=True)
    np.testing.assert_array_equal(found, [[1, 2], [3, 4]])


def test_csv_with_blank_lines_at_its_end(tmp_path):
    (tmp_path / "d.csv").write_text("1,2\n3,4\n\n\n")
    np.testing.assert_array_equal(
        read(str(tmp_path / "d.csv"), "x:0"), [[1, 2], [3, 4]]
    )


def test_columns_of_one_name_are_refused_by_name_alone(tmp_path):
    path = str(tmp_path / "d.csv")
    (tmp_path / "d.csv").write_text("a,b,a\n1,2,3\n")
    found = read(path, "x:0", header=True)
    np.testing.assert_array_equal(found, [[1, 2, 3]])
    for columns, name in ((":a,b", "x:0"), ("", "a:0")):
        with pytest.raises(ValueError, match="has more than one column 'a'"):
            read(path + columns, name, header=True)


def test_an_axis_of_one_number_is_as_the_placeholder_has_it(tmp_path):
    (tmp_path / "d.csv").write_text("a,b\n1,2\n3,4\n")
    path = str(tmp_path / "d.csv:a")
    for rank, shape in ((1, (2,)), (2, (2, 1)), (3, (2, 1, 1)), (None, (2, 1))):
        assert read(path, "x:0", rank=rank).shape == shape


def test_an_npy_file_by_another_name_is_told(tmp_path):
    with open(str(tmp_path / "d.npz"), "wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ValueError, match="it is a .npy file"):
        read(str(tmp_path / "d.npz"), "x:0")


def test_csv_for_integers_holds_no_fractions(tmp_path):
    (tmp_path / "d.csv").write_text("9007199254740993\n2\n")
    path = str(tmp_path / "d.csv")
    found = read(path, "x:0", np.dtype("int64"))
    assert found.tolist() == [9007199254740993, 2]
    (tmp_path / "d.csv").write_text("1\n2.5\n")
    with pytest.raises(ValueError, match="'2.5' in row 1, column '0', which is no int"):
        read(path, "x:0", np.dtype("int32"))


def test_csv_for_narrow_floats_holds_their_integers_alone(tmp_path):
    path, narrow = str(tmp_path / "d.csv"), np.dtype("float32")
    (tmp_path / "d.csv").write_text("16777216\n33554432\n16777217.5\n1e30\ninf\n")
    assert read(path, "x:0", narrow)[1] == 2**25
    (tmp_path / "d.csv").write_text("1\n-16777217\n")
    assert read(path, "x:0", np.dtype("float64")).tolist() == [1, -16777217]
    with pytest.raises(ValueError, match="row 1, column '0', which is no float32"):
        read(path, "x:0", narrow)
    with pytest.raises(ValueError, match="'x:0' is float32, and cannot hold 16777217"):
        read("16777217", "x:0", narrow)


def test_csv_for_large_integers_and_truths(tmp_path):
    path = str(tmp_path / "d.csv")
    (tmp_path / "d.csv").write_text("18446744073709551615\n1\n")
    found = read(path, "x:0", np.dtype("uint64"))
    assert found.tolist() == [2**64 - 1, 1]
    (tmp_path / "d.csv").write_text("-1\n")
    with pytest.raises(ValueError, match="'-1' in row 0, column '0', .* no uint64"):
        read(path, "x:0", np.dtype("uint64"))
    (tmp_path / "d.csv").write_text("a\nTrue\nfalse\n")
    assert read(path, "x:0", np.dtype("bool")).ravel().tolist() == [1, 0]
    (tmp_path / "d.csv").write_text("a\nTrue\nyes\n")
    with pytest.raises(
        ValueError, match="'yes' in row 1, column 'a', which is no bool"
    ):
        read(path, "x:0", np.dtype("bool"))


def write_examples(path, x, name="x"):
    with tf.python_io.TFRecordWriter(str(path)) as writer:
        for row in x:
            example = tf.train.Example()
            example.features.feature[name].float_list.value.extend(row)
            writer.write(example.SerializeToString())


def test_tfrecord(tmp_path, x):
    path = tmp_path / "d.tfrecord"
    write_examples(path, x)
    np.testing.assert_array_equal(read(str(path), "x:0"), x)
    np.testing.assert_array_equal(read(str(path), "other:0"), x)
    with pytest.raises(ValueError, match="no feature 'y'; it has x"):
        read(str(path) + ":y", "x:0")
    write_examples(path, [[1.0, 2.0], [3.0]])
    with pytest.raises(ValueError, match=r"no \[2\] .* feature 'x' in record 1: "):
        read(str(path), "x:0")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="d.tfrecord' is damaged"):
        read(str(path), "x:0")


TEXT = np.dtype(object)


def test_text_of_csv(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("a,colour\n1, r\u00e9d\n2,\n3,7\n", encoding="utf-8")
    words = [" r\u00e9d".encode("utf-8"), b"", b"7"]
    assert read(str(path) + ":colour", "s:0", TEXT, 1).tolist() == words
    assert read(str(path), "colour:0", TEXT).tolist() == words
    assert read(str(path) + ":a,colour", "s:0", TEXT).shape == (3, 2)
    assert read(str(path) + ":a", "x:0", None, 1).tolist() == [1, 2, 3]
    path.write_text("red\nblue\n")  # Which of them are names, only its author knows.
    with pytest.raises(ValueError, match="'red' in its first row.* header=False"):
        read(str(path), "s:0", TEXT)
    assert read(str(path), "s:0", TEXT, 1, False).tolist() == [b"red", b"blue"]
    assert read(str(path), "s:0", TEXT, 1, True).tolist() == [b"blue"]
    found = read(str(path) + ":0", "s:0", TEXT, 2, False)
    assert found.tolist() == [[b"red"], [b"blue"]]


@pytest.mark.parametrize(
    "text, columns",
    [
        ("red,1\nblue,2\n", ":1"),  # A name, or the second column.
        ("1,red\n2,blue\n", ":1"),
        ("0,0\n2,blue\n", ":0"),
        ("a,b\nred,blue\n", ":0"),  # The first row may be a header.
        ("a,b\nred,blue\n", ""),
    ],
)
def test_a_digit_or_a_word_that_may_be_either_is_refused(tmp_path, text, columns):
    path = tmp_path / "d.csv"
    path.write_text(text)
    words = "header=True if .* header=False if it does not"
    with pytest.raises(ValueError, match=words if columns else words + ".* FILE:COL"):
        read(str(path) + columns, "s:0", TEXT)
    place = int(columns[1:] or 0)
    found = read(str(path) + ":{}".format(place), "s:0", TEXT, 1, False)
    expected = [line.split(",")[place].encode() for line in text.split()]
    assert found.tolist() == expected


def test_a_place_of_numbers_that_may_be_a_name_is_refused(tmp_path):
    (tmp_path / "d.csv").write_text("1,0\n30,10\n")
    path = str(tmp_path / "d.csv")
    with pytest.raises(ValueError, match="'1' in its first row, .* may be the one of"):
        read(path + ":1", "x:0")
    assert read(path + ":1", "x:0", header=True).tolist() == [[30]]
    assert read(path + ":1", "x:0", header=False).tolist() == [[0], [10]]
    assert read(path, "x:0").tolist() == [[1, 0], [30, 10]]


def test_places_of_columns_below_no_header_are_taken(tmp_path):
    (tmp_path / "d.csv").write_text("5,red\n6,blue\n")
    found = read(str(tmp_path / "d.csv") + ":1", "s:0", TEXT, 1)
    assert found.tolist() == [b"red", b"blue"]


@pytest.mark.parametrize("blank", ["", '""'])
def test_an_empty_cell_of_one_column_is_a_word_and_no_number(tmp_path, blank):
    path = tmp_path / "d.csv"
    path.write_text("a\n\nb\n\n\n".replace("\n\n", "\n" + blank + "\n", 1))
    found = read(str(path), "s:0", TEXT, 1, False)
    assert found.tolist() == [b"a", b"", b"b", b"", b""]
    for text, row in (("1\n{}\n2\n", 1), ("1\n2\n{}\n", 2)):
        path.write_text(text.format(blank))
        words = "'' in row {}, column '0', which is no float64".format(row)
        with pytest.raises(ValueError, match=words):
            read(str(path), "x:0")


def test_a_cell_may_be_long(tmp_path):
    limit = csv.field_size_limit()
    (tmp_path / "d.csv").write_text("s,x\n{},1\n".format("a" * 300000))
    (word,) = read(str(tmp_path / "d.csv"), "s:0", TEXT, 1)
    assert word == b"a" * 300000 and csv.field_size_limit() == limit


def test_text_of_tfrecord(tmp_path):
    path = str(tmp_path / "d.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for word in (b"red", b"\x00\xff"):
            example = tf.train.Example()
            example.features.feature["s"].bytes_list.value.append(word)
            example.features.feature["x"].float_list.value.append(1.0)
            writer.write(example.SerializeToString())
    assert read(path, "s:0", TEXT, 1).tolist() == [b"red", b"\x00\xff"]
    with pytest.raises(ValueError, match="holds numbers as feature 'x', and not text"):
        read(path, "x:0", TEXT, 1)
    with pytest.raises(ValueError, match="holds bytes as feature 's', and not numbers"):
        read(path, "s:0", None, 1)


def test_text_of_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = str(tmp_path / "d.parquet")
    words = pyarrow.array(["red", "blue", "red"])
    columns = {"s": words, "t": words.dictionary_encode(), "x": [1, 2, 3]}
    parquet.write_table(pyarrow.table(columns), path)
    for name in "st":
        found = read(path + ":" + name, "c:0", TEXT, 1)
        assert found.tolist() == [b"red", b"blue", b"red"]
    assert read(path + ":s,t", "c:0", TEXT).tolist()[1] == [b"blue", b"blue"]
    with pytest.raises(ValueError, match="holds int64 in column 'x', and not text"):
        read(path, "x:0", TEXT, 1)
    with pytest.raises(ValueError, match="holds string in column 's', and not numbers"):
        read(path, "s:0", None, 1)


@pytest.mark.parametrize("kind, told", [("text", "words"), ("float", "numbers")])
def test_lists_of_another_length_in_a_later_chunk_are_refused(tmp_path, kind, told):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    one = "a" if kind == "text" else 1.0
    rows = [[one, one]] * CHUNK + [[one]] * CHUNK
    path = str(tmp_path / "d.parquet")
    parquet.write_table(pyarrow.table({"s": rows}), path)
    words = "has 1 {} in column 's' of row {}, and 2 before".format(told, CHUNK)
    with pytest.raises(ValueError, match=words):
        read(path, "s:0", TEXT if kind == "text" else None)
    rows = [[one, one]] * 2 * CHUNK
    parquet.write_table(pyarrow.table({"s": rows}), path)
    found = read(path, "s:0", TEXT if kind == "text" else None)
    assert found.shape == (2 * CHUNK, 2)


@pytest.mark.parametrize("dtype", [TEXT, np.dtype(float)])
def test_a_store_takes_rows_of_one_shape(dtype):
    store = store_of((2,), dtype)
    store.append(np.zeros((3, 2), dtype))
    with pytest.raises(
        ValueError, match=r"from 3 on have shape \[1\], .* before \[2\]"
    ):
        store.append(np.zeros((4, 1), dtype))


def test_parquet(tmp_path, x):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = str(tmp_path / "d.parquet")
    table = pyarrow.table({"a": x[:, 0], "b": x[:, 1], "x": list(x)})
    parquet.write_table(table, path)
    np.testing.assert_array_equal(read(path + ":b,a", "y:0"), x[:, [1, 0]])
    np.testing.assert_array_equal(read(path, "x:0"), x)
    parquet.write_table(pyarrow.table({"a": [1.0, None]}), path)
    with pytest.raises(ValueError, match="no value in column 'a' of row 1"):
        read(path, "y:0")


@pytest.mark.parametrize(
    "columns, names, words",
    [
        ([[1.0], [2.0], [3.0]], "aab", "more than one column 'a'"),
        ([[2**53 + 1], [1.0]], "ab", "row 0, column 'a', an integer that float64"),
        ([[2**63 + 1], [-1]], "ab", "row 0, column 'a', an integer that float64"),
    ],
)
def test_parquet_that_would_be_other_numbers_is_refused(
    tmp_path, columns, names, words
):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = str(tmp_path / "d.parquet")
    kinds = [pyarrow.uint64() if c[0] > 2**63 else None for c in columns]
    arrays = [pyarrow.array(c, type=kind) for c, kind in zip(columns, kinds)]
    parquet.write_table(pyarrow.Table.from_arrays(arrays, names=list(names)), path)
    with pytest.raises(ValueError, match=words):
        read(path, "x:0")


def test_parquet_in_the_dtypes_that_it_has(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = str(tmp_path / "d.parquet")

    def written(**columns):
        parquet.write_table(pyarrow.table(columns), path)
        return path

    large = pyarrow.array([2**63 + 5, 1], pyarrow.uint64())
    assert read(written(a=large) + ":a", "x:0")[:, 0].tolist() == [2**63 + 5, 1]
    lists = pyarrow.array([[2**63 + 5, 1], [2, 3]], pyarrow.list_(pyarrow.uint64()))
    assert read(written(a=lists), "x:0").tolist() == [[2**63 + 5, 1], [2, 3]]
    mixed = written(a=[2**24 + 1], b=pyarrow.array([1.0], pyarrow.float32()))
    with pytest.raises(ValueError, match="row 0, column 'a', an integer that float32"):
        read(mixed, "x:0", np.dtype("float32"))
    with pytest.raises(ValueError, match="has 1 numbers in column 'a' of row 1, and 2"):
        read(written(a=[[1.0, 2.0], [3.0]]), "x:0")
    with pytest.raises(ValueError, match="no value in column 'a' of row 1"):
        read(written(a=[[1.0, 2.0], [None, 4.0]]), "x:0")


def test_a_list_of_parquet_and_a_damaged_file(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "d.parquet"
    parquet.write_table(pyarrow.table({"a": [[1.0, 2.0]], "b": [3]}), str(path))
    np.testing.assert_array_equal(read(str(path) + ":a", "x:0"), [[1, 2]])
    path.write_bytes(path.read_bytes()[:4] + bytes(40) + path.read_bytes()[44:])
    with pytest.raises((OSError, ValueError), match="d.parquet"):
        read(str(path), "x:0")


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (tmp_path / "d.parquet").write_bytes(b"")
    with pytest.raises(ImportError, match=r"checkout, pip install '\.\[parquet\]'"):
        read(str(tmp_path / "d.parquet"), "x:0")


def test_pickled_arrays_are_refused_without_advice_to_load_them(tmp_path):
    np.save(str(tmp_path / "o.npy"), np.array([{}, None]), allow_pickle=True)
    np.savez(str(tmp_path / "o.npz"), np.array([{}, None]))
    for name in ("o.npy", "o.npz"):
        for dtype, cure in ((None, "array of numbers"), (TEXT, "array.astype(str)")):
            with pytest.raises(ValueError) as refusal:
                read(str(tmp_path / name), "x:0", dtype)
            told = str(refusal.value)
            assert "allow_pickle" not in told and "memory" not in told
            assert "Python objects" in told and cure in told
    words = np.array(["red", "blue"], object)
    np.save(str(tmp_path / "o.npy"), words.astype(str))
    assert read(str(tmp_path / "o.npy"), "x:0", TEXT, 1).tolist() == ["red", "blue"]


def test_damaged_and_unknown_files_are_named(tmp_path, random):
    for name in ("d.npy", "d.npz", "d.tfrecord", "d.txt"):
        (tmp_path / name).write_bytes(bytes(bytearray(random.randint(0, 256, 50))))
        with pytest.raises(ValueError, match=name):
            read(str(tmp_path / name), "x:0")
    with pytest.raises(FileNotFoundError, match="no file 'gone.npy' to feed for 'x:0'"):
        read("gone.npy", "x:0")
