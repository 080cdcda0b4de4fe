package clusterset

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/install/release"
)

// Revised is what became of a further control plane in one cluster.
type Revised struct {
	Context  string `json:"context"`
	Cluster  string `json:"cluster,omitempty"`
	Revision string `json:"revision"`
	// Before says whether it was there already.
	Before bool `json:"before"`
}

// InstallRevision puts a further control plane, with a webhook of its own, beside the one that each cluster has, and
// waits until it is available. It has the settings of that one, and those of opts.Values over them, whose Revision
// names it. Gateways, authority and definitions of users' objects stay as they are.
func InstallRevision(ctx context.Context, clusters []*cluster.Cluster, opts InstallOptions) ([]Revised, error) {
	out := make([]Revised, len(clusters))
	plans := make([]step, len(clusters))
	for i, c := range clusters {
		have, err := Find(ctx, c)
		if err != nil {
			return nil, err
		}
		if have == nil {
			return nil, fmt.Errorf("context %s: %w: a revision stands beside an installation", c.Context, ErrNotInstalled)
		}
		v := opts.Values
		if v.Base, err = release.Values(ctx, c.Config, ""); err != nil {
			return nil, err
		}
		v.Cluster, v.Network, v.TrustDomain, v.Clusterset = have.Cluster, have.Network, have.TrustDomain, have.Clusterset
		plans[i], out[i] = step{cluster: c, values: v}, Revised{Context: c.Context, Cluster: have.Cluster, Revision: v.Revision}
	}
	if err := tryImages(ctx, plans, opts); err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, c := range clusters {
		group.Go(func() error {
			if err := install.ApplyCRDs(ctx, c.Config); err != nil {
				return fmt.Errorf("install in %s: %w", c.Context, err)
			}
			made, err := release.Apply(ctx, plans[i].release(opts))
			if err != nil {
				return fmt.Errorf("install revision %s in %s: %w", out[i].Revision, c.Context, err)
			}
			out[i].Before = made.Revision > 1
			return nil
		})
	}
	return out, group.Wait()
}

// UninstallRevision removes such a control plane, and nothing else. One that is not there is no error.
func UninstallRevision(ctx context.Context, clusters []*cluster.Cluster, revision string) ([]Revised, error) {
	out := make([]Revised, len(clusters))
	for i, c := range clusters {
		found, err := release.Remove(ctx, c.Config, revision)
		if err != nil {
			return nil, fmt.Errorf("context %s: %w", c.Context, err)
		}
		out[i] = Revised{Context: c.Context, Revision: revision, Before: found}
	}
	return out, nil
}
