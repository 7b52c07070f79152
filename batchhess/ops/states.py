"""What is known of the observations in a tensor: the language of the rules."""

import collections

# Does not depend on x.
FREE = "free"
# Index n of `axis` depends on one observation alone: the one that `origin` maps n to.
BATCHED = "batched"
# Each element depends on one observation alone. Which one is not followed, but is the
# same at the same place of tensors with equal `origin`.
LOOSE = "loose"
# Each element is a sum over observations of functions of one observation each.
SUM = "sum"
# Nothing is proven: `reason` says where and why.
UNPROVEN = "unproven"

# `origin` where index n is observation n itself.
OWN = "x"
# Begins an `origin` (FOLDED, origin, T) where index m is of what that maps m // T to.
FOLDED = "folded"
# Begins an `origin` (CYCLED, origin, T) where index m of an axis of T N is of what that
# maps m % N to.
CYCLED = "cycled"


class State(collections.namedtuple("State", "kind axis origin op reason")):
    """What is known of a tensor's observations; `op` and `reason` say why no more."""

    @property
    def is_own(self):
        """Whether index n of `axis` is observation n."""
        return (self.kind, self.origin) == (BATCHED, OWN)

    @property
    def each(self):
        """The T indices that each observation has along `axis`; None if not followed.

        Observation n has n T, n T + 1, ...; with one each, index n is observation n.
        """
        if self.kind != BATCHED:
            return None
        if self.origin[:2] == (FOLDED, OWN):
            return self.origin[2]
        return 1 if self.origin == OWN else None

    def indices(self, count):
        """How many indices `count` observations, int or Tensor, have along `axis`."""
        return count if self.each == 1 else count * self.each  # No op for nothing.


FREED = State(FREE, None, None, None, None)
SCATTERED = State(LOOSE, None, None, None, None)
SUMMED = State(SUM, None, None, None, None)


def batched(axis, origin):
    return State(BATCHED, axis, origin, None, None)


def unproven(op, reason):
    return State(UNPROVEN, None, None, op, reason)


class NotProvenError(Exception):
    """What was asked of an op cannot be read from the graph: the message says why."""


def labelled(state, label):
    """Gives elements that have just become `LOOSE` a name of their own."""
    return state._replace(origin=label) if state == SCATTERED else state


def alive_of(op, states):
    """Pairs of the inputs that depend on x, and their states."""
    return [(t, s) for t, s in zip(op.inputs, states) if s.kind != FREE]


def need_batched(state):
    if state.kind != BATCHED:
        raise NotProvenError("acts on values whose observations are not followed")
    return state


def need_each(state):
    if state.kind == SUM:
        raise NotProvenError("acts on a sum over observations, and is not linear in it")
    return state


def rank_of(tensor):
    if tensor.shape.ndims is None:
        raise NotProvenError("has a tensor of unknown rank")
    return tensor.shape.ndims


def copied(states):
    """For an op whose output elements are copies of input elements, wherever from."""
    return SUMMED if any(s.kind == SUM for s in states) else SCATTERED


def broadcast_state(inputs, rank):
    """The state of an op whose inputs broadcast against each other to `rank` axes."""
    from_right = {rank_of(t) - s.axis for t, s in inputs}
    if len(from_right) > 1 or len({s.origin for _, s in inputs}) > 1:
        raise NotProvenError("broadcasts observations against other observations")
    if rank is None:
        raise NotProvenError("has an output of unknown rank")
    return batched(rank - from_right.pop(), inputs[0][1].origin)
