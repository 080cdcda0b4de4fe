#!/bin/bash
# End-to-end tests on one topology after the other: each is brought up from nothing, tested and taken down, and the
# machine is then as it was. A topology that is up already is used and left up.
#
#   scripts/e2e.sh sandbox        on the sandbox; TOPOLOGY=NAME there for another than three primaries
#   scripts/e2e.sh NAME...        on kind: files of kind-configs/; "all": all of them
#
#   RUN=REGEXP             only these tests
#   OUT=DIR                reports as JSON, TOPOLOGY.json each; default bin/e2e
#   KEEP=1                 leave the clusters of the (one) topology up
#   RACE=                  without the race detector
#   PARALLEL=N             how many tests that touch nothing but their own namespaces run at a time; default 2
#   ISTHMUS_E2E_FULL=1     on kind every test, not the short suite
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-bin/e2e}
race=${RACE--race}
mkdir -p "$out"
say() { printf '\033[1m== %s\033[0m\n' "$1" >&2; }

# run GROUND NAME [SECONDS]: the tests, and the table after them
run() {
    local facts=$out/$2.facts
    rm -f "$facts"
    ISTHMUS_E2E_ON=$1 ISTHMUS_E2E_FACTS=$(realpath -m "$facts") \
        go test $race -tags e2e -count 1 -timeout 40m -parallel "${PARALLEL:-2}" -json ${RUN:+-run "$RUN"} ./e2e/ |
        bin/isthmus-e2e-report -facts "$facts" -out "$out/$2.json" -up "${3:-0}"
}

CGO_ENABLED=0 go build -o bin/isthmus-e2e-report ./e2e/report
if [ "$*" = sandbox ]; then
    say "end-to-end tests on the sandbox"
    if [ -z "${ISTHMUS_E2E_DIR:-}" ]; then # a sandbox of our own, which goes with us, after Ctrl-C too
        dir=$(mktemp -d -t isthmus-e2e-XXXXXX)
        export ISTHMUS_E2E_DIR=$dir
        trap 'trap "" INT TERM; ISTHMUS_SANDBOX_DIR=$dir/sandbox bin/isthmus sandbox down >&2; rm -rf "$dir"' EXIT
        trap 'exit 130' INT TERM
    fi
    run sandbox "${TOPOLOGY:-sandbox}"
    exit
fi
[ "$*" != all ] || set -- $(cd kind-configs && ls *.yaml | sed 's/\.yaml$//')

up() { cat bin/kind/topology 2>/dev/null || true; } # what is up
before=$(scripts/machine-state.sh)
was=$(up)
if [ -n "$was" ] && [ "$*" != "$was" ]; then
    echo "topology $was is up: make kind-down first, or make e2e TOPOLOGY=$was, which uses it" >&2
    exit 1
fi
finish() {
    local code=$?
    trap - EXIT
    trap '' INT TERM # what is left would stay
    if [ -n "$was" ] || [ -n "${KEEP:-}" ]; then
        say "left up: $(up)"
        exit "$code"
    fi
    bin/isthmus-kind down || code=1
    if ! diff <(echo "$before") <(scripts/machine-state.sh); then
        say "kind-down has left what is marked by > (or taken what is marked by <)"
        code=1
    else
        say "kind-down has left nothing"
    fi
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

say "compile the tests"
go test $race -tags e2e -c -o bin/e2e.test ./e2e/
failed=()
for topology in "$@"; do
    say "end-to-end tests on kind, topology $topology"
    begin=$(date +%s)
    if bin/isthmus-kind --topology "$topology" up >&2; then
        TOPOLOGY=$topology run kind "$topology" $(($(date +%s) - begin)) || failed+=("$topology")
    else
        failed+=("$topology")
    fi
    [ -n "$was" ] || [ -n "${KEEP:-}" ] || bin/isthmus-kind down --keep-engine
done
if [ ${#failed[@]} -gt 0 ]; then
    say "failed: ${failed[*]}"
    exit 1
fi
