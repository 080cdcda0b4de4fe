package precheck

import (
	"context"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/clusterset"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/install/coredns"
)

// lookAtDNS says whether the cluster's DNS server can serve the clusterset. Where it cannot, the
// mesh can still be installed: its names then have to be served by other means.
func (f *facts) lookAtDNS(ctx context.Context, c *cluster.Cluster) {
	report, err := coredns.Look(ctx, c.Kube)
	switch {
	case err != nil:
		f.add("DNS", Warn, "use a context that may read "+coredns.Namespace, "cannot be read: %v", err)
	case !report.OK():
		f.add("DNS", Warn, report.Next, "%s", report.Message)
	default:
		f.add("DNS", OK, "", "%s", report.Message)
	}
	for _, warning := range report.Warnings {
		f.add("DNS", Warn, "", "%s", warning)
	}
	f.lookAtDNSRights(ctx, c, report)
}

// lookAtDNSRights asks whether the caller may change CoreDNS, where that has to be.
func (f *facts) lookAtDNSRights(ctx context.Context, c *cluster.Cluster, report coredns.Report) {
	if report.State != coredns.Can {
		return
	}
	missing, err := missingRights(ctx, c, coredns.Namespace, [][3]string{{"update", "", "configmaps"}, {"patch", "", "pods"}, {"patch", "apps", "deployments"}})
	if err == nil && missing != "" {
		f.add("DNS", Warn, "use a context of an administrator; or isthmus install --dns=skip, and "+coredns.ByHand, "may not %s in %s", missing, coredns.Namespace)
	}
}

// lookAtIdentity finds a cluster id that somebody has given, which an installation keeps.
func (f *facts) lookAtIdentity(ctx context.Context, c *cluster.Cluster) {
	id, err := clusterset.Property(ctx, c, clusterset.PropertyID)
	switch {
	case err != nil:
		f.add("cluster id", Warn, "use a context that may read ClusterProperties", "cannot be read: %v", err)
	case id != "" && f.installed && id != f.name:
		f.add("cluster id", Bad, clusterset.DeleteID(c.Context),
			"it is %q, but the cluster is installed as %q", id, f.name)
	case id == "" && f.installed:
		f.add("cluster id", Warn, "isthmus install "+c.Context+" writes it", "there is none, so it cannot be linked")
	case id != "":
		if !f.installed {
			f.name, f.network = id, id
		}
		f.add("cluster id", OK, "", "%s", id)
	}
}
