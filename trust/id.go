// Package trust holds the values of identity: SPIFFE IDs, trust domains,
// bundles and the verification of a peer. It does no I/O; trust/ca signs and
// trust/csr serves.
package trust

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Limits on the length of an ID and of a trust domain in bytes. (SPIFFE-ID §2.3)
const (
	MaxIDLength     = 2048
	MaxDomainLength = 255
)

// ErrInvalidID is wrapped by every error about a malformed SPIFFE ID.
var ErrInvalidID = errors.New("invalid spiffe id")

// Domain is a trust domain such as "cluster.local". Only ParseDomain makes one;
// the zero Domain is none.
type Domain struct{ td spiffeid.TrustDomain }

// ParseDomain checks s, a bare name without scheme.
func ParseDomain(s string) (Domain, error) {
	if len(s) > MaxDomainLength {
		return Domain{}, fmt.Errorf("%w: trust domain longer than %d bytes", ErrInvalidID, MaxDomainLength)
	}
	if strings.Contains(s, "/") {
		return Domain{}, fmt.Errorf("%w: trust domain %q is not a bare name", ErrInvalidID, s)
	}
	td, err := spiffeid.TrustDomainFromString(s)
	if err != nil {
		return Domain{}, fmt.Errorf("%w: trust domain %q: %v", ErrInvalidID, s, err)
	}
	return Domain{td}, nil
}

func (d Domain) String() string { return d.td.Name() }

// IsZero reports whether d is no trust domain.
func (d Domain) IsZero() bool { return d.td.IsZero() }

// ID is the SPIFFE identity of a workload,
// spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT. It is comparable. Only NewID and
// ParseID make one; the zero ID is no identity and matches nothing.
type ID struct {
	domain             Domain
	namespace, account string
}

// NewID returns the identity of account in namespace.
func NewID(domain Domain, namespace, account string) (ID, error) {
	if domain.IsZero() {
		return ID{}, fmt.Errorf("%w: no trust domain", ErrInvalidID)
	}
	return ParseID("spiffe://" + domain.String() + "/ns/" + namespace + "/sa/" + account)
}

// ParseID parses the canonical form. Anything else, such as upper case in the
// trust domain, a query, an encoded slash or "..", is refused.
func ParseID(s string) (ID, error) {
	if len(s) > MaxIDLength {
		return ID{}, fmt.Errorf("%w: longer than %d bytes", ErrInvalidID, MaxIDLength)
	}
	id, err := spiffeid.FromString(s)
	if err != nil {
		return ID{}, fmt.Errorf("%w: %q: %v", ErrInvalidID, s, err)
	}
	parts := strings.Split(id.Path(), "/")
	if len(parts) != 5 || parts[1] != "ns" || parts[3] != "sa" {
		return ID{}, fmt.Errorf("%w: %q is not of the form spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT", ErrInvalidID, s)
	}
	return ID{Domain{id.TrustDomain()}, parts[2], parts[4]}, nil
}

// String returns the canonical URI; the zero ID gives "".
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return "spiffe://" + id.domain.String() + "/ns/" + id.namespace + "/sa/" + id.account
}

func (id ID) Domain() Domain         { return id.domain }
func (id ID) Namespace() string      { return id.namespace }
func (id ID) ServiceAccount() string { return id.account }
func (id ID) IsZero() bool           { return id == ID{} }

// Compare orders IDs by their text.
func (id ID) Compare(other ID) int { return strings.Compare(id.String(), other.String()) }
