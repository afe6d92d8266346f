"""Matching pursuit as it is written down: all correlations anew at every step."""

import torch

NAME = "plain"
PACKAGE = "torch"


def encode(X, W, k, *, positive=True):
    """K times: correlate, take the largest, subtract."""
    X, W = torch.from_numpy(X), torch.from_numpy(W)

    def run():
        residual, indices, values = X.clone(), [], []
        for _ in range(k):
            correlations = residual @ W.T
            size = correlations if positive else correlations.abs()
            index = size.argmax(dim=1, keepdim=True)
            value = correlations.gather(1, index)
            if positive:
                value = value.relu()
            residual -= value * W[index[:, 0]]
            indices.append(index)
            values.append(value)
        return torch.cat(indices, dim=1), torch.cat(values, dim=1)

    return run


ENCODERS = {"MP": encode}
