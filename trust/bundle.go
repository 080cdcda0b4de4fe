package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrInvalidBundle is wrapped by every error about a trust bundle.
var ErrInvalidBundle = errors.New("invalid trust bundle")

// Bundle is the set of root certificates of one trust domain. It does not
// change, and equal sets have equal PEM and Hash, whatever order they came in.
// The zero Bundle holds no root and verifies nobody.
type Bundle struct {
	domain Domain
	roots  []*x509.Certificate // sorted by DER, each once
	pool   *x509.CertPool
	hash   string
}

// ParseBundle reads the roots of domain. It refuses anything but CA
// certificates in their entirety, and an empty list. Expiry is not looked at:
// a bundle may hold an old root beside a new one. See CheckTime.
func ParseBundle(domain Domain, pem []byte) (Bundle, error) {
	certs, err := ParseCertificates(pem)
	if err != nil {
		return Bundle{}, fmt.Errorf("%w of %q: %w", ErrInvalidBundle, domain, err)
	}
	return NewBundle(domain, certs)
}

// NewBundle returns the bundle of the given roots. The certificates must not be
// changed afterwards.
func NewBundle(domain Domain, roots []*x509.Certificate) (Bundle, error) {
	if domain.IsZero() {
		return Bundle{}, fmt.Errorf("%w: no trust domain", ErrInvalidBundle)
	}
	if len(roots) == 0 || len(roots) > MaxCertificates {
		return Bundle{}, fmt.Errorf("%w of %q: %d roots, want 1 to %d", ErrInvalidBundle, domain, len(roots), MaxCertificates)
	}
	for _, root := range roots {
		if err := checkCA(root); err != nil {
			return Bundle{}, fmt.Errorf("%w of %q: %q: %w", ErrInvalidBundle, domain, root.Subject, err)
		}
	}
	roots = slices.Clone(roots)
	slices.SortFunc(roots, func(a, b *x509.Certificate) int { return bytes.Compare(a.Raw, b.Raw) })
	roots = slices.CompactFunc(roots, (*x509.Certificate).Equal)
	bundle := Bundle{domain: domain, roots: roots, pool: x509.NewCertPool()}
	sum := sha256.New()
	for _, root := range roots {
		bundle.pool.AddCert(root)
		sum.Write(root.Raw)
	}
	bundle.hash = hex.EncodeToString(sum.Sum(nil))
	return bundle, nil
}

func checkCA(cert *x509.Certificate) error {
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return errors.New("not a ca certificate")
	}
	if cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return errors.New("its key may not sign certificates")
	}
	return nil
}

// Domain returns the trust domain whose roots these are.
func (b Bundle) Domain() Domain { return b.domain }

// IsZero reports whether b holds no root.
func (b Bundle) IsZero() bool { return len(b.roots) == 0 }

// PEM returns the roots, sorted.
func (b Bundle) PEM() []byte { return EncodeCertificates(b.roots) }

// Roots returns the roots, sorted. The slice is the caller's, the certificates
// are shared and must not be changed.
func (b Bundle) Roots() []*x509.Certificate { return slices.Clone(b.roots) }

// Hash returns the SHA-256 of the roots in hexadecimal, "" for the zero Bundle.
func (b Bundle) Hash() string { return b.hash }

// With returns the bundle of both sets of roots, for the stage of a rotation in
// which both are trusted. They must be of one trust domain.
func (b Bundle) With(other Bundle) (Bundle, error) {
	switch {
	case other.IsZero():
		return b, nil
	case b.IsZero():
		return other, nil
	case b.domain != other.domain:
		return Bundle{}, fmt.Errorf("%w: roots of %q and %q in one", ErrInvalidBundle, b.domain, other.domain)
	}
	return NewBundle(b.domain, slices.Concat(b.roots, other.roots))
}

// CheckTime returns an error unless some root is valid at now.
func (b Bundle) CheckTime(now time.Time) error {
	for _, root := range b.roots {
		if !now.Before(root.NotBefore) && !now.After(root.NotAfter) {
			return nil
		}
	}
	return fmt.Errorf("%w of %q: none of %d roots is valid at %s",
		ErrInvalidBundle, b.domain, len(b.roots), now.UTC().Format(time.RFC3339))
}
