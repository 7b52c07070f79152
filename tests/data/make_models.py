"""Writes the models of tests/test_models.py: run by each TensorFlow that they are of.

python tests/data/make_models.py
"""

import os
import shutil
import subprocess
import sys

import numpy as np
import tensorflow
from google.protobuf import text_format

tf = tensorflow.compat.v1
X = np.array([[1.0, -2.0, 0.5], [0.3, 2.0, -1.0]], "float32")


def write_v1(out):
    """sum(w x**3) with w = 1, 2, 3, as TensorFlow 1 saves it."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        w = tf.get_variable("w", initializer=np.full(3, 5, "float32"))
        f = tf.reduce_sum(w * x**3, 1, name="f")
        session.run(tf.global_variables_initializer())
        w.load(np.arange(1, 4, dtype="float32"), session)
        saver = tf.train.Saver()
        saver.save(session, os.path.join(out, "model"))
        tf.train.export_meta_graph(
            os.path.join(out, "text.meta"),
            saver_def=saver.as_saver_def(),
            as_text=True,
            clear_extraneous_savers=True,
        )
        tf.saved_model.simple_save(
            session, os.path.join(out, "saved_v1"), {"x": x}, {"f": f}
        )
        frozen = tf.graph_util.convert_variables_to_constants(
            session, session.graph_def, ["f"]
        )
    with open(os.path.join(out, "frozen.pb"), "wb") as file:
        file.write(frozen.SerializeToString())
    with open(os.path.join(out, "frozen.pbtxt"), "w") as file:
        file.write(text_format.MessageToString(frozen))
    os.remove(os.path.join(out, "checkpoint"))


def write_v2(out):
    """The same as a tf.function, and a Keras model, as TensorFlow 2 saves them."""
    v2 = tensorflow.compat.v2

    class Cubes(v2.Module):
        def __init__(self):
            super().__init__()
            self.w = v2.Variable([1.0, 2.0, 3.0])

        @v2.function(input_signature=[v2.TensorSpec([None, 3], v2.float32, name="x")])
        def __call__(self, x):
            return {"f": v2.reduce_sum(self.w * x**3, 1)}

    cubes = Cubes()
    v2.saved_model.save(
        cubes, os.path.join(out, "saved_v2"), {"serving_default": cubes.__call__}
    )
    v2.random.set_seed(1)
    layers = v2.keras.layers
    keras = v2.keras.Sequential(
        [layers.Dense(3, activation="tanh", input_shape=(3,)), layers.Dense(1)]
    )
    np.save(os.path.join(out, "keras_values.npy"), keras(X))
    if hasattr(keras, "export"):
        keras.export(os.path.join(out, "keras"))
    else:
        v2.saved_model.save(keras, os.path.join(out, "keras"))


def main():
    version = "tf" + tensorflow.__version__[0]
    here = os.path.dirname(os.path.abspath(__file__))
    out = os.path.join(here, "models", version)
    if sys.argv[1:] == ["v1"]:
        tf.disable_v2_behavior()
        write_v1(out)
    elif sys.argv[1:] == ["v2"]:
        tf.enable_v2_behavior()
        write_v2(out)
    else:
        shutil.rmtree(out, ignore_errors=True)
        os.makedirs(out)
        for behavior in ("v1", "v2"):  # A process can have one alone.
            subprocess.check_call([sys.executable, __file__, behavior])
        for folder in ("saved_v1", "saved_v2", "keras"):
            shutil.rmtree(os.path.join(out, folder, "assets"), ignore_errors=True)


if __name__ == "__main__":
    main()
