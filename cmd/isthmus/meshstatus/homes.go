package meshstatus

import (
	"context"
	"sync"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// homes finds where the control planes of remotes run.
type homes struct {
	clusters []*cluster.Cluster

	once   sync.Once
	byName map[string]*cluster.Cluster
}

func newHomes(clusters []*cluster.Cluster) *homes { return &homes{clusters: clusters} }

// of returns where the control plane of c runs: in c itself, or in its primary; nil
// where that is not among those asked, or does not answer.
func (h *homes) of(ctx context.Context, c *cluster.Cluster, installed *clusterset.Installed) *cluster.Cluster {
	if installed.Primary == "" {
		return c
	}
	h.once.Do(func() {
		h.byName = map[string]*cluster.Cluster{}
		for _, other := range h.clusters {
			if found, err := clusterset.Find(ctx, other); err == nil && found != nil {
				h.byName[found.Cluster] = other
			}
		}
	})
	return h.byName[installed.Primary]
}

// Home returns which of clusters runs the control plane of c, or nil.
func Home(ctx context.Context, c *cluster.Cluster, clusters []*cluster.Cluster) (*cluster.Cluster, error) {
	installed, err := clusterset.Find(ctx, c)
	if err != nil || installed == nil {
		return nil, err
	}
	return newHomes(clusters).of(ctx, c, installed), nil
}
