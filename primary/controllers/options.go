package controllers

import (
	"log/slog"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

// ImportOptions configures Imports.
type ImportOptions struct {
	Cluster    federation.ClusterName // required; the local cluster
	Namespace  string                 // of the mesh; "" means api.SystemNamespace
	EntryPorts api.PortRange          // of the entry gateway; the zero range has none to give
	Synthetic  netip.Prefix           // IPv4; the zero prefix has no address to give
	Log        *slog.Logger           // required
}
