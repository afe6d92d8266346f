"""
A pipeline and a grid search
============================

The autoencoder is a scikit-learn transformer: it goes into a pipeline, and a grid search
tunes it together with what follows. Here it turns handwritten digits into sparse codes, and a
linear classifier reads the digit from them. Searched are the size of the dictionary and the
number of atoms in a row, by the accuracy of the classifier, and we look at what the same
choice does to the reconstruction.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from sklearn_mpsae import MPSparseAutoencoder

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

# %%
# The pipeline
# ------------
# Digits need no scaling for the autoencoder, which learns the same from data in any unit.
# The classifier does better with codes of a common scale; dividing by each atom's largest
# code leaves zeros zero.
pipeline = make_pipeline(
    MPSparseAutoencoder(max_iter=20, random_state=0),
    MaxAbsScaler(),
    LogisticRegression(C=10, max_iter=1000),
)

# %%
# The search
# ----------
# An autoencoder's ``score`` is the R² of its reconstruction, so it can be used directly as a
# second measure.


def reconstruction(pipeline, X, y):
    return pipeline[0].score(X)


sizes, sparsities = [32, 64, 128, 256], [1, 2, 4, 8]
search = GridSearchCV(
    pipeline,
    {
        "mpsparseautoencoder__n_components": sizes,
        "mpsparseautoencoder__n_nonzero_coefs": sparsities,
    },
    scoring={"accuracy": "accuracy", "r2": reconstruction},
    refit="accuracy",
    cv=3,
).fit(X_train, y_train)
best = {name.partition("__")[2]: value for name, value in search.best_params_.items()}
spread = search.cv_results_["std_test_accuracy"].mean()
print(f"Best: {best}")
print(f"Accuracy over three folds {search.best_score_:.3f}, their spread {spread:.3f}")
print(f"Accuracy on unseen digits {search.score(X_test, y_test):.3f}")

# %%
# The grid
# --------
# Each cell is a mean of three folds; the best has a frame. The two measures have
# different optima. The reconstruction improves with every further atom of a row. The
# classifier improves only with small dictionaries, in the upper lines. With 128 or 256 atoms,
# one atom per row gives the best accuracy.
figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
titles = {"accuracy": "Accuracy of the classifier", "r2": "R² of the reconstruction"}
for ax, (name, title) in zip(axes, titles.items(), strict=True):
    scores = search.cv_results_[f"mean_test_{name}"].reshape(len(sizes), len(sparsities))
    image = ax.imshow(scores, cmap="cividis", aspect="auto")
    for (i, j), score in np.ndenumerate(scores):
        colour = "w" if image.norm(score) < 0.5 else "k"
        ax.text(j, i, f"{score:.3f}", ha="center", va="center", color=colour)
    i, j = np.unravel_index(scores.argmax(), scores.shape)
    ax.add_patch(plt.Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, fill=False, ec="k", lw=3))
    ax.set(title=title, xlabel="n_nonzero_coefs: atoms of a row")
    ax.set_xticks(range(len(sparsities)), sparsities)
    ax.set_yticks(range(len(sizes)), sizes)
axes[0].set_ylabel("n_components: atoms of the dictionary")
plt.show()
