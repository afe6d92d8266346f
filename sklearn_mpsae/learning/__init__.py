"""The outer problem: a dictionary for given data. Knows coding, no estimator."""
