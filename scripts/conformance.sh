#!/bin/bash
# Two linked clusters, judged by specs of the Multi-Cluster Services API. Without
# SUITE the specs of e2e/conformance run; SUITE names the compiled test program
# of the upstream suite (kubernetes-sigs/mcs-api, conformance/), which is run as
# it is and wants one network.
#
#   NETWORKS=one     pods of the clusters reach one another; the default
#   NETWORKS=separate   each cluster is on a network of its own
#   SUITE=FILE       upstream's test program
#   OUT=DIR          where results go; default bin/conformance
#   RUN=REGEXP       only these specs (of e2e/conformance); '§6' is a section
#   BIN=DIR          programs; default bin, built first
#   STATE=DIR        state of the clusters; default a new folder, removed after
#   PARALLEL=N       how many specs run at a time; default 6
#   KEEP=1           leave the clusters running
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
networks=${NETWORKS:-one}
case $networks in
one) up=(--same-network) install=(--network lan) ;;
separate) up=() install=() ;;
*) echo "NETWORKS=$networks: want one or separate" >&2; exit 2 ;;
esac
bin=${BIN:-$root/bin}
out=${OUT:-$root/bin/conformance}
mkdir -p "$out"
out=$(cd "$out" && pwd)
if [ -z "${BIN:-}" ]; then
    make -s build
fi
CGO_ENABLED=0 go build -trimpath -o "$bin/isthmus-standin" ./e2e/conformance/standin
[ -n "${SUITE:-}" ] || go test -tags conformance -count 1 -run TestDocumented ./e2e/conformance # docs/mcs.md names all

state=${STATE:-$(mktemp -d)}
export ISTHMUS_HOME=$state/home ISTHMUS_SANDBOX_DIR=$state/sandbox
finish() {
    local code=$?
    if [ -n "${KEEP:-}" ]; then
        echo "the clusters stay: ISTHMUS_HOME=$ISTHMUS_HOME ISTHMUS_SANDBOX_DIR=$ISTHMUS_SANDBOX_DIR"
        exit "$code"
    fi
    "$bin/isthmus" sandbox down >/dev/null || code=1
    [ -n "${STATE:-}" ] || rm -rf "$state"
    exit "$code"
}
trap finish EXIT

"$bin/isthmus" sandbox up --clusters c1,c2 "${up[@]}"
KUBECONFIG=$("$bin/isthmus" sandbox kubeconfig)
export KUBECONFIG
"$bin/isthmus" install c1 c2 "${install[@]}"
"$bin/isthmus" link c1 c2

if [ -n "${SUITE:-}" ]; then
    suite=$(realpath "$SUITE")
    code=0
    (cd "$out" && "$suite" -kubeconfig "$KUBECONFIG" -contexts c1,c2 -ginkgo.no-color -ginkgo.json-report report.json) >"$out/suite.log" 2>&1 || code=$?
    go run ./e2e/conformance/table "$out/report.json"
    echo "more in $out/suite.log, report.html and report.json"
    exit "$code"
fi
code=0
go test -v -tags conformance -count 1 -timeout 30m -parallel "${PARALLEL:-6}" -run "TestConformance/spec/${RUN:-}" ./e2e/conformance \
    -kubeconfig "$KUBECONFIG" -contexts c1,c2 -networks "$networks" -report "$out/specs-$networks.json" >"$out/specs-$networks.log" 2>&1 || code=$?
sed -n '/^RESULT/,/^required:/p' "$out/specs-$networks.log"
echo "more in $out/specs-$networks.log and specs-$networks.json"
exit "$code"
