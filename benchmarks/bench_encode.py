"""Seconds to code rows over a given dictionary with k atoms each.

Bar 3. Every side gets the same centred MNIST rows and the same atoms (random training
rows at unit norm). R2 tells which codes come from the same pursuit: those of one kind
agree, and top-k without a pursuit shows why one wants it. What SPAMS calls OMP is the
order-recursive kind: it takes the atom after whose refit least is left, so it explains a
little more.
"""

import harness
from harness import Bar, ratio


def main():
    options = harness.parser(__doc__.splitlines()[0])
    options.add_argument("--rows", type=int, default=10_000)
    options.add_argument("--components", type=int, default=1024)
    options.add_argument("--sparsity", type=int, default=32)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()

    train, X = harness.mnist(args.data_home)
    X, W = X[: args.rows], harness.random_atoms(train, args.components, args.seed)
    encoders, record = harness.sides("ENCODERS", args.only)
    calls = {name: encode(X, W, args.sparsity) for name, encode in encoders.items()}
    rows = harness.timing_rows(harness.interleave(calls, args.rounds), "torch topk")
    for name, call in calls.items():
        rows[name]["R2"] = harness.r2(X, harness.as_csr(call(), len(W)) @ W)
    harness.report("bench_encode", rows, args, bars=bars(rows), **record)


def bars(rows):
    """What the package has to reach."""
    return [
        Bar("MP over torch topk", ratio(rows, "ours MP", ["torch topk"]), at_most=1),
        Bar("plain MP over MP", ratio(rows, "plain MP", ["ours MP"]), at_least=10),
        Bar("MP over SPAMS OMP", ratio(rows, "ours MP", ["SPAMS OMP"]), at_most=1),
        Bar("OMP over SPAMS OMP", ratio(rows, "ours OMP", ["SPAMS OMP"]), at_most=0.45),
        Bar("OLS over SPAMS OMP", ratio(rows, "ours OLS", ["SPAMS OMP"]), at_most=0.6),
        Bar(
            "scikit-learn OMP over OMP",
            ratio(rows, "scikit-learn OMP", ["ours OMP"]),
            at_least=10,
        ),
    ]


if __name__ == "__main__":
    main()
