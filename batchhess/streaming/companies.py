"""Batches run again in other company: what an observation answers may not change."""

import numpy as np

from batchhess.streaming.comparing import (
    in_turns,
    is_close,
    largest_size,
    of_turns,
    usual_size,
)

# How many observations of a batch tell at least how large its answers are.
_NOTED = 16


def companies(start, stop, count, fixed=None):
    """Batches in which observations `start` to `stop` are among others than in theirs.

    In another order, one half without the other, and in a graph that leaves the number
    open never as many as before. So what depends on observations before, after or
    beside it is another; what depends on the largest, say, in the half without that;
    and a mean by its number.

    Args:
      start: int.
      stop: int.
      count: int, the observations of all.
      fixed: int, how many each batch of the graph has; None if that is open.

    Returns:
      list of lists of int, the observations of a batch; empty where there are no others
      for company.
    """
    size = stop - start
    if size > 1:
        halves = [list(range(first, stop, 2)) for first in (start, start + 1)]
        return [_shuffled(half, size, fixed) for half in halves]
    if size == 1 and count > 1 and fixed != 1:
        other = start - 1 if start else 1
        return [[other, start, other, other][:fixed]]
    return []


def _shuffled(rows, size, fixed):
    """`rows` in a fixed order that is no palindrome, and not `size` of them."""
    rows = np.random.RandomState(len(rows)).permutation(rows).tolist()
    if fixed:
        return rows
    # One alone may be another case for the graph, and two be its number.
    rows = rows + rows[:1] * (1 if len(rows) > 1 else 2)
    return rows + rows[:1] * (len(rows) == size)


class Company:
    """Answers of one batch held against those of others.

    Args:
      names: list of str, of what is answered.
      run: function from a list of int, observations that are run as one batch, to the
        list of arrays that they answer.
    """

    def __init__(self, names, run):
        self._names, self._run = names, run
        self._usual, self._largest = [0.0] * len(names), [0.0] * len(names)

    def note(self, answers):
        """Keeps how large some answers are, for those that are compared alone."""
        for index, answer in enumerate(answers):
            some = answer[:: max(len(answer) // _NOTED, 1)]
            self._usual[index] = max(self._usual[index], usual_size(some))
            self._largest[index] = max(self._largest[index], largest_size(some))

    def differing_among(self, rows, found, start, stop):
        """The names of those answers of a batch that are others among `rows`."""
        again = self._run(rows)
        places = [at for at, row in enumerate(rows) if start <= row < stop]
        kept = [rows[at] - start for at in places]
        self.note(again)
        found = [a[kept] for a in found]
        return self.differing(found, [a[places] for a in again], rows, places)

    def differing(self, first, second, rows, places):
        """The names of those answers that differ by more than rounding.

        Rounding depends on where in a batch an observation is, and on nothing else. So
        what is small beside the largest of all may differ so much if it does not where
        it stays in its place and others come beside it.

        Args:
          first: list of arrays.
          second: list of arrays: what is answered at `places` where `rows` are run.
          rows: list of int, the observations of a batch.
          places: list of int.
        """
        whole = list(zip(first, second))
        usual = [is_close(*pair, size) for pair, size in zip(whole, self._usual)]
        if all(usual):
            return []
        again, found = self._kept_in_place(rows, places), []
        for index, pair in enumerate(whole):
            is_rounding = is_close(pair[1], again[index]) and is_close(
                *pair, self._largest[index]
            )
            if not (usual[index] or is_rounding):
                found.append(self._names[index])
        return found

    def _kept_in_place(self, rows, places):
        """What `places` of a batch answer where others come beside them."""
        pairs = zip(*(self._run(one) for one in in_turns(rows)))
        return [of_turns(*pair)[places] for pair in pairs]
