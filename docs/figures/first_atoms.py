"""The picture of the first example."""

from sklearn.datasets import load_digits

from sklearn_mpsae import MPSparseAutoencoder, plotting

sae = MPSparseAutoencoder(128, random_state=0).fit(load_digits().data)
plotting.AtomsDisplay.from_estimator(sae, image_shape=(8, 8))
