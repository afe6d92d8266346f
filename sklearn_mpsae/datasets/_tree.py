"""Trees of features: which of them fire in a row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Tree(NamedTuple):
    """Features as arrays, one entry for each of them."""

    # The index of its parent, -1 for none.
    parents: np.ndarray
    # That it fires where its parent does.
    probabilities: np.ndarray
    # Whether it excludes those of its siblings that exclude others too.
    exclusive: np.ndarray

    def levels(self):
        """The number of ancestors of each feature; -1 where they form a cycle."""
        levels = np.full(len(self.parents), -1)
        reached = np.flatnonzero(self.parents == -1)
        level = 0
        while len(reached):
            levels[reached] = level
            level += 1
            reached = np.flatnonzero(np.isin(self.parents, reached))
        return levels

    def siblings(self):
        """Arrays of the features that have the same parent, or none."""
        return [np.flatnonzero(self.parents == p) for p in np.unique(self.parents)]

    def groups_of_one_draw(self):
        """Lists of features that one draw decides on, those of parents before children's."""
        groups = {}
        for feature in np.argsort(self.levels(), kind="stable"):
            own = -1 if self.exclusive[feature] else feature
            groups.setdefault((self.parents[feature], own), []).append(feature)
        return list(groups.values())

    def marginals(self):
        """The probability that each feature fires at all."""
        marginals = self.probabilities.copy()
        for feature in np.argsort(self.levels(), kind="stable"):
            if self.parents[feature] >= 0:
                marginals[feature] *= marginals[self.parents[feature]]
        return marginals


def checked_tree(tree):
    """A user's description as `Tree`.

    Raises
    ------
    ValueError
        If it describes none.
    """
    if not {"parents", "probabilities"} <= set(tree) <= set(Tree._fields):
        raise ValueError(
            "tree must have the keys 'parents' and 'probabilities', and may have "
            f"'exclusive'; got {sorted(map(str, tree))}."
        )
    tree = Tree(
        np.array(tree["parents"]),
        np.asarray(tree["probabilities"], dtype=np.float64),
        np.asarray(tree.get("exclusive", False)),
    )
    n = tree.parents.size
    if tree.parents.shape != (n,) or n == 0 or tree.parents.dtype.kind not in "iu":
        raise ValueError("tree['parents'] must be a list of one index for each feature.")
    if tree.parents.min() < -1 or tree.parents.max() >= n:
        raise ValueError(
            f"tree['parents'] must be indices of the {n} features, or -1 for no parent."
        )
    if tree.probabilities.shape != (n,) or not (np.abs(tree.probabilities - 0.5) <= 0.5).all():
        raise ValueError(
            f"tree['probabilities'] must be {n} numbers from 0 to 1, one for each of 'parents'."
        )
    if tree.exclusive.shape not in {(), (n,)} or tree.exclusive.dtype != bool:
        raise ValueError(f"tree['exclusive'] must be a bool, or {n} of them.")
    tree = tree._replace(exclusive=np.broadcast_to(tree.exclusive, n))
    cyclic = np.flatnonzero(tree.levels() < 0)
    if len(cyclic):
        raise ValueError(
            f"tree['parents'] is not a tree: the parents of feature {cyclic[0]} form a cycle."
        )
    for group in tree.groups_of_one_draw():
        total = tree.probabilities[group].sum()
        if total > 1 + 1e-9:
            raise ValueError(
                f"Features {list(map(int, group))} exclude each other, so their probabilities "
                f"must sum to at most 1; they sum to {total:g}."
            )
    return tree


def fire(tree, n_samples, random_state):
    """Draw which features fire in which rows: two arrays of equal length, rows and features."""
    where = {-1: np.arange(n_samples)}
    for group in tree.groups_of_one_draw():
        # One uniform number for each row in question; each feature has its interval.
        rows = where[tree.parents[group[0]]]
        drawn = random_state.random_sample(len(rows))
        edges = np.concatenate([[0], np.cumsum(tree.probabilities[group])])
        if edges[-1] > 1 - 1e-9:
            edges[-1] = 1  # one of them always fires, whatever the rounding of the sum
        for feature, low, high in zip(group, edges, edges[1:], strict=False):
            where[feature] = rows[(low <= drawn) & (drawn < high)]
    del where[-1]
    features = np.repeat(list(where), [len(rows) for rows in where.values()])
    return np.concatenate(list(where.values())), features
