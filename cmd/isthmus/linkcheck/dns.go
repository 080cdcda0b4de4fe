package linkcheck

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/meshstatus"
	"github.com/isthmus-mesh/isthmus/cmd/isthmus/precheck"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// Where CoreDNS is, as in every distribution that uses it.
const (
	dnsSelector = "k8s-app=kube-dns"
	dnsPort     = 53
)

// lookUp asks the cluster's own DNS server for an imported name, over TCP through a
// tunnel to its pod.
func lookUp(ctx context.Context, c *cluster.Cluster, imports []meshstatus.Import) precheck.Finding {
	i := slices.IndexFunc(imports, func(i meshstatus.Import) bool { return len(i.IPs) > 0 })
	if i < 0 {
		return precheck.Finding{Where: c.Context, What: "DNS", State: precheck.OK, Message: "no import to look up"}
	}
	name := imports[i].Name + "." + imports[i].Namespace + ".svc." + api.ZoneClusterSet
	addresses, err := resolve(ctx, c, name)
	next := "CoreDNS 1.12.2 or later must serve " + api.ZoneClusterSet + ": `kubernetes cluster.local clusterset.local … { multicluster clusterset.local }`"
	if err != nil {
		return finding(c.Context, "DNS", false, next, "%s: %v", name, err)
	}
	return finding(c.Context, "DNS", slices.Contains(addresses, imports[i].IPs[0]), next, "%s is %s, the import says %s", name,
		strings.Join(addresses, ", "), strings.Join(imports[i].IPs, ", "))
}

func resolve(ctx context.Context, c *cluster.Cluster, name string) ([]string, error) {
	pods, err := c.Pods(ctx, metav1.NamespaceSystem, dnsSelector)
	if err != nil {
		return nil, err
	}
	if len(pods) == 0 {
		return nil, fmt.Errorf("no pod %s is running in %s", dnsSelector, metav1.NamespaceSystem)
	}
	tunnel, err := c.Forward(ctx, pods[0].Namespace, pods[0].Name, dnsPort)
	if err != nil {
		return nil, err
	}
	defer tunnel.Close()
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", tunnel.Addr)
	}}
	return resolver.LookupHost(ctx, name+".")
}
