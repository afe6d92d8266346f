"""The training recipe: what each step of a fit does, by how far the fit has come.

A dictionary has to *recover* the atoms that made the data and to *reconstruct* it. The
two ask for different things early and late, so training has two phases (figures in
benchmarks/results/bench_recipe.md):

explore, the first 70% of the steps
    The pursuit takes more steps than asked for, falling linearly to what was asked:
    with exactly the true number from the start, parents absorb their children and stay
    so. Norms of atoms are free up to a cap: a short atom takes part of a feature and
    leaves the rest to others, so atoms can trade places.
refine, the rest
    Atoms live on the unit sphere, their gradient projected on its tangent.

The rate falls along a cosine. It is an angle: `learning_rate` is about how far, in
radians, an atom turns in a step on which all gradients agree, whatever the scale of the
data and the number of features.
"""

from __future__ import annotations

from math import cos, inf, pi

from ..models.base import Plan

EXPLORE = 0.7

# Longer than sqrt(2), an atom's step would raise the error it is meant to lower.
_FREE_NORM = 1.2

# Dead atoms are replaced until here; those replaced last still have time to learn.
_REVIVE_UNTIL = 0.9

# A stream has no end to anneal to: it explores for so many steps, and its rate falls with
# the root of their number, to a half after the first 150.
_STREAM_EXPLORE = 200
_STREAM_DECAY = 50


def fit_plan(progress: float, k: int, n_components: int, *, free_norms: bool) -> Plan:
    """The plan at `progress` (0 to 1) of a fit to k non-zero codes.

    free_norms : whether norms are free while exploring
    """
    explore = max(0.0, 1 - progress / EXPLORE)
    free = free_norms and progress < EXPLORE
    return Plan(
        rate=(1 + cos(pi * progress)) / 2,
        n_nonzero_coefs=k + round(_slack(k, n_components) * explore),
        asked=k,
        sphere=not free,
        max_norm=_FREE_NORM if free else inf,
        refine=progress >= EXPLORE,
        revive=progress < _REVIVE_UNTIL,
    )


def stream_plan(n_steps: int, k: int, n_components: int, *, explored: bool = False) -> Plan:
    """The plan of a step of `partial_fit` after `n_steps` others.

    explored : whether a `fit` has been through its exploration before
    """
    explore = 0.0 if explored else max(0.0, 1 - n_steps / _STREAM_EXPLORE)
    return Plan(
        rate=(1 + n_steps / _STREAM_DECAY) ** -0.5,
        n_nonzero_coefs=k + round(_slack(k, n_components) * explore),
        asked=k,
        sphere=True,
        max_norm=inf,
        refine=explore == 0,
        revive=True,
    )


def _slack(k, n_components):
    """Extra codes to start from: 3 k in all, but not more than 10 beyond k."""
    return min(2 * k, 10, n_components - k)
