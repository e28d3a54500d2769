"""What the programs share: the server's port, embeddings without a model, and the closing line."""

import hashlib
import re
import sys

import numpy as np

DIMS = 32


def port():
    return int(sys.argv[1])


def url():
    return f"redis://127.0.0.1:{port()}"


def embed(text, dims=DIMS):
    """A unit vector of the text's words: texts that share words are near."""
    vector = np.zeros(dims, dtype=np.float32)
    for word in re.findall(r"\w+", text.lower()):
        digest = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
        vector[digest % dims] += 1 if digest >> 63 else -1
    length = np.linalg.norm(vector)
    return vector / length if length else vector


def blob(text, dims=DIMS):
    return embed(text, dims).astype("<f4").tobytes()


def equal(found, wanted):
    assert found == wanted, f"found {found!r} instead of {wanted!r}"


def near(found, wanted, tolerance=1e-4):
    assert abs(float(found) - wanted) <= tolerance, f"found {found!r} instead of {wanted!r}"


def refused(kind, action, text):
    """Runs what must fail with this text."""
    try:
        result = action()
    except kind as error:
        assert text.lower() in str(error).lower(), f"{text!r} is not in {error}"
        return
    raise AssertionError(f"{result!r} instead of an error")


def done():
    print("all as expected")
