"""
Retrieval with sparse codes
===========================

A search for similar texts compares a query with many embeddings. Sparse codes
of the embeddings take less memory. How many of the neighbours do they keep?
We embed the sentences of Python's language reference by latent semantic
analysis, encode them as CSR, and count which of the ten nearest neighbours by
the dense embeddings are found by the codes. The same steps serve the
embeddings of any language model.
"""

import re
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from sklearn_mpsae import MPSparseAutoencoder

# %%
# Embeddings
# ----------
# 200 sentences are queries. Neither the embedding nor the dictionary learns
# from them.
text = "\n\n".join(topics.values())
paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
paragraphs = [part for part in paragraphs if not re.search("::=|>>>", part)]
sentences = [
    sentence
    for part in paragraphs
    for sentence in re.split(r"(?<=[.:;]) (?=[A-Z])", part)
    if re.match(r"[A-Z].{40,200}\.$", sentence)
]
sentences = list(dict.fromkeys(sentences))
index, queries = train_test_split(sentences, test_size=200, random_state=0)
embedding = make_pipeline(
    TfidfVectorizer(sublinear_tf=True, min_df=3, stop_words="english"),
    TruncatedSVD(128, random_state=0),
    Normalizer(),
)
X = embedding.fit_transform(index).astype(np.float32)
Q = embedding.transform(queries).astype(np.float32)
print(f"{len(X)} sentences in {X.shape[1]} dimensions, {len(Q)} queries")

# %%
# Codes
# -----
# Embeddings have entries of either sign, so the codes may too. Cosines are
# taken about zero, so nothing is subtracted from the rows. With
# ``path_weight=0.5`` one fit serves every number of coefficients.
sae = MPSparseAutoencoder(
    256,
    n_nonzero_coefs=16,
    positive_code=False,
    intercept="zero",
    path_weight=0.5,
    sparse_output=True,
    random_state=0,
).fit(X)


def neighbours(rows, queries):
    """The ten nearest rows of each query, by cosine; CSR or dense."""
    search = NearestNeighbors(n_neighbors=10, metric="cosine")
    return search.fit(rows).kneighbors(queries, return_distance=False)


def by_products(codes):
    """The ten largest products of a query and a reconstruction, from codes."""
    products = codes @ (sae.components_ @ Q.T)
    return np.argsort(-products, axis=0)[:10].T


def recall(found):
    """The share of the ten nearest by the dense rows that was found."""
    pairs = zip(found, nearest, strict=True)
    return np.mean([np.isin(a, b).mean() for a, b in pairs])


def n_bytes(codes):
    return codes.data.nbytes + codes.indices.nbytes + codes.indptr.nbytes


# %%
# Three searches in the same memory: cosines of codes; products of the queries
# with the reconstructions, computed from the CSR codes alone; and, as a simple
# baseline, cosines of the first columns of the dense embedding.
nearest = neighbours(X, Q)
print(f"dense: {X.nbytes / len(X):.0f} bytes a row")
print(f"dictionary, once: {sae.components_.nbytes / len(X):.0f} bytes a row")
print(" k  bytes  codes  products  first columns")
results = []
for k in (1, 2, 4, 8, 16):
    sae.set_params(transform_n_nonzero_coefs=k)
    codes = sae.transform(X)
    size = n_bytes(codes) / len(X)
    m = round(size / X.itemsize)
    found = neighbours(codes, sae.transform(Q)), by_products(codes)
    cosine, product = map(recall, found)
    first = recall(neighbours(X[:, :m], Q[:, :m]))
    results.append((size, cosine, product, first))
    print(f"{k:2} {size:6.0f} {cosine:6.2f} {product:9.2f} {first:14.2f}")

# %%
# Recall for memory
# -----------------
# At each size the products from codes find more of the neighbours than the
# cosines of codes. The reason: atoms are not orthogonal. Two rows that use two
# similar atoms are near each other, and their codes have nothing in common.
# Cosines of codes also hardly rise from eight coefficients on. The first
# columns of the embedding find least. The products need the dictionary in
# memory, once for all rows; the cosines need it to encode queries.
size, *curves = np.transpose(results)
names = ["cosine of codes", "products from codes", "first columns"]
figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
for name, curve, marker in zip(names, curves, "osD", strict=True):
    ax.plot(size, curve, marker=marker, label=name)
ax.axvline(X.nbytes / len(X), color="0.3", ls="--", lw=1, label="dense")
ax.set_xscale("log", base=2)
ticks = [16, 32, 64, 128, 256, 512]
ax.set_xticks(ticks, ticks)
ax.set(xlabel="Bytes a row", ylabel="Recall of ten neighbours", ylim=(0, 1))
ax.grid(alpha=0.3)
ax.legend()
plt.show()
