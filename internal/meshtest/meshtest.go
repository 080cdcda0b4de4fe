// Package meshtest reads a mesh from text, a line per fact, for tests of what
// comes after the snapshot:
//
//	cluster east network=blue region=eu local read gateways=192.0.2.1:15443
//	cluster west network=green region=eu read gateways=192.0.2.7:15443,192.0.2.8:15443/silent
//	cluster north network=red entries=10.3.0.2 inside=10.3.0.0/16,192.0.2.30/32 shutout=10.3.0.66
//	cluster south network=grey drain=returning=25,since=2026-01-02T15:04:05Z
//	service reviews.shop                      of the clusterset; reviews.shop@east is east's own
//	  port 9080 http
//	  vip east 10.96.0.7
//	  export west 9080/http to=east,north hidden noentry
//	  endpoint west 10.2.0.4 pod=reviews-1 account=reviews mtls 9080:9080
//	  count west 9080 2
//	  entry east 9080 20001                   east's entry gateway serves 9080 at 20001
//	  synthetic east west reviews-1 240.241.0.7   in east, it stands for west's pod
//	service db.shop headless
//	service near.shop@east failover samezone
//	workload east/shop/web-1 account=web mtls=strict mtls:9090=disable 8080/http from:8080=east,west noentry:8080
//
// Empty lines and lines that begin with # say nothing.
package meshtest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
)

// Snapshot returns the snapshot of text.
func Snapshot(t testing.TB, text string) *federation.Snapshot {
	t.Helper()
	parts, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return federation.NewSnapshot(parts)
}

// Shuffled returns text with its facts in another order: the clusters, services
// and workloads among themselves, and the lines of each service.
func Shuffled(text string, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 1))
	var blocks [][]string
	for _, line := range lines(text) {
		if strings.HasPrefix(line, " ") && len(blocks) > 0 {
			blocks[len(blocks)-1] = append(blocks[len(blocks)-1], line)
		} else {
			blocks = append(blocks, []string{line})
		}
	}
	r.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
	var out []string
	for _, b := range blocks {
		r.Shuffle(len(b)-1, func(i, j int) { b[i+1], b[j+1] = b[j+1], b[i+1] })
		out = append(out, b...)
	}
	return strings.Join(out, "\n")
}

func lines(text string) []string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if trimmed := strings.TrimSpace(line); trimmed != "" && !strings.HasPrefix(trimmed, "#") {
			out = append(out, line)
		}
	}
	return out
}

// Parse reads text. All lists come out sorted, as ingest makes them.
func Parse(text string) (federation.Parts, error) {
	parts := federation.Parts{
		Services:  map[federation.ServiceKey]*federation.Service{},
		Workloads: map[federation.WorkloadKey]*federation.Workload{},
		Clusters:  map[federation.ClusterName]*federation.Cluster{},
	}
	p := parser{parts: parts}
	all := lines(text)
	// Clusters first: endpoints take their network from them.
	for _, pass := range []bool{true, false} {
		for _, line := range all {
			if strings.HasPrefix(line, "cluster ") != pass {
				continue
			}
			if err := p.line(line); err != nil {
				return parts, fmt.Errorf("%q: %w", line, err)
			}
		}
	}
	for _, svc := range parts.Services {
		sortService(svc)
	}
	return parts, nil
}

type parser struct {
	parts federation.Parts
	svc   *federation.Service
}

func (p *parser) line(line string) error {
	w := split(line)
	switch strings.Fields(line)[0] {
	case "cluster":
		return p.cluster(w)
	case "service":
		return p.service(w)
	case "workload":
		return p.workload(w)
	case "port":
		n, err := number(w.at(0))
		p.svc.Ports = append(p.svc.Ports, federation.Port{Number: n, Protocol: protocol(w.at(1)), Name: w.at(1)})
		return err
	case "vip":
		a, err := netip.ParseAddr(w.at(1))
		p.svc.VIPs = append(p.svc.VIPs, federation.VIP{Cluster: federation.ClusterName(w.at(0)), Addr: a})
		return err
	case "export":
		return p.export(w)
	case "endpoint":
		return p.endpoint(w)
	case "count":
		return p.count(w)
	case "entry":
		return p.entry(w)
	case "synthetic":
		a, err := netip.ParseAddr(w.at(3))
		p.svc.Synthetic = append(p.svc.Synthetic, federation.Synthetic{
			In: federation.ClusterName(w.at(0)), Of: federation.ClusterName(w.at(1)), Pod: w.at(2), Addr: a,
		})
		return err
	case "account":
		id, err := Account(p.svc.Key.Namespace, w.at(0))
		p.svc.Accounts = append(p.svc.Accounts, id)
		return err
	}
	return fmt.Errorf("unknown kind of fact")
}
