"""
Callbacks and early stopping
============================

scikit-learn 1.9 calls back after each epoch of a fit. Its own callbacks work on the
estimators here, and :mod:`sklearn_mpsae.callbacks` adds two: one stops a fit whose score on
validation rows no longer improves, the other hands numbers to any logger. With an earlier
scikit-learn, fits run without them, and a warning says so.
"""

import matplotlib.pyplot as plt
from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_mpsae import TopKSAE
from sklearn_mpsae.callbacks import EarlyStopping, LogMetrics

X, _ = load_digits(return_X_y=True)
X_train, X_val = train_test_split(X, train_size=400, random_state=0)

# %%
# Three callbacks on one fit
# --------------------------
# With 256 atoms for 400 rows TopK overfits, so the fit can be stopped early.
# ``ScoringMonitor`` scores the training rows, ``EarlyStopping`` those that it is given, and
# ``LogMetrics`` calls any function with the numbers of an epoch: to print them, to write them
# to TensorBoard or, as here, to keep them in a list.
seen = []
monitor = ScoringMonitor(scoring={"r2": lambda sae, X, y: sae.score(X)})
stopping = EarlyStopping(X_val)
logging = LogMetrics(lambda epoch, numbers: seen.append(numbers))

sae = TopKSAE(256, n_nonzero_coefs=10, random_state=0)
sae.set_callbacks(monitor, stopping, logging).fit(X_train)
print(f"Stopped after epoch {len(stopping.scores_)}, went back to {sae.n_iter_}")
print(f"R² of the validation rows: {sae.score(X_val):.3f}")

# %%
# The same fit to its end, for comparison. A patience longer than the fit never stops it.
to_the_end = EarlyStopping(X_val, patience=10_000, restore_best=False)
late = TopKSAE(256, n_nonzero_coefs=10, random_state=0).set_callbacks(to_the_end)
print(f"After epoch {late.fit(X_train).n_iter_}: {late.score(X_val):.3f}")

# %%
# The scores of each epoch
# ------------------------
# On the left, the score of the training rows keeps rising. The score of the validation rows
# rises little after the first hundred epochs, and then falls; the dotted line is the fit
# without early stopping. The fit stops after a tenth of all its epochs without a new best
# score, and returns the estimator of the epoch with the ring. On the right, the number of
# codes of a row in training: a fit begins with twice the requested number, which falls during
# the fit, so this one ends with a few more. (``transform`` always uses the requested number.)
trained = [entry["r2"] for entry in monitor.get_logs().data if entry["task_name"] == "epoch"]
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
epochs = range(1, len(trained) + 1)
left.plot(epochs, trained, color="#D55E00", label="training rows (ScoringMonitor)")
left.plot(epochs, stopping.scores_, color="#0072B2", label="validation rows (EarlyStopping)")
rest = to_the_end.scores_[len(epochs) :]
later = range(len(epochs) + 1, late.n_iter_ + 1)
left.plot(later, rest, color="#0072B2", ls=":", label="not stopped")
best = stopping.scores_[sae.n_iter_ - 1]
left.plot(sae.n_iter_, best, "o", ms=12, mfc="none", mew=2, color="k", label="kept")
left.set(xlabel="Epoch", ylabel="R²", ylim=(0.6, 1), title="Stopped where it no longer helps")
left.legend(loc="lower right", fontsize="small")
right.plot(epochs, [numbers["l0"] for numbers in seen], color="#009E73")
right.axhline(sae.n_nonzero_coefs, color="0.4", ls=":")
right.text(0, sae.n_nonzero_coefs + 0.15, "n_nonzero_coefs", color="0.4")
right.set(xlabel="Epoch", ylabel="Codes of a row, mean", ylim=(9, 21), title="LogMetrics")
for ax in (left, right):
    ax.grid(alpha=0.3)
plt.show()
