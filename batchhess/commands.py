"""What the commands of the command line do."""

import numpy as np

from batchhess import casting, fed, reading
from batchhess import demo as iris
from batchhess.answering import build_answers
from batchhess.compat import tf
from batchhess.explanation import explain as explain_hessians
from batchhess.exporting import write as write_model
from batchhess.models import load, protos
from batchhess.parsing import in_options
from batchhess.streaming import evaluate, is_close
from batchhess.streaming.feeding import listed, nonfinite_rows
from batchhess.verification import compute_hessian_error

# The relative error that right Hessians stay below.
_RIGHT = {"float32": 1e-2, "float64": 1e-6}

# How many of the tensors on the way to its outputs are listed of a model.
_INNER = 20

# How many observations are verified at most, and how many entries of their Hessians.
_SAMPLE, _ENTRIES = 1000, 2**23


def demo(options):
    iris.run(sizes=options.sizes or iris.SIZES)
    return 0


def inspect(options):
    with _loaded(options) as model:
        for line in describe(model):
            print(line)
    return 0


def explain(options):
    with _loaded(options) as model, model.graph.as_default():
        ys, xs = fed.tensors(model, options)
        for answer in explain_hessians(ys, xs, batch_axis=options.batch_axis):
            print(in_options(str(answer)))
            print()
    return 0


def verify(options):
    with _loaded(options) as model, model.graph.as_default():
        ys, xs, feed, batched = fed.read(model, options)
        rows, sample = _sampled(options, xs, feed, batched)
        return _verify(model, options, ys, xs, rows, sample)


def _verify(model, options, ys, xs, rows, sample):
    """The exit code, after it has told what it has found in the sample."""
    if len(rows) == 0:
        print("nothing was checked: no observations are fed")
        return 1
    error = compute_hessian_error(
        ys,
        xs,
        sample,
        model.session,
        batch_axis=options.batch_axis,
        method=options.method,
    )
    for words, number in (
        ("no differences could tell of {} of {} observations", error.undecided),
        ("the gradient is not finite in {} of {} observations", error.undefined),
    ):
        if number:
            print(words.format(number, len(rows) * len(xs)))
    if error.undecided + error.undefined == len(rows) * len(xs):
        print("nothing was checked")
        return 1
    limit = max(_RIGHT.get(x.dtype.base_dtype.name, 0.2) for x in xs)
    if error == 0:
        print("no error beyond rounding")
    elif error == error:  # It is NaN where only gradients are not finite.
        print(
            "largest relative error: {:.2g}, of '{}' at observation {}".format(
                float(error), error.x, rows[error.observation]
            )
        )
    right = not error > limit
    print("right" if right else "wrong: above {:.0e}".format(limit))
    return 0 if right else 3


def _sampled(options, xs, feed, batched):
    """Observations from all over the data, as many as memory is there for.

    Returns:
      their numbers, and what to feed for them.
    """
    axis = options.batch_axis
    count = min(np.shape(feed[x])[axis] for x in xs)
    sizes = [x.shape.as_list()[axis] for x in xs if x.shape.ndims]
    fixed = [size for size in sizes if size is not None]
    entries = max(np.prod(np.shape(feed[x])) // max(count, 1) for x in xs) ** 2
    size = options.sample or min(max(_ENTRIES // max(int(entries), 1), 1), _SAMPLE)
    # A graph of more observations is filled up, with some of them twice.
    size = fixed[0] if fixed and count else min(size, count)
    rows = np.linspace(0, max(count - 1, 0), size).astype(np.int64)
    if size < count:
        print("a sample of {:,} of {:,} observations".format(size, count))
    sample = _picked(feed, batched, rows)
    bad = _nonfinite(options, sample, batched, rows)
    if not bad:
        return rows, sample
    print("not verified, since NaN or Inf is fed: {:,} observations".format(len(bad)))
    rows = np.setdiff1d(rows, sorted(bad))
    rows = np.resize(rows, size) if fixed and len(rows) else rows
    return rows, _picked(feed, batched, rows)


def _picked(feed, batched, rows):
    """What to feed for the observations `rows`."""
    found = {}
    for tensor, value in feed.items():
        if tensor in batched:  # No more of it is read.
            axis = batched[tensor]
            part = np.asarray(value[(slice(None),) * axis + (rows,)])
            found[tensor] = casting.cast(part, tensor, rows, axis)
        else:
            found[tensor] = casting.cast(np.asarray(value), tensor)
    return found


def _nonfinite(options, sample, batched, rows):
    """The set of the observations for which NaN or Inf is fed, if that is allowed."""
    found, keep = set(), getattr(options, "on_nonfinite", None) == "keep"
    for tensor, value in sample.items():
        is_batched = tensor in batched and len(rows) > 0
        by_row = (
            np.moveaxis(value, batched[tensor], 0) if is_batched else np.ravel(value)
        )
        bad = nonfinite_rows(by_row)
        if len(bad) and not keep:
            where = " at observations " + listed(rows[bad]) if is_batched else ""
            may = hasattr(options, "on_nonfinite")
            cure = " Pass on_nonfinite='keep' to run with it." if may else ""
            words = "what is fed for '{}' is NaN or Inf{}.{}"
            raise ValueError(words.format(tensor.name, where, cure))
        found.update(rows[bad] if is_batched else ())
    return found


def export(options):
    with _loaded(options) as model, model.graph.as_default():
        ys, xs = fed.tensors(model, options)

        def session():
            options.ctrl_c.raises = True  # What is written is taken away again.
            return model.session

        write_model(
            session,
            options.out,
            ys,
            xs,
            signatures=model.signatures,
            allow_effects=options.allow_effects,
            batch_axis=options.batch_axis,
            method=options.method,
        )
    print("written to", options.out)
    return 0


def run(options):
    with _loaded(options) as model, model.graph.as_default():
        ys, xs, feed, batched = fed.read(model, options)
        answers = build_answers(
            options.answer,
            ys,
            xs,
            batch_axis=options.batch_axis,
            method=options.method,
        )
        if options.verify:
            rows, sample = _sampled(options, xs, feed, batched)
            status = _verify(model, options, ys, xs, rows, sample)
            if status:
                return status
        if options.runner:
            read = _run_by_beam(model, options, feed, batched)
        else:
            read = _run_here(model, options, feed, batched, answers)
        if options.verify:
            return _hold(model.session.run(answers, sample), read, rows)
    return 0


def _run_here(model, options, feed, batched, answers):
    """Writes the answers, and tells how to read them: by name, and rows."""
    options.ctrl_c.raises = True
    written = evaluate(
        model.session,
        answers,
        feed,
        batched,
        batch_size=options.batch_size,
        out=options.out,
        resume=options.resume,
        progress=True,
        on_nonfinite=options.on_nonfinite,
    )
    print("written to", options.out)
    return lambda name, rows: written[name][rows]


def _hold(again, read, rows):
    """The exit code: whether what is written is what is answered again."""
    for name, value in again.items():
        if not is_close(np.asarray(read(name, rows)), value):
            print("wrong: '{}' is not what was verified".format(name))
            return 3
    print("what is written is what was verified")
    return 0


def _run_by_beam(model, options, feed, batched):
    """As `_run_here`; each worker builds the answers anew."""
    from batchhess import pipeline

    options.ctrl_c.raises = True
    files, same, rest = {}, {}, {}
    for called, text in options.feed:
        tensor = model.find(called)
        value, kind = feed[tensor], fed.kind_of(tensor, options, called)
        if tensor not in batched:
            rest[tensor.name] = casting.cast(np.asarray(value), tensor)
        elif reading.as_number(text, tensor.name, kind[0]) is None:
            files[tensor.name] = (text,) + kind
        else:
            same[tensor.name] = np.array(value[0], value.dtype)
    pipeline.run(options, files, same, rest)
    print("written to", options.out)
    return lambda name, rows: pipeline.read_shards(options.out, name, rows)


def _loaded(options):
    tf.logging.set_verbosity(tf.logging.ERROR)
    return load(
        options.model,
        checkpoint=options.checkpoint,
        tags=options.tags,
        signature=options.signature,
        initialize=options.initialize,
        allow_effects=options.allow_effects,
        shapes=dict(options.shape),
    )


def describe(model):
    """A model in lines."""
    words, _ = protos.told_by(model.stored)
    yield "{} '{}', {}".format(model.kind, model.path, words)
    yield "placeholders"
    for tensor in model.placeholders:
        yield "  " + _described(tensor)
    yield "outputs"
    for tensor in model.outputs:
        yield "  " + _described(tensor)
    if model.inner:
        yield "on the way to them, the last first"
    for tensor in model.inner[:_INNER]:
        yield "  " + _described(tensor)
    for name, (inputs, outputs) in model.signatures.items():
        yield "signature {}".format(name)
        for word, tensors in (("takes", inputs), ("gives", outputs)):
            for key, tensor in tensors.items():
                yield "  {} {}: {}".format(word, key, _described(tensor))
    if model.stored.others:
        yield "other tags: {}".format(model.stored.others)
    yield "variables: {}; checkpoint: {}".format(
        len(model.variables), model.stored.checkpoint or "none"
    )
    devices = protos.devices_of_cluster(model.stored.meta_graph.graph_def)
    if devices:
        yield "ops are run here, and not on: " + ", ".join(devices[:_INNER])
    effects = model.effects()
    if effects:
        yield "ops that reach files, processes or the network: " + ", ".join(effects)


def _described(tensor):
    shape = "of unknown rank"
    if tensor.shape.ndims is not None:
        sizes = ["?" if n is None else str(n) for n in tensor.shape.as_list()]
        shape = "[{}]".format(", ".join(sizes))
    return "{} {} {}".format(tensor.name, tensor.dtype.base_dtype.name, shape)
