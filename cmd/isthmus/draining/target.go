// Package draining moves traffic away from a cluster and back, sees what is left
// there, and judges beforehand what will move.
package draining

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/drilling"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/meshstatus"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// patience is how long one cluster may take to answer.
const patience = 10 * time.Second

// Target is the cluster that is drained, and the others of its clusterset.
type Target struct {
	Name  string
	There *cluster.Cluster            // nil: Err says why its API server cannot be asked
	Peers map[string]*cluster.Cluster // by name, those to which the kubeconfig leads
	Err   error
}

// Find finds a cluster by its context or by its name in the mesh. Where its API
// server does not answer, the clusters that know it are found all the same.
func Find(ctx context.Context, kubeconfig, name string) (*Target, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	contexts, err := cluster.Contexts(kubeconfig)
	if err != nil {
		return nil, err
	}
	if slices.Contains(contexts, name) {
		there, installed, err := drilling.Open(ctx, kubeconfig, name)
		switch {
		case err == nil:
			t := &Target{Name: installed.Cluster, There: there, Peers: drilling.Members(ctx, kubeconfig, there, installed)}
			delete(t.Peers, t.Name)
			return t, nil
		case errors.Is(err, clusterset.ErrNotInstalled):
			return nil, err
		}
		return unreachable(ctx, kubeconfig, contexts, name, err)
	}
	return byName(ctx, kubeconfig, contexts, name)
}

// found is a context that answered.
type found struct {
	cluster   *cluster.Cluster
	installed *clusterset.Installed
	linked    []string
}

// ask asks all contexts at once; those that do not answer are left out.
func ask(ctx context.Context, kubeconfig string, contexts []string) []found {
	all := make([]found, len(contexts))
	var wg sync.WaitGroup
	for i, name := range contexts {
		wg.Go(func() {
			c, installed, err := drilling.Open(ctx, kubeconfig, name)
			if err != nil {
				return
			}
			linked, err := meshstatus.LinkedClusters(ctx, c)
			if err == nil {
				all[i] = found{c, installed, linked}
			}
		})
	}
	wg.Wait()
	return slices.DeleteFunc(all, func(f found) bool { return f.cluster == nil })
}

// byName finds a cluster to which no context of that name leads.
func byName(ctx context.Context, kubeconfig string, contexts []string, name string) (*Target, error) {
	all := ask(ctx, kubeconfig, contexts)
	for _, f := range all {
		if f.installed.Cluster == name {
			t := &Target{Name: name, There: f.cluster, Peers: drilling.Members(ctx, kubeconfig, f.cluster, f.installed)}
			delete(t.Peers, name)
			return t, nil
		}
	}
	if t := knownTo(all, name); t != nil {
		t.Err = fmt.Errorf("no context of the kubeconfig leads to cluster %s", name)
		return t, nil
	}
	known := map[string]bool{}
	for _, f := range all {
		known[f.installed.Cluster] = true
	}
	return nil, fmt.Errorf("%w: %q is neither a context nor a cluster that one leads to (contexts: %s; clusters that answer: %s)", cluster.ErrNoContext, name,
		cmp.Or(strings.Join(contexts, ", "), "none"), cmp.Or(strings.Join(slices.Sorted(maps.Keys(known)), ", "), "none"))
}

// unreachable finds those who know the cluster of a context that does not answer:
// by convention it bears the context's name.
func unreachable(ctx context.Context, kubeconfig string, contexts []string, name string, cause error) (*Target, error) {
	t := knownTo(ask(ctx, kubeconfig, slices.DeleteFunc(contexts, func(c string) bool { return c == name })), name)
	if t == nil {
		return nil, fmt.Errorf("context %s does not answer, and no other one is linked to a cluster of that name: %w", name, cause)
	}
	t.Err = cause
	return t, nil
}

func knownTo(all []found, name string) *Target {
	t := &Target{Name: name, Peers: map[string]*cluster.Cluster{}}
	for _, f := range all {
		if slices.Contains(f.linked, name) {
			t.Peers[f.installed.Cluster] = f.cluster
		}
	}
	if len(t.Peers) == 0 {
		return nil
	}
	return t
}

// PeerNames returns the names of the others, sorted.
func (t *Target) PeerNames() []string { return slices.Sorted(maps.Keys(t.Peers)) }

// all returns the target, where it answers, and its peers.
func (t *Target) all() []*cluster.Cluster {
	var out []*cluster.Cluster
	if t.There != nil {
		out = append(out, t.There)
	}
	for _, name := range t.PeerNames() {
		out = append(out, t.Peers[name])
	}
	return out
}
