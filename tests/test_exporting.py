"""A SavedModel with Hessians: served by a process that has no batchhess."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from batchhess.compat import tf
from batchhess.exporting import export
from batchhess.models import load

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "models")

SERVE = """
import json, sys
sys.modules["batchhess"] = None  # It cannot be imported.
import numpy as np, tensorflow
tf = tensorflow.compat.v1
directory, how = sys.argv[1:]
x = np.array([[1.0, -2.0, 0.5], [0.3, 2.0, -1.0]], "float32")
if how == "v1":
    with tf.Graph().as_default(), tf.Session() as session:
        meta = tf.saved_model.load(session, ["serve"], directory)
        s = meta.signature_def["hessians"]
        (key,) = s.inputs
        found = session.run({k: t.name for k, t in s.outputs.items()},
                            {s.inputs[key].name: x})
        own = sorted(meta.signature_def)
else:
    tf.enable_v2_behavior()
    loaded = tensorflow.compat.v2.saved_model.load(directory)
    own = sorted(loaded.signatures)
    f = loaded.signatures["hessians"]
    found = {k: v.numpy() for k, v in f(x=tensorflow.constant(x)).items()}
print(json.dumps([own, {k: np.asarray(v).tolist() for k, v in found.items()}]))
"""


def served(directory, how):
    output = subprocess.check_output(
        [sys.executable, "-c", SERVE, str(directory), how], stderr=subprocess.PIPE
    )
    return json.loads(output.decode().splitlines()[-1])


@pytest.mark.parametrize(
    "name, how", [("saved_v1", "v1"), ("saved_v2", "v1"), ("saved_v1", "v2")]
)
def test_what_is_exported_is_served_without_batchhess(tmp_path, name, how):
    out = tmp_path / "out"
    with load(os.path.join(DATA, "tf1", name)) as model:
        inputs, outputs = model.signatures["serving_default"]
        export(
            model.session,
            out,
            outputs["f"],
            list(inputs.values()),
            signatures=model.signatures,
        )
    signatures, found = served(out, how)
    assert signatures == ["hessians", "serving_default"]
    x, w = np.array([[1.0, -2.0, 0.5], [0.3, 2.0, -1.0]]), np.arange(1.0, 4)
    np.testing.assert_allclose(found["values"], (w * x**3).sum(1), rtol=1e-5)
    np.testing.assert_allclose(found["gradients"], 3 * w * x**2, rtol=1e-5)
    expected = 6 * (w * x)[:, :, None] * np.eye(3)
    np.testing.assert_allclose(found["hessians"], expected, rtol=1e-5)


def test_the_inputs_are_all_that_the_model_needs(tmp_path):
    x = tf.placeholder(tf.float64, [None, 2], name="scope/x")
    z = tf.placeholder(tf.float64, [None, 1], name="z")
    tf.placeholder(tf.float64, [], name="unused")
    w = tf.placeholder(tf.float64, [], name="w")
    y = w * tf.reduce_sum(x**3 * z**2, 1)
    with tf.Session() as session:
        export(session, tmp_path / "m", y, [x, z])
    with load(tmp_path / "m") as model:
        inputs, outputs = model.signatures["hessians"]
        assert sorted(inputs) == ["scope_x", "w", "z"]
        assert sorted(outputs) == [
            "gradients_scope_x",
            "gradients_z",
            "hessians_scope_x",
            "hessians_z",
            "values",
        ]
        feed = {inputs["scope_x"]: [[1, 2]], inputs["z"]: [[3]], inputs["w"]: 2}
        found = model.session.run(outputs, feed)
    np.testing.assert_allclose(found["hessians_scope_x"], [[[108, 0], [0, 216]]])
    np.testing.assert_allclose(found["hessians_z"], [[[36]]])


def test_what_cannot_be_exported_is_refused(tmp_path):
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    y = tf.reduce_sum(x**3)
    (tmp_path / "mine").write_text("mine")
    with tf.Session() as session:
        with pytest.raises(ValueError, match="is not empty"):
            export(session, tmp_path, y, x)
        with pytest.raises(TypeError, match="is no placeholder"):
            export(session, tmp_path / "m", y, tf.identity(x))
        with pytest.raises(ValueError, match="a signature 'hessians' of its own"):
            export(session, tmp_path / "m", y, x, signatures={"hessians": ({}, {})})
