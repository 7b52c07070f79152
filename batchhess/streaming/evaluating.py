"""Runs over data larger than memory, batch by batch, that can be resumed."""

import os
import warnings
from typing import Any, Callable, Union

import numpy as np

from batchhess.calling import public, told
from batchhess.compat import tf
from batchhess.errors import cause
from batchhess.streaming import feeding, fingerprint, means, naming, storage
from batchhess.streaming.companies import Company, companies
from batchhess.streaming.comparing import is_close
from batchhess.streaming.progress import telling

# Each batch is held against the one before by one observation that both have; where
# that would be a large part of the work, the first few batches and each of so many
# against another run.
_FIRST, _SMALL = 8, 16

# Of a batch that is all there is, so many observations are held against another run.
_SAMPLE = 256


@public()
def evaluate(
    session: tf.Session,
    fetches: Any,
    feed_dict: dict,
    batched: Any,
    *,
    batch_size: int = 1024,
    out: Any = None,
    resume: bool = False,
    progress: Union[bool, Callable[[int, int], None], None] = None,
    check: str = "auto",
    on_nonfinite: str = "keep",
) -> Any:
    """Runs `fetches` on one batch of observations after another.

    What `Session.run(fetches, feed_dict)` would answer, in memory for two batches, if
    `out` and what is fed are on disk. So what is fetched of an observation must not
    depend on the others in its batch: the Hessians of a sum do not, those of a mean do,
    by their number.

    A directory for `out` gets a file NAME.npy of each fetch, once it is whole: NAME is
    its key in a dict, its field in a namedtuple, or the tensor's own name. Until then
    it is NAME.npy.partial, of its full size, so that a full disk is told at the start.
    A file journal.jsonl tells what is written, with checksums of the data, the model
    and each batch. A stop costs the batch that was being computed and the one that was
    being written.

    Args:
      session: a tf.Session.
      fetches: a Tensor, or a list, tuple or dict of such; with the observations on
        axis 0.
      feed_dict: dict, as `Session.run` takes it. What is batched may be an array,
        `np.memmap`, or anything with a `shape` that can be sliced.
      batched: list of the keys of `feed_dict` that hold observations on axis 0; or dict
        from such a key to its observation axis.
      batch_size: int, the observations of a run; one more is run with them, to be held
        against the batch before. Where the graph has a fixed number of them it must
        be that, and the last batch is filled up.
      out: where to write; None for new arrays in memory. An array, or a structure like
        `fetches` of arrays, of the shapes of the results. Or the path of a directory,
        which need not exist.
      resume: bool, whether to go on where an evaluation into the same directory
        stopped. What is there is held against its checksums, and what is damaged is
        computed again, with a warning.
      progress: True for a bar on a terminal and in a notebook, if tqdm is installed
        (the extra `progress`), and else a line now and then; or a function that is
        called with the numbers of observations done, and of all, after each batch.
      check: "auto" fails where the answers for an observation are not the same in other
        company, or in a second run where there is no other, by more than rounding;
        "never" does not ask, for random answers.
      on_nonfinite: "keep" writes NaN and Inf as they are; "error" raises, and names the
        observations.

    Returns:
      a structure like `fetches` of arrays, which are those of `out`; for a directory,
      memory maps that can be read.

    Raises:
      TypeError: `fetches` hold what is no Tensor, `batch_size` is no int, `batched` no
        list, `progress` no function or `out` no arrays; or what is fed is no array, or
        cannot be held by the placeholder's dtype.
      ValueError: a fetch is of another graph, has not the observations on axis 0 or
        depends on the others in the batch; the batched arrays differ in their number of
        observations, `batched` names what is not fed, `out` does not fit, or there is
        NaN or Inf; or a directory holds results, and `resume` is False or they are of
        another evaluation.
      OSError: a file is in the way, or the disk is full.
      RuntimeError: another evaluation is writing into the directory.
      tf.errors.OpError: a run has failed; its message tells for which observations.
    """
    flat = tf.nest.flatten(fetches)
    _check_fetches(flat, session.graph)
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise TypeError("progress is {!r}, no function.".format(progress))
    if isinstance(batch_size, np.integer):
        batch_size = int(batch_size)
    if isinstance(batch_size, bool) or not isinstance(batch_size, int):
        raise TypeError("batch_size is {!r}, no int.".format(batch_size))
    if batch_size < 1:
        raise ValueError("batch_size is {}, not positive.".format(batch_size))
    _check_choice("check", check, ["auto", "never"])
    _check_choice("on_nonfinite", on_nonfinite, ["keep", "error"])
    feed = feeding.Feed(session.graph, feed_dict, batched, batch_size)
    if on_nonfinite == "error":
        feed.refuse_nonfinite_rest()
    run = _Run(session, flat, feed, check == "auto", on_nonfinite)
    if check == "auto" and feed.is_fixed and batch_size != feed.count:
        cure = ", or pass check='never' if that is what you want"
        means.refuse_means(flat, batch_size, feed.tensors, cure)

    if isinstance(out, (str, os.PathLike)):
        names = naming.output_names(fetches)
        directory = storage.Directory(
            os.fspath(out), names, _describe(session, flat, feed)
        )
        with directory.opened(resume) as records:
            todo = _left(directory, records, feed, run)
            arrays = _compute(directory, todo, feed, run, batch_size, progress)
    else:
        if resume:
            raise ValueError("resume=True needs a directory for out.")
        sink = storage.Arrays(out, fetches, feed.count)
        arrays = _compute(sink, [], feed, run, batch_size, progress)
    return tf.nest.pack_sequence_as(fetches, arrays)


def _describe(session, fetches, feed):
    """What results are of, to be known again."""
    return {
        "observations": feed.count,
        "model": fingerprint.fingerprint(session, fetches, feed.names),
        "data": feed.kinds(),
        "fed": feed.rest_sums(),
    }


def _left(directory, records, feed, run):
    """What must be computed, of what was written and beyond it.

    Returns:
      list of (start, stop), and at last (stop, None): where nothing is written yet.

    Raises:
      ValueError: the data or the answers are others than those that were written.
    """
    latest = {record["start"]: record for record in records}
    done, anew = 0, []
    while done in latest:
        record = latest[done]
        start, stop = done, record["stop"]
        if feed.sums(start, stop) != record["data"]:
            raise ValueError(
                "'{}' holds results of other data: observations {} to {} "
                "are not what they were. Feed what it was begun with, or pass another "
                "directory.".format(directory.path, start, stop)
            )
        if not directory.is_sound(record):
            anew.append((start, stop))
        else:  # They may be of a run that kept NaN.
            run.refuse_nonfinite(directory, start, stop)
        done = stop
        if stop == start:
            break
    if anew:
        warnings.warn(
            told(
                "results in '{}' are damaged, and computed again: observations {}."
            ).format(
                directory.path, ", ".join("{} to {}".format(*span) for span in anew)
            ),
            RuntimeWarning,
            stacklevel=7,
        )
    sound = [span for span in latest.items() if (span[0], span[1]["stop"]) not in anew]
    if sound and run.is_checked:
        start, stop = sound[-1][0], sound[-1][1]["stop"]
        run.compare_again(directory, start, stop)
    return anew + [(done, None)] if latest else []


def _compute(sink, todo, feed, run, batch_size, progress):
    """Computes and writes what is left, and answers the whole arrays."""
    done = todo.pop()[0] if todo else None
    spans = list(todo)
    begin = 0 if done is None else done
    with telling(progress) as tell:
        while spans or begin < feed.count or done is None:
            if spans:
                start, stop = spans.pop(0)
            else:
                start, stop = begin, min(begin + batch_size, feed.count)
            before = sink.row(start - 1) if start and run.carries else None
            found = run.answers(start, stop, before)
            if done is None:
                sink.begin(found)
                done = 0
            sink.write(found, start, stop, run.sums)
            begin = max(begin, stop)
            tell(begin, feed.count)
    return sink.finish()


class _Run:
    """Runs of the Session, each held against the one before.

    Attributes:
      carries: bool, whether the last observation of a batch is run with the next one.
      is_checked: bool.
      sums: list of int, the checksums of the data of the last batch.
    """

    def __init__(self, session, fetches, feed, is_checked, on_nonfinite):
        self._session, self._fetches, self._feed = session, fetches, feed
        self._on_nonfinite = on_nonfinite
        self.is_checked, self.sums = is_checked, []
        self.carries = is_checked and not feed.is_fixed and feed.batch_size >= _SMALL
        self._batches, self._shapes = 0, {}
        self._fixed = feed.batch_size if feed.is_fixed else None
        self._company = Company([f.name for f in fetches], self._run_rows)

    def answers(self, start, stop, before):
        """The answers for observations `start` to `stop`, which are on axis 0 of each.

        Args:
          start: int.
          stop: int.
          before: list of the answers for observation `start - 1`, or None.
        """
        first = start - (before is not None)
        found, self.sums = self._run(start, stop, first)
        self._company.note(found)
        if before is not None:
            own = [a[:1] for a in found]
            rows = list(range(first, stop))
            names = self._company.differing(before, own, rows, [0])
            _refuse(names, "observation {}".format(start - 1))
            found = [a[1:] for a in found]
        elif self.is_checked and (self._batches < _FIRST or not self._batches % _SMALL):
            self._check(found, start, stop)
        self._batches += 1
        self._refuse_nonfinite(found, start)
        return found

    def _is_all(self, size):
        """Whether a batch of `size` is all that there is: there is no other company."""
        # A graph of more observations is filled up: with company.
        filled = self._feed.is_fixed and size < self._feed.batch_size
        return size == self._feed.count and not filled

    def _run(self, start, stop, first=None, rows=None):
        first = start if first is None else first
        fed, size, sums = self._feed.batch(first, stop, start, rows)
        if self._on_nonfinite == "error" and rows is None:
            self._feed.refuse_nonfinite(fed, first, stop)
        try:
            answers = self._session.run(self._fetches, fed)
        except tf.errors.OpError as error:
            where = told("observations {} to {}: ").format(start, stop)
            message = "{}{}\n{}".format(where, cause(error), error.message)
            raise type(error)(error.node_def, error.op, message) from error
        for fetch, answer in zip(self._fetches, answers):
            if np.shape(answer)[:1] != (size,):
                raise ValueError(
                    "'{}' has shape {} for {} observations: it needs them on "
                    "axis 0.".format(fetch.name, np.shape(answer), size)
                )
        for index, (fetch, answer) in enumerate(zip(self._fetches, answers)):
            shape = self._shapes.setdefault(index, np.shape(answer)[1:])
            if np.shape(answer)[1:] != shape:
                raise ValueError(
                    "'{}' has {} for each of observations {} to {}, and {} for those "
                    "before: results need one shape.".format(
                        fetch.name, np.shape(answer)[1:], start, stop, shape
                    )
                )
        kept = len(rows) if rows is not None else stop - first
        # What is fetched as it was fed would change with the next batch.
        parts = [part for part in fed.values() if isinstance(part, np.ndarray)]
        answers = [
            np.array(a) if any(np.may_share_memory(a, p) for p in parts) else a
            for a in answers
        ]
        return [answer[:kept] for answer in answers], sums

    def _run_rows(self, rows):
        return self._run(min(rows), max(rows) + 1, rows=rows)[0]

    def _check(self, found, start, stop):
        """Runs a batch in other company; again, where there is none."""
        others = []
        if not self._is_all(stop - start):
            others = companies(start, stop, self._feed.count, self._fixed)
        if not others and stop > start:
            self._check_again(found, start, stop)
        for rows in others:
            names = self._company.differing_among(rows, found, start, stop)
            _refuse(names, "observations {} to {}".format(start, stop))

    def _check_again(self, found, start, stop):
        """Runs a batch once more: what is random or has state is another."""
        count = stop - start
        rows = np.linspace(0, count - 1, min(count, _SAMPLE)).astype(int)
        again, _ = self._run(start, stop)
        for fetch, one, other in zip(self._fetches, found, again):
            if not is_close(one[rows], other[rows]):
                raise ValueError(
                    "'{}' is another where the same observations are run once more: it "
                    "is random, or counts its runs. Switch that off, or pass "
                    "check='never' for what one run answers.".format(fetch.name)
                )

    def compare_again(self, directory, start, stop):
        """Raises if what is written for these observations is not what they answer."""
        again, _ = self._run(start, stop)
        rows = list(range(start, stop))
        written, places = directory.read(start, stop), list(range(len(rows)))
        for name in self._company.differing(written, again, rows, places):
            raise ValueError(
                "'{}' holds results of another model: '{}' of "
                "observations {} to {} is not what this one answers.".format(
                    directory.path, name, start, stop
                )
            )

    def refuse_nonfinite(self, directory, start, stop):
        """Raises if NaN or Inf is written for these observations, and is not kept."""
        if self._on_nonfinite == "error":
            self._refuse_nonfinite(directory.read(start, stop), start)

    def _refuse_nonfinite(self, found, start):
        for fetch, answer in zip(self._fetches, found):
            rows = feeding.nonfinite_rows(answer)
            if len(rows) and self._on_nonfinite == "error":
                raise ValueError(
                    "'{}' is NaN or Inf at observations {}. Pass "
                    "on_nonfinite='keep' to write them as they are.".format(
                        fetch.name, feeding.listed(rows + start)
                    )
                )


def _refuse(names, which):
    for name in names:
        raise ValueError(
            "'{}' of an observation depends on the others in its batch, or is random: "
            "it is another for {} where they are run with others. Take a sum for a "
            "mean over observations, switch dropout off, pass all of them in one "
            "batch, or check='never' if it is random.".format(name, which)
        )


def _check_fetches(fetches, graph):
    for fetch in fetches:
        if not isinstance(fetch, tf.Tensor):
            raise TypeError("fetches hold {!r}, no tf.Tensor.".format(fetch))
        if fetch.graph is not graph:
            raise ValueError(
                "'{}' is of another graph than the session.".format(fetch.name)
            )


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError("{} is {!r}, not of {}.".format(name, value, choices))
