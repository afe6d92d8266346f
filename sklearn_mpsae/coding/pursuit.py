"""Matching pursuit, orthogonal matching pursuit and orthogonal least squares of batches."""

from __future__ import annotations

from math import exp, inf, log
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse, sparray, spmatrix
from sklearn import config_context
from sklearn.utils import check_array

from .._compat import Interval, validate_parameter_constraints
from .._docs import shared_docs
from .checks import check_magnitude
from .codes import Codes, found_codes
from .inputs import float_dtypes, tabled
from .kernels import open_kernels
from .kernels.budget import DEMAND_BYTES, GRAM_BYTES, ORTHOGONAL_BYTES
from .unit import check_unit

# Updating one correlation from the Gram matrix costs as much time as so many multiply-adds
# of a matrix product (from a sweep of 3.6 us over 16,384 correlations on one core).
_SWEEP_COST = 12

# A product with so few rows that both matrices have to be brought to the cores for little
# work costs as much as one with so many rows more.
_PRODUCT_START = 8

# The same for a product that fetches rows of a Gram matrix: there is one at each step, with
# fewer rows than X has.
_FETCH_START = 24

# What a row of a Gram matrix on demand costs, of a row of a large product: data use some
# atoms more than others, so that fewer are asked for than `_rows_on_demand` says.
_DEMAND_COST = 0.5

# These three fit 519 timings of the three ways, on two cores that others used too, for n from
# 1 to 4096, p from 512 to 16,384, d from 64 to 784 and k from 4 to 64 (random float32). The
# way taken was within 1.3 of the fastest for 480 of them. benchmarks/bench_crossover.py
# shows where it is not.

# From this size of a dictionary training steps are 1.3 times as fast or more where atoms are
# chosen in bfloat16 (8192 x 256 and 4096 x 768 atoms; 8192 x 64 gain nothing, 2048 x 768 a
# tenth).
_BFLOAT16_ENTRIES = 1 << 21

# Of orthogonal pursuits, in the same unit (from 14 timings on one core of an AMD EPYC, n from
# 1 to 4000, p from 128 to 16,384, d from 16 to 784 and k from 6 to 32, float32). On a Gram
# matrix: an entry of it; for an atom of a row what each step costs, and each pair of steps.
_GRAM_ENTRY = 80
_ORTHOGONAL_SWEEP = 27
_ORTHOGONAL_PAIR = 1.9

# Without one: what each step costs for an atom of a row, beyond the product, and for a feature
# of each vector of the row's basis.
_SPAN_SWEEP = 24
_SPAN_VECTOR = 13

_CONSTRAINTS = {
    "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), None],
    "tol": [Interval(Real, 0, 1, closed="left")],
    "atol": [Interval(Real, 0, None, closed="left")],
    "stop_on_repeat": ["boolean"],
    "threshold": [Interval(Real, 0, None, closed="left")],
    "positive": ["boolean"],
    "device": [str],
}

# The functions, by what estimators call their algorithms.
_NAMES = {
    "mp": "matching_pursuit",
    "omp": "orthogonal_matching_pursuit",
    "ols": "orthogonal_least_squares",
}


def cheapest_path(
    n_samples: int,
    n_components: int,
    n_features: int,
    k: int,
    itemsize: int,
    algorithm: str = "mp",
) -> str:
    """How a pursuit takes least time within its memory; `algorithm` as for `pursue`.

    For n rows, p atoms and d features there are three ways, with costs in multiply-adds (and
    something for the start of each product, see `_PRODUCT_START`):

    "residual"
        Every step multiplies the residuals with the dictionary: k n p d in all.
    "gram"
        One such product and half of one for the Gram matrix; then n k sweeps over p
        correlations: n p d + p p d / 2 + c n k p. Needs room for p x p numbers.
    "blocked"
        The same with a row of the Gram matrix for each atom that is taken, as long as there
        is room for it: n p d + m p d + c n k p, with m from the number of picks.

    An orthogonal pursuit has the first two, and sweeps more: see `_orthogonal_path`.
    """
    n, p, d = n_samples, n_components, n_features
    if algorithm != "mp":
        return _orthogonal_path(n, p, d, k, itemsize)
    product, sweeps = (n + _PRODUCT_START) * p * d, _SWEEP_COST * n * k * p
    fetched = _DEMAND_COST * _rows_on_demand(n * k, p, itemsize) + _FETCH_START * k
    costs = {
        "residual": k * product,
        "blocked": product + fetched * p * d + sweeps,
        "gram": product + p * p * d / 2 + sweeps,
    }
    if p * p * itemsize > GRAM_BYTES:
        del costs["gram"]
    return min(costs, key=costs.get)


def bfloat16_pays(n_components: int, n_features: int) -> bool:
    """Whether choosing atoms in bfloat16 saves a good part of the time, where it is fast."""
    return n_components * n_features >= _BFLOAT16_ENTRIES


def _rows_on_demand(picks, p, itemsize):
    """Rows of the Gram matrix that so many picks ask for, if all atoms are as likely."""
    room = DEMAND_BYTES // (p * itemsize)
    until_full = p * log(p / (p - room)) if room < p else inf
    if picks <= until_full:
        return p * (1 - exp(-picks / p))
    return room * picks / until_full


def _orthogonal_path(n, p, d, k, itemsize):
    """Of an orthogonal pursuit, "gram" or "residual".

    On a Gram matrix a step sweeps over the correlations of all atoms with the vectors of the
    row's basis; without, it multiplies with the dictionary, and sweeps over these vectors.
    """
    if p * p * itemsize > ORTHOGONAL_BYTES:
        return "residual"
    steps, start = min(k, d), _PRODUCT_START * p * d
    sweeps = _ORTHOGONAL_SWEEP * k + _ORTHOGONAL_PAIR * k * k / 2
    gram = p * p * (d / 2 + _GRAM_ENTRY) + start + n * p * (d + sweeps)
    step = p * (d + _SPAN_SWEEP) + _SPAN_VECTOR * steps * d
    return "gram" if gram < steps * (start + n * step) else "residual"


def pursue(
    kernels,
    X,
    W,
    k,
    *,
    tol,
    threshold,
    positive,
    atol=0.0,
    stop_on_repeat=False,
    algorithm="mp",
    coarse=False,
    gram=None,
):
    """Codes of X, as (indices, values) arrays of the kernels' kind.

    algorithm : "mp", or one of the orthogonal pursuits, "omp" and "ols"
    stop_on_repeat : of a matching pursuit; an orthogonal one has no atom twice
    coarse : choose atoms by products in bfloat16; a matching pursuit only
    gram : the Gram matrix of W where the caller has it; else it is formed if it pays.
    """
    # Compiled loops know neither every precision nor every kind of number.
    options = {"tol": float(tol), "atol": float(atol), "threshold": float(threshold)}
    options["positive"] = bool(positive)
    coarse, path = coarse and algorithm == "mp", None
    if gram is None and not coarse:
        path = cheapest_path(len(X), *W.shape, k, W.dtype.itemsize, algorithm)
        if path == "gram":
            gram = kernels.gram(W)
    if algorithm != "mp":
        by_refit = algorithm == "ols"
        return kernels.orthogonal_pursuit(X, W, gram, k, **options, by_refit=by_refit)
    options["once"] = bool(stop_on_repeat)
    if coarse:
        return kernels.coarse_pursuit(X, W, k, **options)
    if path == "blocked":
        return kernels.blocked_pursuit(X, W, k, **options)
    return kernels.matching_pursuit(X, W, gram, k, **options)


@shared_docs
def matching_pursuit(
    X: ArrayLike | sparray | spmatrix,
    dictionary: ArrayLike,
    n_nonzero_coefs: int | None = None,
    *,
    tol: float = 0.0,
    atol: float = 0.0,
    stop_on_repeat: bool = False,
    threshold: float = 0.0,
    positive: bool = True,
    device: str = "auto",
) -> Codes:
    """Matching pursuit codes of the rows of X.

    Each step takes the atom that correlates best with what the earlier ones left, its
    correlation as its value, and subtracts it [1]_. An atom may be taken again.

    Parameters
    ----------
    {rows_and_atoms}
    n_nonzero_coefs : int, default=None
        The number of steps, at least 1. None for the number of features, where `tol` or
        `atol` is set; a row may end there before its tolerance is reached.
    {tolerances}
    stop_on_repeat : bool, default=False
        Whether a row stops after an atom that it had already: the code of that atom is
        updated, and is the last.
    threshold : float, default=0.0
        A row stops before an atom whose correlation with what is left is no larger (in
        magnitude, unless `positive`); at least 0.
    positive : bool, default=True
        Take the largest correlation and no negative one; else the largest in magnitude.
    {codes_of_a_pursuit}

    Notes
    -----
    Codes are found from correlations that are updated, not from residuals, where that is
    faster. Rounding adds up slowly, as the squares of the values of a row x add up to no
    more than its own: each value is the correlation of its atom with what the atoms before
    it leave, to within ``4 * (1 + sqrt(k)) * eps * |x|`` after k steps, and no other atom
    correlates better by more than twice that, whatever the coherence of the atoms
    (tested for k up to four times the number of features: :doc:`/trust`). Squared
    residuals are known to ``4 * k * eps`` of the row's: a smaller `tol` has no meaning. For
    `atol` they are computed from the residual itself, to rounding errors of that.

    References
    ----------
    .. [1] S. Mallat and Z. Zhang, "Matching pursuits with time-frequency dictionaries",
       IEEE Trans. Signal Processing, 1993.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mpsae.coding import matching_pursuit
    >>> matching_pursuit([[3.0, 1.0]], np.eye(2), 2).dense()
    array([[3., 1.]])
    """
    options = {"tol": tol, "atol": atol, "threshold": threshold, "positive": positive}
    options["stop_on_repeat"] = stop_on_repeat
    return _encode("mp", X, dictionary, n_nonzero_coefs, device, **options)


@shared_docs
def orthogonal_matching_pursuit(
    X: ArrayLike | sparray | spmatrix,
    dictionary: ArrayLike,
    n_nonzero_coefs: int | None = None,
    *,
    tol: float = 0.0,
    atol: float = 0.0,
    threshold: float = 0.0,
    positive: bool = False,
    device: str = "auto",
) -> Codes:
    """Orthogonal matching pursuit codes of the rows of X.

    As `matching_pursuit`, but all values are refitted by least squares at every step [1]_.
    With `positive` the refit is a non-negative one: atoms that it sets to zero leave the
    support, and their place is taken by later ones [2]_.

    Parameters
    ----------
    {rows_and_atoms}
    {n_orthogonal}
    {tolerances}
    threshold : float, default=0.0
        A row stops before an atom whose correlation with what is left is no larger (in
        magnitude, unless `positive`); at least 0.
    positive : bool, default=False
        Whether values must not be negative.
    {codes_of_a_pursuit}

    Notes
    -----
    What is left of a row x correlates with none of its atoms by more than
    ``4 * eps * (|x| + sum of |values|)`` (tested: :doc:`/trust`). Squared residuals are
    known to some ``k * eps`` of the row's: a smaller `tol` or `atol` has no meaning. A row
    ends with an atom of which no more than ``32 * eps`` of its energy lies outside the span
    of the row's others.

    A Gram matrix of the atoms is formed where that saves time, and takes 8 GiB at most, or
    half of the memory. Rows whose atoms are so nearly dependent that it does not tell them
    apart are coded without it, on orthonormal bases of their atoms.

    References
    ----------
    .. [1] Y. C. Pati, R. Rezaiifar and P. S. Krishnaprasad, "Orthogonal matching pursuit",
       Asilomar Conference, 1993.
    .. [2] A. M. Bruckstein, M. Elad and M. Zibulevsky, "On the uniqueness of nonnegative
       sparse solutions to underdetermined systems of equations", IEEE Trans. Information
       Theory, 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mpsae.coding import orthogonal_matching_pursuit
    >>> orthogonal_matching_pursuit([[3.0, -1.0]], np.eye(2), 2).dense()
    array([[ 3., -1.]])
    """
    options = {"tol": tol, "atol": atol, "threshold": threshold, "positive": positive}
    return _encode("omp", X, dictionary, n_nonzero_coefs, device, **options)


@shared_docs
def orthogonal_least_squares(
    X: ArrayLike | sparray | spmatrix,
    dictionary: ArrayLike,
    n_nonzero_coefs: int | None = None,
    *,
    tol: float = 0.0,
    atol: float = 0.0,
    threshold: float = 0.0,
    positive: bool = False,
    device: str = "auto",
) -> Codes:
    """Orthogonal least squares codes of the rows of X.

    As `orthogonal_matching_pursuit`, but each step takes the atom that leaves the least
    error after the refit of all values [1]_, [2]_, not the one that correlates best with
    what is left. An atom that is nearly in the span of the chosen ones then counts by what
    it adds to them. SPAMS calls this ``omp``.

    Parameters
    ----------
    {rows_and_atoms}
    {n_orthogonal}
    {tolerances}
    threshold : float, default=0.0
        A row stops before an atom whose correlation with what is left is no larger (in
        magnitude, unless `positive`); at least 0. Only the atom that would be taken is
        compared: another one may correlate better, and lower the error less.
    positive : bool, default=False
        Whether values must not be negative. Each step then chooses among the atoms of
        positive correlation, by a refit of either sign; the values are refitted by
        non-negative least squares, and atoms that these set to zero leave the support.
    {codes_of_a_pursuit}

    See Also
    --------
    orthogonal_matching_pursuit : Takes the atoms that correlate best; somewhat faster.

    Notes
    -----
    With c the correlations of all atoms with what is left, and m the part of each atom's
    energy outside the span of the chosen ones, the squared error falls by ``c**2 / m``.
    Both are updated with each atom, so that no refit is tried out. An atom is passed over
    if its m is at most ``sqrt(eps)``, when it counts as in the span, or if its correlation is
    no more than ``4 * eps * (|x| + sum of |values|)``, which may be rounding. Once no other
    atom is left to take, an m of more than ``64 * eps`` is enough, and a correlation of more
    than ``4 * eps * (|x| + sum of |b|)`` with b the products of x and the row's basis; with
    `positive` on a GPU it is not. Where two atoms are as good to within ``sqrt(eps) / m``, the
    one with the larger m is taken, whose value is known better. Each step is else the best one;
    after several the error may still be above that of `orthogonal_matching_pursuit`, though
    on average it is below.

    In d dimensions any d-th atom leaves nothing, and rounding decides which it is: for exact
    codes with as many atoms as features take another pursuit.

    References
    ----------
    .. [1] S. Chen, S. A. Billings and W. Luo, "Orthogonal least squares methods and their
       application to non-linear system identification", International Journal of Control,
       1989.
    .. [2] L. Rebollo-Neira and D. Lowe, "Optimized orthogonal matching pursuit approach",
       IEEE Signal Processing Letters, 2002.

    Examples
    --------
    The second atom is the one that makes the row exact. The third correlates better with
    what the first leaves:

    >>> import numpy as np
    >>> from sklearn_mpsae.coding import orthogonal_least_squares
    >>> W = np.array([[1.0, 0, 0], [0.8, 0.6, 0], [0, 0.8, 0.6]])
    >>> orthogonal_least_squares([[3.0, 0.9, 0.0]], W, 2).dense().round(3)
    array([[1.8, 1.5, 0. ]])
    """
    options = {"tol": tol, "atol": atol, "threshold": threshold, "positive": positive}
    return _encode("ols", X, dictionary, n_nonzero_coefs, device, **options)


def _rows(X, name, dtype=None):
    """X as array of finite rows, whatever library it is of; by default in its own dtype."""
    with config_context(array_api_dispatch=False):
        X = tabled(X, name)
        dtype = float_dtypes(X) if dtype is None else dtype
        X = check_array(X, accept_sparse="csr", dtype=dtype, input_name=name)
    return X.toarray() if issparse(X) else X


def _check_options(algorithm, options):
    """Refuse options that are out of their range, or leave the codes without a limit."""
    for name in ("tol", "atol"):
        if np.ndim(options[name]):
            raise ValueError(
                f"{name} must be one number for all rows. For a tolerance per row, in squared "
                "units of X, divide each row by the square root of its own, pass atol=1, and "
                "multiply the row's codes by that root."
            )
    validate_parameter_constraints(_CONSTRAINTS, options, caller_name=_NAMES[algorithm])
    if options["n_nonzero_coefs"] is None and not (options["tol"] or options["atol"]):
        raise ValueError("Nothing limits the codes of a row: set n_nonzero_coefs, tol or atol.")


def _encode(algorithm, X, dictionary, k, device, **options):
    _check_options(algorithm, {"n_nonzero_coefs": k, "device": device, **options})
    X = _rows(X, "X")
    W = _rows(dictionary, "dictionary", X.dtype)
    if W.shape[1] != X.shape[1]:
        raise ValueError(
            f"dictionary has {W.shape[1]} features, X has {X.shape[1]}: atoms are rows of "
            "the dictionary and must have as many entries as the rows of X."
        )
    check_unit(W)
    check_magnitude(X)
    k = X.shape[1] if k is None else k
    with open_kernels(device, X.dtype) as kernels:
        k = k if algorithm == "mp" else min(k, len(W))
        arrays = map(kernels.asarray, (X, W))
        codes = pursue(kernels, *arrays, k, algorithm=algorithm, **options)
        indices, values = map(kernels.to_numpy, codes)
    return found_codes(indices, values, len(W))
