"""The contract of the kernels: what every verb takes and gives, whatever the device.

n is the number of rows, p of atoms, d of features, k of slots for codes. Arrays are of the
kernels' kind (NumPy, or torch on one device), and those without a dtype in their description
have the dtype of the data, float32 or float64. Codes are a pair of arrays (indices, values)
of shape (n, k), indices int32 or int64; a slot that is not used holds index 0 and value 0.

A *buffer* is an answer that is valid until the next call of the same verb, which may
overwrite it. All other answers belong to the caller.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, Self

import numpy as np

Codes = tuple[Any, Any]


class Kernels(Protocol):
    """The verbs of the engine. A context manager, as kernels may own threads."""

    device: Any
    """ "cpu" for the kernels on NumPy arrays, else a torch.device."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info) -> None: ...

    def has_bfloat16(self) -> bool:
        """Whether products in bfloat16 are known to take far less time here."""

    # ----------------------------------------------------------------- arrays
    def asarray(self, x) -> Any:
        """A NumPy array, or an array of the kernels' kind, as one that the verbs take.

        C-contiguous, in the dtype of `x`. It may share the memory of `x`.
        """

    def to_numpy(self, x) -> np.ndarray:
        """An array of the kernels' kind in NumPy; it may share the memory of `x`."""

    def exp(self, x) -> Any:
        """The exponential of each entry."""

    def product(self, X, W) -> Any:
        """X @ W.T, shape (n, p)."""

    def energies(self, X) -> np.ndarray:
        """Squared norms of the rows of X: NumPy, (n,), float64."""

    def count(self, indices, values, n_components: int) -> np.ndarray:
        """How many slots use each atom: NumPy, (p,). A repeated atom counts each time."""

    # --------------------------------------------------------- choosing atoms
    def gram(self, W) -> Any:
        """W @ W.T, shape (p, p). A buffer."""

    def matching_pursuit(
        self, X, W, G, k, *, tol, threshold, positive, atol=0.0, once=False
    ) -> Codes:
        """Matching pursuit with k steps, for every row of X.

        Parameters
        ----------
        X : (n, d) rows
        W : (p, d) atoms; of any norm: the value of a step is <w, r>
        G : (p, p) Gram matrix, or None to work on residuals instead of correlations
        k : steps
        tol : a row stops once its squared residual is at most tol times its energy
        threshold : a row stops before an atom whose correlation is no larger
        atol : a row stops once its squared residual is at most so much, by the residual
            itself: updated correlations would not tell a small one
        once : a row stops after an atom that it had already
        positive : choose the largest correlation, else the largest in magnitude

        Returns
        -------
        indices, values : codes, in the order in which atoms were chosen
        """

    def blocked_pursuit(
        self, X, W, k, *, tol, threshold, positive, atol=0.0, once=False
    ) -> Codes:
        """`matching_pursuit` by rows of the Gram matrix, each once an atom is first chosen.

        For dictionaries whose Gram matrix would not fit. Many rows of X advance together,
        each until it takes an atom whose row is missing; then the missing rows are
        multiplied at once. They are kept until their memory is full.
        """

    def coarse_pursuit(
        self, X, W, k, *, tol, threshold, positive, atol=0.0, once=False
    ) -> Codes:
        """`matching_pursuit` that chooses atoms by correlations in bfloat16.

        Values are exact, in X's dtype, along the atoms chosen. A row stops where what is
        left of it is below what bfloat16 can tell. On the CPU, atoms whose correlations
        bfloat16 cannot tell apart are told apart by their exact ones, up to 16 of them.
        """

    def orthogonal_pursuit(
        self, X, W, G, k, *, tol, threshold, positive, atol=0.0, by_refit=False
    ) -> Codes:
        """Orthogonal matching pursuit; as `matching_pursuit`, with unit-norm atoms.

        Energies are known to rounding errors of the row's, for `atol` too. Atoms and codes
        are the same, to rounding, with and without a Gram matrix. Where an atom has no more
        than ``sqrt(eps)`` of its energy outside the span of a row's earlier ones, G does not
        tell how it goes on, and the row is coded without it (torch: unless `positive`).

        by_refit : choose the atom whose refit leaves the least error (orthogonal least
            squares), with `positive` among those of positive correlation, the refit being
            one without signs; atoms in the span of the chosen ones, and those whose
            correlation may be a rounding error, are passed over. Else the atom that
            correlates best; a row ends with one in the span. `threshold` is compared with
            the correlation of the atom chosen.
        """

    def top_k(self, X, W, bias, k, *, positive) -> Codes:
        """The k largest entries (in magnitude unless `positive`) of each row of X @ W.T + bias.

        Sorted from the largest down; with `positive`, only those above zero. bias : (p,).
        """

    def above(self, X, W, bias, floor) -> Codes:
        """The entries of each row of X @ W.T + bias above their atom's floor, (p,), and 0.

        In no order, in as many slots as the row with the most entries has, but at least 1.
        """

    def above_in_parts(self, X, W, bias, floor) -> Iterator[Codes]:
        """`above`, yielded for some rows after the others.

        A row with many entries makes those of its part wide, not those of all rows.
        """

    def batch_top_k(self, X, W, bias, n_codes, level=0.0) -> tuple[Any, Any, float, float, int]:
        """The `n_codes` largest entries above zero of the whole of X @ W.T + bias.

        Entries that equal the smallest of these are among them.

        Returns
        -------
        indices, values : as from `above`
        smallest, next_one : float
            The smallest of these entries, and the largest of the others above zero; 0 where
            there is none.
        n_above : int
            How many of all entries are above `level`.
        """

    def by_value(self, indices, values) -> Codes:
        """The slots of each row from the largest value down."""

    # ---------------------------------------------------------- valuing atoms
    def decode(self, indices, values, W) -> Any:
        """Sum over t of values[:, t] * W[indices[:, t]], shape (n, d)."""

    def gather_dot(self, R, W, indices) -> Any:
        """<R[r], W[indices[r, t]]> for every slot, shape (n, k)."""

    def scatter_outer(self, indices, values, R, n_components) -> Any:
        """Sum over rows r and slots t of values[r, t] * R[r] in row indices[r, t]: (p, d)."""

    def pursuit_gradient(self, X, W, indices, values, path_weight=0.0) -> tuple[Any, Any, Any]:
        """Residuals of the unrolled pursuit, and the gradients of its loss.

        The loss of a row with m codes is half of (1 - path_weight) times the energy of its
        last residual, and path_weight times the mean energy of its residuals after 1 to m
        codes. With r the last one, start from lam = (1 - path_weight + path_weight / m) r and
        go back over the codes, t = m .. 1, w = W[i_t], v = v_t::

            a = <lam, w>;  r += v w;  dW[i_t] -= a r + v lam;  lam -= a w
            if t > 1:  lam += path_weight / m r

        This is the exact derivative through every step, for atoms of any norm, and it
        needs nothing of the forward pass but the codes. At the end lam is the derivative by
        the row. Sums over rows are taken in one order, whatever the number of threads.

        Returns
        -------
        R : (n, d) residuals. A buffer.
        gradient : (p, d). A buffer.
        by_rows : (d,) the sum of the derivatives by the rows
        """

    # --------------------------------------------------------------- stepping
    def adam_step(self, W, gradient, mean, square, rates, *, sphere, max_norm=np.inf) -> None:
        """One step of Adam on W, `mean` and `square`, in place, one step size per row.

        Adam (Kingma and Ba 2015) divides each coordinate by the root of its own second
        moment; here all coordinates of an atom share one, as a Riemannian method must
        (Becigneul and Ganea 2019), so that rotating data and atoms rotates the step. A
        row moves by at most about the step size, whatever its length and the data's scale.

        Parameters
        ----------
        W, gradient, mean : (p, d)
        square : (p,)
        rates : step size, beta1, beta2, bias correction of the mean and of the square
        sphere : rows are points of the unit sphere; their gradient is projected on its
            tangent before the step, and they are normalised after it
        max_norm : longer rows are scaled back to this norm
        """
