package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
)

func domain(t testing.TB, name string) trust.Domain {
	t.Helper()
	d, err := trust.ParseDomain(name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func identity(t testing.TB, s string) trust.ID {
	t.Helper()
	id, err := trust.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRoot(t testing.TB, opts ca.RootOptions) *ca.Root {
	t.Helper()
	if opts.Domain.IsZero() {
		opts.Domain = domain(t, "mesh.test")
	}
	root, err := ca.CreateRoot(opts)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func options(t testing.TB, root *ca.Root, cluster string) ca.Options {
	t.Helper()
	chain, key, err := root.Intermediate(cluster)
	if err != nil {
		t.Fatal(err)
	}
	return ca.Options{
		Cluster: cluster, Domain: root.Domain(), ChainPEM: chain, KeyPEM: key, BundlePEM: root.CertificatePEM(),
	}
}

func newAuthority(t testing.TB, opts ca.Options) *ca.Authority {
	t.Helper()
	authority, err := ca.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func TestSignedLeaf(t *testing.T) {
	t.Parallel()
	authority := newAuthority(t, options(t, newRoot(t, ca.RootOptions{}), "east"))
	id := identity(t, "spiffe://mesh.test/ns/shop/sa/web")
	svid, err := authority.Issue(id)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := svid.Chain()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	peer, err := trust.VerifyPeer(chain, authority.Bundle(), now)
	if err != nil {
		t.Fatal(err)
	}
	if peer.ID != id || peer.Cluster != "east" {
		t.Errorf("peer %s of cluster %q, want %s of east", peer.ID, peer.Cluster, id)
	}
	leaf := peer.Leaf
	if leaf.Subject.String() != "" || len(leaf.DNSNames) != 1 || len(leaf.URIs) != 1 || leaf.IsCA {
		t.Errorf("leaf bears subject %q, dns %q, uris %v, ca %v", leaf.Subject, leaf.DNSNames, leaf.URIs, leaf.IsCA)
	}
	if life := leaf.NotAfter.Sub(now); life > ca.LeafLifetime || life < ca.LeafLifetime-time.Minute {
		t.Errorf("leaf lives %s", life)
	}
	if back := now.Sub(leaf.NotBefore); back < ca.Backdate || back > 2*ca.Backdate {
		t.Errorf("leaf is backdated %s", back)
	}
	if len(chain) != 2 {
		t.Errorf("chain of %d certificates, want leaf and intermediate", len(chain))
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	authority := newAuthority(t, options(t, newRoot(t, ca.RootOptions{}), "east"))
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := identity(t, "spiffe://mesh.test/ns/shop/sa/web")
	p256 := newKey(t, elliptic.P256())
	for _, test := range []struct {
		name   string
		public crypto.PublicKey
		id     trust.ID
		want   error
	}{
		{"rsa", rsaKey.Public(), good, ca.ErrKey},
		{"p-384", newKey(t, elliptic.P384()).Public(), good, ca.ErrKey},
		{"no key", nil, good, ca.ErrKey},
		{"no identity", p256.Public(), trust.ID{}, ca.ErrIdentity},
		{"another trust domain", p256.Public(), identity(t, "spiffe://other.test/ns/shop/sa/web"), ca.ErrIdentity},
		{"a subdomain", p256.Public(), identity(t, "spiffe://sub.mesh.test/ns/shop/sa/web"), ca.ErrIdentity},
	} {
		if _, err := authority.Sign(test.public, test.id); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", test.name, err, test.want)
		}
	}
}

// The issuer's own end bounds what it signs, and smallstep would not look.
func TestAuthorityNearItsEnd(t *testing.T) {
	t.Parallel()
	start := time.Now().Truncate(time.Second)
	root := newRoot(t, ca.RootOptions{Lifetime: 30 * time.Hour})
	now := start
	opts := options(t, root, "east")
	opts.Now = func() time.Time { return now }
	authority := newAuthority(t, opts)
	id := identity(t, "spiffe://mesh.test/ns/shop/sa/web")

	now = start.Add(20 * time.Hour)
	svid, err := authority.Issue(id)
	if err != nil {
		t.Fatal(err)
	}
	if !svid.NotAfter.Equal(root.Certificate().NotAfter) {
		t.Errorf("leaf ends at %s, want with its issuer at %s", svid.NotAfter, root.Certificate().NotAfter)
	}
	for name, at := range map[string]time.Time{
		"expired":       start.Add(31 * time.Hour),
		"nearly":        root.Certificate().NotAfter.Add(-time.Second),
		"not yet valid": start.Add(-2 * time.Hour),
	} {
		now = at
		if _, err := authority.Issue(id); !errors.Is(err, ca.ErrIssuer) {
			t.Errorf("%s: error %v, want %v", name, err, ca.ErrIssuer)
		}
		if _, err := ca.New(opts); !errors.Is(err, ca.ErrIssuer) {
			t.Errorf("%s: new authority: error %v, want %v", name, err, ca.ErrIssuer)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	root := newRoot(t, ca.RootOptions{})
	east, west := options(t, root, "east"), options(t, root, "west")
	other := newRoot(t, ca.RootOptions{})
	for _, test := range []struct {
		name   string
		change func(*ca.Options)
		want   string
	}{
		{"no cluster", func(o *ca.Options) { o.Cluster = "" }, "cluster name"},
		{"cluster with a dot", func(o *ca.Options) { o.Cluster = "a.east" }, "cluster name"},
		{"no domain", func(o *ca.Options) { o.Domain = trust.Domain{} }, "trust domain"},
		{"another cluster's", func(o *ca.Options) { o.ChainPEM, o.KeyPEM = west.ChainPEM, west.KeyPEM }, "permitted dns"},
		{"key of another", func(o *ca.Options) { o.KeyPEM = west.KeyPEM }, "the key is not"},
		{"root not in bundle", func(o *ca.Options) { o.BundlePEM = other.CertificatePEM() }, "unknown authority"},
		{"truncated chain", func(o *ca.Options) { o.ChainPEM = o.ChainPEM[:len(o.ChainPEM)/2] }, "cut short"},
		{"truncated key", func(o *ca.Options) { o.KeyPEM = o.KeyPEM[:len(o.KeyPEM)/2] }, "cut short"},
		{"empty key", func(o *ca.Options) { o.KeyPEM = nil }, "key"},
		{"another domain", func(o *ca.Options) { o.Domain = domain(t, "other.test") }, "permitted uri"},
		{"a root as intermediate", func(o *ca.Options) { o.ChainPEM = root.CertificatePEM() }, "key is not"},
	} {
		opts := east
		test.change(&opts)
		_, err := ca.New(opts)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "PRIVATE KEY-----") {
			t.Errorf("%s: the error shows the key", test.name)
		}
	}
}

func TestRootKey(t *testing.T) {
	t.Parallel()
	root := newRoot(t, ca.RootOptions{})
	password := []byte("correct horse")
	encrypted, err := root.EncryptedKey(password)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(encrypted), "BEGIN ENCRYPTED PRIVATE KEY") {
		t.Fatalf("key is not encrypted pkcs#8:\n%.40s", encrypted)
	}
	loaded, err := ca.LoadRoot(root.Domain(), root.CertificatePEM(), encrypted, password)
	if err != nil {
		t.Fatal(err)
	}
	// The same root opened again makes intermediates that the first one's peers accept.
	if _, err := ca.New(options(t, loaded, "west")); err != nil {
		t.Error(err)
	}
	for _, test := range []struct {
		name           string
		cert, key, pwd []byte
	}{
		{"wrong password", root.CertificatePEM(), encrypted, []byte("wrong horse")},
		{"no password", root.CertificatePEM(), encrypted, nil},
		{"truncated key", root.CertificatePEM(), encrypted[:len(encrypted)/2], password},
		{"another's certificate", newRoot(t, ca.RootOptions{}).CertificatePEM(), encrypted, password},
		{"unencrypted key", root.CertificatePEM(), options(t, root, "east").KeyPEM, password},
		{"no certificate", nil, encrypted, password},
	} {
		if _, err := ca.LoadRoot(root.Domain(), test.cert, test.key, test.pwd); err == nil {
			t.Errorf("%s: loaded", test.name)
		}
	}
	if _, err := root.EncryptedKey([]byte("short")); err == nil {
		t.Error("a short password was taken")
	}
}

// A trust domain that is an address cannot be constrained, so it gets no intermediate.
func TestIntermediateRefuses(t *testing.T) {
	t.Parallel()
	if _, _, err := newRoot(t, ca.RootOptions{Domain: domain(t, "192.0.2.1")}).Intermediate("east"); err == nil {
		t.Error("an intermediate for an address as trust domain")
	}
	root := newRoot(t, ca.RootOptions{})
	for _, cluster := range []string{"", "a.b", "East", "-a", "a-", "ü", strings.Repeat("a", 64)} {
		if _, _, err := root.Intermediate(cluster); err == nil {
			t.Errorf("an intermediate for cluster %q", cluster)
		}
	}
	for _, name := range []string{"cluster.local", "single", "with_underscore.test"} {
		if _, _, err := newRoot(t, ca.RootOptions{Domain: domain(t, name)}).Intermediate("east"); err != nil {
			t.Errorf("trust domain %s: %v", name, err)
		}
	}
}

// Leaves and chains belong together while the intermediate, and then the root,
// is replaced; a bad replacement changes nothing.
func TestReplaceWhileSigning(t *testing.T) {
	t.Parallel()
	first, second := newRoot(t, ca.RootOptions{}), newRoot(t, ca.RootOptions{})
	one, two := options(t, first, "east"), options(t, second, "east")
	both := append(first.CertificatePEM(), second.CertificatePEM()...)
	bundle, err := trust.ParseBundle(first.Domain(), both)
	if err != nil {
		t.Fatal(err)
	}
	one.BundlePEM = both
	authority := newAuthority(t, one)
	id := identity(t, "spiffe://mesh.test/ns/shop/sa/web")
	done := make(chan struct{})
	var signers sync.WaitGroup
	for range 4 {
		signers.Go(func() {
			key := newKey(t, elliptic.P256())
			for {
				select {
				case <-done:
					return
				default:
				}
				chain, err := authority.Sign(key.Public(), id)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := trust.VerifyPeer(chain, bundle, time.Now()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	materials := []ca.Material{{one.ChainPEM, one.KeyPEM, both}, {two.ChainPEM, two.KeyPEM, both}}
	for i := range 100 {
		if err := authority.Replace(materials[i%2]); err != nil {
			t.Error(err)
		}
		if err := authority.Replace(ca.Material{Chain: one.ChainPEM, Key: two.KeyPEM, Bundle: both}); err == nil {
			t.Error("a key of another intermediate was taken")
		}
	}
	close(done)
	signers.Wait()
	if err := authority.Replace(ca.Material{Chain: two.ChainPEM, Key: two.KeyPEM, Bundle: second.CertificatePEM()}); err != nil {
		t.Fatal(err)
	}
	if len(authority.Bundle().Roots()) != 1 {
		t.Error("the old root is still in the bundle")
	}
}

// An intermediate that somebody made without constraints could speak for every
// cluster, so it is refused even though path validation accepts it.
func TestUnconstrainedIntermediate(t *testing.T) {
	t.Parallel()
	root, rootKey := selfSigned(t, "mesh.test")
	for name, change := range map[string]func(*x509.Certificate){
		"no constraints": func(c *x509.Certificate) { c.PermittedDNSDomains, c.PermittedURIDomains = nil, nil },
		"path length 1":  func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 1, false },
		"two clusters": func(c *x509.Certificate) {
			c.PermittedDNSDomains = append(c.PermittedDNSDomains, trust.ClusterDNS("west"))
		},
		"a leaf": func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false },
	} {
		key := newKey(t, elliptic.P256())
		template := intermediate("mesh.test", "east")
		change(template)
		keyPEM, err := trust.EncodeKey(key)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ca.New(ca.Options{
			Cluster: "east", Domain: domain(t, "mesh.test"), KeyPEM: keyPEM,
			ChainPEM:  trust.EncodeCertificates([]*x509.Certificate{signed(t, template, root, key.Public(), rootKey)}),
			BundlePEM: trust.EncodeCertificates([]*x509.Certificate{root}),
		})
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A program's own identity is made once, renewed past half of its life and when
// the intermediate is another, and serves to its end when nothing can be signed.
func TestSource(t *testing.T) {
	t.Parallel()
	start := time.Now().Truncate(time.Second)
	now := start
	root := newRoot(t, ca.RootOptions{Lifetime: 40 * time.Hour})
	opts, other := options(t, root, "east"), options(t, root, "east")
	opts.Now = func() time.Time { return now }
	authority := newAuthority(t, opts)
	source := authority.Source(identity(t, "spiffe://mesh.test/ns/isthmus-system/sa/isthmusd"))
	get := func() trust.SVID {
		t.Helper()
		svid, err := source.SVID()
		if err != nil {
			t.Fatal(err)
		}
		return svid
	}
	same := func(a, b trust.SVID) bool { return a.Certificate.Leaf.Equal(b.Certificate.Leaf) }
	first := get()
	now = start.Add(11 * time.Hour)
	if !same(first, get()) {
		t.Error("renewed too early")
	}
	now = start.Add(13 * time.Hour)
	second := get()
	if same(first, second) {
		t.Error("not renewed past half of its life")
	}
	if err := authority.Replace(ca.Material{Chain: other.ChainPEM, Key: other.KeyPEM, Bundle: other.BundlePEM}); err != nil {
		t.Fatal(err)
	}
	third := get()
	if same(second, third) {
		t.Error("not renewed under the new intermediate")
	}
	now = start.Add(30 * time.Hour)
	get()                                               // ends with its issuer
	now = root.Certificate().NotAfter.Add(-time.Second) // nothing can be signed any more
	if _, err := authority.Issue(third.ID); err == nil {
		t.Fatal("signed")
	}
	get()
	now = root.Certificate().NotAfter.Add(time.Second)
	if _, err := source.SVID(); err == nil {
		t.Error("serves after its end")
	}
}

func BenchmarkSign(b *testing.B) {
	authority := newAuthority(b, options(b, newRoot(b, ca.RootOptions{}), "east"))
	id := identity(b, "spiffe://mesh.test/ns/shop/sa/web")
	key := newKey(b, elliptic.P256())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := authority.Sign(key.Public(), id); err != nil {
			b.Fatal(err)
		}
	}
}
