"""What a training shows on stderr while it runs: rows read, rows learnt from, and the loss."""

from __future__ import annotations

import sys
import time
from typing import Self

import numpy as np

from .state import Learnt


class Progress:
    """Bars that count rows, and a line at the end.

    While rows are read before the first step, of a stream or a file, a bar counts these.
    Then another counts the rows that were learnt from, in all epochs.

    Parameters
    ----------
    title : str, default=""
        What the bars begin with.
    shown : bool, default=False
        Whether anything is shown.
    delay : float, default=0.0
        The seconds that pass before a bar appears.
    """

    def __init__(self, title: str = "", *, shown: bool = False, delay: float = 0.0) -> None:
        self._title, self._shown, self._delay = title, shown, delay
        self._bar, self._n_read, self._learns = None, 0, False
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error) -> None:
        self._close()

    def read(self, n_rows: int) -> None:
        """So many more rows have been read; they are counted until the first step."""
        if not self._shown or self._learns:
            return
        self._n_read += n_rows
        if self._bar is None:
            self._open("reading rows")
        if self._bar.total is None:
            self._bar.update(n_rows)
        else:
            self._bar.set_postfix_str(f"{self._n_read:,} rows read", refresh=False)
            self._bar.update(0)

    def begin(self, n_rows: int, n_before: int = 0, sizes: str = "") -> None:
        """The training of so many rows, those of all epochs, begins with the next step.

        n_before : how many of them were learnt from before an interruption
        sizes : what to say of the steps, if anything
        """
        if self._shown:
            self._close()
            if sizes:
                print(f"{self._title}: {sizes}.", file=sys.stderr)
            self._n_read = 0
            self._open("training", n_rows, n_before)

    def step(self, epoch: str, n_rows: int, loss: float, k: float) -> None:
        """A step is done.

        Parameters
        ----------
        epoch : str
            Where the training is, as "epoch 1/20".
        n_rows : int
            The rows learnt from until now.
        loss : float
            The mean loss of the epoch until now.
        k : float
            The number of codes that the step planned for a row.
        """
        self._learns = True
        if self._shown:
            self._bar.set_description_str(f"{self._title}, {epoch}", refresh=False)
            self._bar.set_postfix_str(f"loss={loss:.4f}, k={k:g}", refresh=False)
            self._bar.update(n_rows - self._bar.n)

    def end(self, learnt: Learnt) -> None:
        """Say in a line what a fit has learnt, from what is known without coding any row."""
        if not self._shown:
            return
        self._close()
        fitted, seconds = learnt.attributes, time.monotonic() - self._started
        usage = fitted["atom_usage_"]
        l0, dead = usage.sum() / fitted["n_samples_seen_"], np.count_nonzero(usage == 0)
        print(
            f"{self._title}: on average over epoch {fitted['n_iter_']}, {l0:.3g} codes a row "
            f"left {fitted['loss_curve_'][-1]:.2%} of the energy unexplained; {dead} of "
            f"{len(usage)} atoms are dead; {seconds:.1f} s.",
            file=sys.stderr,
        )

    def _open(self, doing, total=None, done=0):
        from tqdm import tqdm

        self._bar = tqdm(
            desc=f"{self._title}, {doing}",
            total=total,
            initial=done,
            unit=" rows",
            unit_scale=True,
            miniters=0,  # steps may be of any length
            delay=self._delay,
        )

    def _close(self):
        if self._bar is not None:
            self._bar.close()
            self._bar = None
