package clusterset

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/remote/join"
)

// neighbourPatience is how long a cluster that nobody named may take to say who it is.
const neighbourPatience = 5 * time.Second

// neighbour is a cluster of the kubeconfig that nobody named.
type neighbour struct {
	cluster   *cluster.Cluster
	installed *Installed
}

// findNeighbours returns those of clusters that answer and have the mesh, by their names. A name that
// two of them have is left out: nobody can tell which is meant.
func findNeighbours(ctx context.Context, clusters []*cluster.Cluster) map[string]*neighbour {
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := map[string]*neighbour{}
	for _, c := range clusters {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, neighbourPatience)
			defer cancel()
			found, err := Find(ctx, c)
			if err != nil || found == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if _, two := out[found.Cluster]; two {
				out[found.Cluster] = nil
				return
			}
			out[found.Cluster] = &neighbour{c, found}
		})
	}
	wg.Wait()
	return out
}

// peersOf names the clusters that c reads, that read it, that serve it, or that it serves, sorted.
func peersOf(ctx context.Context, c *cluster.Cluster, installed *Installed) ([]string, error) {
	peers := map[string]bool{}
	links, err := c.Dynamic.Resource(v1alpha1.GroupVersion.WithResource("clusterlinks")).Namespace(api.SystemNamespace).List(ctx, metav1.ListOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("list links of %s: %w", c.Context, err)
	}
	if links != nil {
		for _, l := range links.Items {
			peers[l.GetName()] = true
		}
	}
	accounts, err := c.Kube.CoreV1().ServiceAccounts(api.SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: api.LabelManagedBy + "=" + api.ManagedBy})
	if err != nil {
		return nil, fmt.Errorf("list accounts of %s: %w", c.Context, err)
	}
	for _, a := range accounts.Items {
		for _, prefix := range []string{api.ReaderAccountName + "-", api.ManagerAccountName + "-"} {
			if peer, ok := strings.CutPrefix(a.Name, prefix); ok {
				peers[peer] = true
			}
		}
	}
	if installed.Primary != "" {
		peers[installed.Primary] = true
	}
	delete(peers, installed.Cluster)
	return slices.Sorted(maps.Keys(peers)), nil
}

// endAt ends what c and its neighbour have with one another, and returns the neighbour's context; "" where it is
// not known, or of another mesh with the same names.
func endAt(ctx context.Context, c *cluster.Cluster, installed *Installed, n *neighbour) (string, error) {
	if n == nil || n.installed.Clusterset != installed.Clusterset || n.installed.TrustDomain != installed.TrustDomain {
		return "", nil
	}
	if _, err := Unlink(ctx, LinkOptions{Clusters: []*cluster.Cluster{c, n.cluster}}); err != nil {
		return "", err
	}
	own, other := side(c, installed.Cluster, installed.Network), side(n.cluster, n.installed.Cluster, n.installed.Network)
	if installed.Primary == other.Cluster {
		return n.cluster.Context, join.Unserve(ctx, other, own, join.Options{})
	}
	if n.installed.Primary == own.Cluster {
		return n.cluster.Context, join.Unserve(ctx, own, other, join.Options{})
	}
	return n.cluster.Context, nil
}
