// Package clusters brings topologies up and down by kind as a library.
package clusters

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	"sigs.k8s.io/kind/pkg/cluster"

	"github.com/isthmus-mesh/isthmus/kind/progress"
	"github.com/isthmus-mesh/isthmus/kind/topology"
)

// readyWithin is how long a cluster may take until its node is ready, on a
// loaded machine; 15 to 20 s where cores are free.
const readyWithin = 5 * time.Minute

// A Lab is the clusters of one topology on this machine's Docker engine.
type Lab struct {
	Topology   topology.Topology
	Image      string // of the nodes
	Kubeconfig string // file that Up writes and Down removes
	Progress   *progress.Printer
}

func (l Lab) provider(name string) *cluster.Provider {
	return cluster.NewProvider(cluster.ProviderWithDocker(), cluster.ProviderWithLogger(logger{name: name, progress: l.Progress}))
}

// Up creates those clusters that are not there, all at once, joins the pods of
// one network and writes the kubeconfig.
func (l Lab) Up(ctx context.Context) error {
	have, err := l.provider("kind").List()
	if err != nil {
		return fmt.Errorf("list clusters: %w", err)
	}
	err = l.each(func(c topology.Cluster) error {
		if slices.Contains(have, c.Name) {
			l.Progress.Say(c.Name, "is there")
			return nil
		}
		return l.create(c)
	})
	if err != nil {
		return err
	}
	if err := l.join(ctx); err != nil {
		return err
	}
	return l.writeKubeconfig(ctx)
}

// each does the same for every cluster at once.
func (l Lab) each(do func(topology.Cluster) error) error {
	errs := make([]error, len(l.Topology.Clusters))
	var running sync.WaitGroup
	for i, c := range l.Topology.Clusters {
		running.Go(func() {
			if err := do(c); err != nil {
				errs[i] = fmt.Errorf("cluster %s: %w", c.Name, err)
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

func (l Lab) create(c topology.Cluster) error {
	started := time.Now()
	scratch, err := os.MkdirTemp("", "isthmus-kind-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	err = l.provider(c.Name).Create(c.Name,
		cluster.CreateWithV1Alpha4Config(config(c)),
		cluster.CreateWithNodeImage(l.Image),
		cluster.CreateWithWaitForReady(readyWithin),
		cluster.CreateWithKubeconfigPath(filepath.Join(scratch, "kubeconfig")), // ours is written at the end
		cluster.CreateWithDisplayUsage(false), cluster.CreateWithDisplaySalutation(false))
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	l.Progress.Say(c.Name, "up in %.1f s", time.Since(started).Seconds())
	return nil
}

// config is kind's own description of the cluster.
func config(c topology.Cluster) *v1alpha4.Cluster {
	return &v1alpha4.Cluster{
		TypeMeta: v1alpha4.TypeMeta{Kind: "Cluster", APIVersion: "kind.x-k8s.io/v1alpha4"},
		Name:     c.Name,
		Nodes:    []v1alpha4.Node{{Role: v1alpha4.ControlPlaneRole}},
		Networking: v1alpha4.Networking{
			IPFamily:      v1alpha4.IPv4Family,
			PodSubnet:     c.Pods.String(),
			ServiceSubnet: c.Services.String(),
			KubeProxyMode: v1alpha4.IPTablesProxyMode,
		},
	}
}
