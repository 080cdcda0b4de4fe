package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// ErrInvalidSVID is wrapped by every error about a malformed SVID.
var ErrInvalidSVID = errors.New("invalid svid")

// SVID is an X.509 identity document with its key. It does not change.
type SVID struct {
	ID          ID
	Cluster     string          // "" where the leaf names no cluster
	Certificate tls.Certificate // Leaf is set; root not included

	NotBefore, NotAfter time.Time // the leaf's
}

// NewSVID joins a chain, leaf first, with its key. It checks that they belong
// together, not that the chain leads to a root: VerifyPeer does.
func NewSVID(chain []*x509.Certificate, key crypto.Signer) (SVID, error) {
	if len(chain) == 0 {
		return SVID{}, fmt.Errorf("%w: no certificate", ErrInvalidSVID)
	}
	leaf, err := readLeaf(chain[0])
	if err != nil {
		return SVID{}, fmt.Errorf("%w: %w", ErrInvalidSVID, err)
	}
	public, ok := chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return SVID{}, fmt.Errorf("%w: %s: the key is not the certificate's", ErrInvalidSVID, leaf.ID)
	}
	svid := SVID{ID: leaf.ID, Cluster: leaf.Cluster, NotBefore: chain[0].NotBefore, NotAfter: chain[0].NotAfter}
	svid.Certificate = tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, cert := range chain {
		svid.Certificate.Certificate = append(svid.Certificate.Certificate, cert.Raw)
	}
	return svid, nil
}

// ParseSVID reads a chain, leaf first, and an unencrypted PKCS#8 key.
func ParseSVID(chainPEM, keyPEM []byte) (SVID, error) {
	chain, err := ParseCertificates(chainPEM)
	if err != nil {
		return SVID{}, fmt.Errorf("%w: %w", ErrInvalidSVID, err)
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return SVID{}, fmt.Errorf("%w: %w", ErrInvalidSVID, err)
	}
	return NewSVID(chain, key)
}

// IsZero reports whether s is no identity.
func (s SVID) IsZero() bool { return s.ID.IsZero() }

// Chain returns the certificates, leaf first.
func (s SVID) Chain() ([]*x509.Certificate, error) {
	chain := make([]*x509.Certificate, 0, len(s.Certificate.Certificate))
	for _, der := range s.Certificate.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalidSVID, err)
		}
		chain = append(chain, cert)
	}
	return chain, nil
}

// ChainPEM returns the certificates as PEM, leaf first.
func (s SVID) ChainPEM() []byte {
	var out bytes.Buffer
	for _, der := range s.Certificate.Certificate {
		_ = pem.Encode(&out, &pem.Block{Type: certificateBlock, Bytes: der}) // cannot fail
	}
	return out.Bytes()
}

// KeyPEM returns the private key as PKCS#8. Keep it from logs and dumps.
func (s SVID) KeyPEM() ([]byte, error) { return EncodeKey(s.Certificate.PrivateKey) }

// EncodeKey writes a private key as unencrypted PKCS#8.
func EncodeKey(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), nil
}

// ParseKey reads one unencrypted PKCS#8 key of a kind that the mesh uses, ECDSA.
// Its errors never show any of the content.
func ParseKey(data []byte) (*ecdsa.PrivateKey, error) {
	if len(data) > MaxPEMSize {
		return nil, fmt.Errorf("%w: key larger than %d bytes", ErrPEM, MaxPEMSize)
	}
	block, rest, err := nextBlock(bytes.TrimSpace(data))
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if block.Type != keyBlock || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: want one unencrypted PKCS#8 key (%q)", ErrPEM, keyBlock)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: key is not PKCS#8", ErrPEM)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: key is a %T, want ECDSA", ErrPEM, parsed)
	}
	return key, nil
}
