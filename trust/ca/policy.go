// Package ca signs: a root for the clusterset, an intermediate for each cluster,
// and the SVIDs of that cluster's workloads. Certificates are made by softcas of
// github.com/smallstep/certificates; what goes into them, and every check on
// the issuer (softcas has none), is here.
package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/trust"
)

// Lifetimes. A leaf's ends with its issuer's at the latest.
const (
	RootLifetime         = 10 * 365 * 24 * time.Hour
	IntermediateLifetime = 2 * 365 * 24 * time.Hour
	LeafLifetime         = 24 * time.Hour
	Backdate             = 60 * time.Second // tolerated lag of a peer's clock
)

// minLeaf is the shortest life worth signing. An issuer with less left refuses.
const minLeaf = 10 * time.Second

func rootTemplate(name string, now time.Time, lifetime time.Duration) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            1,
	}
}

// intermediateTemplate is the whole power of a cluster: leaves of its trust
// domain that name this cluster or none, and no address.
func intermediateTemplate(cluster string, domain trust.Domain, now time.Time, lifetime time.Duration) *x509.Certificate {
	return &x509.Certificate{
		Subject:                     pkix.Name{CommonName: "Isthmus intermediate of cluster " + cluster},
		NotBefore:                   now.Add(-Backdate),
		NotAfter:                    now.Add(lifetime),
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLen:                  0,
		MaxPathLenZero:              true,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{trust.ClusterDNS(cluster)},
		PermittedURIDomains:         []string{domain.String()},
		ExcludedIPRanges: []*net.IPNet{
			{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
			{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
		},
	}
}

// leafTemplate names id and cluster, and nothing that a caller chose.
func leafTemplate(id trust.ID, cluster string, notBefore, notAfter time.Time) (*x509.Certificate, error) {
	uri, err := url.Parse(id.String())
	if err != nil {
		return nil, fmt.Errorf("uri of %s: %w", id, err)
	}
	return &x509.Certificate{
		URIs:                  []*url.URL{uri},
		DNSNames:              []string{trust.ClusterDNS(cluster)},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, nil
}

// checkConstraints refuses an intermediate that could speak for more than its
// cluster, such as one that somebody else made without constraints.
func checkConstraints(cert *x509.Certificate, cluster string, domain trust.Domain) error {
	if !cert.IsCA || !cert.BasicConstraintsValid {
		return errors.New("not a ca certificate")
	}
	if cert.MaxPathLen != 0 || !cert.MaxPathLenZero {
		return errors.New("path length is not limited to 0")
	}
	if !slices.Equal(cert.PermittedURIDomains, []string{domain.String()}) {
		return fmt.Errorf("permitted uri domains are %q, want just %q", cert.PermittedURIDomains, domain)
	}
	if want := trust.ClusterDNS(cluster); !slices.Equal(cert.PermittedDNSDomains, []string{want}) {
		return fmt.Errorf("permitted dns domains are %q, want just %q", cert.PermittedDNSDomains, want)
	}
	return nil
}
