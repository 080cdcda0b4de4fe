package meshtest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/trust"
)

func (p *parser) workload(w words) error {
	path := strings.Split(w.at(0), "/")
	if len(path) != 3 {
		return fmt.Errorf("want CLUSTER/NAMESPACE/POD")
	}
	load := &federation.Workload{
		Key:  federation.WorkloadKey{Cluster: federation.ClusterName(path[0]), Namespace: path[1], Name: path[2]},
		MTLS: mode(w.keyed["mtls"]),
	}
	if c := p.parts.Clusters[load.Key.Cluster]; c != nil {
		load.Network, load.Locality = c.Network, c.Locality
	}
	load.Locality.Zone = w.keyed["zone"]
	var err error
	if load.Account, err = Account(path[1], w.keyed["account"]); err != nil {
		return err
	}
	if err := cmp.Or(addInbound(load, w), addModes(load, w)); err != nil {
		return err
	}
	slices.SortFunc(load.PortMTLS, func(a, b federation.PortMode) int { return cmp.Compare(a.Port, b.Port) })
	p.parts.Workloads[load.Key] = load
	return nil
}

func addInbound(load *federation.Workload, w words) error {
	for _, f := range w.plain[1:] {
		if strings.HasPrefix(f, "noentry:") {
			continue
		}
		port, proto, _ := strings.Cut(f, "/")
		n, err := number(port)
		if err != nil {
			return err
		}
		load.Inbound = append(load.Inbound, federation.InboundPort{
			Port: n, Protocol: protocol(proto), From: clusters(w.keyed["from:"+port]), NoEntry: w.has("noentry:" + port),
		})
	}
	return nil
}

func addModes(load *federation.Workload, w words) error {
	for k, v := range w.keyed {
		if port, ok := strings.CutPrefix(k, "mtls:"); ok {
			n, err := number(port)
			if err != nil {
				return err
			}
			load.PortMTLS = append(load.PortMTLS, federation.PortMode{Port: n, Mode: mode(v)})
		}
	}
	return nil
}

// Account returns the identity of account in namespace of the default domain.
func Account(namespace, account string) (trust.ID, error) {
	return trust.ParseID("spiffe://" + api.DefaultTrustDomain + "/ns/" + namespace + "/sa/" + account)
}
