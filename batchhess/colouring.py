"""Which coordinates may share a pass, where the pattern of zeros is known."""

import collections

import numpy as np

# Where a matrix may be other than zero. rows, columns: int64 arrays, of the entries row
# by row; shape: pair of int.
Pattern = collections.namedtuple("Pattern", "rows columns shape")

# coordinates: int array, to which column of what a method answers each coordinate is
# added, -1 for none; None where each is one. outputs: the same of its rows. places: int
# array, where each entry of the pattern then stands in the rows one after the other.
Colouring = collections.namedtuple("Colouring", "coordinates outputs places")


def by_columns(pattern):
    """Columns together that have no row in common: a pass forward answers their sum.

    Returns:
      `Colouring` of a Jacobian.
    """
    labels = _distinct(pattern.rows, pattern.columns, pattern.shape[1])
    places = pattern.rows * count(labels) + labels[pattern.columns]
    return Colouring(labels, None, places)


def by_rows(pattern):
    """Rows together that have no column in common: a reverse pass answers their sum.

    Returns:
      `Colouring` of a Jacobian.
    """
    labels = _distinct(pattern.columns, pattern.rows, pattern.shape[0])
    places = labels[pattern.rows] * pattern.shape[1] + pattern.columns
    return Colouring(None, labels, places)


def by_symmetry(pattern):
    """Columns together such that of each entry, or of its mirror image, is no other.

    A star colouring: each path of four coordinates that meet has three labels
    (Gebremedhin, Tarafdar, Manne & Pothen 2007, New acyclic and star coloring
    algorithms with application to computing Hessians).

    Returns:
      `Colouring` of a symmetric Hessian.
    """
    labels = _star(pattern)
    here = pattern.rows * count(labels) + labels[pattern.columns]
    there = pattern.columns * count(labels) + labels[pattern.rows]
    found, number = np.unique(here, return_counts=True)

    def is_alone(places):
        return number[np.searchsorted(found, places)] == 1

    assert (is_alone(here) | is_alone(there)).all()
    return Colouring(labels, None, np.where(is_alone(here), here, there))


def count(labels):
    """How many labels there are; 1 where nothing has one."""
    return int(max(labels, default=-1)) + 1 or 1


def _distinct(meeting, members, size):
    """Labels of `size` members, others for two that have a meeting in common."""
    labels, seen = np.full(size, -1, np.int64), {}
    where = [[] for _ in range(size)]
    for place, member in zip(meeting.tolist(), members.tolist()):
        where[member].append(place)
    for member in _largest_first(where):
        taken = set().union(*(seen.setdefault(place, set()) for place in where[member]))
        labels[member] = _first_but(taken)
        for place in where[member]:
            seen[place].add(labels[member])
    return labels


def _star(pattern):
    """Labels of coordinates: no path of four has two alone."""
    size = pattern.shape[0]
    labels, neighbours = np.full(size, -1, np.int64), [[] for _ in range(size)]
    for i, j in zip(pattern.rows.tolist(), pattern.columns.tolist()):
        neighbours[i].append(j)
    # Of each coordinate: a neighbour of each label; and which labels others must not
    # have beside it, or a path would have two alone.
    nearby, barred = [{} for _ in range(size)], [set() for _ in range(size)]
    for v in _largest_first(neighbours):
        others = [w for w in neighbours[v] if w != v]
        taken = set()
        for w in others:
            if labels[w] < 0:
                taken.update(nearby[w])
            else:
                taken.update(barred[w], [labels[w]])
        labels[v] = mine = _first_but(taken)
        for x in others:
            if mine in nearby[x]:  # A path v, x, y of two labels.
                barred[v].add(labels[x])
                barred[nearby[x][mine]].add(labels[x])
            nearby[x].setdefault(mine, v)
    return labels


def _largest_first(lists):
    """The indices of those that are not empty, those of the longest first."""
    filled = [i for i, each in enumerate(lists) if each]
    return sorted(filled, key=lambda i: -len(lists[i]))


def _first_but(taken):
    label = 0
    while label in taken:
        label += 1
    return label
