package main

import (
	"fmt"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/primary/server"
)

// ranges are the flags that are ranges or lists, read.
type ranges struct {
	ports      api.PortRange
	from       []netip.Prefix
	synthetic  netip.Prefix
	namespaces []string
}

func (s *settings) ranges() (out ranges, err error) {
	if out.ports, err = api.ParsePortRange(s.entryPorts); err != nil {
		return out, fmt.Errorf("--entry-ports: %w", err)
	}
	if out.from, err = server.ParseEntryFrom(s.entryFrom); err != nil {
		return out, fmt.Errorf("--entry-from: %w", err)
	}
	if out.synthetic, err = server.ParseSyntheticRange(s.synthetic); err != nil {
		return out, fmt.Errorf("--synthetic-range: %w", err)
	}
	if out.namespaces, err = server.ParseExportNamespaces(s.exportFrom); err != nil {
		return out, fmt.Errorf("--export-namespaces: %w", err)
	}
	return out, nil
}
