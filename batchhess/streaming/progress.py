"""How far a long run is: a bar on a terminal, a line now and then in a log."""

import sys
import time

_SECONDS = 30.0


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
        if self._out.isatty():
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
                import tqdm
            except ImportError:
                return None
            self._bar = tqdm.tqdm(
                total=count, initial=done, unit="obs", unit_scale=True, file=self._out
            )
        return self._bar

    def close(self):
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def _duration(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return "{} h {} min".format(hours, minutes)
    return "{} min {} s".format(minutes, seconds) if minutes else "{} s".format(seconds)
