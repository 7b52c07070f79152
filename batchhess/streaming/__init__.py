"""Evaluations of more data than memory holds, batch by batch, into arrays or files."""

from batchhess.streaming.evaluating import evaluate, is_close

__all__ = ["evaluate", "is_close"]
