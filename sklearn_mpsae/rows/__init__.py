"""Rows as an estimator goes through them, whatever a user passes as X.

protocol
    `Rows`: what is asked of rows, and in which order.
open
    The one place where X becomes `Rows`.
array, npy, stream
    Rows of arrays and sparse matrices, of .npy files, of batches.
batches
    What a stream gives, as arrays of rows.
sizes
    How many rows are read, and shuffled, together.
"""
