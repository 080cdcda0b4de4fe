package drilling

import (
	"context"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/importview"
	"github.com/isthmus-mesh/isthmus/drill"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// What other work on whole clusters asks as drills do: who belongs together, and
// whether the others suffice.

// Open opens a context whose cluster has the mesh.
func Open(ctx context.Context, kubeconfig, name string) (*cluster.Cluster, *clusterset.Installed, error) {
	return open(ctx, kubeconfig, name)
}

// Members returns the clusters of from's clusterset to which the kubeconfig leads, by their names, from among them;
// contexts that do not answer are left out.
func Members(ctx context.Context, kubeconfig string, from *cluster.Cluster, home *clusterset.Installed) map[string]*cluster.Cluster {
	return members(ctx, kubeconfig, from, home)
}

// Capacity judges whether others suffice without lost, as home sees them: ready endpoints of the service by cluster, and
// the states of home's links.
func Capacity(service, home, lost string, ready map[string]int, links map[string]v1alpha1.LinkState) Finding {
	s := &seen{spec: drill.Spec{Service: service}, home: home, ready: ready, links: links}
	return s.capacityFound(lost)
}

// OnlyThere names the imports that nobody but cluster serves, sorted.
func OnlyThere(imports []importview.Import, cluster string) []string {
	return onlyThere(imports, cluster, "", "")
}

// Fine, Refused and Doubtful are the kinds of findings; next is what can be done.
func Fine(format string, args ...any) Finding { return fine(format, args...) }

// Refused is a Finding that nothing overrules.
func Refused(next, format string, args ...any) Finding { return refused(next, format, args...) }

// Doubtful is a Finding that --force overrules.
func Doubtful(next, format string, args ...any) Finding { return doubtful(next, format, args...) }

// Few joins names, and counts what is too long.
func Few(names []string) string { return few(names) }
