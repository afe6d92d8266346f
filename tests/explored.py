"""Rows, models and texts whose pages are tested."""

import pytest

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE

FAST = {"n_nonzero_coefs": 4, "max_iter": 3, "random_state": 0}
HOSTILE = [
    "</script><script>window.ran = 1</script>",
    "<img src=x onerror='window.ran = 1'>",
    "\u2028\u2029window.ran = 1//",
    "lone \ud800 surrogate \udfff",
    "null \x00 byte, \x1b[31m escape",
    "\u202eright to left\u2066 <b>bold</b>",
    "{{script}} {{facts}} ]]> --> <!--<script>",
    '" onmouseover="window.ran = 1',
    "javascript:window.ran=1",
    "&lt;script&gt; &amp;",
]


@pytest.fixture(name="X", scope="module")
def rows_to_explore(digits):
    return digits[:400]


@pytest.fixture(name="mp", scope="module")
def pursuit_to_explore(X):
    """Codes of either sign, so that atoms are taken twice; three atoms are never used."""
    model = MPSparseAutoencoder(40, positive_code=False, dead_atoms="keep", **FAST).fit(X)
    model.intercept_[0] += 0.5  # not the mean of these rows
    return model


@pytest.fixture(name="top_k", scope="module")
def shallow_to_explore(X):
    return TopKSAE(40, **FAST).fit(X)


@pytest.fixture(name="fitted", params=["mp", "top_k"])
def either_to_explore(request):
    return request.getfixturevalue(request.param)


def sentences(n, length=10):
    """Documents of `length` tokens for n rows; the last has what is left."""
    tokens = [f" word{i % 7}" for i in range(n)]
    return [tokens[start : start + length] for start in range(0, n, length)]
