package fleet

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Shape says how large a generated clusterset is. The same shape gives the same
// objects.
type Shape struct {
	Clusters int
	Services int // exported, each by one to three clusters
	// Networks are given to the clusters in turn.
	Networks   []string
	Namespaces int // that the services are spread over
	// Gateways are the addresses ("host:port") of the clusters' east-west
	// gateways; a cluster beyond the end or with "" has none.
	Gateways []string
}

// Small is a shape for a quick run, Medium one between that and the issue's.
func Small() Shape {
	return Shape{Clusters: 6, Services: 300, Networks: networks(), Namespaces: 6}
}

// Medium has 20 clusters and 1,000 exported services.
func Medium() Shape {
	return Shape{Clusters: 20, Services: 1000, Networks: networks(), Namespaces: 20}
}

// Large has 50 clusters and 5,000 exported services.
func Large() Shape {
	return Shape{Clusters: 50, Services: 5000, Networks: networks(), Namespaces: 50}
}

func networks() []string { return []string{"net-a", "net-b", "net-c"} }

// Export is one service in one exporting cluster.
type Export struct {
	Namespace, Name string
	Cluster         int // index
	Pods            int // all ready, each with a sidecar
}

// ClusterName is the name of the i-th cluster, from 0.
func ClusterName(i int) string { return fmt.Sprintf("c%02d", i+1) }

// Network is the network of the i-th cluster.
func (s Shape) Network(i int) string { return s.Networks[i%len(s.Networks)] }

// NamespaceNames are the namespaces of the services.
func (s Shape) NamespaceNames() []string {
	var out []string
	for i := range s.Namespaces {
		out = append(out, fmt.Sprintf("app-%02d", i+1))
	}
	return out
}

// Exports lists every export, service by service: two clusters export a service
// on average, and an export has two pods on average.
func (s Shape) Exports() []Export {
	random := rand.New(rand.NewPCG(1, uint64(s.Services))) //nolint:gosec // the same each time
	namespaces := s.NamespaceNames()
	var out []Export
	for i := range s.Services {
		var in []int
		for len(in) < min(1+i%3, s.Clusters) {
			if c := random.IntN(s.Clusters); !slices.Contains(in, c) {
				in = append(in, c)
			}
		}
		for j, c := range in {
			out = append(out, Export{Namespace: namespaces[i%len(namespaces)], Name: fmt.Sprintf("svc-%04d", i+1), Cluster: c, Pods: 1 + (i/3+j)%3})
		}
	}
	return out
}
