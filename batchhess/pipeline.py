"""`run --runner`: the Hessians of files by Apache Beam, into shards of Parquet.

A row of a shard is an observation: its number, and each answer in one list, the last
axis fastest. The shapes are in the metadata of the schema. Which worker has computed
what, in which order and how often, makes no difference.
"""

import json
import os
from typing import Optional, Sequence

import numpy as np

from batchhess import reading
from batchhess.beam import HessianModelHandler

try:
    import apache_beam
    import pyarrow
    from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
    from apache_beam.options.pipeline_options import PipelineOptions
except ImportError:
    raise ImportError(
        "--runner needs Apache Beam: in a checkout, pip install '.[beam]'."
    ) from None

# Observations that one worker reads at a time.
_SPAN = 4096


def run(options, files, same, rest):
    """Runs a pipeline to its end.

    Args:
      options: those of the command line.
      files: dict from the names of placeholders of observations to their file, as
        `reading.read` takes it, dtype, rank and header.
      same: dict from the names of others of these to what is fed for each observation.
      rest: dict from the names of other placeholders to arrays.
    """
    if options.batch_axis != 0:
        raise ValueError("--runner needs the observations on axis 0.")
    _check_empty(options.out)
    handler = HessianModelHandler(
        os.path.abspath(options.model),
        options.ys,
        options.xs,
        answer=options.answer,
        feed=rest,
        checkpoint=options.checkpoint,
        tags=options.tags,
        signature=options.signature,
        initialize=options.initialize,
        allow_effects=options.allow_effects,
        shapes=dict(options.shape),
        method=options.method,
        on_nonfinite=options.on_nonfinite,
        max_batch_size=options.batch_size,
    )
    count, first = _first(files)
    first.update(same)
    schema = _schema(handler, first)
    spans = [(start, min(start + _SPAN, count)) for start in range(0, count, _SPAN)]
    beam_options = PipelineOptions(options.others, runner=options.runner)
    with apache_beam.Pipeline(options=beam_options) as pipeline:
        _ = (
            pipeline
            | "Spans" >> apache_beam.Create(spans)
            | "Spread" >> apache_beam.Reshuffle()
            | "Read" >> apache_beam.ParDo(_Read(files, same))
            | "Hessians" >> RunInference(KeyedModelHandler(handler))
            | "Flatten" >> apache_beam.Map(_row)
            | "Write"
            >> apache_beam.io.WriteToParquet(
                os.path.join(options.out, options.answer),
                schema,
                file_name_suffix=".parquet",
            )
        )


def _check_empty(directory):
    """Raises unless nothing is there but what a run that failed has left."""
    there = os.listdir(directory) if os.path.isdir(directory) else []
    if not all(name.startswith("beam-temp-") for name in there):
        raise ValueError("'{}' is not empty.".format(directory))


def _read(files):
    return {name: reading.read(f[0], name, *f[1:]) for name, f in files.items()}


def _first(files):
    """The number of observations, and the first of them."""
    arrays = _read(files)
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        raise ValueError("files differ in their number of rows: {}.".format(counts))
    count = next(iter(counts.values()))
    if not count:
        raise ValueError("the files hold no observations.")
    return count, {name: np.array(a[0], a.dtype) for name, a in arrays.items()}


def _schema(handler, first):
    """The columns of the answers, as the first observation has them."""
    loaded = handler.load_model()
    (result,) = handler.run_inference([first], loaded)
    loaded.model.close()
    fields, shapes = [pyarrow.field("observation", pyarrow.int64())], {}
    for name, value in result.inference.items():
        kind = pyarrow.from_numpy_dtype(np.asarray(value).dtype)
        fields.append(pyarrow.field(name, pyarrow.list_(kind)))
        shapes[name] = list(np.shape(value))
    return pyarrow.schema(fields, metadata={"shapes": json.dumps(shapes)})


def _row(pair):
    key, result = pair
    row = {name: np.ravel(v).tolist() for name, v in result.inference.items()}
    return dict(row, observation=key)


class _Read(apache_beam.DoFn):
    """From a span of observations to each of them, with its number as its key."""

    def __init__(self, files, same):
        self._files, self._same, self._arrays = files, same, None

    def setup(self):
        self._arrays = _read(self._files)

    def process(self, span):
        start, stop = span
        parts = {n: np.array(array[start:stop]) for n, array in self._arrays.items()}
        for row in range(start, stop):
            own = {name: part[row - start] for name, part in parts.items()}
            yield row, dict(self._same, **own)


def read_shards(
    directory: str, name: str, rows: Optional[Sequence[int]] = None
) -> np.ndarray:
    """Reads an answer from all the shards in a directory.

    Args:
      directory: what `run --out` was told.
      name: of the answer, such as "hessians".
      rows: the numbers of the observations to read; all if None.

    Returns:
      an array `[N, ...]`, in the order of the observations, or that of `rows`.

    Raises:
      IndexError: there is no observation of a number in `rows`.
      ValueError: there is no answer of that name, or no shards are there.
    """
    from pyarrow import compute, dataset

    shards = dataset.dataset(directory, format="parquet")
    metadata = shards.schema.metadata or {}
    if b"shapes" not in metadata:
        raise ValueError("'{}' holds no shards of batchhess.".format(directory))
    shapes = json.loads(metadata[b"shapes"].decode())
    if name not in shapes:
        raise ValueError(
            "'{}' has the answers {}, and no '{}'.".format(
                directory, sorted(shapes), name
            )
        )
    shape = shapes[name]
    table = shards.to_table(
        ["observation", name],
        filter=None if rows is None else compute.field("observation").isin(rows),
        batch_readahead=1,  # By default gigabytes.
        fragment_readahead=1,
    )
    numbers = table["observation"].to_numpy()
    order = np.argsort(numbers)
    if rows is not None:
        _check_there(rows, numbers, directory)
        order = order[np.searchsorted(numbers, rows, sorter=order)]
    flat = table[name].combine_chunks().flatten().to_numpy()
    return flat.reshape([len(numbers)] + shape)[order]


def _check_there(rows, numbers, directory):
    missing = np.setdiff1d(rows, numbers)
    if missing.size:
        raise IndexError(
            "'{}' has no observation {}.".format(directory, int(missing[0]))
        )
