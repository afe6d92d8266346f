"""fetch_mnist: what it reads, what it refuses, what it says. None of it needs a network."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from sklearn.utils import Bunch

from sklearn_mpsae.datasets import _mnist, fetch_mnist

N_TRAIN, N_TEST, N_PIXELS = 60_000, 10_000, 784


@pytest.fixture(scope="module")
def openml():
    """What fetch_openml gives: all rows different, labels as strings. It takes no memory."""
    pixels = np.arange(N_TRAIN + N_TEST + N_PIXELS - 1) % 251
    data = np.lib.stride_tricks.sliding_window_view(pixels, N_PIXELS)
    target = np.array([str(row // 7000) for row in range(len(data))], dtype=object)
    return Bunch(data=data, target=target)


@pytest.fixture(scope="module")
def arrays(openml):
    """The same as the file keeps it."""
    X, y = openml.data.astype(np.uint8), openml.target.astype(np.uint8)
    return {
        "X_train": X[:N_TRAIN],
        "y_train": y[:N_TRAIN],
        "X_test": X[N_TRAIN:],
        "y_test": y[N_TRAIN:],
    }


@pytest.fixture
def known(arrays, monkeypatch):
    """Let the checksum be that of `arrays`."""
    contents = b"".join(array.tobytes() for array in arrays.values())
    monkeypatch.setattr(_mnist, "_SHA256", hashlib.sha256(contents).hexdigest())


@pytest.fixture
def calls(openml, monkeypatch):
    """Put `openml` in the place of the network, and list the calls."""
    calls = []

    def fetch_openml(*args, **kwargs):
        calls.append((args, kwargs))
        return openml

    monkeypatch.watch(_mnist, "fetch_openml", fetch_openml)
    return calls


@pytest.fixture
def offline(monkeypatch):
    def fetch_openml(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.watch(_mnist, "fetch_openml", fetch_openml)


def save(folder, arrays):
    np.savez(folder / "mnist.npz", **arrays)


# ------------------------------------------------------------------------- a good file
@pytest.mark.usefixtures("known")
def test_reads_the_file_without_downloading(tmp_path, arrays, calls):
    save(tmp_path, arrays)
    mnist = fetch_mnist(tmp_path)
    assert not calls
    assert mnist.data.shape == (N_TRAIN + N_TEST, N_PIXELS)
    assert mnist.target.shape == (N_TRAIN + N_TEST,)
    assert mnist.data.dtype == mnist.target.dtype == np.uint8
    np.testing.assert_array_equal(mnist.data[:N_TRAIN], arrays["X_train"])
    np.testing.assert_array_equal(mnist.data[N_TRAIN:], arrays["X_test"])
    np.testing.assert_array_equal(mnist.target[:N_TRAIN], arrays["y_train"])
    np.testing.assert_array_equal(mnist.target[N_TRAIN:], arrays["y_test"])


@pytest.mark.usefixtures("known")
def test_bunch_describes_the_data(tmp_path, arrays):
    save(tmp_path, arrays)
    mnist = fetch_mnist(str(tmp_path))
    assert len(mnist.feature_names) == N_PIXELS
    assert mnist.feature_names[29] == "pixel_1_1"
    assert mnist.DESCR.startswith("MNIST")


@pytest.mark.usefixtures("known")
def test_return_X_y_gives_what_the_bunch_holds(tmp_path, arrays):  # noqa: N802
    save(tmp_path, arrays)
    mnist = fetch_mnist(tmp_path)
    X, y = fetch_mnist(tmp_path, return_X_y=True)
    np.testing.assert_array_equal(X, mnist.data)
    np.testing.assert_array_equal(y, mnist.target)


@pytest.mark.usefixtures("known")
def test_default_folder_is_that_of_scikit_learn(tmp_path, arrays, monkeypatch):
    save(tmp_path, arrays)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    X, _ = fetch_mnist(download_if_missing=False, return_X_y=True)
    np.testing.assert_array_equal(X[:N_TRAIN], arrays["X_train"])


# ---------------------------------------------------------------------------- downloads
@pytest.mark.usefixtures("known")
def test_downloads_once(tmp_path, openml, calls):
    folder = tmp_path / "new"
    X, y = fetch_mnist(folder, return_X_y=True)
    ((args, kwargs),) = calls
    assert args == ("mnist_784",)
    assert kwargs == {
        "version": 1,
        "as_frame": False,
        "parser": "liac-arff",
        "data_home": folder,
    }
    np.testing.assert_array_equal(X, openml.data)
    np.testing.assert_array_equal(y, openml.target.astype(int))
    assert X.dtype == y.dtype == np.uint8
    X_again, y_again = fetch_mnist(folder, download_if_missing=False, return_X_y=True)
    np.testing.assert_array_equal(X_again, X)
    np.testing.assert_array_equal(y_again, y)
    assert len(calls) == 1


@pytest.mark.usefixtures("known", "calls")
def test_file_written_has_the_documented_form_and_nothing_is_left_beside_it(tmp_path, arrays):
    fetch_mnist(tmp_path)
    assert os.listdir(tmp_path) == ["mnist.npz"]
    with np.load(tmp_path / "mnist.npz", allow_pickle=False) as file:
        assert set(file.files) == set(arrays)
        for name, array in arrays.items():
            assert file[name].dtype == np.uint8
            np.testing.assert_array_equal(file[name], array)


def test_nothing_is_downloaded_that_could_not_be_kept(tmp_path, calls):
    (tmp_path / "mnist.npz").symlink_to(tmp_path / "nowhere" / "mnist.npz")
    with pytest.raises(FileNotFoundError, match="nowhere: make it"):
        fetch_mnist(tmp_path)
    assert not calls


@pytest.mark.usefixtures("known", "calls")
def test_interrupted_write_leaves_no_file(tmp_path, monkeypatch):
    def savez(file, **arrays):
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", savez)
    with pytest.raises(KeyboardInterrupt):
        fetch_mnist(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("calls")
def test_download_that_is_not_mnist_is_not_kept(tmp_path):
    # Right in form, but the checksum is that of the real data.
    with pytest.raises(ValueError, match=r"OpenML sent .* not MNIST: its contents differ"):
        fetch_mnist(tmp_path)
    assert not (tmp_path / "mnist.npz").exists()


@pytest.mark.usefixtures("calls")
def test_download_of_another_shape_is_refused(tmp_path, openml, monkeypatch):
    monkeypatch.setitem(openml, "data", openml.data[:-1])
    with pytest.raises(ValueError, match=r"OpenML sent .* X_test has shape \(9999, 784\)"):
        fetch_mnist(tmp_path)


@pytest.mark.usefixtures("offline")
def test_offline_error_says_what_was_tried_and_what_to_do(tmp_path):
    with pytest.raises(OSError, match=r"OpenML: .*no route to host") as caught:
        fetch_mnist(tmp_path)
    message = str(caught.value)
    assert "mnist_784" in message
    assert "Check the network" in message
    assert str(tmp_path / "mnist.npz") in message
    assert "X_train (60000, 784)" in message


def test_download_if_missing_false_raises_without_trying(tmp_path, calls):
    with pytest.raises(OSError, match="download_if_missing is False") as caught:
        fetch_mnist(tmp_path, download_if_missing=False)
    assert str(tmp_path / "mnist.npz") in str(caught.value)
    assert not calls


# ---------------------------------------------------------------------------- bad files
def changed(arrays, name, array):
    return {**arrays, name: array}


BAD_CONTENTS = {
    "a missing key": (
        lambda arrays: {name: arrays[name] for name in ("X_train", "y_train", "X_test")},
        "y_test",
    ),
    "too few rows": (
        lambda arrays: changed(arrays, "X_train", arrays["X_train"][1:]),
        r"X_train has shape \(59999, 784\)",
    ),
    "images not flat": (
        lambda arrays: changed(arrays, "X_test", arrays["X_test"].reshape(-1, 28, 28)),
        r"X_test has shape \(10000, 28, 28\)",
    ),
    "another dtype": (
        lambda arrays: changed(arrays, "y_train", arrays["y_train"].astype(np.int64)),
        "y_train has .* dtype int64",
    ),
    "a label of 10": (
        lambda arrays: changed(arrays, "y_test", arrays["y_test"] + np.uint8(1)),
        "y_test has the label 10",
    ),
    "one other pixel": (
        lambda arrays: changed(arrays, "X_test", arrays["X_test"] ^ np.eye(1, 784, dtype="u1")),
        "contents differ",
    ),
    "pickled objects": (
        lambda arrays: changed(arrays, "y_test", arrays["y_test"].astype(object)),
        "allow_pickle=False",
    ),
}


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("case", BAD_CONTENTS)
def test_wrong_contents_are_refused_by_name(case, tmp_path, arrays, calls):
    change, reason = BAD_CONTENTS[case]
    save(tmp_path, change(arrays))
    with pytest.raises(ValueError, match=reason) as caught:
        fetch_mnist(tmp_path)
    assert str(tmp_path / "mnist.npz") in str(caught.value)
    assert "Delete it" in str(caught.value)
    assert not calls


@pytest.mark.parametrize("size", [0, 1000, -1000])
def test_torn_file_is_refused_by_name(size, tmp_path, arrays, calls):
    save(tmp_path, arrays)
    path = tmp_path / "mnist.npz"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="not the MNIST file") as caught:
        fetch_mnist(tmp_path)
    assert str(path) in str(caught.value)
    assert "Delete it" in str(caught.value)
    # The user's file is not ours to replace.
    assert not calls


@pytest.mark.parametrize(
    "argument",
    [{"data_home": 3}, {"download_if_missing": "no"}, {"return_X_y": 2.5}],
)
def test_wrong_argument_is_refused_by_name(argument):
    (name,) = argument
    with pytest.raises(ValueError, match=f"The '{name}' parameter"):
        fetch_mnist(**argument)


# ------------------------------------------------------------------------ real data, cost
def test_real_mnist():
    folder = os.environ.get("SKLEARN_MPSAE_DATA")
    if folder is None:
        pytest.skip("SKLEARN_MPSAE_DATA names no folder with an mnist.npz")
    if not Path(folder, "mnist.npz").exists():
        pytest.skip(f"no mnist.npz in SKLEARN_MPSAE_DATA={folder}")
    X, y = fetch_mnist(folder, download_if_missing=False, return_X_y=True)
    np.testing.assert_array_equal(y[:10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4])
    np.testing.assert_array_equal(y[N_TRAIN:][:5], [7, 2, 1, 0, 4])
    # The figures everyone standardises MNIST with.
    assert X[:N_TRAIN].mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert X[:N_TRAIN].std() / 255 == pytest.approx(0.3081, abs=1e-4)


def test_importing_loads_neither_torch_nor_matplotlib():
    code = (
        "import sys, sklearn_mpsae.datasets; "
        "assert not {'torch', 'matplotlib', 'numba'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
