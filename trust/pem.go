package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Limits on PEM that is read from outside, so that a huge file costs an error
// and not memory.
const (
	MaxPEMSize      = 1 << 20 // bytes
	MaxCertificates = 64
)

const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY"
)

// ErrPEM is wrapped by every error about PEM that cannot be read completely.
var ErrPEM = errors.New("malformed pem")

// ParseCertificates reads a list of CERTIFICATE blocks: at least one, nothing
// but white space between and after them. The usual decoder skips what it
// cannot read, so that a list cut short would pass as a shorter one; here each
// header must lead to a certificate.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	if len(data) > MaxPEMSize {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrPEM, MaxPEMSize)
	}
	var certs []*x509.Certificate
	for rest := bytes.TrimSpace(data); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		block, after, err := nextBlock(rest)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		if block.Type != certificateBlock {
			return nil, fmt.Errorf("%w: block %d is a %q, not a certificate", ErrPEM, len(certs)+1, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate %d: %v", ErrPEM, len(certs)+1, err)
		}
		if certs = append(certs, cert); len(certs) > MaxCertificates {
			return nil, fmt.Errorf("%w: more than %d certificates", ErrPEM, MaxCertificates)
		}
		rest = after
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%w: no certificate", ErrPEM)
	}
	return certs, nil
}

// nextBlock decodes the block with which data begins, and returns what follows.
func nextBlock(data []byte) (*pem.Block, []byte, error) {
	header := []byte("-----BEGIN ")
	if !bytes.HasPrefix(data, header) {
		return nil, nil, fmt.Errorf("%w: text outside of a block", ErrPEM)
	}
	block, rest := pem.Decode(data)
	if block == nil || bytes.Count(data[:len(data)-len(rest)], header) != 1 {
		return nil, nil, fmt.Errorf("%w: block is cut short or damaged", ErrPEM)
	}
	if len(block.Headers) > 0 {
		return nil, nil, fmt.Errorf("%w: block has headers", ErrPEM)
	}
	return block, rest, nil
}

// EncodeCertificates writes certs as PEM in their order.
func EncodeCertificates(certs []*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, cert := range certs {
		// Writing to a buffer and encoding a block without headers cannot fail.
		_ = pem.Encode(&out, &pem.Block{Type: certificateBlock, Bytes: cert.Raw})
	}
	return out.Bytes()
}
