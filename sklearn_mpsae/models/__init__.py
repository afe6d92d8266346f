"""What an encoder is: plain values that know neither scikit-learn nor the training loop.

base
    `Model`: what a training asks of an encoder. `StepContext`, `BatchResult`.
coder
    What `transform` does with a row, as data: `PursuitCoder`, `ShallowCoder`.
pursuit, shallow
    The models of the package's estimators.
steering
    Thresholds and penalties that keep the average number of codes at its target.
coded
    Rows coded on the kernels, and the errors of their reconstructions.
"""
