// Package conformance holds specs of the Multi-Cluster Services API (KEP-1645)
// that run against any two linked clusters, on one network or on separate ones,
// from pods with and without a sidecar, with the waits of the upstream suite
// (20 s). They are ours, written from the KEP and the DNS specification;
// scripts/conformance.sh runs them, or the upstream suite of
// kubernetes-sigs/mcs-api where its test program is given. The specs need the
// build tag conformance; docs/mcs.md lists them by rule.
package conformance
