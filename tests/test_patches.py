"""Patches that nothing uses make their test fail: see patches.py."""

import re
from pathlib import Path

import pytest
from patches import CheckedPatch

from sklearn_mpsae import TopKSAE
from sklearn_mpsae.coding.kernels import native
from sklearn_mpsae.estimators import _encoder
from sklearn_mpsae.learning.trainer import Trainer
from sklearn_mpsae.models import coded
from sklearn_mpsae.rows import sizes


def opened(*args):
    raise AssertionError("not reached")


FAULTS = {
    "not called": (
        lambda patch: patch.setattr(Trainer, "step", opened),
        lambda small: None,
        "Trainer.step is patched, but was not called",
    ),
    "a class that is not called": (
        lambda patch: patch.setattr("sklearn_mpsae.learning.run.Trainer", Trainer),
        lambda small: None,
        "run.Trainer is patched, but was not called",
    ),
    "left behind": (
        lambda patch: patch.watch(coded, "open_kernels", opened),
        # What 31 tests once did: no fit saw it.
        lambda small: TopKSAE(4, max_iter=1).fit(small),
        r"coded.open_kernels is patched, but sklearn_mpsae\.learning\.run calls its own",
    ),
    "a constant that is only imported": (
        lambda patch: patch.setattr(native, "KERNELS", 1, raising=False),
        lambda small: None,
        "native.KERNELS is patched, but nothing reads it",
    ),
    "a missing attribute": (
        lambda patch: patch.setattr(Trainer, "no_such_step", None, raising=False),
        lambda small: None,
        "Trainer.no_such_step is patched, but nothing reads it",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_nothing_uses_is_told(case, small):
    put, use, message = FAULTS[case]
    patch = CheckedPatch()
    put(patch)
    use(small)
    with pytest.raises(pytest.fail.Exception, match=message):
        patch.undo()


def test_what_is_used_is_fine(small):
    steps, step = [], Trainer.step
    with CheckedPatch.context() as patch:
        patch.setattr(Trainer, "step", lambda *args: steps.append(1) or step(*args))
        patch.setattr(sizes, "_POOL_BYTES", 1000)
        patch.watch(_encoder, "save_codes", opened)
        TopKSAE(4, max_iter=1, batch_size=30).fit(small)
    assert len(steps) == 2
    assert Trainer.step is step


def test_an_error_on_its_way_is_not_replaced():
    with pytest.raises(ZeroDivisionError), CheckedPatch.context() as patch:  # noqa: PT012
        patch.setattr(Trainer, "step", opened)
        raise ZeroDivisionError


def test_no_test_patches_in_another_way():
    for path in Path(__file__).parent.glob("test_*.py"):
        found = re.search(r"pytest\.MonkeyPatch|unittest.mock", path.read_text())
        assert not found or path == Path(__file__), path
