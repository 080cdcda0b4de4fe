#!/bin/bash
# Write generated code anew: deep copies and CRDs of api/v1alpha1, and the
# protobuf of api/ca. Needs protoc (Debian: protobuf-compiler).
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
export GOBIN=$tools PATH=$tools:$PATH
go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11
go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.0
go install sigs.k8s.io/controller-tools/cmd/controller-gen@v0.23.0
controller-gen object paths=./api/v1alpha1/
controller-gen crd paths=./api/v1alpha1/ output:crd:dir=install/crds
cd api/ca
protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative ca.proto
