"""
Two processes learn one dictionary
==================================

``torchrun`` starts a script several times, on one machine or on many, and each process learns
from rows of its own; with ``distributed=True`` all of them end with the same estimator. This
runs the example ``torchrun.py`` with two processes, and compares what they learnt with
what one process learns.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.plotting import AtomsDisplay

# %%
# Two processes
# -------------
# The same as ``torchrun --nproc-per-node 2 torchrun.py --output FILE``. Each process has half
# of scikit-learn's digits, and takes half of each batch.
script = Path(sys.argv[0]).with_name("torchrun.py")
with tempfile.TemporaryDirectory() as folder:
    output = Path(folder, "estimator.joblib")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launch, "--nproc-per-node", "2", str(script), "--output", str(output)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    together = joblib.load(output)
print(*sorted(run.stdout.splitlines()), sep="\n")

# %%
# One process
# -----------
digits = load_digits().data
alone = MPSparseAutoencoder(128, n_nonzero_coefs=8, random_state=0).fit(digits)
print(f"alone: learnt from {alone.n_samples_seen_} rows; R2 {alone.score(digits):.4f}")

# %%
# The same learning
# -----------------
# On the left, the two lines coincide: two processes take the same steps as one, with batches of
# the same size; only the order of the rows differs. (The error rises in steps because a fit
# begins with twice the requested number of atoms per row and reduces it one by one.) On the
# right are the atoms that the two processes have learnt, the most used ones first.
figure, (left, right) = plt.subplots(
    1, 2, figsize=(12, 4.6), layout="constrained", width_ratios=[1, 1.3]
)
left.plot(alone.loss_curve_, color="#E69F00", lw=4, label="one process")
left.plot(together.loss_curve_, color="#0072B2", lw=1.2, label="two processes")
left.set(xlabel="Epoch", ylabel="Unexplained share of a batch", yscale="log")
left.grid(alpha=0.3)
left.legend()
AtomsDisplay.from_estimator(together, image_shape=(8, 8), n_atoms=96, n_columns=12, ax=right)
right.set_title("The 96 most used of 128 atoms")
plt.show()
