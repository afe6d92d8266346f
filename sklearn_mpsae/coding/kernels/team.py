"""Threads for the CPU kernels."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from threadpoolctl import ThreadpoolController

from ..._compat import n_threads

# Below so many scalar operations, waking a thread costs more than it saves.
_GRAIN = 400_000


class Team:
    """As many threads as scikit-learn would use, each with a single-threaded BLAS.

    A multi-threaded BLAS call leaves its own threads spinning for some milliseconds, on
    the very cores the loops after it need. So, as in scikit-learn's KMeans, each thread
    here multiplies its own rows with a BLAS limited to one thread, and that limit is
    lifted again at the end. How the work is cut does not depend on the number of threads,
    and neither do results, to the last bit. The threads are plain Python threads that live
    as long as the context: nothing to break after a fork or under another thread pool.
    """

    def __enter__(self) -> Team:
        self.size = n_threads()
        _one_blas_thread.acquire()
        if self.size > 1:
            self._pool = ThreadPoolExecutor(self.size)
        return self

    def __exit__(self, *exc_info) -> None:
        try:
            if self.size > 1:
                self._pool.shutdown()
        finally:
            _one_blas_thread.release()

    def run(self, work, n: int, cost: float, *, chunk: int | None = None) -> None:
        """Run work(start, stop) over range(n), `chunk` items at a time.

        cost : scalar operations per item, to see whether threads pay
        chunk : None for an equal share per thread, where that cannot change results
        """
        threads = max(1, min(self.size, n, int(n * cost) // _GRAIN))
        chunk = chunk or -(-n // threads)
        starts = range(0, n, chunk)
        stops = [min(start + chunk, n) for start in starts]
        map_ = map if threads == 1 else self._pool.map
        deque(map_(work, starts, stops), maxlen=0)


class _BlasLimit:
    """Limits the BLAS to one thread while a team exists; the last team lifts the limit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0

    def acquire(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._limit = _blas().limit(limits=1)
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                self._limit.restore_original_limits()


_one_blas_thread = _BlasLimit()


@cache
def _blas() -> ThreadpoolController:
    """The BLAS libraries loaded by NumPy and SciPy; looking for them takes milliseconds."""
    return ThreadpoolController().select(user_api="blas")
