package trust_test

import (
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/trust"
)

const web = "spiffe://mesh.test/ns/shop/sa/web"

func TestVerifyPeer(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	east := root.intermediate(t, "east", nil)
	now := time.Now()
	for _, test := range []struct {
		name, cluster string
		chain         []*x509.Certificate
		bundle        trust.Bundle
	}{
		{"leaf and intermediate", "east", chain(t, leafTemplate(web, trust.ClusterDNS("east")), east, root), bundle(t, root)},
		{"no cluster name", "", chain(t, leafTemplate(web), east, root), bundle(t, root)},
		{"one root of two", "east", chain(t, leafTemplate(web, trust.ClusterDNS("east")), east, root), bundle(t, newRoot(t), root)},
		{"signed by the root itself", "west", chain(t, leafTemplate(web, trust.ClusterDNS("west")), root), bundle(t, root)},
	} {
		peer, err := trust.VerifyPeer(test.chain, test.bundle, now)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if peer.ID.String() != web || peer.Cluster != test.cluster || peer.Leaf != test.chain[0] {
			t.Errorf("%s: %s of cluster %q", test.name, peer.ID, peer.Cluster)
		}
	}
}

// Each of these is signed by somebody with a key that the bundle leads to, or
// nearly; none is who it says.
func TestVerifyPeerRefusesForged(t *testing.T) {
	t.Parallel()
	root, foreign := newRoot(t), newRoot(t)
	east := trust.ClusterDNS("east")
	west := root.intermediate(t, "west", nil)
	loose := root.intermediate(t, "loose", func(c *x509.Certificate) { c.PermittedDNSDomains, c.PermittedURIDomains = nil, nil })
	noPath := root.intermediate(t, "west", func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 1, false })
	addresses := root.intermediate(t, "west", func(c *x509.Certificate) { c.ExcludedIPRanges = everyAddress() })
	leaf := func(change func(*x509.Certificate)) *x509.Certificate {
		template := leafTemplate(web, trust.ClusterDNS("west"))
		change(template)
		return template
	}
	uri := func(s string) *x509.Certificate { return leafTemplate(s) }
	for _, test := range []struct {
		name, want string
		chain      []*x509.Certificate
	}{
		{"west signs east's cluster name", "not permitted", chain(t, leafTemplate(web, east), west, root)},
		{"west signs another trust domain", "trust domain", chain(t, uri("spiffe://other.test/ns/shop/sa/web"), west, root)},
		{"west signs a subdomain of its trust domain", "trust domain", chain(t, uri("spiffe://sub.mesh.test/ns/shop/sa/web"), west, root)},
		{"an unconstrained one signs another trust domain", "trust domain", chain(t, uri("spiffe://other.test/ns/shop/sa/web"), loose, root)},
		{"west signs an intermediate for east", "", chain(t, leafTemplate(web, east), west.intermediate(t, "east", nil), west, root)},
		{"an intermediate under a constrained one", "not permitted", chain(t, leafTemplate(web, east), noPath.intermediate(t, "east", nil), noPath, root)},
		{"a ca as leaf", "ca certificate", chain(t, leaf(func(c *x509.Certificate) { c.IsCA = true }), loose, root)},
		{"a leaf that may sign", "ca certificate", chain(t, leaf(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign; c.IsCA = true }), loose, root)},
		{"a leaf under a leaf", "", func() []*x509.Certificate {
			key := newKey(t)
			middle := issuer{west.sign(t, leafTemplate(web, trust.ClusterDNS("west")), key.Public()), key}
			return chain(t, leafTemplate(web, trust.ClusterDNS("west")), middle, west, root)
		}()},
		{"the root itself", "ca certificate", []*x509.Certificate{root.cert}},
		{"the intermediate itself", "ca certificate", []*x509.Certificate{west.cert}},
		{"another root", "unknown authority", chain(t, leafTemplate(web, trust.ClusterDNS("west")), foreign.intermediate(t, "west", nil), foreign)},
		{"without its intermediate", "unknown authority", chain(t, leafTemplate(web), west, root)[:1]},
		{"nothing", "no certificate", nil},
		{"a long chain", "chain of", append(chain(t, leafTemplate(web), west, root), manyCerts(root.cert)...)},
		{"no uri", "0 uris", chain(t, leaf(func(c *x509.Certificate) { c.URIs = nil }), west, root)},
		{"two uris", "2 uris", chain(t, leaf(func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) }), west, root)},
		{"not a spiffe id", "invalid spiffe id", chain(t, uri("https://mesh.test/ns/shop/sa/web"), loose, root)},
		{"id with dots", "invalid spiffe id", chain(t, uri("spiffe://mesh.test/ns/../sa/web"), west, root)},
		{"id with an encoded slash", "invalid spiffe id", chain(t, uri("spiffe://mesh.test/ns/a%2Fb/sa/web"), west, root)},
		{"id in upper case", "invalid spiffe id", chain(t, uri("spiffe://MESH.test/ns/shop/sa/web"), west, root)},
		{"id with a query", "invalid spiffe id", chain(t, uri("spiffe://mesh.test/ns/shop/sa/web?x=1"), west, root)},
		{"id with a port", "invalid spiffe id", chain(t, uri("spiffe://mesh.test:80/ns/shop/sa/web"), loose, root)},
		{"subdomain of its own cluster name", "not the name of a cluster", chain(t, leafTemplate(web, "east."+trust.ClusterDNS("west")), west, root)},
		{"cluster name in upper case", "not the name of a cluster", chain(t, leafTemplate(web, strings.ToUpper(trust.ClusterDNS("west"))), west, root)},
		{"wildcard", "not the name of a cluster", chain(t, leafTemplate(web, "*."+trust.ClusterDNS("west")), loose, root)},
		{"two cluster names", "names beside", chain(t, leafTemplate(web, trust.ClusterDNS("west"), trust.ClusterDNS("west")), west, root)},
		{"another dns name", "not the name of a cluster", chain(t, leafTemplate(web, "kubernetes.default.svc"), loose, root)},
		{"an address", "names beside", chain(t, leaf(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} }), addresses, root)},
		{"a mail address", "names beside", chain(t, leaf(func(c *x509.Certificate) { c.EmailAddresses = []string{"a@mesh.test"} }), west, root)},
		{"no use for tls", "usage", chain(t, leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }), west, root)},
		{"key not for signatures", "not for signatures", chain(t, leaf(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), west, root)},
		{"expired", "expired", chain(t, leaf(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }), west, root)},
		{"not yet valid", "not yet valid", chain(t, leaf(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), west, root)},
	} {
		peer, err := trust.VerifyPeer(test.chain, bundle(t, root), time.Now())
		if !errors.Is(err, trust.ErrPeer) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: peer %s, error %v, want one with %q", test.name, peer.ID, err, test.want)
		}
		if !peer.ID.IsZero() {
			t.Errorf("%s: named %s in spite of the error", test.name, peer.ID)
		}
	}
	if _, err := trust.VerifyPeer(chain(t, leafTemplate(web), west, root), trust.Bundle{}, time.Now()); !errors.Is(err, trust.ErrPeer) {
		t.Errorf("no bundle: %v", err)
	}
}

func manyCerts(cert *x509.Certificate) []*x509.Certificate {
	many := make([]*x509.Certificate, 100)
	for i := range many {
		many[i] = cert
	}
	return many
}

// A peer's clock may be a little off: leaves are backdated, and the verifier's
// time is what counts.
func TestVerifyPeerClock(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	certs := chain(t, leafTemplate(web), root.intermediate(t, "east", nil), root)
	for skew, good := range map[time.Duration]bool{
		-30 * time.Second: true, 5 * time.Minute: true, -5 * time.Minute: false, 48 * time.Hour: false, -48 * time.Hour: false,
	} {
		_, err := trust.VerifyPeer(certs, bundle(t, root), time.Now().Add(skew))
		if (err == nil) != good {
			t.Errorf("clock off by %s: %v", skew, err)
		}
		if err != nil && !strings.Contains(err.Error(), "expired or is not yet valid") {
			t.Errorf("clock off by %s: the error does not say so: %v", skew, err)
		}
	}
}

func TestClusterDNS(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"east", "a", "a-1", strings.Repeat("a", 63)} {
		if got, ok := trust.ParseClusterDNS(trust.ClusterDNS(name)); !ok || got != name {
			t.Errorf("%q comes back as %q, %v", name, got, ok)
		}
	}
	for _, name := range []string{
		"", "east", "clusters.isthmus.internal", ".clusters.isthmus.internal", "a.b.clusters.isthmus.internal",
		"East.clusters.isthmus.internal", "east.clusters.isthmus.internal.", "-.clusters.isthmus.internal", "ü.clusters.isthmus.internal",
	} {
		if got, ok := trust.ParseClusterDNS(name); ok {
			t.Errorf("%q is cluster %q", name, got)
		}
	}
}

func FuzzParseID(f *testing.F) {
	for _, seed := range []string{
		web, "spiffe://a/ns/b/sa/c", "spiffe://a/ns/../sa/c", "spiffe://a/ns/b%2fc/sa/d", "SPIFFE://A/ns/b/sa/c",
		"spiffe://a/ns/b/sa/c?d", "spiffe://a//ns/b/sa/c", "spiffe://a:1/ns/b/sa/c", "spiffe://", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := trust.ParseID(s)
		if err != nil {
			if !errors.Is(err, trust.ErrInvalidID) || !id.IsZero() {
				t.Errorf("id %v, error %v", id, err)
			}
			return
		}
		// Only the one canonical form passes, and means the same again.
		if id.String() != s || len(s) > trust.MaxIDLength {
			t.Errorf("%q parsed as %q", s, id)
		}
		if again, err := trust.NewID(id.Domain(), id.Namespace(), id.ServiceAccount()); err != nil || again != id {
			t.Errorf("%q: made again as %v, %v", s, again, err)
		}
		if _, err := url.Parse(id.String()); err != nil {
			t.Errorf("%q is no url: %v", s, err)
		}
	})
}
