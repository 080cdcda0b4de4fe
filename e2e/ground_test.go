//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/isthmus-mesh/isthmus/e2e/topology"
)

// A ground is where the clusters run. Each has the contexts that the topology names; what tests do to the network
// between them it does by its own means.
type ground interface {
	// up returns the kubeconfig's path once the clusters are there. They may have been there before.
	up(ctx context.Context) (kubeconfig string, err error)
	down(ctx context.Context) error
	// installFlags is what isthmus install must be told there.
	installFlags() []string
	// cut takes something of cluster to away from cluster from, open connections too: its API server (api), its
	// gateway (gateway) or everything, both ways (all). Packets are refused (refuse) or vanish (drop).
	cut(ctx context.Context, from, to, what, mode string) error
	heal(ctx context.Context) error // ends all cuts
	// capture writes what crosses between nodes to w, as a pcap file, until ctx ends; started is called once it sees packets.
	capture(ctx context.Context, w io.Writer, started func()) error
	// memory tells what each node uses, in bytes; nil where nobody counts.
	memory(ctx context.Context) (map[string]int64, error)
}

// settings are what the environment says about a run.
type settings struct {
	ground   string // ISTHMUS_E2E_ON: sandbox or kind
	topology string // TOPOLOGY: a file of kind-configs/
	dir      string // ISTHMUS_E2E_DIR: state that is kept, and the clusters with it
	facts    string // ISTHMUS_E2E_FACTS: a file that is told about the run, for the report
	full     bool   // ISTHMUS_E2E_FULL: every test, where the suite of the ground is a short one
}

func readSettings() (settings, error) {
	s := settings{
		ground: cmp.Or(os.Getenv("ISTHMUS_E2E_ON"), "sandbox"), topology: os.Getenv("TOPOLOGY"),
		dir: os.Getenv("ISTHMUS_E2E_DIR"), facts: os.Getenv("ISTHMUS_E2E_FACTS"), full: os.Getenv("ISTHMUS_E2E_FULL") != "",
	}
	switch s.ground {
	case "sandbox":
		s.topology, s.full = cmp.Or(s.topology, topology.ThreePrimaries), true
	case "kind":
		s.topology = cmp.Or(s.topology, "multi-primary")
	default:
		return s, fmt.Errorf("ISTHMUS_E2E_ON=%s: want sandbox or kind", s.ground)
	}
	return s, nil
}
