"""Codes of an SAE here and in SAELens, handed over by files: the largest difference.

Bar: 1e-5, both ways. Needs sae-lens; the other way round is what an estimator here gives for
an SAE that SAELens made and saved, trained ones and ones with random weights.
"""

import tempfile
from pathlib import Path

import harness
import machine
import numpy as np
import rivals  # noqa: F401 - before SAELens, which needs its torchvision
import torch
from harness import Bar
from sae_lens import (
    SAE,
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    JumpReLUTrainingSAE,
    JumpReLUTrainingSAEConfig,
    MatchingPursuitTrainingSAE,
    MatchingPursuitTrainingSAEConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.saes.abstopk_sae import AbsTopKSAE, AbsTopKSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUSAE as TheirJumpReLUSAE
from sae_lens.saes.jumprelu_sae import JumpReLUSAEConfig
from sae_lens.saes.matching_pursuit_sae import MatchingPursuitSAE, MatchingPursuitSAEConfig
from sae_lens.saes.sae import TrainStepInput
from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
from sae_lens.saes.topk_sae import TopKSAE as TheirTopKSAE
from sae_lens.saes.topk_sae import TopKSAEConfig
from sklearn.datasets import load_digits

from sklearn_mpsae import (
    BatchTopKSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    MPSparseAutoencoder,
    ReLUSAE,
    TopKSAE,
)
from sklearn_mpsae.persistence import export_saelens, import_saelens

P, K = 256, 12

OURS = {
    "MP": MPSparseAutoencoder(P, n_nonzero_coefs=K, whitening=0),
    "MP, not centred": MPSparseAutoencoder(P, n_nonzero_coefs=K, whitening=0, intercept="zero"),
    "MP, average, coded by k": MPSparseAutoencoder(
        P, n_nonzero_coefs=K, sparsity="average", whitening=0, transform_n_nonzero_coefs=K
    ),
    "MP, atol": MPSparseAutoencoder(P, n_nonzero_coefs=60, whitening=0, atol=0.01),
    "MP, each atom once": MPSparseAutoencoder(
        P, n_nonzero_coefs=60, whitening=0, stop_on_repeat=True
    ),
    "TopK": TopKSAE(P, n_nonzero_coefs=K),
    "TopK, signed": TopKSAE(P, n_nonzero_coefs=K, positive_code=False),
    "BatchTopK, coded by k": BatchTopKSAE(P, n_nonzero_coefs=K, transform_n_nonzero_coefs=K),
    "BatchTopK": BatchTopKSAE(P, n_nonzero_coefs=K),
    "Matryoshka": MatryoshkaSAE(P, n_nonzero_coefs=K),
    "JumpReLU": JumpReLUSAE(P, n_nonzero_coefs=K),
    "JumpReLU, not centred": JumpReLUSAE(P, n_nonzero_coefs=K, intercept="zero"),
    "ReLU": ReLUSAE(P, n_nonzero_coefs=K),
}


def main():
    args = harness.parser(__doc__.splitlines()[0], rivals=False).parse_args()
    rows, X = {}, load_digits().data / 16
    with tempfile.TemporaryDirectory() as scratch:
        for dtype in ("float32", "float64"):
            data = X.astype(dtype)
            for name, estimator in OURS.items():
                folder = Path(scratch) / f"{dtype} {name}"
                rows[f"to SAELens, {dtype}: {name}"] = exported(estimator, data, folder)
            for name, sae in theirs(data).items():
                folder = Path(scratch) / f"{dtype} {name} of theirs"
                rows[f"from SAELens, {dtype}: {name}"] = imported(sae, data, folder)
    largest = max(row["codes"] for row in rows.values())
    bars = [Bar("largest difference of codes", largest, at_most=1e-5)]
    versions = machine.versions(["sae-lens", "safetensors"])
    harness.report("check_saelens", rows, args, bars=bars, versions=versions)


def exported(estimator, X, folder):
    """An estimator of ours, and theirs that reads its folder."""
    estimator.set_params(random_state=0, max_iter=20).fit(X)
    sae = SAE.load_from_disk(export_saelens(estimator, folder))
    return compared(X, estimator, sae)


def imported(sae, X, folder):
    """An SAE of theirs, and the estimator that reads its folder."""
    getattr(sae, "save_inference_model", sae.save_model)(folder)
    return compared(X, import_saelens(folder), SAE.load_from_disk(folder))


def compared(X, estimator, sae):
    """The largest differences, and how many codes are zero on one side only."""
    codes = estimator.transform(X)
    with torch.no_grad():
        their_codes = sae.encode(torch.from_numpy(X))
        their_rows = sae.decode(their_codes)
    rows, their_codes = estimator.inverse_transform(codes), their_codes.numpy()
    if isinstance(sae, TheirJumpReLUSAE | StandardSAE):
        # Codes here are in units of unit atoms.
        their_codes = their_codes * sae.W_dec.norm(dim=1).detach().numpy()
    return {
        "codes": float(np.abs(codes - their_codes).max()),
        "reconstructions": float(np.abs(rows - their_rows.numpy()).max()),
        "supports": int(((codes != 0) != (their_codes != 0)).sum()),
        "of codes": int((codes != 0).sum()),
    }


def theirs(X):
    """SAEs of SAELens: random weights under every setting that is known here, and trained."""
    torch.manual_seed(0)
    plain = {"d_in": X.shape[1], "d_sae": P, "dtype": X.dtype.name}
    stopping = {"residual_threshold": 0.0, "stop_on_duplicate_support": False}
    pursuit = plain | stopping | {"max_iterations": K}
    shift = {"apply_b_dec_to_input": False}
    saes = {
        "MP, atoms of any norm": MatchingPursuitSAE(MatchingPursuitSAEConfig(**pursuit)),
        "MP, b_dec unused": MatchingPursuitSAE(MatchingPursuitSAEConfig(**pursuit, **shift)),
        "TopK": TheirTopKSAE(TopKSAEConfig(**plain, k=K)),
        "TopK, by decoder norms": TheirTopKSAE(
            TopKSAEConfig(**plain, k=K, rescale_acts_by_decoder_norm=True)
        ),
        "TopK, b_dec not subtracted": TheirTopKSAE(TopKSAEConfig(**plain, k=K, **shift)),
        "AbsTopK": AbsTopKSAE(AbsTopKSAEConfig(**plain, k=K)),
        "MP, as it comes": MatchingPursuitSAE(MatchingPursuitSAEConfig(**plain)),
        "JumpReLU": TheirJumpReLUSAE(JumpReLUSAEConfig(**plain)),
        "JumpReLU, b_dec not subtracted": TheirJumpReLUSAE(JumpReLUSAEConfig(**plain, **shift)),
        "standard": StandardSAE(StandardSAEConfig(**plain)),
        "standard, b_dec not subtracted": StandardSAE(StandardSAEConfig(**plain, **shift)),
    }
    for threshold in (0.1, 0.5):
        for once in (False, True):
            stops = {"residual_threshold": threshold, "stop_on_duplicate_support": once}
            saes[f"MP, residual {threshold}{', no atom again' * once}"] = MatchingPursuitSAE(
                MatchingPursuitSAEConfig(**plain, **stops)
            )
    with torch.no_grad():
        for name, sae in saes.items():
            sae.b_dec.copy_(torch.from_numpy(X.mean(axis=0)))
            # Norms away from 1, but small enough for a pursuit to get closer.
            norms = 0.8 + 0.3 * torch.rand(P, 1, dtype=sae.dtype)
            sae.W_dec.mul_(norms / sae.W_dec.norm(dim=1, keepdim=True))
            if not name.startswith("MP"):
                sae.W_enc.copy_(sae.W_dec.T)
                sae.b_enc.uniform_(-0.1, 0.1)
            if name.startswith("JumpReLU"):
                sae.threshold.uniform_(0, 0.5)
    saes["MP, trained"] = trained(
        MatchingPursuitTrainingSAE(
            MatchingPursuitTrainingSAEConfig(**pursuit, decoder_init_norm=1.0)
        ),
        X,
    )
    saes["TopK, trained"] = trained(TopKTrainingSAE(TopKTrainingSAEConfig(**plain, k=K)), X)
    widths = {"matryoshka_widths": [P // 4, P]}
    for by_norm in (False, True):
        batch = plain | {"k": K, "rescale_acts_by_decoder_norm": by_norm}
        which = f", {'by decoder norms, ' * by_norm}trained"
        saes["BatchTopK" + which] = trained(
            BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**batch)), X
        )
        saes["Matryoshka" + which] = trained(
            MatryoshkaBatchTopKTrainingSAE(
                MatryoshkaBatchTopKTrainingSAEConfig(**batch, **widths)
            ),
            X,
        )
    saes["JumpReLU, trained"] = trained(
        JumpReLUTrainingSAE(JumpReLUTrainingSAEConfig(**plain)), X, l0=1e-3
    )
    saes["standard, trained"] = trained(
        StandardTrainingSAE(StandardTrainingSAEConfig(**plain)), X, l1=1e-2
    )
    return saes


def trained(sae, X, epochs=10, **coefficients):
    """By plain gradient steps on their loss."""
    adam = torch.optim.Adam(sae.parameters(), lr=1e-2)
    for step, batch in enumerate(harness.batches(X, 256, epochs, seed=0)):
        adam.zero_grad()
        rows = torch.from_numpy(batch)
        sae.training_forward_pass(
            TrainStepInput(rows, coefficients, None, step, is_logging_step=False)
        ).loss.backward()
        adam.step()
    return sae


if __name__ == "__main__":
    main()
