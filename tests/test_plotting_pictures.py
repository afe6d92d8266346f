"""Displays that are pictures: Gram matrices, atoms and reconstructions."""

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest
from drawn import (  # noqa: F401 - fixtures
    FAST,
    SHAPE,
    altered,
    axes_to_draw_on,
    close_figures,
    pursuit_to_draw,
    rows_to_draw,
    shallow_to_draw,
)
from matplotlib import pyplot as plt
from sklearn.decomposition import DictionaryLearning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.plotting import (
    AtomsDisplay,
    AtomWeightsDisplay,
    BabelDisplay,
    GramDisplay,
    ProgressiveReconstructionDisplay,
    SparsityFrontierDisplay,
)


def tile_of(mosaic, line, column, height=8, width=8, gap=1):
    top, left = line * (height + gap), column * (width + gap)
    return np.asarray(mosaic)[top : top + height, left : left + width]


# ------------------------------------------------------------------------------ Gram
def test_gram_follows_the_hierarchy(rng):
    atoms = rng.standard_normal((7, 5))
    parents = [3, -1, 1, -1, 1, 2, -1]
    display = GramDisplay.from_dictionary(atoms, parents=parents)
    order = [1, 2, 5, 4, 3, 0, 6]
    assert display.order.tolist() == order
    assert display.borders.tolist() == [4, 6]
    unit = atoms[order] / np.linalg.norm(atoms[order], axis=1, keepdims=True)
    np.testing.assert_allclose(display.image_.get_array(), unit @ unit.T, atol=1e-12)
    assert [line.get_ydata()[0] for line in display.lines_[::2]] == [3.5, 5.5]
    assert [line.get_xdata()[0] for line in display.lines_[1::2]] == [3.5, 5.5]


def test_gram_follows_groups(rng):
    display = GramDisplay.from_dictionary(rng.standard_normal((5, 4)), groups=list("baaba"))
    assert display.order.tolist() == [1, 2, 4, 0, 3]
    assert display.borders.tolist() == [3]


def test_gram_puts_similar_atoms_side_by_side(rng):
    directions = np.linalg.qr(rng.standard_normal((8, 8)))[0][:4]
    which = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3])
    # Opposite atoms are as similar as equal ones.
    signs = np.repeat([1, -1, 1], 4)[:, None]
    atoms = signs * directions[which] + 0.05 * rng.standard_normal((12, 8))
    display = GramDisplay.from_dictionary(atoms)
    assert np.count_nonzero(np.diff(which[display.order])) == 3
    assert display.borders.size == 0


def test_gram_in_an_order_given(mp):
    display = GramDisplay.from_estimator(mp, order=[5, 0, 9], groups=np.arange(64) > 3)
    W = mp.components_[[5, 0, 9]]
    np.testing.assert_allclose(display.image_.get_array(), W @ W.T, atol=1e-6)
    assert display.borders.tolist() == [1, 2]


def test_gram_colours_are_centred_and_end_at_the_largest_cosine(rng):
    atoms = np.array([[1.0, 0.0], [0.6, -0.8], [0.0, 1.0]])
    display = GramDisplay.from_dictionary(atoms)
    assert display.image_.get_clim() == (-0.8, 0.8)
    assert display.colorbar_.ax.get_ylabel() == "Cosine"
    assert display.plot(vmin=-1, vmax=1).image_.get_clim() == (-1, 1)


def test_gram_of_atoms_of_zeros_or_few(rng):
    display = GramDisplay.from_dictionary([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]], order=[0, 1, 2])
    assert display.cosines.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert GramDisplay.from_dictionary([[0.0, 2.0]]).cosines.tolist() == [[1]]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"order": [0, 3]}, "order names atom 3, but the dictionary has 3: 0 to 2"),
        ({"order": [-1]}, "order names atom -1"),
        ({"order": [0.5]}, "order must be a list of indices"),
        ({"order": []}, "order must be a list of indices"),
        ({"parents": [-1, 0, 7]}, "parents names atom 7"),
        ({"parents": [-1, -2, 0]}, "parents names atom -2"),
        ({"parents": [-1, 0]}, r"parents must have an entry for each of the 3 .* \(2,\)"),
        ({"parents": [-1, 2, 1]}, "parents form a circle"),
        ({"groups": [0]}, "groups must have an entry"),
        ({"groups": [0, 0, 1], "parents": [-1, 0, 0]}, "parents or groups, not both"),
    ],
)
def test_gram_of_what_does_not_fit(options, match):
    with pytest.raises(ValueError, match=match):
        GramDisplay.from_dictionary(np.eye(3), **options)


# ----------------------------------------------------------------------------- atoms
def test_atoms_are_tiled_the_most_used_first(mp):
    display = AtomsDisplay.from_estimator(mp, **SHAPE, n_atoms=5, n_columns=3, scale="shared")
    most_used = np.argsort(-mp.atom_usage_, kind="stable")[:5]
    assert display.atoms.tolist() == most_used.tolist()
    mosaic = display.image_.get_array().filled(np.nan)
    assert mosaic.shape == (17, 26)
    for i, atom in enumerate(most_used):
        image = mp.components_[atom].reshape(8, 8)
        np.testing.assert_array_equal(tile_of(mosaic, *divmod(i, 3)), image)
    # What lies between, and the sixth place.
    assert np.isnan(mosaic[8]).all()
    assert np.isnan(mosaic[:, 8]).all()
    assert np.isnan(tile_of(mosaic, 1, 2)).all()


def test_atoms_that_are_named(mp, ax):
    display = AtomsDisplay.from_estimator(mp, **SHAPE, atoms=[7, 2], ax=ax)
    np.testing.assert_array_equal(display.images, mp.components_[[7, 2]].reshape(2, 8, 8))
    assert display.atoms.tolist() == [7, 2]


def test_scales_of_atoms_are_symmetric(rng):
    atoms = rng.standard_normal((4, 6)) * [[1], [2], [3], [0]]
    shape = {"image_shape": (2, 3), "n_columns": 4}
    shared = AtomsDisplay.from_dictionary(atoms, **shape, scale="shared")
    limit = np.abs(atoms).max()
    assert shared.image_.get_clim() == (-limit, limit)
    assert shared.colorbar_.ax.get_ylabel() == "Weight"
    own = AtomsDisplay.from_dictionary(atoms, **shape)
    assert own.image_.get_clim() == (-1, 1)
    mosaic = own.image_.get_array()
    for i in range(3):
        part = tile_of(mosaic, 0, i, 2, 3)
        np.testing.assert_allclose(part.ravel(), atoms[i] / np.abs(atoms[i]).max())
    assert not tile_of(mosaic, 0, 3, 2, 3).any()
    with pytest.raises(ValueError, match="scale must be 'atom' or 'shared', got 'each'"):
        own.plot(scale="each")


@pytest.mark.parametrize("scale", ["atom", "shared"])
def test_atoms_in_colour_are_centred_at_grey(scale, rng):
    atoms = rng.standard_normal((3, 12)) * [[1], [2], [3]]
    display = AtomsDisplay.from_dictionary(
        atoms, image_shape=(2, 2, 3), n_columns=2, scale=scale
    )
    limits = np.abs(atoms).max(axis=1) if scale == "atom" else [np.abs(atoms).max()] * 3
    mosaic = display.image_.get_array()
    assert mosaic.shape == (5, 5, 4)
    for i in range(3):
        part = tile_of(mosaic, *divmod(i, 2), 2, 2)
        expected = 0.5 + 0.5 * atoms[i].reshape(2, 2, 3) / limits[i]
        np.testing.assert_allclose(part[..., :3], expected)
        assert (part[..., 3] == 1).all()
    assert not mosaic[2, :, 3].any()
    assert not tile_of(mosaic, 1, 1, 2, 2).any()
    assert display.colorbar_ is None


@pytest.mark.parametrize("shape", [(8, 9), (64,), (4, 4, 4), (4, 8, 2), (-8, -8, 1)])
def test_image_shape_has_to_fit(shape, mp, X):
    match = r"image_shape must be .* multiply to the 64 features there are, got \("
    with pytest.raises(ValueError, match=match):
        AtomsDisplay.from_estimator(mp, image_shape=shape)
    with pytest.raises(ValueError, match=match):
        ProgressiveReconstructionDisplay.from_estimator(mp, X[:2], image_shape=shape)
    assert plt.get_fignums() == []


def test_image_shape_has_to_be_given(mp):
    for display, source in [
        (AtomsDisplay.from_estimator, mp),
        (AtomsDisplay.from_dictionary, mp.components_),
    ]:
        with pytest.raises(TypeError, match=r"image_shape is missing.*table.*explore"):
            display(source)
    assert plt.get_fignums() == []


def test_displays_of_a_dictionary_take_the_last_step_of_a_pipeline(mp, X):
    pipe = make_pipeline(FunctionTransformer(), mp)
    np.testing.assert_array_equal(
        AtomsDisplay.from_estimator(pipe, **SHAPE).images,
        AtomsDisplay.from_estimator(mp, **SHAPE).images,
    )
    np.testing.assert_array_equal(
        GramDisplay.from_estimator(pipe).cosines, GramDisplay.from_estimator(mp).cosines
    )
    babel = BabelDisplay.from_estimator(pipe)
    np.testing.assert_array_equal(babel.babel, BabelDisplay.from_estimator(mp).babel)
    assert babel.name == "MPSparseAutoencoder"
    with pytest.raises(TypeError, match="X as that step gets it"):
        BabelDisplay.from_estimator(pipe, X)


@pytest.mark.parametrize(
    "Display", [AtomsDisplay, AtomWeightsDisplay, BabelDisplay, GramDisplay]
)
def test_displays_of_an_estimator_name_the_way_for_an_array(Display, mp):
    for atoms in (mp.components_, mp.components_.tolist()):
        with pytest.raises(TypeError, match=f"{type(atoms).__name__}.*from_dictionary"):
            Display.from_estimator(atoms)


def test_lines_of_estimators_need_names(mp, X):
    for given in ([mp, mp], mp):
        with pytest.raises(TypeError, match=r"as \{.MP.: \[e1, e2\]\}"):
            SparsityFrontierDisplay.from_estimators(given, X)


def test_atoms_that_do_not_exist(mp):
    with pytest.raises(ValueError, match="atoms names atom 64, but the dictionary has 64"):
        AtomsDisplay.from_estimator(mp, **SHAPE, atoms=[3, 64])


def test_first_atoms_of_an_estimator_that_does_not_count(mp):
    other = DictionaryLearning(64)
    other.components_ = mp.components_
    display = AtomsDisplay.from_estimator(other, **SHAPE, n_atoms=3)
    assert display.atoms.tolist() == [0, 1, 2]


# ------------------------------------------------------------------- reconstructions
@pytest.mark.parametrize("kind", ["mp", "omp", "topk"])
def test_reconstructions_are_those_of_fewer_atoms(kind, mp, top_k, X):
    est = {
        "mp": mp,
        "omp": altered(mp, transform_algorithm="omp", positive_code=False),
        "topk": top_k,
    }[kind]
    display = ProgressiveReconstructionDisplay.from_estimator(
        est, X[:3], **SHAPE, steps=[1, 2, 5]
    )
    assert display.steps.tolist() == [1, 2, 5]
    for i, k in enumerate(display.steps):
        fewer = altered(est, transform_n_nonzero_coefs=int(k))
        expected = fewer.inverse_transform(fewer.transform(X[:3]))
        np.testing.assert_allclose(
            display.reconstructions[:, i].reshape(3, 64), expected, atol=1e-10
        )
    assert est.transform_n_nonzero_coefs is None


def test_reconstructions_go_as_far_as_transform(mp, X):
    display = ProgressiveReconstructionDisplay.from_estimator(mp, X[:2], **SHAPE)
    assert display.steps.tolist() == [1, 2, 3, 4]
    further = altered(mp, transform_n_nonzero_coefs=6)
    display = ProgressiveReconstructionDisplay.from_estimator(further, X[:2], **SHAPE)
    assert display.steps.tolist() == [1, 2, 3, 4, 5, 6]


def test_atoms_taken_are_those_of_the_codes(mp, X):
    signed = altered(mp, positive_code=False, transform_n_nonzero_coefs=6)
    codes = signed.encode(X[:30])
    assert (codes.values < 0).any()
    display = ProgressiveReconstructionDisplay.from_estimator(signed, X[:30], **SHAPE)
    expected = np.sign(codes.values)[..., None] * mp.components_[codes.indices]
    np.testing.assert_array_equal(display.taken.reshape(30, 6, 64), expected)


def test_a_row_that_needs_no_further_atom_shows_none(mp, X):
    # Its mean needs none at all, so its reconstruction is itself.
    rows = np.stack([mp.intercept_, X[0], mp.intercept_ + 3 * mp.components_[5]])
    tolerant = altered(mp, tol=1e-6)
    display = ProgressiveReconstructionDisplay.from_estimator(tolerant, rows, **SHAPE)
    blank = np.isnan(display.taken).all(axis=(2, 3))
    assert blank.tolist() == [[True] * 4, [False] * 4, [False, True, True, True]]
    np.testing.assert_allclose(display.reconstructions[0, 3], display.inputs[0])


def test_an_encoder_with_fewer_slots_than_steps(mp, X, monkeypatch):
    codes = altered(mp, transform_n_nonzero_coefs=2).encode(X[:2])
    monkeypatch.setattr(MPSparseAutoencoder, "encode", lambda self, X: codes)
    display = ProgressiveReconstructionDisplay.from_estimator(mp, X[:2], **SHAPE, steps=[2, 3])
    assert np.isnan(display.taken).all(axis=(2, 3)).tolist() == [[False, True]] * 2


def test_where_reconstructions_and_atoms_are_drawn(mp, X):
    display = ProgressiveReconstructionDisplay.from_estimator(mp, X[:2], **SHAPE, steps=[1, 4])
    images = display.image_.get_array().filled(np.nan)
    atoms = display.atoms_image_.get_array().filled(np.nan)
    assert images.shape == atoms.shape == (2 * 17 + 2, 3 * 8 + 2 * 2)
    # Each line is 17 pixels high: an image, a gap and an atom.
    tall = {"height": 17, "gap": 2}
    for row in range(2):
        parts = [tile_of(images, row, column, **tall) for column in range(3)]
        np.testing.assert_array_equal(parts[0][:8], X[row].reshape(8, 8))
        for step in range(2):
            np.testing.assert_array_equal(
                parts[step + 1][:8], display.reconstructions[row, step]
            )
            below = tile_of(atoms, row, step + 1, **tall)[9:]
            atom = display.taken[row, step]
            np.testing.assert_allclose(below, atom / np.abs(atom).max())
    assert not (np.isfinite(images) & np.isfinite(atoms)).any()
    assert display.image_.get_clim() == (X[:2].min(), X[:2].max())
    labels = display.ax_.get_xticklabels()
    assert [label.get_text() for label in labels] == ["input", "1", "4"]
    assert display.ax_.get_xticks().tolist() == [3.5, 13.5, 23.5]
    assert display.ax_.get_yticks().tolist() == [12.5]


def test_reconstructions_without_atoms(mp, X):
    display = ProgressiveReconstructionDisplay.from_estimator(
        mp, X[:2], **SHAPE, show_atoms=False, cmap="gray_r"
    )
    assert display.atoms_image_ is None
    assert display.image_.get_array().shape == (17, 5 * 9 - 1)
    assert display.image_.get_cmap().name == "gray_r"
    assert display.ax_.get_xticks().tolist() == [3.5, 12.5, 21.5, 30.5, 39.5]


def test_reconstructions_in_colour(rng):
    X = rng.random((40, 12))
    est = MPSparseAutoencoder(16, n_nonzero_coefs=2, max_iter=1, random_state=0).fit(X)
    display = ProgressiveReconstructionDisplay.from_estimator(est, X[:1], image_shape=(2, 2, 3))
    part = tile_of(display.image_.get_array(), 0, 0, 2, 2, gap=2)
    low, high = X[0].min(), X[0].max()
    np.testing.assert_allclose(part[..., :3], (X[0].reshape(2, 2, 3) - low) / (high - low))
    assert (part[..., 3] == 1).all()
    assert not display.atoms_image_.get_array()[:2, :, 3].any()


@pytest.mark.parametrize(
    ("steps", "match"),
    [
        ([0, 1], "between 1 and the number of atoms, 64, got"),
        ([65], "between 1 and the number of atoms, 64, got"),
        ([], "steps must be a list of numbers of atoms"),
        ([1.5], "steps must be a list of numbers of atoms"),
        (3, "steps must be a list of numbers of atoms"),
    ],
)
def test_steps_that_cannot_be(steps, match, mp, X):
    with pytest.raises(ValueError, match=match):
        ProgressiveReconstructionDisplay.from_estimator(mp, X[:2], **SHAPE, steps=steps)


def test_rows_of_a_data_frame_are_drawn(X):
    frame = pd.DataFrame(X[:40]).add_prefix("pixel")
    est = MPSparseAutoencoder(16, **FAST).fit(frame)
    display = ProgressiveReconstructionDisplay.from_estimator(est, frame[:2], **SHAPE)
    np.testing.assert_array_equal(display.inputs, X[:2].reshape(2, 8, 8))
