package linkcheck

import (
	"context"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/dnsask"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/meshstatus"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/precheck"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/install/coredns"
)

// lookUp asks the cluster's own DNS servers for an imported name, or, where there is
// none, for the zone.
func lookUp(ctx context.Context, c *cluster.Cluster, imports []meshstatus.Import) precheck.Finding {
	next := nextForDNS(ctx, c)
	i := slices.IndexFunc(imports, func(i meshstatus.Import) bool { return len(i.IPs) > 0 })
	if i < 0 {
		missing, err := dnsask.ServesClusterset(ctx, c)
		if err != nil {
			missing = err.Error()
		}
		if missing == "" {
			return finding(c.Context, "DNS", true, "", "serves %s", api.ZoneClusterSet)
		}
		return finding(c.Context, "DNS", false, next, "does not serve %s: %s", api.ZoneClusterSet, missing)
	}
	name := imports[i].Name + "." + imports[i].Namespace + ".svc." + api.ZoneClusterSet
	addresses, err := dnsask.Addresses(ctx, c, name)
	if err != nil {
		return finding(c.Context, "DNS", false, next, "%s: %v", name, err)
	}
	want := slices.Sorted(slices.Values(imports[i].IPs))
	return finding(c.Context, "DNS", slices.Equal(addresses, want), next, "%s is %s, the import says %s", name,
		strings.Join(addresses, ", "), strings.Join(want, ", "))
}

// nextForDNS says what to do where names do not resolve.
func nextForDNS(ctx context.Context, c *cluster.Cluster) string {
	report, err := coredns.Look(ctx, c.Kube)
	switch {
	case err != nil:
		return "isthmus precheck " + c.Context
	case report.State == coredns.Can:
		return "isthmus install " + c.Context
	case report.State == coredns.Serves:
		return "kubectl --context " + c.Context + " -n " + coredns.Namespace + " logs -l " + coredns.Selector
	}
	return report.Next
}
