"""What `sparsity="average"` costs beside a fixed number of codes for each row.

Fits of two epochs to 10,000 rows of MNIST and their transform, with as many codes on average
as there are in each row on the other side. Seconds of the clock, calls in turn.
"""

import warnings

import harness
from harness import Bar

from sklearn_mpsae import MPSparseAutoencoder

SHAPES = ((1024, 16), (1024, 32), (4096, 32))
LIMIT = 1.3


def main():
    options = harness.parser(__doc__.splitlines()[0])
    options.add_argument("--rows", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=3)
    args = options.parse_args()
    # Two epochs are too few for the number of codes to be met to a tenth.
    warnings.simplefilter("ignore", UserWarning)
    X = harness.mnist(args.data_home)[0][: args.rows]
    rows, bars = {}, []
    for p, k in SHAPES:
        fits = {
            sparsity: MPSparseAutoencoder(
                p, n_nonzero_coefs=k, sparsity=sparsity, max_iter=2, random_state=0
            )
            for sparsity in ("row", "average")
        }
        for verb in ("fit", "encode"):
            calls = {
                sparsity: lambda sae=sae, verb=verb: getattr(sae, verb)(X)
                for sparsity, sae in fits.items()
            }
            seconds = harness.interleave(calls, args.rounds)
            what = f"{verb}, {p} atoms, k={k}"
            found = harness.timing_rows(seconds, "row")
            rows |= {f"{what}, {sparsity}": row for sparsity, row in found.items()}
            ratio = found["average"]["median s"] / found["row"]["median s"]
            bars.append(Bar(f"{what}, average over row", ratio, at_most=LIMIT))
        for sparsity, sae in fits.items():
            rows[f"encode, {p} atoms, k={k}, {sparsity}"]["codes a row"] = float(
                sae.encode(X).l0().mean()
            )
    harness.report("bench_average", rows, args, bars=bars)


if __name__ == "__main__":
    main()
