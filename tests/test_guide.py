"""docs/add_an_encoder.md, followed to the letter: its encoder goes through all there is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_distributed import free_port

GUIDE = Path(__file__).parents[1] / "docs" / "add_an_encoder.md"

# Adds the guide's files to the package of this process, as if they lay in it.
INSTALL = """
import sys
import warnings
from pathlib import Path
import sklearn_mpsae
from sklearn_mpsae import estimators, models
folder = Path(sys.argv[1])
models.__path__.append(str(folder / "models"))
estimators.__path__.append(str(folder / "estimators"))
estimators._MODULE_OF["TiedTopKSAE"] = "._tied"
sklearn_mpsae._MODULE_OF["TiedTopKSAE"] = ".estimators"
estimators.__all__.append("TiedTopKSAE")
sklearn_mpsae.__all__.append("TiedTopKSAE")
import numpy as np
from sklearn_mpsae import TiedTopKSAE
options = {"n_components": 24, "n_nonzero_coefs": 3, "max_iter": 4, "batch_size": 50}
options |= {"random_state": 0, "dead_after": 3}
X = np.random.default_rng(0).random((200, 12)).astype(np.float32)
same = np.testing.assert_array_equal
close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5)
sae = TiedTopKSAE(**options).fit(X)
"""

THROUGH = {
    "fit": """
from sklearn.utils.estimator_checks import check_estimator
assert sae.score(X) > 0.3
assert ((sae.transform(X) != 0).sum(axis=1) <= 3).all()
same(TiedTopKSAE(**options, device="cpu:0").fit(X).atom_usage_, sae.atom_usage_)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    check_estimator(TiedTopKSAE(max_iter=5))
""",
    "gradients": """
import torch
from sklearn_mpsae.coding.kernels.native import NativeKernels
from sklearn_mpsae.learning.recipe import fit_plan
from sklearn_mpsae.learning.distributed import Alone
from sklearn_mpsae.models.base import StepContext
from sklearn_mpsae.models.tied import TiedTopK
W, bias = sae.components_.astype(float), sae.encoder_intercept_[:, None].astype(float)
step = StepContext(fit_plan(0.9, 3, 24, free_norms=False), np.array([], int), {}, Alone())
with NativeKernels() as kernels:
    parameters = {"components": W, "bias": bias}
    found = TiedTopK().gradients(kernels, parameters, X.astype(float), step)
chosen = np.zeros((len(X), 24))
np.put_along_axis(chosen, found.indices, (found.values > 0).astype(float), axis=1)
tensors = [torch.tensor(each, requires_grad=True) for each in (W, bias)]
codes = (torch.tensor(X, dtype=torch.float64) @ tensors[0].T + tensors[1][:, 0])
codes = codes * torch.tensor(chosen)
loss = ((torch.tensor(X, dtype=torch.float64) - codes @ tensors[0]) ** 2).sum() / 2
loss.backward()
for tensor, name in zip(tensors, ("components", "bias")):
    np.testing.assert_allclose(found.gradients[name], tensor.grad.numpy(), atol=1e-9)
""",
    "stream": """
import pickle
whole, cut = TiedTopKSAE(**options), TiedTopKSAE(**options)
for part in (X[:90], X[90:], X[::-1]):
    whole.partial_fit(part)
    cut = pickle.loads(pickle.dumps(cut.partial_fit(part)))
same(cut.components_, whole.components_)
warm = TiedTopKSAE(**options, warm_start=True).fit(X)
assert warm.fit(X).score(X) >= sae.score(X) - 0.01
""",
    "resume": """
from sklearn_mpsae.learning.trainer import Trainer
checkpointed = options | {"checkpoint": folder / "c", "checkpoint_every": 0}
step = Trainer.step
def killed(self, *args):
    if self.n_steps == 7:
        raise KeyboardInterrupt
    return step(self, *args)
Trainer.step = killed
try:
    TiedTopKSAE(**checkpointed).fit(X)
except KeyboardInterrupt:
    pass
Trainer.step = step
same(TiedTopKSAE(**checkpointed).fit(X).components_, sae.components_)
same(TiedTopKSAE(**options).load_checkpoint(folder / "c").transform(X), sae.transform(X))
""",
    "save": """
from sklearn_mpsae.persistence import load, save
for name in ("model", "model.safetensors"):
    back = load(save(sae, folder / name))
    same(back.transform(X), sae.transform(X))
    same(back.partial_fit(X).components_, load(folder / name).partial_fit(X).components_)
""",
    "exports": """
import onnxruntime, torch
from sklearn_mpsae.persistence import export_saelens, import_saelens, to_onnx, to_torch_module
close(to_torch_module(sae)(torch.from_numpy(X)).detach().numpy(), sae.transform(X))
session = onnxruntime.InferenceSession(to_onnx(sae, folder / "x.onnx"))
close(session.run(["codes"], {"X": X})[0], sae.transform(X))
close(import_saelens(export_saelens(sae, folder / "saelens")).transform(X), sae.transform(X))
""",
    "path and explorer": """
from sklearn_mpsae import explore
path = sae.reconstruction_path(X, 3)
for k in (1, 2, 3):
    score = sae.set_params(transform_n_nonzero_coefs=k).score(X)
    np.testing.assert_allclose(1 - path[k - 1], score, rtol=1e-5)
with sae.coder() as encode:
    same(encode(X).dense(), sae.transform(X))
explore(sae, X, folder / "page.html")
assert (folder / "page.html").stat().st_size > 10_000
""",
}

RANK = """
distributed = TiedTopKSAE(**options | {"batch_size": 50}, distributed=True).fit(X[rank::2])
np.save(folder / f"{rank}.npy", distributed.components_)
"""


def blocks():
    """The files of the guide, by the path that stands before each."""
    found = re.findall(r"`(sklearn_mpsae/\S+\.py)`:\n\n```python\n(.*?)```", text(), flags=re.S)
    return dict(found)


def text():
    return GUIDE.read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """The files of the guide, written where its text says."""
    for path, content in blocks().items():
        file = tmp_path / Path(path).relative_to("sklearn_mpsae")
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
    assert (tmp_path / "models" / "tied.py").exists()
    assert (tmp_path / "estimators" / "_tied.py").exists()
    return tmp_path


def start(code, folder, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code, folder],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_encoder_of_the_guide_goes_through_everything(folder):
    process = start(INSTALL + "".join(THROUGH.values()), folder)
    errors = process.communicate()[1]
    assert process.returncode == 0, errors


def test_two_ranks_learn_the_encoder_of_the_guide(folder):
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    code = INSTALL + RANK
    ranks = [
        start(f"rank = {rank}\n{code}", folder, RANK=str(rank), **places) for rank in (0, 1)
    ]
    errors = [process.communicate()[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], errors
    one, other = (np.load(folder / f"{rank}.npy") for rank in (0, 1))
    np.testing.assert_array_equal(one, other)


def test_the_guide_names_the_estimator_as_the_package_does():
    """Its third step adds a line to each of the lists that there are."""
    lists = (GUIDE.parents[1] / "sklearn_mpsae" / "estimators" / "__init__.py").read_text()
    step = re.search(r"## 3\. Its name.*?```python\n(.*?)```", text(), flags=re.S)[1]
    for line in step.splitlines():
        if line and "ied" not in line:
            assert line in lists
