// Package dnsask asks a cluster's own DNS server, by a tunnel to its pods, so that
// the answer is that of the server and of no cache between.
package dnsask

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/install/coredns"
)

const port = 53

// ErrNoServer says that no pod of a DNS server is running.
var ErrNoServer = errors.New("no pod of CoreDNS is running")

// Each opens a resolver at each running DNS server of c in turn and hands it to use,
// which may not keep it.
func Each(ctx context.Context, c *cluster.Cluster, use func(pod string, r *net.Resolver) error) error {
	pods, err := c.Pods(ctx, coredns.Namespace, coredns.Selector)
	if err != nil {
		return err
	}
	if len(pods) == 0 {
		return fmt.Errorf("%w: %s in %s", ErrNoServer, coredns.Selector, coredns.Namespace)
	}
	for _, pod := range pods {
		if err := with(ctx, c, pod.Name, use); err != nil {
			return err
		}
	}
	return nil
}

func with(ctx context.Context, c *cluster.Cluster, pod string, use func(string, *net.Resolver) error) error {
	tunnel, err := c.Forward(ctx, coredns.Namespace, pod, port)
	if err != nil {
		return err
	}
	defer tunnel.Close()
	return use(pod, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", tunnel.Addr)
	}})
}

// ServesClusterset says which DNS server of c does not serve the clusterset yet; ""
// when all do.
func ServesClusterset(ctx context.Context, c *cluster.Cluster) (missing string, err error) {
	err = Each(ctx, c, func(pod string, r *net.Resolver) error {
		if _, err := r.LookupTXT(ctx, "dns-version."+api.ZoneClusterSet+"."); err != nil {
			missing = fmt.Sprintf("pod %s: %v", pod, err)
		}
		return nil
	})
	return missing, err
}

// Addresses returns what all DNS servers of c say of name, sorted, each once.
func Addresses(ctx context.Context, c *cluster.Cluster, name string) ([]string, error) {
	var out []string
	err := Each(ctx, c, func(_ string, r *net.Resolver) error {
		addresses, err := r.LookupHost(ctx, name+".")
		out = append(out, addresses...)
		return err
	})
	slices.Sort(out)
	return slices.Compact(out), err
}
