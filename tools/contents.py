"""Check what an sdist and a wheel hold: `python tools/contents.py dist/*`.

The wheel holds the files of sklearn_mpsae/ that git knows, and nothing else; the sdist those
and what is needed to build, to read and to cite them. Tests, docs, examples and benchmarks
stay in the repository: they belong together, and read each other.
"""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

BESIDE = {
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
}
MEGABYTE = 1 << 20


def package_files() -> set[str]:
    """The files of the package, by git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "sklearn_mpsae"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name for name in output.splitlines() if Path(name).exists()}


def members(path: Path) -> set[str]:
    """The files of a distribution, but for what the build adds."""
    if path.suffix == ".whl":
        names = zipfile.ZipFile(path).namelist()
        return {name for name in names if ".dist-info/" not in name}
    with tarfile.open(path) as archive:
        names = [file.name.partition("/")[2] for file in archive if file.isfile()]
    made = {"PKG-INFO", "setup.cfg"}
    return {name for name in names if ".egg-info/" not in name and name not in made}


def main(paths: list[str]) -> int:
    package, failed = package_files(), 0
    for path in map(Path, paths):
        expected = package if path.suffix == ".whl" else package | BESIDE
        found, size = members(path), path.stat().st_size
        print(f"{path.name}: {len(found)} files, {size / MEGABYTE:.2f} MB")
        for what, names in [("missing", expected - found), ("too many", found - expected)]:
            if names:
                print(f"  {what}: {', '.join(sorted(names))}")
                failed = 1
        if size > MEGABYTE:
            print("  more than 1 MB: look what is in it")
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
