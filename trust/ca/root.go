package ca

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/softcas"
	"go.step.sm/crypto/kms/softkms"
	"go.step.sm/crypto/pemutil"

	"github.com/isthmus-mesh/isthmus/trust"
)

// MinPassword is the least length of a root key's password in bytes.
const MinPassword = 8

// RootOptions configures CreateRoot.
type RootOptions struct {
	Domain   trust.Domain     // required
	Name     string           // common name; "" means one with the trust domain in it
	Lifetime time.Duration    // 0 means RootLifetime
	Now      func() time.Time // nil means time.Now
}

// Root is the root of a clusterset with its key. It stays with whoever
// installs; no cluster needs it.
type Root struct {
	domain trust.Domain
	cert   *x509.Certificate
	signer crypto.Signer
	now    func() time.Time
}

// CreateRoot makes a new root and key (ECDSA P-256).
func CreateRoot(opts RootOptions) (*Root, error) {
	if opts.Domain.IsZero() {
		return nil, errors.New("create root: no trust domain")
	}
	now := clock(opts.Now)
	lifetime := cmp.Or(opts.Lifetime, RootLifetime)
	name := cmp.Or(opts.Name, "Isthmus root of "+opts.Domain.String())
	made, err := create(&apiv1.CreateCertificateAuthorityRequest{
		Type:     apiv1.RootCA,
		Template: rootTemplate(name, now(), lifetime),
		Lifetime: lifetime,
	})
	if err != nil {
		return nil, fmt.Errorf("create root of %q: %w", opts.Domain, err)
	}
	return NewRoot(opts.Domain, made.Certificate, made.Signer, now)
}

// LoadRoot opens a root from its certificate and its encrypted key, as written
// by EncryptedKey. It takes some 200 ms: the key derivation is slow on purpose.
func LoadRoot(domain trust.Domain, certPEM, keyPEM, password []byte) (*Root, error) {
	certs, err := trust.ParseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("load root: %w", err)
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("load root: %d certificates, want one", len(certs))
	}
	signer, err := decryptKey(keyPEM, password)
	if err != nil {
		return nil, fmt.Errorf("load root: %w", err)
	}
	return NewRoot(domain, certs[0], signer, nil)
}

// NewRoot returns the root of a certificate and any signer that holds its key,
// such as one in a KMS. now may be nil.
func NewRoot(domain trust.Domain, cert *x509.Certificate, signer crypto.Signer, now func() time.Time) (*Root, error) {
	if _, err := trust.NewBundle(domain, []*x509.Certificate{cert}); err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	if !sameKey(cert, signer) {
		return nil, errors.New("root: the key is not the certificate's")
	}
	if cert.MaxPathLenZero {
		return nil, errors.New("root: its path length 0 allows no intermediate")
	}
	return &Root{domain: domain, cert: cert, signer: signer, now: clock(now)}, nil
}

// Domain returns the trust domain.
func (r *Root) Domain() trust.Domain { return r.domain }

// Certificate returns the root certificate, which must not be changed.
func (r *Root) Certificate() *x509.Certificate { return r.cert }

// CertificatePEM returns the root certificate.
func (r *Root) CertificatePEM() []byte {
	return trust.EncodeCertificates([]*x509.Certificate{r.cert})
}

// Bundle returns the bundle of this root alone.
func (r *Root) Bundle() (trust.Bundle, error) {
	return trust.NewBundle(r.domain, []*x509.Certificate{r.cert})
}

// EncryptedKey returns the root key as encrypted PKCS#8. A root whose key is in
// a KMS has nothing to give and returns an error.
func (r *Root) EncryptedKey(password []byte) ([]byte, error) {
	if len(password) < MinPassword {
		return nil, fmt.Errorf("encrypt root key: password shorter than %d bytes", MinPassword)
	}
	block, err := pemutil.Serialize(r.signer, pemutil.WithPKCS8(true), pemutil.WithPassword(password))
	if err != nil {
		return nil, fmt.Errorf("encrypt root key: %w", err)
	}
	return pem.EncodeToMemory(block), nil
}

// Intermediate makes the intermediate of cluster: its chain, leaf first, root
// not included, and its key as unencrypted PKCS#8. Its life ends with the
// root's at the latest.
func (r *Root) Intermediate(cluster string) (chainPEM, keyPEM []byte, err error) {
	if !trust.ValidCluster(cluster) {
		return nil, nil, fmt.Errorf("intermediate: cluster name %q is not a dns label", cluster)
	}
	chainPEM, keyPEM, err = r.intermediate(cluster)
	if err != nil {
		return nil, nil, fmt.Errorf("intermediate of cluster %q: %w", cluster, err)
	}
	return chainPEM, keyPEM, nil
}

func (r *Root) intermediate(cluster string) (chainPEM, keyPEM []byte, err error) {
	now := r.now()
	lifetime := min(IntermediateLifetime, r.cert.NotAfter.Sub(now))
	if lifetime <= 0 {
		return nil, nil, fmt.Errorf("the root expired at %s", r.cert.NotAfter.UTC().Format(time.RFC3339))
	}
	made, err := create(&apiv1.CreateCertificateAuthorityRequest{
		Type:     apiv1.IntermediateCA,
		Template: intermediateTemplate(cluster, r.domain, now, lifetime),
		Lifetime: lifetime,
		Parent:   &apiv1.CreateCertificateAuthorityResponse{Certificate: r.cert, Signer: r.signer},
	})
	if err != nil {
		return nil, nil, err
	}
	chainPEM = trust.EncodeCertificates([]*x509.Certificate{made.Certificate})
	if keyPEM, err = trust.EncodeKey(made.PrivateKey); err != nil {
		return nil, nil, err
	}
	// The constructor proves that peers will accept what this signs.
	_, err = New(Options{
		Cluster: cluster, Domain: r.domain, ChainPEM: chainPEM, KeyPEM: keyPEM, BundlePEM: r.CertificatePEM(), Now: r.now,
	})
	return chainPEM, keyPEM, err
}

// create has softcas make a certificate authority with a key of its own. The key
// manager is given, so that nothing is looked up in a registry.
func create(req *apiv1.CreateCertificateAuthorityRequest) (*apiv1.CreateCertificateAuthorityResponse, error) {
	ctx := context.Background() // neither constructor nor call waits for anything
	keys := &softkms.SoftKMS{}
	cas, err := softcas.New(ctx, apiv1.Options{IsCreator: true, KeyManager: keys})
	if err != nil {
		return nil, err
	}
	return cas.CreateCertificateAuthority(req)
}

// decryptKey opens an encrypted PKCS#8 key. pemutil asks a terminal where no
// password is given, so an empty one is refused first.
func decryptKey(keyPEM, password []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(keyPEM)
	if block == nil || len(rest) > 0 || block.Type != "ENCRYPTED PRIVATE KEY" {
		return nil, errors.New("the key is not one encrypted PKCS#8 key")
	}
	if len(password) == 0 {
		return nil, errors.New("the key is encrypted and no password was given")
	}
	key, err := pemutil.ParseKey(keyPEM, pemutil.WithPassword(password))
	if err != nil {
		return nil, errors.New("the key cannot be opened: wrong password, or damaged")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	return signer, nil
}

func sameKey(cert *x509.Certificate, signer crypto.Signer) bool {
	public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && signer != nil && public.Equal(signer.Public())
}

func clock(now func() time.Time) func() time.Time {
	if now == nil {
		return time.Now
	}
	return now
}
