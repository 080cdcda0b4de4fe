package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/softcas"

	"github.com/isthmus-mesh/isthmus/trust"
)

// issuer is one intermediate with all that belongs to it. It does not change;
// rotation makes another.
type issuer struct {
	cas                 *softcas.SoftCAS
	bundle              trust.Bundle
	notBefore, notAfter time.Time // the span in which its whole path is valid
}

func newIssuer(cluster string, domain trust.Domain, m Material, now time.Time) (*issuer, error) {
	chain, err := trust.ParseCertificates(m.Chain)
	if err != nil {
		return nil, fmt.Errorf("chain: %w", err)
	}
	key, err := trust.ParseKey(m.Key)
	if err != nil {
		return nil, err
	}
	bundle, err := trust.ParseBundle(domain, m.Bundle)
	if err != nil {
		return nil, err
	}
	if !sameKey(chain[0], key) {
		return nil, errors.New("the key is not the intermediate's")
	}
	if err := checkConstraints(chain[0], cluster, domain); err != nil {
		return nil, fmt.Errorf("intermediate: %w", err)
	}
	made := &issuer{bundle: bundle}
	if made.notBefore, made.notAfter, err = span(chain, bundle, now); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	made.cas, err = softcas.New(context.Background(), apiv1.Options{CertificateChain: chain, Signer: key})
	if err != nil {
		return nil, err
	}
	return made, made.prove(cluster, domain, now)
}

// span validates the path of an issuing chain at now and returns the time in
// which all of it is valid; of several paths, the one that lasts longest.
func span(chain []*x509.Certificate, bundle trust.Bundle, now time.Time) (notBefore, notAfter time.Time, err error) {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, root := range bundle.Roots() {
		roots.AddCert(root)
	}
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	paths, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return notBefore, notAfter, err
	}
	for _, path := range paths {
		from, to := path[0].NotBefore, path[0].NotAfter
		for _, cert := range path[1:] {
			if cert.NotBefore.After(from) {
				from = cert.NotBefore
			}
			if cert.NotAfter.Before(to) {
				to = cert.NotAfter
			}
		}
		if to.After(notAfter) {
			notBefore, notAfter = from, to
		}
	}
	return notBefore, notAfter, nil
}

// span returns when a leaf signed at now is valid, or why none can be.
func (i *issuer) span(now time.Time, lifetime time.Duration) (notBefore, notAfter time.Time, err error) {
	notBefore, notAfter = now.Add(-Backdate), now.Add(lifetime)
	if notBefore.Before(i.notBefore) {
		notBefore = i.notBefore
	}
	if notAfter.After(i.notAfter) {
		notAfter = i.notAfter
	}
	if now.Before(i.notBefore) || notAfter.Sub(now) < min(minLeaf, lifetime) {
		return notBefore, notAfter, fmt.Errorf("%w: its chain is valid from %s to %s, and it is %s", ErrIssuer,
			i.notBefore.UTC().Format(time.RFC3339), i.notAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return notBefore, notAfter, nil
}

// prove signs a sample and verifies it as a peer would.
func (i *issuer) prove(cluster string, domain trust.Domain, now time.Time) error {
	id, err := trust.NewID(domain, "isthmus-system", "proof")
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	a := &Authority{cluster: cluster, domain: domain, lifetime: LeafLifetime, now: func() time.Time { return now }}
	a.issuer.Store(i)
	chain, err := a.sign(&key.PublicKey, id)
	if err != nil {
		return err
	}
	if _, err := trust.VerifyPeer(chain, i.bundle, now); err != nil {
		return fmt.Errorf("%w: what it signs is refused: %w", ErrIssuer, err)
	}
	return nil
}
