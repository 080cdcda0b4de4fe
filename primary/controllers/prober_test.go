package controllers_test

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/controllers"
	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
)

// mesh is a trust root with an authority for each cluster.
type mesh struct {
	domain trust.Domain
	root   *ca.Root
	bundle trust.Bundle
}

func newMesh(t *testing.T) mesh {
	t.Helper()
	domain, err := trust.ParseDomain(api.DefaultTrustDomain)
	if err != nil {
		t.Fatal(err)
	}
	root, err := ca.CreateRoot(ca.RootOptions{Domain: domain})
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := root.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	return mesh{domain, root, bundle}
}

// source returns the identity of an account of a cluster.
func (m mesh) source(t *testing.T, cluster, account string) trust.Source {
	t.Helper()
	chain, key, err := m.root.Intermediate(cluster)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.New(ca.Options{Cluster: cluster, Domain: m.domain, ChainPEM: chain, KeyPEM: key, BundlePEM: m.bundle.PEM()})
	if err != nil {
		t.Fatal(err)
	}
	id, err := trust.NewID(m.domain, api.SystemNamespace, account)
	if err != nil {
		t.Fatal(err)
	}
	return source{func() (trust.SVID, error) { return authority.Issue(id) }, authority}
}

// gateway answers as one does, with the given identity, until the test
// ends or close is called; then it refuses.
type gateway struct {
	addr   netip.AddrPort
	config *tls.Config

	mu       sync.Mutex
	listener net.Listener
	done     sync.WaitGroup
}

func newGateway(t *testing.T, source trust.Source) *gateway {
	t.Helper()
	g := &gateway{config: trust.ServerTLS(source, []string{api.ALPN}, false, nil)}
	g.open(t, "127.0.0.1:0")
	t.Cleanup(g.close)
	return g
}

func (g *gateway) open(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	g.listener, g.addr = l, netip.MustParseAddrPort(l.Addr().String())
	g.mu.Unlock()
	g.done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			g.done.Go(func() {
				defer conn.Close()
				_ = tls.Server(conn, g.config).HandshakeContext(t.Context())
			})
		}
	})
}

func (g *gateway) close() {
	g.mu.Lock()
	_ = g.listener.Close()
	g.mu.Unlock()
	g.done.Wait()
}

// Only the gateway of the right cluster counts as answering; one that refuses,
// or is somebody else, falls silent, and a new leader takes over what was known.
func TestProber(t *testing.T) {
	m := newMesh(t)
	right := newGateway(t, m.source(t, "west", api.EastWestName))
	otherCluster := newGateway(t, m.source(t, "north", api.EastWestName))
	otherAccount := newGateway(t, m.source(t, "west", "somebody"))
	otherRoot := newGateway(t, newMesh(t).source(t, "west", api.EastWestName))
	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()

	cluster := &federation.Cluster{Name: "west", Network: "net2", Read: true}
	muteAddr := netip.MustParseAddrPort(mute.Addr().String())
	for _, a := range []netip.AddrPort{right.addr, otherCluster.addr, otherAccount.addr, otherRoot.addr, muteAddr} {
		cluster.Gateways = append(cluster.Gateways, federation.Gateway{Addr: a})
	}
	snapshot := federation.NewSnapshot(federation.Parts{Clusters: map[federation.ClusterName]*federation.Cluster{
		"east": {Name: "east", Network: "net1", Local: true, Read: true}, "west": cluster,
	}})
	var changes atomic.Int32
	prober := controllers.NewProber(m.source(t, "east", api.ControlPlaneName), m.domain, "east", func() { changes.Add(1) }, discard)
	prober.Update(snapshot)
	run(t, prober.Run)
	state := func(a netip.AddrPort) v1alpha1.GatewayStatus {
		for _, g := range prober.Statuses("west") {
			if g.Address == a.String() {
				return g
			}
		}
		return v1alpha1.GatewayStatus{Answers: true}
	}
	eventually(t, "the wrong ones are silent", func() bool {
		return !state(otherCluster.addr).Answers && !state(otherAccount.addr).Answers && !state(otherRoot.addr).Answers && !state(muteAddr).Answers
	})
	if s := state(right.addr); !s.Answers {
		t.Errorf("the right one: %+v", s)
	}
	if s := state(muteAddr); !strings.Contains(s.Message, "no answer") || s.Since == nil {
		t.Errorf("the mute one: %+v", s)
	}
	if s := state(otherCluster.addr); !strings.Contains(s.Message, "no gateway of cluster west") {
		t.Errorf("another cluster's: %+v", s)
	}
	before := changes.Load()
	right.close()
	eventually(t, "the right one falls silent when it refuses", func() bool { return !state(right.addr).Answers && changes.Load() > before })

	cluster2 := *cluster
	cluster2.Gateways = []federation.Gateway{{Addr: right.addr, Silent: true}}
	heir := controllers.NewProber(m.source(t, "east", api.ControlPlaneName), m.domain, "east", func() {}, discard)
	heir.Update(federation.NewSnapshot(federation.Parts{Clusters: map[federation.ClusterName]*federation.Cluster{
		"east": {Name: "east", Network: "net1", Local: true, Read: true}, "west": &cluster2,
	}}))
	if s := heir.Statuses("west"); len(s) != 1 || s[0].Answers {
		t.Errorf("a new leader forgot: %+v", s)
	}
}

// source implements trust.Source.
type source struct {
	svid      func() (trust.SVID, error)
	authority *ca.Authority
}

func (s source) SVID() (trust.SVID, error)     { return s.svid() }
func (s source) Bundle() (trust.Bundle, error) { return s.authority.Bundle(), nil }
