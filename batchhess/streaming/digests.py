"""Arrays as bytes, to be digested: the same for what TensorFlow is fed the same."""

import numpy as np


def as_bytes(array):
    """An array with its dtype and shape; text by its words, however it is stored."""
    is_text = array.dtype.kind in "OSU"
    head = "{} {} ".format("text" if is_text else array.dtype, array.shape).encode()
    if is_text:
        return head + b"".join(map(_word, array.ravel().tolist()))
    return head + np.ascontiguousarray(array).tobytes()


def _word(word):
    """A word and its length, so that no two of them are another two."""
    if isinstance(word, str):
        word = word.encode("utf-8", "surrogatepass")
    data = word if isinstance(word, bytes) else repr(word).encode()
    return "{} ".format(len(data)).encode() + data
