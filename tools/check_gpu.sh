#!/usr/bin/env bash
# On a machine with a GPU: the default tests with device="cuda" where they leave the device open,
# benchmarks/bench_gpu.py, and profiles of a training step and of a coding.
#
#   tools/check_gpu.sh                  # as many parts as fit in 8.5 minutes; again: the others
#   tools/check_gpu.sh bench profile    # these parts, done before or not
#   tools/check_gpu.sh --device cpu:0 --quick    # a little of each, to see that it runs
#
# --out names the folder of the results, else gpu-results; they are copied to $OUT, where that is
# set. A part is left out if that folder has it, of the same sources and options. --minutes says how
# long a call may take. Exit status: 0 if all parts passed, 1 if one failed, 3 if some are left.
#
# Makes .venv-gpu from $PYTHON (python3), whose packages it sees, so that a torch made for the
# machine's driver is kept; or takes the environment that $VENV names as it is. $WHEELS names a
# folder of wheels for a machine without a network.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

device=cuda quick="" minutes=8.5 out=gpu-results named=()
while [ $# -gt 0 ]; do
    case $1 in
        --device | --out | --minutes)
            [ $# -gt 1 ] || { echo "$1 needs a value" >&2; exit 2; }
            declare "${1#--}=$2"
            shift ;;
        --quick) quick=1 ;;
        -*) echo "There is no option $1; the head of $0 has all" >&2; exit 2 ;;
        *) named+=("$1") ;;
    esac
    shift
done
all=(tests-1 tests-2 tests-3 tests-4 bench profile)
[ -z "$quick" ] || all=(tests-1 bench profile)
for part in "${named[@]}"; do
    [[ " ${all[*]} " == *" $part "* ]] || { echo "No part $part: ${all[*]}" >&2; exit 2; }
done
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2
limit=$(awk "BEGIN {print int(60 * $minutes)}")

# What results of an earlier call have to be of, to stand for this one's.
sources=$(find sklearn_mpsae tests benchmarks tools \( -name '*.py' -o -name '*.sh' \) -print0 |
    sort --zero-terminated | xargs -0 sha256sum | sha256sum)
stamp="$device ${quick:-full} ${sources%% *}"
[ "$(cat "$out/stamp" 2> /dev/null)" = "$stamp" ] || rm -f "$out"/*.rc
echo "$stamp" > "$out/stamp"

left() { echo $((limit - SECONDS)); }

# ------------------------------------------------------------------------ environment
make_environment() {
    local python=${PYTHON:-python3} pip=("$VENV/bin/python" -m pip install -q)
    if [ ! -x "$VENV/bin/python" ]; then
        "$python" -m venv "$VENV" || return
        # Python 3.11 puts an old one there, which would hide the machine's.
        "${pip[@]:0:3}" uninstall -q -y setuptools
    fi
    # Not --system-site-packages: that skips the packages of a Python that is a venv itself.
    "$python" -c 'import site; print(*site.getsitepackages(), sep="\n")' \
        > "$("$VENV/bin/python" -c 'import site; print(site.getsitepackages()[0])')/machine.pth"
    [ -z "${WHEELS:-}" ] || pip+=(--no-index --find-links "$WHEELS")
    "$VENV/bin/python" -m pip list --format=freeze | grep -E '^(torch|triton)==' > "$VENV/kept.txt"
    # Without a network the tests of packages that are not there fail, and the rest can run.
    PIP_RETRIES=1 PIP_TIMEOUT=10 timeout 240 "${pip[@]}" -c "$VENV/kept.txt" -e '.[test]' ||
        "${pip[@]}" --no-deps --no-build-isolation -e .
}

if [ -z "${VENV:-}" ]; then
    VENV=$PWD/.venv-gpu
    [ -e "$VENV/ready" ] || { make_environment > "$out/environment.log" 2>&1 && touch "$VENV/ready"; } ||
        echo "The environment is not complete: see $out/environment.log"
fi
python=$VENV/bin/python
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}

{
    date -u +%FT%TZ
    echo "commit: $(git rev-parse HEAD 2> /dev/null || echo unknown)"
    echo "device: $device${quick:+, quick}"
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1 ||
        echo "no nvidia-smi"
    "$python" -c 'import torch; print("torch", torch.__version__, "CUDA", torch.version.cuda)'
    "$python" -m pip list --format=freeze
} > "$out/machine.txt" 2>&1

# ------------------------------------------------------------------------------ parts
# shellcheck disable=SC2329 # the shell of a part calls it
tests() {  # the files of a quarter; doctests are in the last
    local paths=() i=0 path workers
    for path in tests/test_*.py; do
        [ $((i++ % 4 + 1)) != "$1" ] || paths+=("$path")
    done
    [ "$1" != 4 ] || paths+=(sklearn_mpsae)
    [ -z "$quick" ] || paths=(tests/test_gpu_check.py)
    workers=$(($(nproc) / 2))  # each has its own context on the GPU
    [ "$workers" -le 8 ] || workers=8
    [ "$workers" -gt 1 ] && [ -z "$quick" ] || workers=0
    SKLEARN_MPSAE_DEVICE=$device "$python" -m pytest -n "$workers" -q -p no:cacheprovider \
        --continue-on-collection-errors --tb=short --junitxml="$out/tests-$1.xml" "${paths[@]}"
}

# shellcheck disable=SC2329
run_part() {
    case $1 in
        tests-*) tests "${1#tests-}" ;;
        bench) "$python" benchmarks/bench_gpu.py --device "$device" ${quick:+--small} \
            --results "$out" ;;
        profile) "$python" benchmarks/profile_gpu.py --device "$device" ${quick:+--small} \
            --results "$out" ;;
    esac
}

# For the shell of a part, which `timeout` can end with all that it started.
export -f run_part tests
export device quick out python

attempt() {
    local part=$1 allowed start=$SECONDS rc
    allowed=$(left)
    echo "+ $part"
    timeout --signal=INT --kill-after=15 "$allowed" bash -c "run_part $part" > "$out/$part.log" 2>&1
    rc=$?
    echo "  rc $rc, $((SECONDS - start)) s: $(tail -n 1 "$out/$part.log")"
    # A part that began late is run again by the next call, first and with all of its time.
    if { [ $rc = 124 ] || [ $rc = 137 ]; } && [ "$allowed" -lt $((limit * 4 / 5)) ]; then
        rm -f "$out/$part.rc"
    else
        echo $rc > "$out/$part.rc"
    fi
}

[ ${#named[@]} -eq 0 ] || (cd "$out" && rm -f "${named[@]/%/.rc}")
todo=("${named[@]}")
[ ${#named[@]} -gt 0 ] || todo=("${all[@]}")
for part in "${todo[@]}"; do
    # About a minute is enough for no part at full size.
    if [ ! -e "$out/$part.rc" ] && [ "$(left)" -gt $((limit / 8)) ]; then
        attempt "$part"
    fi
done

# ---------------------------------------------------------------------------- summary
status=0
for part in "${all[@]}"; do
    if [ -e "$out/$part.rc" ]; then
        rc=$(cat "$out/$part.rc")
        [ "$rc" = 0 ] || status=1
        echo "$part: rc $rc: $(tail -n 1 "$out/$part.log")"
    else
        [ $status = 1 ] || status=3
        echo "$part: not run yet"
    fi
done > "$out/summary.txt"
cat "$out/summary.txt"
! grep -q "not run yet" "$out/summary.txt" || echo "Run the same command again for the others."
[ -z "${OUT:-}" ] || cp -r "$out/." "$OUT"
echo "Results: $out${OUT:+, $OUT}"
exit $status
