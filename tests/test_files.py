"""Files that are written touch no others, and are whole or not there."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from sklearn_mpsae import TopKSAE, explore
from sklearn_mpsae._files import check_writable, new_folder, replacing
from sklearn_mpsae.persistence import export_saelens, save, to_onnx


def onnx(sae, X, path):
    pytest.importorskip("onnx")
    to_onnx(sae, path)


# All that write a file or a folder, with a name for it.
FILES = {
    "save a file": ("model.safetensors", lambda sae, X, path: save(sae, path)),
    "checkpoint": ("run.ckpt", lambda sae, X, path: sae.set_params(checkpoint=path).fit(X)),
    "explore": ("page.html", lambda sae, X, path: explore(sae, X, path)),
    "to_onnx": ("model.onnx", onnx),
}
FOLDERS = {
    "save": ("model", lambda sae, X, path: save(sae, path)),
    "transform_to": ("codes", lambda sae, X, path: sae.transform_to(X, path)),
    "export_saelens": ("saelens", lambda sae, X, path: export_saelens(sae, path)),
}


@pytest.fixture
def sae(small):
    return TopKSAE(12, n_nonzero_coefs=2, max_iter=1, random_state=0).fit(small)


def table(writers):
    return pytest.mark.parametrize(("name", "write"), writers.values(), ids=writers)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@table(FILES | FOLDERS)
def test_files_of_users_stay(name, write, sae, small, tmp_path):
    """Whatever they are called."""
    for ending in (".new", ".tmp", ".lock", "~"):
        (tmp_path / (name + ending)).write_bytes(b"mine")
        (tmp_path / f".{name}{ending}").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    before = contents(tmp_path)
    write(sae, small, tmp_path / name)
    after = contents(tmp_path)
    assert {key: after[key] for key in before} == before
    assert set(os.listdir(tmp_path)) == {*before, "folder", name}


@table(FOLDERS)
def test_folders_of_users_stay(name, write, sae, small, tmp_path):
    other = tmp_path / f"{name}.new"
    other.mkdir()
    (other / "mine").write_bytes(b"mine")
    write(sae, small, tmp_path / name)
    assert contents(other) == {"mine": b"mine"}


@table(FOLDERS)
def test_a_folder_that_exists_is_refused(name, write, sae, small, tmp_path):
    """An empty one, a file, a link to nothing."""
    (tmp_path / name).mkdir()
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for taken in (name, "file", "link"):
        with pytest.raises(FileExistsError, match="exists: name a new folder"):
            write(sae, small, tmp_path / taken)
    assert sorted(os.listdir(tmp_path)) == sorted([name, "file", "link"])


@table(FILES)
def test_what_is_no_file_is_refused(name, write, sae, small, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder: name a file"):
        write(sae, small, tmp_path / name)
    os.mkfifo(tmp_path / f"pipe.{name}")
    with pytest.raises(FileExistsError, match="a device or a pipe"):
        write(sae, small, tmp_path / f"pipe.{name}")


@table(FILES | FOLDERS)
def test_no_folder_to_write_to(name, write, sae, small, tmp_path):
    """Known before any work."""
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere: make it"):
        write(sae, small, tmp_path / "nowhere" / name)
    assert os.listdir(tmp_path) == []


@table(FILES | FOLDERS)
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_those_of_the_umask(umask, name, write, sae, small, tmp_path):
    before = os.umask(umask)
    try:
        write(sae, small, tmp_path / name)
    finally:
        os.umask(before)
    for path in (tmp_path / name, *(tmp_path / name).glob("*")):
        asked = (0o777 if path.is_dir() else 0o666) & ~umask
        assert stat.S_IMODE(path.stat().st_mode) == asked


@table(FILES)
def test_a_file_keeps_its_permissions_and_a_link_its_target(name, write, sae, small, tmp_path):
    write(sae, small, tmp_path / name)
    (tmp_path / name).chmod(0o600)
    (tmp_path / "folder").mkdir()
    link = tmp_path / "folder" / name
    link.symlink_to(tmp_path / name)
    before = (tmp_path / name).stat().st_ino
    write(sae, small, link)
    assert link.is_symlink()
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    # A finished checkpoint has nothing to be written anew for.
    assert ((tmp_path / name).stat().st_ino == before) == (name == "run.ckpt")


def test_a_write_protected_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"mine")
    # As it is for a file of mode 444, but where root runs the tests.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(PermissionError, match="write-protected"), replacing(tmp_path / "file"):
        pass


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("opened", [replacing, new_folder])
def test_nothing_is_left_after_an_error(opened, error, tmp_path):
    def write():
        with opened(tmp_path / "name") as beside:
            (beside / "file" if beside.is_dir() else beside).write_bytes(b"half of it")
            raise error

    with pytest.raises(error):
        write()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["n" * 255, "ö" * 127, "."])
def test_names_of_any_length(name, tmp_path):
    path = tmp_path / name
    if name == ".":
        with pytest.raises(IsADirectoryError), replacing(path):
            pass
        return
    with replacing(path) as beside:
        beside.write_bytes(b"all")
    assert contents(tmp_path) == {name: b"all"}
    check_writable(path)
    assert contents(tmp_path) == {name: b"all"}


@pytest.mark.parametrize("theirs", [{}, {"file": b"mine"}])
def test_a_folder_that_appears_meanwhile_is_not_lost(theirs, tmp_path):
    """Nor where it is empty: renaming would take its place."""
    path = tmp_path / "folder"

    def write():
        with new_folder(path) as beside:
            (beside / "file").write_bytes(b"new")
            path.mkdir()
            for name, content in theirs.items():
                (path / name).write_bytes(content)

    with pytest.raises(FileExistsError, match="exists: name a new folder"):
        write()
    assert contents(path) == theirs
    assert os.listdir(tmp_path) == ["folder"]


def test_many_threads_write_one_file(tmp_path):
    """One of them is there at the end, whole, and none fails."""
    errors, together = [], threading.Barrier(8)

    def write(letter):
        try:
            together.wait()
            for _ in range(10):
                with replacing(tmp_path / "file") as beside, open(beside, "wb") as file:
                    for _ in range(20):
                        file.write(letter * 1000)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(bytes([65 + i]),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    (content,) = contents(tmp_path).values()
    assert len(content) == 20_000
    assert len(set(content)) == 1


def test_many_threads_make_one_folder(tmp_path):
    """One of them, and the others say that it is there."""
    made, together = [], threading.Barrier(8)

    def make(number):
        together.wait()
        try:
            with new_folder(tmp_path / "folder") as beside:
                (beside / "file").write_bytes(b"%d" % number)
        except FileExistsError:
            return
        made.append(number)

    threads = [threading.Thread(target=make, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (number,) = made
    assert os.listdir(tmp_path) == ["folder"]
    assert contents(tmp_path / "folder") == {"file": b"%d" % number}


def test_what_a_killed_writer_leaves(tmp_path):
    """A file by a name that says what it is; what was there before is whole."""
    (tmp_path / "file").write_bytes(b"old")
    code = f"""
import os, signal
from sklearn_mpsae._files import replacing
with replacing({str(tmp_path / "file")!r}) as beside:
    beside.write_bytes(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    with replacing(tmp_path / "file") as beside:
        assert (tmp_path / "file").read_bytes() == b"old"
        beside.write_bytes(b"new")
    left = contents(tmp_path)
    assert left.pop("file") == b"new"
    ((name, content),) = left.items()
    assert name.startswith(".file.")
    assert name.endswith(".new")
    assert content == b"half of it"
