"""Fitted estimators on the Hugging Face hub: the two files of a saved folder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from .._array_api import on_numpy
from .._optional import needed
from ._files import CONFIG, WEIGHTS, load, save


@on_numpy
def push_to_hub(
    estimator: Any,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    commit_message: str = "Save with sklearn_mpsae",
) -> str:
    """Upload a fitted estimator to a repository of the Hugging Face hub, in one commit.

    Two files are uploaded, those that `save` writes to a folder; others that the repository
    has stay as they are.

    Needs ``pip install 'sklearn_mpsae[share]'``.

    Parameters
    ----------
    estimator : estimator of this package
        Fitted.
    repo_id : str
        The repository, "user/name"; it is created where there is none.
    private : bool, default=None
        Whether a repository that is created is private; None for the owner's default.
    revision : str, default=None
        The branch; None for the main one.
    token : str, default=None
        None for the one that `huggingface_hub` is logged in with.
    commit_message : str, default="Save with sklearn_mpsae"
        The first line of the commit.

    Returns
    -------
    url : str
        Of the commit.

    Raises
    ------
    ValueError, NotFittedError
        As for `save`; then nothing is uploaded.

    Examples
    --------
    >>> from sklearn_mpsae.persistence import push_to_hub
    >>> push_to_hub(sae, "me/digits-mp")  # doctest: +SKIP
    """
    hub = needed("huggingface_hub", "share")
    with tempfile.TemporaryDirectory() as scratch:
        folder = save(estimator, Path(scratch) / "model")
        api = hub.HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            allow_patterns=[CONFIG, WEIGHTS],
            revision=revision,
            commit_message=commit_message,
        )
    return str(commit.commit_url)


def load_from_hub(
    repo_id: str, *, revision: str | None = None, token: str | None = None
) -> Any:
    """Load an estimator that `push_to_hub` has uploaded.

    Only config.json and model.safetensors are downloaded, both of one commit, into the cache
    of `huggingface_hub`, and `load` checks them: nothing of a repository can run code.

    Needs ``pip install 'sklearn_mpsae[share]'``.

    Parameters
    ----------
    repo_id : str
        The repository, "user/name".
    revision : str, default=None
        A branch, a tag, or the hash of a commit, which alone cannot come to mean something
        else; None for the newest of the main branch.
    token : str, default=None
        None for the one that `huggingface_hub` is logged in with.

    Returns
    -------
    estimator : estimator of this package
        As it was saved.

    Raises
    ------
    FileNotFoundError, ValueError
        As for `load`.

    Examples
    --------
    >>> from sklearn_mpsae.persistence import load_from_hub
    >>> sae = load_from_hub("me/digits-mp")  # doctest: +SKIP
    """
    hub = needed("huggingface_hub", "share")
    folder = hub.snapshot_download(
        repo_id, revision=revision, token=token, allow_patterns=[CONFIG, WEIGHTS]
    )
    return load(folder)
