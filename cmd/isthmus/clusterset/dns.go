package clusterset

import (
	"context"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/dnsask"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/install/coredns"
)

// DNSMode says what install does about the cluster's DNS server.
type DNSMode string

const (
	DNSAuto DNSMode = "auto" // configures CoreDNS where it can, and says where it cannot
	DNSSkip DNSMode = "skip" // leaves it alone
)

// dnsPatience is how long CoreDNS may take to take up a changed Corefile: the kubelet
// and its own reload have intervals of up to a minute each.
const dnsPatience = 3 * time.Minute

// configureDNS lets CoreDNS serve the clusterset and waits until each of its pods does.
// A cluster where that cannot be is part of the report; it is no error.
func configureDNS(ctx context.Context, c *cluster.Cluster, mode DNSMode, say func(string)) (coredns.Report, error) {
	if mode == DNSSkip {
		return coredns.Report{State: coredns.Skipped, Message: "not looked at: --dns=skip"}, nil
	}
	report, err := coredns.Configure(ctx, c.Kube)
	if err != nil || !report.Changed {
		return report, err
	}
	say("wait until CoreDNS serves " + api.ZoneClusterSet)
	wait, cancel := context.WithTimeout(ctx, dnsPatience)
	defer cancel()
	err = cluster.Until(wait, "CoreDNS in "+c.Context, func(ctx context.Context) (string, error) {
		return dnsask.ServesClusterset(ctx, c)
	})
	if err != nil && ctx.Err() == nil {
		report.Warnings = append(report.Warnings, err.Error()+"; isthmus check "+c.Context+" asks again")
		return report, nil
	}
	return report, err
}
