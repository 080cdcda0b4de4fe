package trust

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
)

// maxChain bounds the certificates that a peer may send: leaf, our
// intermediate, and some of an upstream authority.
const maxChain = 8

// ErrPeer is wrapped by every error about a peer that is not to be trusted.
var ErrPeer = errors.New("peer not trusted")

// Peer is who is at the other end of a connection.
type Peer struct {
	ID      ID
	Cluster string // proved by the path; "" where the leaf names no cluster
	Leaf    *x509.Certificate
}

// ClusterDNS returns the name that leaves of cluster bear beside their SPIFFE
// ID, and under which the control plane of cluster is reached.
func ClusterDNS(cluster string) string { return cluster + "." + api.ClusterZone }

// ParseClusterDNS is the inverse of ClusterDNS. The cluster must be one
// lower-case DNS label: name constraints let subdomains pass, so "a.b" could be
// signed by the intermediate of "b".
func ParseClusterDNS(name string) (string, bool) {
	cluster, ok := strings.CutSuffix(name, "."+api.ClusterZone)
	return cluster, ok && ValidCluster(cluster)
}

// ValidCluster reports whether name is a DNS label in lower case (RFC 1123), as
// cluster names are.
func ValidCluster(name string) bool {
	if name == "" || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	})
}

// VerifyPeer validates the path from chain, leaf first, to a root of bundle at
// now, name constraints included, and returns whom the leaf names. The leaf may
// be for client or server use. Beyond path validation it holds that
//   - the trust domain is the bundle's exactly (constraints let subdomains pass),
//   - the leaf is no CA, and names one SPIFFE ID, at most one cluster, and
//     nothing else.
//
// Every error wraps ErrPeer.
func VerifyPeer(chain []*x509.Certificate, bundle Bundle, now time.Time) (Peer, error) {
	if len(chain) == 0 {
		return Peer{}, fmt.Errorf("%w: no certificate", ErrPeer)
	}
	if len(chain) > maxChain {
		return Peer{}, fmt.Errorf("%w: chain of %d certificates", ErrPeer, len(chain))
	}
	if bundle.IsZero() {
		return Peer{}, fmt.Errorf("%w: no root to verify it with", ErrPeer)
	}
	peer, err := readLeaf(chain[0])
	if err != nil {
		return Peer{}, fmt.Errorf("%w: %w", ErrPeer, err)
	}
	if peer.ID.Domain() != bundle.Domain() {
		return Peer{}, fmt.Errorf("%w: %s is not of trust domain %q", ErrPeer, peer.ID, bundle.Domain())
	}
	if err := verifyPath(chain, bundle, now); err != nil {
		return Peer{}, fmt.Errorf("%w: %s: %w", ErrPeer, peer.ID, err)
	}
	return peer, nil
}

func verifyPath(chain []*x509.Certificate, bundle Bundle, now time.Time) error {
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots:         bundle.pool,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	})
	return err
}

// readLeaf returns whom cert names, without believing it yet.
func readLeaf(cert *x509.Certificate) (Peer, error) {
	if cert.IsCA || cert.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return Peer{}, errors.New("a ca certificate names no workload")
	}
	if cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return Peer{}, errors.New("the key is not for signatures")
	}
	if len(cert.URIs) != 1 {
		return Peer{}, fmt.Errorf("%d uris in the certificate, want one spiffe id", len(cert.URIs))
	}
	id, err := ParseID(cert.URIs[0].String())
	if err != nil {
		return Peer{}, err
	}
	if len(cert.IPAddresses)+len(cert.EmailAddresses) > 0 || len(cert.DNSNames) > 1 {
		return Peer{}, fmt.Errorf("%s: names beside the spiffe id and the cluster", id)
	}
	peer := Peer{ID: id, Leaf: cert}
	if len(cert.DNSNames) == 1 {
		var ok bool
		if peer.Cluster, ok = ParseClusterDNS(cert.DNSNames[0]); !ok {
			return Peer{}, fmt.Errorf("%s: %q is not the name of a cluster", id, cert.DNSNames[0])
		}
	}
	return peer, nil
}
