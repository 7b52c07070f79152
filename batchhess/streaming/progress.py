"""How far a long run is: a bar for a person, a line now and then in a log."""

import contextlib
import sys
import time
import warnings

_SECONDS = 30.0


@contextlib.contextmanager
def telling(progress):
    """What is told of a run: `progress`, a `Progress` for True, or nothing for None."""
    if progress is not True:
        yield progress or (lambda done, count: None)
        return
    shown = Progress()
    try:
        yield shown
    finally:
        shown.close()


class Progress:
    """A function for `evaluate`'s `progress`.

    Args:
      out: a file, sys.stderr if None.
      clock: function that answers seconds.
    """

    def __init__(self, out=None, clock=time.monotonic):
        self._out, self._clock = out or sys.stderr, clock
        self._begin, self._told, self._first, self._bar = clock(), None, 0, None

    def __call__(self, done, count):
        if self._out.isatty() or _in_notebook():
            bar = self._bar_of(done, count)
            if bar is not None:
                bar.update(done - bar.n)
                return
        now = self._clock()
        if self._told is None:
            self._first, self._told, self._begin = done, now, now
        elif now - self._told < _SECONDS and done < count:
            return
        self._told = now
        print(self._line(done, count, now), file=self._out)
        self._out.flush()

    def _line(self, done, count, now):
        share = " ({:.0%})".format(done / count) if count else ""
        text = "{:,} of {:,}{}".format(done, count, share)
        passed, seconds = done - self._first, now - self._begin
        if passed > 0 and seconds > 0:
            rate = passed / seconds
            text += ", {:,.0f}/s".format(rate)
            if done < count:
                text += ", {} left".format(_duration((count - done) / rate))
        return text

    def _bar_of(self, done, count):
        if self._bar is None:
            try:
                with warnings.catch_warnings():  # Of a notebook without ipywidgets.
                    warnings.simplefilter("ignore")
                    from tqdm.auto import tqdm
            except ImportError:
                return None
            file = None if _in_notebook() else self._out
            self._bar = tqdm(
                total=count, initial=done, unit="obs", unit_scale=True, file=file
            )
        return self._bar

    def close(self):
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def _in_notebook():
    """Whether a kernel runs this: `ipykernel` is imported by others too."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def _duration(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return "{} h {} min".format(hours, minutes)
    return "{} min {} s".format(minutes, seconds) if minutes else "{} s".format(seconds)
