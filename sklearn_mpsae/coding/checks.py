"""What is asked of rows and of numbers before any work."""

from __future__ import annotations

from numbers import Integral

import numpy as np

# Sums of squares of larger numbers may not be finite.
_LARGEST = 1e150
# Sums of squares below this have lost digits, or all of them.
_LEAST_ENERGY = np.finfo(np.float64).tiny / np.finfo(np.float64).eps


def is_integer(value) -> bool:
    """Whether a value is an integer; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_count(value, name: str, largest: int | None = None) -> None:
    """Refuse what is no integer from 1 to `largest`."""
    if not is_integer(value) or value < 1 or (largest and value > largest):
        upper = "" if largest is None else f" and at most {largest}"
        raise ValueError(f"{name} must be an integer of at least 1{upper}, got {value!r}.")


def as_whole(value):
    """A float that is whole as an int, as np.linspace gives them; else the value itself."""
    return int(value) if isinstance(value, float | np.floating) and value % 1 == 0 else value


def checked_counts(values, name: str, largest: int | None = None) -> np.ndarray:
    """A number, or a list of numbers, as integers from 1 to `largest`; a ValueError else."""
    array = np.asarray(values, dtype=object)
    numbers = [as_whole(each) for each in array.ravel()]
    whole = all(map(is_integer, numbers))
    fit = numbers and whole and min(numbers) >= 1 and (not largest or max(numbers) <= largest)
    if array.ndim > 1 or not fit:
        upper = "" if largest is None else f" to {largest}"
        raise ValueError(
            f"{name} must be whole numbers from 1{upper}, at least one of them; got {values!r}."
        )
    most = np.iinfo(np.int64).max
    return np.array([min(int(n), most) for n in numbers], dtype=np.int64)


def check_unmasked(X) -> None:
    """Refuse missing values that would be taken for the numbers under their mask."""
    if np.ma.is_masked(X):
        raise ValueError(
            "X has masked values, and missing values are not supported: fill them "
            "(sklearn.impute; for images see 'Missing pixels' in the guide, under SPAMS), or "
            "drop their rows."
        )


def check_magnitude(X: np.ndarray, name: str = "X") -> None:
    """Refuse rows whose energy would overflow, which would look like rows without codes.

    X : finite rows
    """
    if X.size and X.dtype == np.float64 and max(X.max(), -X.min()) > _LARGEST:
        raise ValueError(
            f"{name} has values beyond {_LARGEST:g}, whose squares overflow: divide it by "
            "its largest value, say. Codes scale with the rows."
        )


def check_energy(energy: float) -> None:
    """Refuse rows that vary by more, or less, than float64 tells.

    energy : sum of squared distances, from the mean or any row
    """
    if not _LEAST_ENERGY <= energy < np.inf:
        raise ValueError(
            f"The variance of X is too {'small' if energy < 1 else 'large'} for float64: "
            "divide X by its largest value, say."
        )
