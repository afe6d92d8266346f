"""How many codes of a row are asked for."""

from __future__ import annotations

from .._warn import warn

# The largest default of n_nonzero_coefs, reached at 640 features.
_MOST_BY_DEFAULT = 64


def default_sparsity(n_features: int) -> int:
    """The number of codes where none is given: a tenth of the features, from 1 to 64.

    Longer codes are hard to read, and the time of a pursuit grows in proportion to them: at
    4,096 features a tenth would be 409.
    """
    return min(max(1, n_features // 10), _MOST_BY_DEFAULT)


def at_most_all(
    k: float, n_atoms: int, name: str = "n_nonzero_coefs", *, warned: bool = False
) -> float:
    """A number of codes, at most that of the atoms; an int where it is whole, whatever k is.

    warned : whether the user has been told already
    """
    if k > n_atoms:
        if not warned:
            warn(
                f"{name}={k} is more than the {n_atoms} components there are: {n_atoms} is "
                "used.",
                UserWarning,
            )
        return n_atoms
    return int(k) if k == int(k) else float(k)
