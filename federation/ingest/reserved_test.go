package ingest

import (
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
)

// Exports of system namespaces are refused unless their namespace is allowed by
// name; the mesh's own never is.
func TestReservedNamespaces(t *testing.T) {
	for namespace, allowed := range map[string]bool{"kube-system": true, "kube-public": false, "isthmus-system": false, "shop": true} {
		r := goodRemote()
		r.service.Namespace, r.export.Namespace, r.slice.Namespace = namespace, namespace, namespace
		in := NewInputs(testDomain(t), "isthmus-system")
		in.ExportNamespaces = []string{"kube-system", "isthmus-system"}
		var ch Changes
		in.SetCluster(ClusterState{Name: "west", Read: true, Reachable: true}, &ch)
		in.Set("west", SlimService(&r.service), &ch)
		in.Set("west", SlimExport(&r.export), &ch)
		s := Build(nil, in, ch)
		refused := slices.ContainsFunc(s.Problems(), func(p federation.Problem) bool { return p.Reason == "SystemNamespace" })
		if svc := s.Service(federation.ServiceKey{Namespace: namespace, Name: "web"}); (svc != nil) != allowed || refused == allowed {
			t.Errorf("%s: service %v, refused %v", namespace, svc, refused)
		}
	}
}
