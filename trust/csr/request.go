package csr

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
)

// maxRequest bounds a CSR in bytes; ours are near 220.
const maxRequest = 16 << 10

// errRequest is wrapped by every error about a CSR. Their text holds nothing of it.
var errRequest = errors.New("malformed csr")

// requestKey returns the public key of a CSR in DER and nothing else of it: its
// subject, names and extensions are neither used nor looked at. The signature
// proves that the caller has the private key.
func requestKey(der []byte) (*ecdsa.PublicKey, error) {
	if len(der) == 0 || len(der) > maxRequest {
		return nil, fmt.Errorf("%w: %d bytes, want 1 to %d", errRequest, len(der), maxRequest)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%w: not PKCS#10", errRequest)
	}
	// The key is checked before the signature: verifying with a huge RSA key is dear.
	key, ok := request.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: the key is not ecdsa p-256", errRequest)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: the signature is not its key's", errRequest)
	}
	return key, nil
}
