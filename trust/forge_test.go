package trust_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/trust"
)

// What follows makes certificates with the standard library alone, so that tests
// hold what the rules refuse and trust/ca would never sign.

// issuer is a certificate with its key.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (i issuer) sign(t testing.TB, template *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber = new(big.Int).SetBytes([]byte(rand.Text()))
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, public, i.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func caTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1,
	}
}

func newRoot(t testing.TB) issuer {
	t.Helper()
	key := newKey(t)
	template := caTemplate("root")
	return issuer{issuer{template, key}.sign(t, template, key.Public()), key}
}

// intermediate is constrained as design.md says; change may spoil it.
func (i issuer) intermediate(t testing.TB, cluster string, change func(*x509.Certificate)) issuer {
	t.Helper()
	template := caTemplate("intermediate of " + cluster)
	template.MaxPathLen, template.MaxPathLenZero = 0, true
	template.PermittedDNSDomainsCritical = true
	template.PermittedDNSDomains = []string{trust.ClusterDNS(cluster)}
	template.PermittedURIDomains = []string{"mesh.test"}
	if change != nil {
		change(template)
	}
	key := newKey(t)
	return issuer{i.sign(t, template, key.Public()), key}
}

func leafTemplate(uri string, dns ...string) *x509.Certificate {
	parsed, err := url.Parse(uri)
	if err != nil {
		panic(err)
	}
	return &x509.Certificate{
		URIs: []*url.URL{parsed}, DNSNames: dns,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(30 * time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
}

// chain signs a leaf with the issuers, the last of which is the root.
func chain(t testing.TB, template *x509.Certificate, issuers ...issuer) []*x509.Certificate {
	t.Helper()
	certs := []*x509.Certificate{issuers[0].sign(t, template, newKey(t).Public())}
	for _, issuer := range issuers[:len(issuers)-1] {
		certs = append(certs, issuer.cert)
	}
	return certs
}

func domain(t testing.TB, name string) trust.Domain {
	t.Helper()
	d, err := trust.ParseDomain(name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func bundle(t testing.TB, roots ...issuer) trust.Bundle {
	t.Helper()
	var certs []*x509.Certificate
	for _, root := range roots {
		certs = append(certs, root.cert)
	}
	b, err := trust.NewBundle(domain(t, "mesh.test"), certs)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func everyAddress() []*net.IPNet {
	return []*net.IPNet{{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}}
}
