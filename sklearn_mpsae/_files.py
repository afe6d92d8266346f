"""Files and folders that appear complete or not at all, and change no other ones.

What is being written has a name of its own in the same folder, ".<name>.<random hex
digits>.new", and is made only where there is nothing of that name. It is removed after any
error; only a process that is killed while it writes leaves it behind.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Names may have 255 bytes, and a character takes up to four of them.
_NAME_CHARACTERS = 40


@contextmanager
def replacing(path: str | os.PathLike[str], owner: str = "") -> Iterator[Path]:
    """An empty file to write to, which takes the place of `path` once it is complete.

    Of a link, the file that it points to is replaced. A file keeps its permissions; a new
    one has those that the umask leaves.

    Parameters
    ----------
    path : path-like
    owner : str
        Letters and digits that are made part of the scratch file's name: see `remove_scratch`.

    Yields
    ------
    beside : Path

    Raises
    ------
    OSError
        On entering, where no file can be written there.
    """
    target = _target(path)
    beside = _scratch(target, owner)
    with open(beside, "xb"):
        pass
    try:
        mode = stat.S_IMODE((target if target.exists() else beside).stat().st_mode)
        yield beside
        _sync(beside)
        if stat.S_IMODE(beside.stat().st_mode) != mode:
            beside.chmod(mode)
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to write to, which gets its name once all is in it.

    Yields
    ------
    beside : Path

    Raises
    ------
    FileExistsError
        Where there is something of that name: on entering, or at the end.
    """
    path = Path(path)
    if os.path.lexists(path):
        raise _exists(path)
    _check_parent(path)
    beside = _scratch(path)
    beside.mkdir()
    try:
        yield beside
        for file in beside.iterdir():
            _sync(file)
        _rename_folder(beside, path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise an OSError where `replacing` could not write a file now."""
    beside = _scratch(_target(path))
    with open(beside, "xb"):
        pass
    beside.unlink()


def remove_scratch(path: str | os.PathLike[str], owner: str) -> None:
    """Remove what writers of this owner, who were killed, have left beside `path`."""
    target = _target(path)
    start = _prefix(target, owner)
    for file in target.parent.iterdir():
        if file.name.startswith(start) and file.name.endswith(".new"):
            file.unlink(missing_ok=True)


def _target(path):
    """The file to replace, which may not exist yet."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it.")
    if target.exists():
        if not target.is_file():
            raise FileExistsError(f"{path} is a device or a pipe: name a file.")
        if not os.access(target, os.W_OK):
            raise PermissionError(f"{path} is write-protected: name another path.")
    _check_parent(target)
    return target


def _check_parent(path):
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path} cannot be written, as there is no folder {path.parent}: make it, or name "
            "another path."
        )


def _prefix(target, owner):
    return f".{target.name[:_NAME_CHARACTERS]}.{owner}"


def _scratch(target, owner=""):
    return target.with_name(f"{_prefix(target, owner)}{secrets.token_hex(8)}.new")


def _sync(file):
    with open(file, "rb+") as opened:
        os.fsync(opened.fileno())


def _rename_folder(beside, path):
    """Give a folder its name, if nothing has it."""
    if os.name == "nt":  # Windows: fails where there is something of that name
        os.rename(beside, path)
        return
    # os.replace overwrites an empty folder of that name; mkdir fails where there is one.
    try:
        path.mkdir()
    except FileExistsError:
        raise _exists(path) from None
    try:
        os.replace(beside, path)
    except OSError:
        with suppress(OSError):  # another process has put a file into it
            path.rmdir()
        raise


def _exists(path):
    return FileExistsError(f"{path} exists: name a new folder, or delete that one.")


def reason(error: object) -> str:
    """What an error says, to be put before a full stop: many end in one of their own."""
    return (str(error) or type(error).__name__).rstrip(".")
