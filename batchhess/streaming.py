"""Runs over data larger than memory, batch by batch, that can be resumed."""

import json
import os
import re
from typing import Any, Callable, Optional

import numpy as np

from batchhess.arguments import check_choice
from batchhess.compat import tf


def evaluate(
    session: tf.Session,
    fetches: Any,
    feed_dict: dict,
    batched: Any,
    *,
    batch_size: int = 1024,
    out: Any = None,
    resume: bool = False,
    progress: Optional[Callable[[int, int], None]] = None,
    check: str = "auto",
) -> Any:
    """Runs `fetches` on one batch of observations after another.

    What `Session.run(fetches, feed_dict)` would answer, in memory for one batch, if
    `out` and what is fed are on disk. So what is fetched of an observation must not
    depend on the others in its batch: the Hessians of a sum do not, those of a mean do,
    by their number.

    Args:
      session: a tf.Session.
      fetches: a Tensor, or a list, tuple or dict of such; with the observations on
        axis 0.
      feed_dict: dict, as `Session.run` takes it. What is batched may be an array,
        `np.memmap`, or anything with a `shape` that can be sliced.
      batched: list of the keys of `feed_dict` that hold observations on axis 0; or dict
        from such a key to its observation axis.
      batch_size: int, the observations of a run. Where the graph has a fixed number of
        them it must be that, and the last batch is filled up.
      out: where to write; None for new arrays in memory. An array, or a structure like
        `fetches` of arrays, of the shapes of the results. Or the path of a directory
        for a .npy file of each fetch, which need not exist.
      resume: bool, whether to go on where an evaluation into the same directory
        stopped. The last batch that it wrote is computed again and compared.
      progress: function that is called with the numbers of observations done, and of
        all, after each batch.
      check: "auto" runs half of the first batch once more, and fails where the answers
        differ by more than rounding; "never" does not, for random answers.

    Returns:
      a structure like `fetches` of arrays: those of `out`, memory maps for a directory.

    Raises:
      TypeError: `fetches` hold what is no Tensor, or `batch_size` is no int.
      ValueError: the batched arrays differ in their number of observations, `batched`
        names what is not fed, a fetch has not the observations on axis 0 or depends on
        the others in the batch, `out` does not fit; or a directory holds results, and
        `resume` is False or they are of another evaluation.
      tf.errors.OpError: a run has failed; its message tells for which observations.
    """
    flat = tf.nest.flatten(fetches)
    for fetch in flat:
        if not isinstance(fetch, tf.Tensor):
            raise TypeError("evaluate: fetches hold {!r}, no tf.Tensor.".format(fetch))
    if isinstance(batch_size, bool) or not isinstance(batch_size, int):
        raise TypeError("evaluate: batch_size is {!r}, no int.".format(batch_size))
    if batch_size < 1:
        raise ValueError("evaluate: batch_size is {}, not positive.".format(batch_size))
    check_choice("evaluate", "check", check, ["auto", "never"])
    feed = _Feed(session.graph, feed_dict, batched, batch_size)

    def answers(start, stop):
        return _run(session, flat, feed, start, stop)

    if isinstance(out, (str, os.PathLike)):
        names = [fetch.name for fetch in flat]
        sink = _Directory(os.fspath(out), names, feed.count, batch_size)
        sink.open(resume, answers)
    elif resume:
        raise ValueError("evaluate: resume=True needs a directory for out.")
    else:
        sink = _Arrays(out, fetches, feed.count)
    while sink.done < feed.count or sink.arrays is None:
        start, stop = sink.done, min(sink.done + batch_size, feed.count)
        found = answers(start, stop)
        if start == 0 and check == "auto" and not feed.is_fixed and stop < feed.count:
            _check_alone(flat, found, answers(0, stop // 2), stop // 2)
        sink.write(found, start, stop)
        if progress is not None:
            progress(stop, feed.count)
    return tf.nest.pack_sequence_as(fetches, sink.arrays)


class _Feed:
    """What is fed, batch by batch.

    Attributes:
      count: int, the observations of all.
      is_fixed: bool, whether the graph is of a fixed number of them.
    """

    def __init__(self, graph, feed_dict, batched, batch_size):
        axes = batched if isinstance(batched, dict) else dict.fromkeys(batched, 0)
        known = {_name(key): key for key in feed_dict}
        missing = [_name(key) for key in axes if _name(key) not in known]
        if missing or not axes:
            raise ValueError(
                "evaluate: batched names {}, and feed_dict holds {}.".format(
                    missing or "nothing", sorted(known)
                )
            )
        self._axes = {known[_name(key)]: axis for key, axis in axes.items()}
        self._values, counts, fixed = feed_dict, {}, set()
        for key, axis in self._axes.items():
            counts[_name(key)] = np.shape(feed_dict[key])[axis]
            shape = graph.get_tensor_by_name(_name(key)).shape
            fixed.add(shape.as_list()[axis] if shape.ndims else None)
        self.count = next(iter(counts.values()))
        if set(counts.values()) != {self.count}:
            raise ValueError(
                "evaluate: batched arrays differ in their number of observations: "
                "{}.".format(counts)
            )
        fixed.discard(None)
        if fixed and fixed != {batch_size}:
            raise ValueError(
                "evaluate: the graph is of {} observations, and batch_size is {}: they "
                "must be equal.".format(sorted(fixed), batch_size)
            )
        self.is_fixed, self._batch_size = bool(fixed), batch_size

    def batch(self, start, stop):
        """The feed_dict of observations `start` to `stop`, and how many it holds."""
        fed, size = dict(self._values), stop - start
        size = self._batch_size if self.is_fixed else size
        for key, axis in self._axes.items():
            before = (slice(None),) * (axis % len(np.shape(fed[key])))
            part = np.asarray(fed[key][before + (slice(start, stop),)])
            if size > stop - start > 0:  # Fill up with the last observation.
                last = np.take(part, [-1] * (size - (stop - start)), axis)
                part = np.concatenate([part, last], axis)
            fed[key] = part
        return fed, size


def _run(session, fetches, feed, start, stop):
    """The answers for observations `start` to `stop`, which are on axis 0 of each."""
    fed, size = feed.batch(start, stop)
    try:
        answers = session.run(fetches, fed)
    except tf.errors.OpError as error:
        where = "evaluate: observations {} to {}: ".format(start, stop)
        raise type(error)(error.node_def, error.op, where + error.message) from error
    for fetch, answer in zip(fetches, answers):
        if np.shape(answer)[:1] != (size,):
            raise ValueError(
                "evaluate: '{}' has shape {} for {} observations: it needs them on "
                "axis 0.".format(fetch.name, np.shape(answer), size)
            )
    return [answer[: stop - start] for answer in answers]


def _check_alone(fetches, found, again, half):
    """Raises if what was found of the first `half` is not what they answer alone."""
    for fetch, first, second in zip(fetches, found, again):
        if half and not _is_close(first[:half], second):
            raise ValueError(
                "evaluate: '{}' of an observation depends on the others in its batch: "
                "it is another where there are {} or {} of them. Take a sum for a mean "
                "over observations, pass all of them in one batch, or check='never' if "
                "it is random.".format(fetch.name, len(first), half)
            )


class _Arrays:
    """Writes into arrays, the caller's or new ones.

    Attributes:
      done: int, the observations written.
      arrays: list of arrays, one for each fetch; None before the first batch is known.
    """

    def __init__(self, out, fetches, count):
        self._given, self._count = None, count
        self.done, self.arrays = 0, None
        if out is not None:
            tf.nest.assert_same_structure(fetches, out)
            self._given = tf.nest.flatten(out)

    def write(self, answers, start, stop):
        if self.arrays is None:
            shapes = [(self._count,) + a.shape[1:] for a in answers]
            self.arrays = self._given or [
                np.empty(shape, a.dtype) for shape, a in zip(shapes, answers)
            ]
            for array, shape, answer in zip(self.arrays, shapes, answers):
                if (array.shape, array.dtype) != (shape, answer.dtype):
                    raise ValueError(
                        "evaluate: out has an array of {} {}, and the answer is {} "
                        "{}.".format(array.dtype, array.shape, answer.dtype, shape)
                    )
        for array, answer in zip(self.arrays, answers):
            array[start:stop] = answer
        self.done = stop


class _Directory:
    """Writes a .npy file for each fetch, and notes how far it has come.

    Attributes: as of `_Arrays`.
    """

    def __init__(self, path, names, count, batch_size):
        self._path, self._batch_size = path, batch_size
        self._what = {"fetches": names, "observations": count}
        self._files = [
            os.path.join(path, "{}_{}.npy".format(i, re.sub(r"\W+", "_", name)))
            for i, name in enumerate(names)
        ]
        self._note = os.path.join(path, "progress.json")
        self.done, self.arrays = 0, None

    def open(self, resume, answers):
        """Makes the directory ready, to go on from what is there if `resume`.

        Args:
          resume: bool.
          answers: function from start and stop to the answers between.
        """
        os.makedirs(self._path, exist_ok=True)
        if not os.path.exists(self._note):
            return
        if not resume:
            raise ValueError(
                "evaluate: '{}' holds results. Pass resume=True to go on with them, or "
                "another directory.".format(self._path)
            )
        with open(self._note, encoding="utf-8") as file:
            note = json.load(file)
        done = note.pop("done")
        if note != self._what:
            raise ValueError(
                "evaluate: '{}' holds results of {}, not of {}.".format(
                    self._path, note, self._what
                )
            )
        self.done = done
        self.arrays = [np.load(file, mmap_mode="r+") for file in self._files]
        start = max(0, done - self._batch_size)
        for name, array, again in zip(
            note["fetches"], self.arrays, answers(start, done)
        ):
            if not _is_close(array[start:done], again):
                raise ValueError(
                    "evaluate: '{}' holds results of another model or other data: '{}' "
                    "of observations {} to {} is not what this one answers.".format(
                        self._path, name, start, done
                    )
                )

    def write(self, answers, start, stop):
        if self.arrays is None:
            self.arrays = [
                np.lib.format.open_memmap(
                    file, "w+", a.dtype, (self._what["observations"],) + a.shape[1:]
                )
                for file, a in zip(self._files, answers)
            ]
        for array, answer in zip(self.arrays, answers):
            array[start:stop] = answer
            array.flush()
        self.done = stop
        # In the place of the old note at once: a stop leaves one of the two.
        with open(self._note + ".new", "w", encoding="utf-8") as file:
            json.dump(dict(self._what, done=stop), file)
        os.replace(self._note + ".new", self._note)


def _is_close(first, second):
    """Whether the same but for rounding, which may differ between runs."""
    if (first.shape, first.dtype) != (second.shape, second.dtype):
        return False
    if not np.issubdtype(first.dtype, np.floating):
        return np.array_equal(first, second)
    close = np.sqrt(np.finfo(first.dtype).eps)
    largest = np.abs(second[np.isfinite(second)]).max(initial=0)
    return np.allclose(first, second, close, close * largest, equal_nan=True)


def _name(key):
    return getattr(key, "name", key)
