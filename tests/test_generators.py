"""Generated data: what the docstrings of `make_*` and `load_image_patches` promise."""

import sys
import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csr_array

from sklearn_mpsae.datasets import (
    load_image_patches,
    make_correlated_features,
    make_hierarchical_features,
    make_superposition,
)
from sklearn_mpsae.learning.dictionary import random_atoms

MAKERS = {
    "hierarchical": lambda n=50, **kw: make_hierarchical_features(n, **kw),
    "correlated": lambda n=50, **kw: make_correlated_features(n, 20, 24, rho=0.5, **kw),
    "superposition": lambda n=50, **kw: make_superposition(n, 12, 30, l0=4, **kw),
}

ROOTS = [0, 4, 8, *range(12, 20)]
TRIOS = [[1, 2, 3], [5, 6, 7], [9, 10, 11]]


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


def fires(features):
    return features.codes.toarray() != 0


def assert_frequencies(fired, probabilities):
    """What fires in each column does so as often as it should, within 5 standard errors."""
    sd = np.sqrt(probabilities * (1 - probabilities) / len(fired))
    assert (np.abs(fired.mean(axis=0) - probabilities) <= 5 * sd + 1e-12).all()


def off_diagonal(atoms):
    cosines = atoms @ atoms.T
    return cosines[~np.eye(len(cosines), dtype=bool)]


# ------------------------------------------------------------------- what all have in common
def test_rows_are_sums_of_unit_atoms(make):
    features = make(random_state=0)
    assert isinstance(features.codes, csr_array)
    assert features.codes.indices.dtype == np.int32
    assert features.codes.nnz < features.codes.toarray().size / 3
    np.testing.assert_allclose(features.data, features.codes @ features.dictionary, atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(features.dictionary, axis=1), 1)
    n_components = len(features.dictionary)
    assert features.codes.shape == (50, n_components)
    assert features.parents.shape == features.probabilities.shape == (n_components,)


def test_same_seed_same_data(make):
    first, again, other = (make(random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.data, again.data)
    np.testing.assert_array_equal(first.codes.toarray(), again.codes.toarray())
    np.testing.assert_array_equal(first.dictionary, again.dictionary)
    assert not np.allclose(first.data, other.data)
    assert not np.allclose(first.dictionary, other.dictionary)


def test_a_given_dictionary_gives_fresh_rows_of_the_same_features(make):
    stream = np.random.RandomState(0)
    first = make(random_state=stream)
    more = make(dictionary=first.dictionary, random_state=stream)
    np.testing.assert_array_equal(more.dictionary, first.dictionary)
    np.testing.assert_array_equal(more.parents, first.parents)
    np.testing.assert_array_equal(more.probabilities, first.probabilities)
    np.testing.assert_allclose(more.data, more.codes @ first.dictionary, atol=1e-14)
    assert not np.allclose(more.data, first.data)


def test_float32_is_the_same_data_rounded(make):
    double, single = make(random_state=0), make(random_state=0, dtype=np.float32)
    for name in ("data", "dictionary", "codes", "probabilities"):
        assert double[name].dtype == np.float64
        assert single[name].dtype == np.float32
    np.testing.assert_allclose(single.data, double.data, atol=1e-5)


def test_codes_have_the_mean_and_deviation_asked_for(make):
    n_components = len(make().dictionary)
    mean, std = np.linspace(1, 3, n_components), np.linspace(0.05, 0.5, n_components)
    codes = make(20_000, mean=mean, std=std, random_state=0).codes.tocsc()
    for j in range(n_components):
        values = codes.data[codes.indptr[j] : codes.indptr[j + 1]]
        assert len(values) > 500
        assert values.mean() == pytest.approx(mean[j], abs=5 * std[j] / len(values) ** 0.5)
        assert values.std() == pytest.approx(std[j], rel=0.15)


def test_without_deviation_all_codes_are_the_mean(make):
    assert set(make(mean=2, std=0, random_state=0).codes.data) == {2.0}


def test_noise_has_the_deviation_asked_for(make):
    features = make(2000, noise=0.3, random_state=0)
    noise = features.data - features.codes @ features.dictionary
    assert noise.mean() == pytest.approx(0, abs=0.01)
    assert noise.std() == pytest.approx(0.3, rel=0.02)
    np.testing.assert_allclose(
        make(2000, random_state=0).data, features.data - noise, atol=1e-12
    )


def test_an_estimator_of_the_same_seed_does_not_start_from_the_truth(make):
    atoms = make(random_state=0).dictionary
    first = random_atoms(*atoms.shape, np.random.RandomState(0), np.float64)
    assert np.abs(first @ atoms.T).max() < 0.95


# ------------------------------------------------------------------------------ hierarchical
@pytest.mark.parametrize("rho", [-0.1, 0.0, 0.1, 0.3, 0.6, 0.9])
def test_siblings_have_cosine_rho_and_others_none(rho):
    D = make_hierarchical_features(1, rho=rho, random_state=0).dictionary
    expected = np.zeros((20, 20))
    for group in [ROOTS, *TRIOS]:
        expected[np.ix_(group, group)] = rho
    np.fill_diagonal(expected, 1)
    np.testing.assert_allclose(D @ D.T, expected, atol=1e-12)


@pytest.mark.parametrize(("group", "share"), [(TRIOS[0], 0.0893), (ROOTS, 0.2993)])
def test_the_atoms_are_the_mixtures_of_the_original(group, share):
    """For rho 0.1, (1 - e) q_i + e / (m - 1) * (sum of the other q), with its e."""
    orthogonal = make_hierarchical_features(1, random_state=0).dictionary[group]
    mixed = make_hierarchical_features(1, rho=0.1, random_state=0).dictionary[group]
    others = orthogonal.sum(axis=0) - orthogonal
    expected = (1 - share) * orthogonal + share / (len(group) - 1) * others
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(mixed, expected, atol=1e-4)


@pytest.fixture(scope="module")
def two_level():
    return make_hierarchical_features(20_000, random_state=0)


def test_one_root_fires_in_each_row(two_level):
    assert (fires(two_level)[:, ROOTS].sum(axis=1) == 1).all()


def test_children_exclude_each_other_and_need_their_parent(two_level):
    fired = fires(two_level)
    for parent, trio in zip([0, 4, 8], TRIOS, strict=True):
        assert (two_level.parents[trio] == parent).all()
        assert fired[:, trio].sum(axis=1).max() == 1
        assert not fired[~fired[:, parent]][:, trio].any()
        assert_frequencies(fired[fired[:, parent]][:, trio], np.full(3, 0.2))


def test_features_of_the_tree_fire_as_often_as_in_the_paper(two_level):
    expected = np.full(20, 0.05)
    expected[[0, 4, 8]] = 0.2
    expected[np.ravel(TRIOS)] = 0.04
    np.testing.assert_allclose(two_level.probabilities, expected)
    fired = fires(two_level)
    assert_frequencies(fired, expected)
    assert fired.sum(axis=1).mean() == pytest.approx(1.36, abs=5 * 0.5 / 20_000**0.5)
    assert (two_level.levels == np.isin(np.arange(20), np.ravel(TRIOS))).all()


DEEP = {
    "parents": [2, 0, -1, 0, 3, -1],
    "probabilities": [0.5, 0.6, 0.8, 0.3, 1.0, 0.25],
    "exclusive": [False, True, False, True, False, False],
}


def test_trees_of_any_depth_in_any_order():
    features = make_hierarchical_features(20_000, tree=DEEP, random_state=0)
    np.testing.assert_array_equal(features.levels, [1, 2, 0, 2, 3, 0])
    np.testing.assert_allclose(features.probabilities, [0.4, 0.24, 0.8, 0.12, 0.12, 0.25])
    fired = fires(features)
    assert_frequencies(fired, features.probabilities)
    for child, parent in enumerate(DEEP["parents"]):
        assert parent < 0 or not fired[~fired[:, parent], child].any()
    # Features 1 and 3 exclude each other; 2 and 5 do not.
    assert not (fired[:, 1] & fired[:, 3]).any()
    assert_frequencies((fired[:, 2] & fired[:, 5])[:, None], np.array([0.2]))


def test_children_that_do_not_exclude_fire_independently():
    tree = {"parents": [-1, 0, 0], "probabilities": [1.0, 0.5, 0.5]}
    fired = fires(make_hierarchical_features(5000, tree=tree, random_state=0))
    assert fired[:, 0].all()
    assert_frequencies((fired[:, 1] & fired[:, 2])[:, None], np.array([0.25]))


def test_probabilities_0_and_1_are_never_and_always():
    tree = {"parents": [-1, -1, 0], "probabilities": [1.0, 0.0, 1.0], "exclusive": True}
    fired = fires(make_hierarchical_features(200, tree=tree, random_state=0))
    np.testing.assert_array_equal(fired.sum(axis=0), [200, 0, 200])


def test_exclusive_probabilities_whose_sum_rounds_below_1_leave_no_row_empty(monkeypatch):
    n = 10
    tree = {"parents": n * [-1], "probabilities": n * [0.1], "exclusive": True}
    assert np.cumsum(tree["probabilities"])[-1] < 1
    highest = np.nextafter(1, 0)
    monkeypatch.setattr(
        "sklearn_mpsae.datasets._hierarchical.own_stream", lambda seed: Highest(highest)
    )
    assert fires(make_hierarchical_features(5, tree=tree))[:, -1].all()


class Highest(np.random.RandomState):
    """Draws one uniform number for ever."""

    def __init__(self, number):
        super().__init__(0)
        self.number = number

    def random_sample(self, size):
        return np.full(size, self.number)


def test_in_fewer_dimensions_siblings_keep_their_cosine():
    D = make_hierarchical_features(1, n_features=12, rho=0.3, random_state=0).dictionary
    assert D.shape == (20, 12)
    for group in [ROOTS, *TRIOS]:
        np.testing.assert_allclose(off_diagonal(D[group]), 0.3)


def test_in_more_dimensions_families_are_orthogonal():
    D = make_hierarchical_features(1, n_features=30, rho=0.3, random_state=0).dictionary
    assert D.shape == (20, 30)
    np.testing.assert_allclose(D[ROOTS] @ D[np.ravel(TRIOS)].T, 0, atol=1e-12)


# -------------------------------------------------------------------------------- correlated
@pytest.mark.parametrize("rho", [-0.5, -0.2, 0.0, 0.5, 0.99])
@pytest.mark.parametrize("n_features", [12, 9, 5], ids=["square", "wide", "wider"])
def test_groups_have_cosine_rho_and_are_orthogonal_if_they_can_be(rho, n_features):
    features = make_correlated_features(
        5, n_features, 12, rho=rho, group_size=3, random_state=0
    )
    np.testing.assert_array_equal(features.groups, np.repeat(range(4), 3))
    D, groups = features.dictionary, features.groups
    for group in range(4):
        np.testing.assert_allclose(off_diagonal(D[groups == group]), rho, atol=1e-12)
    across = (D @ D.T)[groups[:, None] != groups]
    assert (np.abs(across).max() < 1e-12) == (n_features >= 12)


def test_cosines_across_crowded_groups_are_those_of_random_vectors():
    D = make_correlated_features(1, 100, 400, rho=0.0, random_state=0).dictionary
    across = (D @ D.T)[np.arange(400)[:, None] // 4 != np.arange(400) // 4]
    assert across.std() == pytest.approx(0.1, rel=0.05)


def test_the_least_cosine_of_a_group_is_possible():
    for size in (3, 7, 50):
        features = make_correlated_features(
            1,
            60,
            size,
            rho=-1 / (size - 1),
            group_size=size,
            n_nonzero_coefs=1,
            random_state=0,
        )
        np.testing.assert_allclose(off_diagonal(features.dictionary), -1 / (size - 1))


def test_each_row_has_so_many_features_and_all_are_as_likely():
    features = make_correlated_features(9000, 8, 8, rho=0.5, n_nonzero_coefs=3, random_state=0)
    fired = fires(features)
    assert (fired.sum(axis=1) == 3).all()
    assert_frequencies(fired, np.full(8, 3 / 8))
    np.testing.assert_allclose(features.probabilities, 3 / 8)
    # Pairs too: 3 of 8 in a row are 3 of 28 pairs.
    pairs = np.stack([fired[:, i] & fired[:, j] for i in range(8) for j in range(i)], axis=1)
    assert_frequencies(pairs, np.full(28, 3 / 28))


def test_a_row_of_all_features():
    features = make_correlated_features(4, 8, 8, rho=0.5, n_nonzero_coefs=8)
    assert fires(features).all()


# ----------------------------------------------------------------------------- superposition
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0, 400.0])
@pytest.mark.parametrize("l0", [0.5, 8, 39.5, 40])
def test_probabilities_follow_the_law(exponent, l0):
    features = make_superposition(1, 20, 40, l0=l0, exponent=exponent)
    p = features.probabilities
    assert p.sum() == pytest.approx(l0)
    assert p.max() <= 1
    assert (np.diff(p) <= 1e-15).all()
    rare = p < 1
    law = p[rare] * np.arange(1, 41)[rare] ** min(exponent, 100)
    if exponent <= 100:
        np.testing.assert_allclose(law, law[0] if rare.any() else 1)


def test_features_fire_by_the_law_and_independently():
    features = make_superposition(20_000, 20, 40, l0=8, exponent=1, random_state=0)
    p, fired = features.probabilities, fires(features)
    assert (features.parents == -1).all()
    assert_frequencies(fired, p)
    certain = p == 1
    assert certain.sum() == 2
    correlation = np.corrcoef(fired[:, ~certain].T)
    assert np.abs(correlation - np.eye(38)).max() < 5 / 20_000**0.5


@pytest.mark.parametrize("hierarchy", [0.2, 0.5, 0.75])
def test_hierarchy_changes_who_fires_together_not_how_often(hierarchy):
    flat = make_superposition(1, 20, 40)
    features = make_superposition(20_000, 20, 40, hierarchy=hierarchy, random_state=0)
    np.testing.assert_array_equal(features.probabilities, flat.probabilities)
    children = np.flatnonzero(features.parents >= 0)
    parents = features.parents[children]
    n_roots = round((1 - hierarchy) * 40)
    np.testing.assert_array_equal(children, np.arange(n_roots, 40))
    np.testing.assert_array_equal(parents, np.arange(40 - n_roots) % n_roots)
    fired = fires(features)
    assert not (fired[:, children] & ~fired[:, parents]).any()
    assert_frequencies(fired, features.probabilities)


@pytest.mark.parametrize("max_cosine", [0.3, 0.2])
def test_atoms_are_spread(max_cosine):
    free = make_superposition(1, 64, 128, random_state=0).dictionary
    spread = make_superposition(1, 64, 128, max_cosine=max_cosine, random_state=0).dictionary
    assert np.abs(off_diagonal(free)).max() > 0.4
    assert np.abs(off_diagonal(spread)).max() <= max_cosine
    np.testing.assert_allclose(np.linalg.norm(spread, axis=1), 1)


def test_superposition_takes_little_memory():
    """Never a dense array of codes, nor a uniform number for each."""
    tracemalloc.start()
    features = make_superposition(10_000, 16, 2048, random_state=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * features.data.nbytes < 10_000 * 2048


# ------------------------------------------------------------------------------------ patches
@pytest.fixture(scope="module")
def patches():
    return load_image_patches((8, 6), n_patches=200, subtract_mean=False, random_state=0)


def test_patches_are_cut_from_the_images(patches):
    assert patches.data.shape == (200, 48)
    assert patches.images.shape == (2, 427, 640)
    assert patches.patch_shape == (8, 6)
    for row, (image, top, left) in zip(patches.data, patches.positions, strict=True):
        cut = patches.images[image, top : top + 8, left : left + 6]
        np.testing.assert_array_equal(row.reshape(8, 6), cut)


def test_images_are_brightness_from_0_to_1(patches):
    assert 0 <= patches.images.min() < 0.05
    assert 0.95 < patches.images.max() <= 1
    assert "china.jpg" in patches.DESCR


def test_patches_come_from_everywhere(patches):
    places = {tuple(position) for position in patches.positions}
    assert len(places) == 200
    assert set(patches.positions[:, 0]) == {0, 1}
    reach = np.ptp(patches.positions[:, 1:], axis=0)
    assert (reach > [380, 570]).all()


def test_all_places_once():
    shape = (426, 639)
    patches = load_image_patches(shape, n_patches=8, random_state=0)
    places = {tuple(map(int, position)) for position in patches.positions}
    assert places == {(i, r, c) for i in (0, 1) for r in (0, 1) for c in (0, 1)}


def test_means_are_subtracted_patch_by_patch(patches):
    centred = load_image_patches((8, 6), n_patches=200, random_state=0)
    np.testing.assert_allclose(centred.data.mean(axis=1), 0, atol=1e-12)
    expected = patches.data - patches.data.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(centred.data, expected)


def test_patches_in_colour(patches):
    colour = load_image_patches(
        (8, 6), n_patches=200, grayscale=False, subtract_mean=False, random_state=0
    )
    assert colour.data.shape == (200, 144)
    assert colour.patch_shape == (8, 6, 3)
    np.testing.assert_array_equal(colour.positions, patches.positions)
    image, top, left = colour.positions[0]
    cut = colour.images[image, top : top + 8, left : left + 6]
    np.testing.assert_array_equal(colour.data[0].reshape(colour.patch_shape), cut)
    brightness = colour.data.reshape(200, 48, 3) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(brightness, patches.data)


def test_patches_follow_the_seed(patches):
    again = load_image_patches((8, 6), n_patches=200, subtract_mean=False, random_state=0)
    other = load_image_patches((8, 6), n_patches=200, subtract_mean=False, random_state=1)
    np.testing.assert_array_equal(again.data, patches.data)
    assert not np.array_equal(other.positions, patches.positions)


def test_without_pillow_the_error_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        load_image_patches(n_patches=1)


# ---------------------------------------------------------------------------------- bad input
def hierarchical(**options):
    return make_hierarchical_features(**{"n_samples": 3, **options})


def of_tree(parents, probabilities, **more):
    return hierarchical(tree={"parents": parents, "probabilities": probabilities, **more})


def correlated(**options):
    sizes = {"n_samples": 3, "n_features": 16, "n_components": 16, "rho": 0.1}
    return make_correlated_features(**{**sizes, **options})


def superposed(**options):
    sizes = {"n_samples": 3, "n_features": 16, "n_components": 32}
    return make_superposition(**{**sizes, **options})


BAD_EVERYWHERE = [
    ({"n_samples": 0}, "'n_samples' parameter"),
    ({"n_samples": 2.5}, "'n_samples' parameter"),
    ({"noise": -0.1}, "'noise' parameter"),
    ({"noise": np.inf}, "'noise' parameter"),
    ({"std": -1}, "std must be finite of at least 0"),
    ({"mean": np.nan}, "mean must be finite"),
    ({"mean": [1, 2]}, r"mean must be a number, or one for each of the .* shape \(2,\)"),
    ({"std": [[1, 2]]}, "std must be a number, or one for each"),
    ({"dtype": np.int64}, "dtype must be float32 or float64"),
    ({"dictionary": np.eye(7)}, r"dictionary must have shape .* got \(7, 7\)"),
    ({"dictionary": np.ones(20)}, "Expected 2D array"),
    ({"random_state": "seed"}, "'random_state' parameter"),
]


@pytest.mark.parametrize("call", [hierarchical, correlated, superposed])
@pytest.mark.parametrize(("options", "message"), BAD_EVERYWHERE)
def test_what_no_generator_takes(call, options, message):
    with pytest.raises(ValueError, match=message):
        call(**options)


@pytest.mark.parametrize("call", [hierarchical, correlated, superposed])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda D: 2 * D, "row 0 has norm 2: divide each row by its norm"),
        (lambda D: 0 * D, "row 0 has norm 0"),
        (lambda D: np.nan * D, "dictionary contains NaN"),
        (lambda D: D[1:], "dictionary must have shape"),
    ],
)
def test_a_given_dictionary_must_be_one(call, change, message):
    D = change(call().dictionary)
    with pytest.raises(ValueError, match=message):
        call(dictionary=D)


BAD = {
    "rho of 1": (lambda: hierarchical(rho=1.0), "'rho' parameter"),
    "rho of -1": (lambda: correlated(rho=-1.0), "'rho' parameter"),
    "rho of NaN": (lambda: correlated(rho=np.nan), "'rho' parameter"),
    "rho too low for 11 roots": (
        lambda: hierarchical(rho=-0.11),
        r"rho=-0.11 is impossible: 11 vectors .* at least -1 / \(11 - 1\) = -0.1\.",
    ),
    "rho too low for a group": (lambda: correlated(rho=-0.34), r"at least .* = -0\.3333"),
    "too few dimensions for the roots": (
        lambda: hierarchical(n_features=10),
        "group of 11 atoms needs as many dimensions, but n_features=10",
    ),
    "too few dimensions for a group": (
        lambda: correlated(n_features=3),
        "group of 4 atoms needs as many dimensions, but n_features=3",
    ),
    "dictionary of other dimension": (
        lambda: hierarchical(dictionary=np.eye(20), n_features=21),
        r"= \(20, 21\), got \(20, 20\)",
    ),
    "unknown tree": (lambda: hierarchical(tree="oak"), "'tree' parameter"),
    "tree without probabilities": (
        lambda: hierarchical(tree={"parents": [-1]}),
        r"keys 'parents' and 'probabilities'.* got \['parents'\]",
    ),
    "tree with a word too many": (lambda: of_tree([-1], [1], root=0), "got .*'root'"),
    "no features": (lambda: of_tree([], []), "list of one index for each feature"),
    "parents that are no indices": (lambda: of_tree([-1.0], [1]), "list of one index"),
    "a parent that is none": (lambda: of_tree([-1, 2], [1, 1]), "indices of the 2 features"),
    "a parent below -1": (lambda: of_tree([-2, 0], [1, 1]), "or -1 for no parent"),
    "a cycle": (lambda: of_tree([-1, 2, 1], [1, 1, 1]), "parents of feature 1 form a cycle"),
    "its own parent": (lambda: of_tree([0], [1]), "form a cycle"),
    "a probability above 1": (lambda: of_tree([-1], [1.1]), "1 numbers from 0 to 1"),
    "a probability below 0": (lambda: of_tree([-1], [-0.1]), "1 numbers from 0 to 1"),
    "a probability of NaN": (lambda: of_tree([-1], [np.nan]), "1 numbers from 0 to 1"),
    "too few probabilities": (lambda: of_tree([-1, 0], [1]), "2 numbers from 0 to 1"),
    "exclusive by number": (lambda: of_tree([-1], [1], exclusive=2), "must be a bool, or 1"),
    "exclusive too likely": (
        lambda: of_tree([-1, 0, 0], [1, 0.6, 0.6], exclusive=True),
        r"Features \[1, 2\] exclude each other.* sum to 1\.2",
    ),
    "no rho": (lambda: correlated(rho=None), "'rho' parameter"),
    "groups that do not fit": (
        lambda: correlated(group_size=5),
        "n_components=16 is not a multiple of group_size=5",
    ),
    "more nonzeros than features": (
        lambda: correlated(n_nonzero_coefs=17),
        "n_nonzero_coefs=17 is more than .* n_components=16",
    ),
    "no nonzeros": (lambda: correlated(n_nonzero_coefs=0), "'n_nonzero_coefs' parameter"),
    "l0 above n_components": (lambda: superposed(l0=32.5), "l0=32.5 .* n_components=32"),
    "l0 of 0": (lambda: superposed(l0=0), "'l0' parameter"),
    "rising law": (lambda: superposed(exponent=-1), "'exponent' parameter"),
    "nothing but children": (lambda: superposed(hierarchy=1.0), "'hierarchy' parameter"),
    "nothing but children, rounded": (
        lambda: superposed(hierarchy=0.99),
        "hierarchy=0.99 leaves none of 32 features for a parent",
    ),
    "children as frequent as parents": (
        lambda: superposed(hierarchy=0.5, exponent=0),
        "children must be rarer than their parents",
    ),
    "atoms too far apart": (
        lambda: superposed(max_cosine=0.1),
        r"at most max_cosine=0\.1: 0\.18 is the least there is \(Welch's bound\)",
    ),
    "no patches": (lambda: load_image_patches(n_patches=0), "'n_patches' parameter"),
    "patches too high": (
        lambda: load_image_patches((428, 8)),
        r"patch_shape=\(428, 8\) is larger than the images, which are 427 x 640",
    ),
    "patches too wide": (lambda: load_image_patches((8, 641)), "larger than the images"),
    "patches of no size": (lambda: load_image_patches((8, 0)), "two positive integers"),
    "patches of one side": (lambda: load_image_patches((8,)), "two positive integers"),
    "patches of half a pixel": (lambda: load_image_patches((8, 8.5)), "two positive integers"),
    "a number for a shape": (lambda: load_image_patches(8), "'patch_shape' parameter"),
    "too many patches": (
        lambda: load_image_patches((427, 639), n_patches=5),
        "n_patches=5 is more than there are places .*, 4: ask for fewer",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_impossible_is_refused_and_says_why(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()
