"""
Sentence embeddings explored
============================

An embedding is a vector whose coordinates mean nothing by themselves. A sparse dictionary
gives it a vocabulary: a sentence becomes the sum of a few atoms, and an atom can be read from
the sentences that use it most. The sentences here are those of Python's language reference,
which comes along with Python; each is embedded by latent semantic analysis (TF-IDF and a
truncated SVD), and the same steps serve the embeddings of any language model.
"""

import re
import textwrap
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from sklearn_mpsae import MPSparseAutoencoder

# %%
# Sentences and their embeddings
# ------------------------------
prose = [part for page in topics.values() for part in re.split(r"\n\s*\n", page)]
prose = [" ".join(part.split()) for part in prose if "::=" not in part and ">>>" not in part]
sentences = [text for part in prose for text in re.split(r"(?<=[.:;]) (?=[A-Z])", part)]
sentences = [text for text in dict.fromkeys(sentences) if re.match(r"[A-Z].{40,200}\.$", text)]

tfidf = TfidfVectorizer(
    sublinear_tf=True, min_df=3, max_df=0.2, stop_words="english", token_pattern="[A-Za-z]{3,}"
)
svd = TruncatedSVD(64, random_state=0)
X = normalize(svd.fit_transform(tfidf.fit_transform(sentences)))
print(f"{len(X)} sentences, embedded in {X.shape[1]} dimensions")

# %%
# A vocabulary of atoms
# ---------------------
# Four of 96 atoms for each sentence. This embedding is linear, so an atom also has a weight for
# each word; the three words with the largest weights name it. (For other embeddings, use the
# sentences below.)
sae = MPSparseAutoencoder(96, n_nonzero_coefs=4, intercept="zero", random_state=0).fit(X)
codes = sae.transform(X)
words = tfidf.get_feature_names_out()
weights = sae.components_ @ svd.components_
names = [" ".join(words[np.argsort(-row)[:3]]) for row in weights]
print(f"R² {sae.score(X):.2f} with four atoms a sentence")

# %%
# A sentence is a sum of atoms:
for text in ("generator", "exception"):
    i = next(i for i, sentence in enumerate(sentences) if text in sentence)
    print(textwrap.fill(sentences[i], 90))
    for atom in np.argsort(-codes[i])[:4]:
        print(f"   {codes[i, atom]:.2f}  {names[atom]}")

# %%
# The sentences of an atom
# ------------------------
# Six of the most used atoms that share no word in their names, and the five sentences with
# the largest code of each; the bars are the codes. The sentences of an atom share a topic, such
# as raising exceptions. Some share only a word, because this embedding is made of words.
chosen, taken = [], set()
for atom in np.argsort(-sae.atom_usage_):
    if taken.isdisjoint(names[atom].split()):
        chosen.append(atom)
        taken.update(names[atom].split())

figure, axes = plt.subplots(3, 2, figsize=(13, 8.4), layout="constrained", sharex=True)
for ax, atom in zip(axes.flat, chosen, strict=False):
    top = np.argsort(-codes[:, atom])[:5]
    ax.barh(range(5), codes[top, atom], color="#56B4E9", height=0.8)
    for place, i in enumerate(top):
        text = textwrap.shorten(sentences[i], 84, placeholder=" ...")
        ax.text(0.01, place, text, va="center", fontsize=9, parse_math=False)
    title = f"{names[atom]}  ({np.count_nonzero(codes[:, atom])} sentences)"
    ax.set_title(title, loc="left", fontweight="bold", fontsize=10)
    ax.set(yticks=[], xlim=(0, 1), ylim=(4.6, -0.6))
    ax.spines[["top", "right", "left"]].set_visible(False)
for ax in axes[-1]:
    ax.set_xlabel("Code")
plt.show()
