"""Text that several docstrings share, written once."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")

_SHARED = {
    "n_components": """n_components : int, default=None
        The number of atoms. None for that of `dict_init`, or the number of features.""",
    "n_nonzero_coefs": """n_nonzero_coefs : int, default=None
        The largest number of non-zero codes of a row. None for a tenth of the features, but
        at least 1 and at most 64: longer codes are hard to read, and take more time. A number
        larger than that of the atoms is reduced to it, with a warning.""",
    "average_n_nonzero_coefs": """n_nonzero_coefs : float, default=None
        The average number of non-zero codes of the rows of `fit`. Held-out rows may have
        another average, on small data 10 to 20% more; `transform` and `score` warn where it is
        surely off by more than a tenth. None for a tenth of the features, but at least 1 and
        at most 64: longer codes are hard to read, and take more time. A number larger than
        that of the atoms is reduced to it, with a warning.""",
    "transform_n_nonzero_coefs": """transform_n_nonzero_coefs : int, default=None
        The largest number of non-zero codes of a row in `transform`. It can be set after
        `fit`. None for `n_nonzero_coefs`.""",
    "training": """intercept : {"learn", "mean", "zero"}, default="learn"
        What is subtracted from rows before encoding, and added to reconstructions.
        "learn": a vector that is trained with the atoms and starts at the mean of the training
        rows, as in the papers. If the data are sums of features with non-negative codes, it
        goes towards zero. "mean": the mean of the training rows. "zero": nothing.
    max_iter : int, default=None
        The number of epochs (passes over the data). None for as many as give about 1,000
        training steps.
    batch_size : int or "auto", default="auto"
        The largest number of rows of a training step. "auto": 512 up to 1,024 atoms, and half
        as many rows as atoms beyond, as a part of the cost of a step grows with the square of
        the number of atoms; but at most 8,192. In `fit` also no more than leave 250 training
        steps, or with ``max_iter=None`` 64 for each epoch, yet no fewer than 512. What was
        taken is `batch_size_`.
    learning_rate : float, default=0.3
        About the angle, in radians, by which an atom turns in a step on which all its
        gradients agree, at the start of training. It depends neither on the scale of the
        data nor on their number of features.
    dict_init : array-like of shape (n_components, n_features), default=None
        The first atoms; they are scaled to unit norm. None for random ones. At the default
        `learning_rate` a fit leaves little of them: to refine a given dictionary, set 0.03
        or 0.01.""",
    "dead": """dead_atoms : {"auxiliary", "revive", "keep"}, default="auxiliary"
        What to do with atoms that no row uses any more. "auxiliary": a second loss trains the
        dead atoms to reconstruct the residual (Gao et al., arXiv:2406.04093). "revive":
        replace each by the residual of a badly reconstructed row. "keep": nothing.
    dead_after : int, default=30
        The number of steps without use after which an atom is dead.""",
    "encoder_attributes": """encoder_components_ : ndarray of shape (n_components, n_features)
        The encoder's weights.
    encoder_intercept_ : ndarray of shape (n_components,)
        The encoder's bias. Its outputs are
        ``(X - intercept_) @ encoder_components_.T + encoder_intercept_``.""",
    "infrastructure": """sparse_output : bool, default=False
        Whether `transform` gives CSR instead of dense codes.
    device : str, default="auto"
        Where to compute: "cpu", "cuda", "mps" or any device of torch. "auto" takes a CUDA
        device or an Apple GPU if there is one and torch is installed (Apple's for float32
        only), else the CPU, without importing torch. All devices but "cpu" need torch:
        ``pip install 'sklearn_mpsae[torch]'``.
    warm_start : bool, default=False
        Whether `fit` starts from the last fit's solution, and only refines it.
    checkpoint : path-like, default=None
        A file that keeps the state of a running `fit`. After an interruption, the same call
        of `fit` resumes from this file, with the same result (bit for bit on a CPU). With the
        file of a finished fit, `fit` returns its result at once; delete the file to fit anew.
        The file of another fit (other parameters, start, rows, order of rows, or version)
        raises an error. So each fit needs its own file: set None in a search or
        cross-validation. `partial_fit` writes no file.
    checkpoint_every : float, default=60.0
        The seconds of training between two writes of `checkpoint`.
    distributed : bool, default=False
        Whether several processes learn one dictionary, each from its own rows: all call
        `fit` (or `partial_fit`) and end with the same estimator. Start them with torchrun, or
        with another launcher that sets the same environment variables. `batch_size` counts
        the rows of all processes. Needs torch.
    verbose : int, default=0
        Whether to show progress on stderr: a bar of the rows that are read before the
        training, a bar of the training with the epoch, the loss and the number of codes of
        the current step, and at the end of `fit` a line with the result. `partial_fit` shows
        a bar if a call takes more than a second.
    random_state : int, RandomState instance or None, default=None
        Determines the first atoms, the order of rows and the rows that replace dead atoms.
        Pass an int for reproducible results.""",
    "attributes": """components_ : ndarray of shape (n_components, n_features)
        The dictionary: atoms of unit norm. After a `fit` to a tensor under scikit-learn's
        ``array_api_dispatch``, arrays among these attributes are tensors on its device, but
        NumPy again in a copy or a pickle. To code with them by hand, or in other software,
        see "Coding with the atoms of an estimator" in :doc:`/guide/coders`.
    intercept_ : ndarray of shape (n_features,)
        What is subtracted from rows before encoding, and added to reconstructions.
    n_iter_ : int
        The number of epochs of the last `fit`.
    n_steps_ : int
        The number of training steps, those of `partial_fit` included.
    batch_size_ : int
        The largest number of rows of a training step, of the last call of `fit` or
        `partial_fit`. An imported estimator has none.
    n_samples_seen_ : int
        The number of training rows: those of the last `fit`, plus those of all calls of
        `partial_fit` since. `fit` counts a row once, however many epochs there are;
        `partial_fit` counts it each time that it is passed.
    loss_curve_ : ndarray of shape (`n_iter_`,)
        For each epoch of the last `fit`, the mean unexplained share of the rows' energy
        (around their mean, or zero with ``intercept="zero"``) at its training steps; with
        `whitening` in the metric.
    atom_usage_ : ndarray of shape (n_components,), int
        How many rows used each atom, in the last epoch of `fit` and in all calls of
        `partial_fit` since. A row that selects an atom twice counts twice. Atoms with 0 are
        dead.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, where X has names that are all strings.""",
    "rows_and_atoms": """X : array-like or CSR of shape (n_samples, n_features)
        Rows to encode: an array, a data frame, a tensor; a sparse matrix is made dense.
        float32, float16 and bfloat16 are computed in float32, all else in float64.
    dictionary : array-like of shape (n_components, n_features)
        Atoms, one per row, of unit norm.""",
    "tolerances": """tol : float, default=0.0
        A row stops once its squared residual is at most `tol` times its squared norm; from
        0 to below 1.
    atol : float, default=0.0
        A row takes no further atom once its squared residual is at most `atol`, in squared
        units of X, as SPAMS's `eps` and scikit-learn's `tol`; at least 0. A row whose own
        squared norm is at most `atol` has no codes, as in SPAMS (in scikit-learn it has
        one).""",
    "n_orthogonal": """n_nonzero_coefs : int, default=None
        The number of atoms of a row, at least 1. It is reduced to the number of atoms there
        are. None for the number of features, where `tol` or `atol` is set.""",
    "codes_of_a_pursuit": """device : str, default="auto"
        Where to compute.

    Returns
    -------
    codes : Codes
        Atoms in the order in which they were selected, and their values. All rows have as
        many slots as the row with the most codes needs, at least one.

    Raises
    ------
    ValueError
        If shapes do not match, values are not finite, atoms are not of unit norm, or a
        parameter is out of its range.""",
}


def shared_docs(documented: T) -> T:
    """Fill the {placeholders} of a docstring of a class or function with the shared text."""
    documented.__doc__ = (documented.__doc__ or "").format(**_SHARED)
    return documented
