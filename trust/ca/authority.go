package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/smallstep/certificates/cas/apiv1"

	"github.com/isthmus-mesh/isthmus/trust"
)

// Errors that callers tell apart.
var (
	// ErrKey: the public key is not ECDSA P-256.
	ErrKey = errors.New("public key is not ecdsa p-256")
	// ErrIssuer: the authority's own certificates cannot sign now.
	ErrIssuer = errors.New("authority cannot sign")
	// ErrIdentity: the authority does not sign for that trust domain.
	ErrIdentity = errors.New("identity outside of the authority")
)

// Material is what an authority signs with, all PEM.
type Material struct {
	Chain  []byte // the intermediate, then what leads to a root; root not included
	Key    []byte // the intermediate's, unencrypted PKCS#8
	Bundle []byte // every root to trust
}

// Options configures an Authority.
type Options struct {
	Cluster   string       // required; the cluster that its leaves name
	Domain    trust.Domain // required
	ChainPEM  []byte       // required, as the next two; see Material
	KeyPEM    []byte
	BundlePEM []byte
	Lifetime  time.Duration    // of leaves; 0 means LeafLifetime, which is also the most
	Now       func() time.Time // nil means time.Now
}

// Authority signs the SVIDs of one cluster. It may be used by any number of
// goroutines, also while Replace gives it another intermediate: a leaf and its
// chain always belong together.
type Authority struct {
	cluster  string
	domain   trust.Domain
	lifetime time.Duration
	now      func() time.Time
	issuer   atomic.Pointer[issuer]
}

// New returns an authority after it has proved its own chain: constraints, key,
// path and time. A wrong one is refused here rather than by every peer later.
func New(opts Options) (*Authority, error) {
	if !trust.ValidCluster(opts.Cluster) {
		return nil, fmt.Errorf("authority: cluster name %q is not a dns label", opts.Cluster)
	}
	if opts.Domain.IsZero() {
		return nil, errors.New("authority: no trust domain")
	}
	lifetime := opts.Lifetime
	if lifetime <= 0 || lifetime > LeafLifetime {
		lifetime = LeafLifetime
	}
	a := &Authority{cluster: opts.Cluster, domain: opts.Domain, lifetime: lifetime, now: clock(opts.Now)}
	if err := a.Replace(Material{opts.ChainPEM, opts.KeyPEM, opts.BundlePEM}); err != nil {
		return nil, err
	}
	return a, nil
}

// Replace makes the authority sign with m from now on. Where m is wrong in any
// way, the error says how and the authority goes on with what it has.
func (a *Authority) Replace(m Material) error {
	next, err := newIssuer(a.cluster, a.domain, m, a.now())
	if err != nil {
		return fmt.Errorf("authority of cluster %q: %w", a.cluster, err)
	}
	a.issuer.Store(next)
	return nil
}

// Cluster returns the cluster that its leaves name.
func (a *Authority) Cluster() string { return a.cluster }

// Domain returns its trust domain.
func (a *Authority) Domain() trust.Domain { return a.domain }

// Bundle returns the roots to trust.
func (a *Authority) Bundle() trust.Bundle { return a.issuer.Load().bundle }

// Valid returns the span in which its whole chain is valid; no leaf lives longer.
func (a *Authority) Valid() (notBefore, notAfter time.Time) {
	issuer := a.issuer.Load()
	return issuer.notBefore, issuer.notAfter
}

// Sign returns the SVID of id for a public key: the chain, leaf first, root not
// included. The certificates must not be changed. It lives for 24 hours, or as
// long as the issuer, and is valid from a minute ago.
func (a *Authority) Sign(public crypto.PublicKey, id trust.ID) ([]*x509.Certificate, error) {
	key, ok := public.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("sign svid for %s: %w", id, ErrKey)
	}
	if id.IsZero() || id.Domain() != a.domain {
		return nil, fmt.Errorf("sign svid for %q: %w: its trust domain is %q", id, ErrIdentity, a.domain)
	}
	chain, err := a.sign(key, id)
	if err != nil {
		return nil, fmt.Errorf("sign svid for %s: %w", id, err)
	}
	return chain, nil
}

func (a *Authority) sign(key *ecdsa.PublicKey, id trust.ID) ([]*x509.Certificate, error) {
	issuer := a.issuer.Load()
	notBefore, notAfter, err := issuer.span(a.now(), a.lifetime)
	if err != nil {
		return nil, err
	}
	template, err := leafTemplate(id, a.cluster, notBefore, notAfter)
	if err != nil {
		return nil, err
	}
	template.PublicKey = key
	// Lifetime must be set, though the template's times go before it.
	signed, err := issuer.cas.CreateCertificate(&apiv1.CreateCertificateRequest{Template: template, Lifetime: a.lifetime})
	if err != nil {
		return nil, err
	}
	return slices.Concat([]*x509.Certificate{signed.Certificate}, signed.CertificateChain), nil
}

// Issue makes a key and signs it for id: for the program that holds the
// authority itself.
func (a *Authority) Issue(id trust.ID) (trust.SVID, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return trust.SVID{}, fmt.Errorf("make key for %s: %w", id, err)
	}
	chain, err := a.Sign(key.Public(), id)
	if err != nil {
		return trust.SVID{}, err
	}
	return trust.NewSVID(chain, key)
}
