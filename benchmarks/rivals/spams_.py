"""SPAMS: online dictionary learning and orthogonal matching pursuit in C++."""

import numpy as np
import spams
from harness import THREADS, Learned, random_atoms

NAME = "SPAMS"
PACKAGE = "spams-bin"


def columns(X):
    """Samples as columns, as SPAMS wants them; a copy, since it misreads transposed views."""
    return np.array(X.T, order="F")


def encode(X, W, k):
    """Orthogonal matching pursuit, order-recursive; codes of either sign."""
    X, D = columns(X), columns(W)
    # Left to its default, eps is read uninitialised: now and then all codes are zero.
    return lambda: spams.omp(X, D, L=k, eps=0.0, numThreads=THREADS).T


def learn(X, n_components, k, seed, *, iterations=960, batch_size=512):
    """TrainDL in mode 3: at most k atoms a row, found by orthogonal matching pursuit."""
    D = spams.trainDL(
        columns(X),
        D=columns(random_atoms(X, n_components, seed)),
        mode=3,
        lambda1=k,
        iter=iterations,
        batchsize=batch_size,
        numThreads=THREADS,
        verbose=False,
    )
    components = np.ascontiguousarray(D.T)
    return Learned(components, lambda X: encode(X, components, k)())


ENCODERS = {"OMP": encode}
LEARNERS = {"trainDL": learn}
