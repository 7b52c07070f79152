"""Hessians by Apache Beam: a handler for its RunInference, and a pipeline of files."""

import textwrap
from typing import Any, Dict, Iterable, List, Optional, Sequence

import numpy as np

from batchhess.answering import build_answers
from batchhess.compat import tf
from batchhess.models import load
from batchhess.streaming import (
    Company,
    companies,
    evaluate,
    nonfinite_rows,
    refuse_means,
)

try:
    from apache_beam.ml.inference.base import ModelHandler, PredictionResult
except ImportError:
    raise ImportError(
        "batchhess.beam needs Apache Beam: in a checkout, pip install '.[beam]'."
    ) from None

# The first few batches and each of so many are run again in other company.
_FIRST, _CHECKED = 8, 16


class HessianModelHandler(ModelHandler):
    """Answers Hessians of a saved model to `apache_beam.ml.inference.RunInference`.

    Beam batches, loads one model a worker, counts, retries, and sets aside what fails.
    An element is one observation: an array of the shape of one row of the only x, or a
    dict from names of placeholders to such arrays. Put it into a `KeyedModelHandler`
    for elements with keys.

        RunInference(KeyedModelHandler(HessianModelHandler("m.meta", ["f"], ["x"])))

    Args:
      model: str, as in `load`. Workers read it from there.
      ys: list of str: names of tensors.
      xs: list of str: names of placeholders.
      answer: "hessians", "diagonals" or "laplacians".
      feed: dict from names to arrays, what is fed to all alike.
      checkpoint: as in `load`.
      tags: as in `load`.
      signature: as in `load`.
      initialize: as in `load`.
      allow_effects: as in `load`.
      shapes: as in `load`.
      method: as in `hessians`.
      on_nonfinite: "error" or "keep", as in `evaluate`.
      max_batch_size: int, the observations of a run at most.
    """

    def __init__(
        self,
        model: str,
        ys: Sequence[str],
        xs: Sequence[str],
        *,
        answer: str = "hessians",
        feed: Optional[Dict[str, Any]] = None,
        checkpoint: Optional[str] = None,
        tags: Optional[List[str]] = None,
        signature: Optional[str] = None,
        initialize: bool = False,
        allow_effects: bool = False,
        shapes: Optional[Dict[str, Sequence[Optional[int]]]] = None,
        method: str = "auto",
        on_nonfinite: str = "error",
        max_batch_size: int = 1024,
    ):
        self._path, self._ys, self._xs = model, list(ys), list(xs)
        self._answer, self._feed = answer, dict(feed or {})
        self._load = {
            "checkpoint": checkpoint,
            "tags": tags,
            "signature": signature,
            "initialize": initialize,
            "allow_effects": allow_effects,
            "shapes": shapes,
        }
        self._method, self._on_nonfinite = method, on_nonfinite
        self._max_batch_size = max_batch_size
        self._batches = {False: 0, True: 0}  # Of several elements?

    def load_model(self) -> Any:
        """Loads the model and builds the Hessians: once a worker."""
        model = load(self._path, **self._load)
        with model.graph.as_default():
            xs = [model.find(name) for name in self._xs]
            fed = xs + [model.find(name) for name in self._feed]
            ys = [model.tensor(name, fed=fed) for name in self._ys]
            fetches = build_answers(self._answer, ys, xs, method=self._method)
        sizes = [t.shape.as_list()[0] for t in xs if t.shape.ndims]
        fixed = next((size for size in sizes if size is not None), None)
        if fixed is not None:
            same = [model.find(name) for name in self._feed]
            names = {tensor.name for tensor in same}
            batched = [t for t in xs + model.placeholders if t.name not in names]
            refuse_means(list(fetches.values()), fixed, batched, "")
        return _Loaded(model, fetches, fixed)

    def run_inference(
        self,
        batch: Sequence[Any],
        model: Any,
        inference_args: Optional[Dict[str, Any]] = None,
    ) -> Iterable[PredictionResult]:
        """Answers a dict from a name, such as "hessians", to an array, for each."""
        answers = self._run(batch, model)
        several = len(batch) > 1  # One alone has no others for company.
        if self._batches[several] < _FIRST or self._batches[several] % _CHECKED == 0:
            self._check(batch, model, answers)
        self._batches[several] += 1
        for index, example in enumerate(batch):
            yield PredictionResult(
                example, {name: found[index] for name, found in answers.items()}
            )

    def _check(self, batch, model, answers):
        """Runs a batch in other company, where it must answer the same."""
        names, size = list(answers), len(batch)

        def run(rows):
            again = self._run([batch[row] for row in rows], model)
            return [again[name] for name in names]

        company, found = Company(names, run), [answers[name] for name in names]
        company.note(found)
        others = companies(0, size, size, model.fixed)
        for rows in others or [[0] * min(3, model.fixed or 3)]:
            for name in company.differing_among(rows, found, 0, size):
                raise ValueError(
                    "batchhess.beam: '{}' of an observation depends on the others in "
                    "its batch, which Beam chooses, or is random. Take a sum for a "
                    "mean over observations.".format(name)
                )

    def _run(self, batch, loaded):
        feed, batched, given = {}, [], {}
        with loaded.model.graph.as_default():
            for name, value in self._feed.items():
                feed[loaded.model.find(name)] = value
            rows = [_as_dict(example, self._xs) for example in batch]
            for name in rows[0]:
                tensor = loaded.model.find(name)
                # Bytes alone would lose their zeros at the end.
                kind = object if tensor.dtype.base_dtype == tf.string else None
                values = [np.asarray(row[name], kind) for row in rows]
                given[name] = feed[tensor] = np.stack(values)
                batched.append(tensor)
            answers = evaluate(
                loaded.session,
                loaded.fetches,
                feed,
                batched,
                batch_size=loaded.fixed or len(batch),
                check="never",
            )
        if self._on_nonfinite == "error":
            _refuse_nonfinite(dict(answers, **given), rows)
        return answers

    def get_num_bytes(self, batch: Sequence[Any]) -> int:
        """The bytes of what is fed."""
        rows = [_as_dict(example, self._xs) for example in batch]
        return sum(np.asarray(v).nbytes for row in rows for v in row.values())

    def get_metrics_namespace(self) -> str:
        """The name that Beam's metrics are under."""
        return "batchhess"

    def batch_elements_kwargs(self) -> Dict[str, Any]:
        """How large Beam's batches may be."""
        return {"min_batch_size": 1, "max_batch_size": self._max_batch_size}

    def validate_inference_args(self, inference_args) -> None:
        """No arguments of a run are known."""
        if inference_args:
            raise ValueError("batchhess.beam: inference_args are not known.")


class _Loaded:
    """The model of a worker, what to fetch, and its fixed number of observations."""

    def __init__(self, model, fetches, fixed):
        self.model, self.fetches, self.fixed = model, fetches, fixed
        self.session = model.session  # Weights are read now, not in the first batch.


def _as_dict(example, xs):
    if isinstance(example, dict):
        return example
    if len(xs) != 1:
        raise TypeError(
            "batchhess.beam: an element is {}, and with several xs it must be a dict "
            "from their names.".format(type(example).__name__)
        )
    return {xs[0]: example}


def _refuse_nonfinite(arrays, rows):
    """Raises where one is NaN or Inf: Beam tells no numbers of observations."""
    for name, array in arrays.items():
        for place in nonfinite_rows(array)[:1]:
            row = rows[place].items()
            told = {key: np.asarray(value).tolist() for key, value in row}
            raise ValueError(
                "batchhess.beam: '{}' is NaN or Inf for the observation {}. Pass "
                "on_nonfinite='keep' to have it written as it is.".format(
                    name, textwrap.shorten(repr(told), 500)
                )
            )
