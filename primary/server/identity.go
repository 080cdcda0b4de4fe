package server

import (
	"fmt"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
)

// identity is isthmusd's own, which its authority issues: anew at half-life, and
// when the authority's intermediate or bundle has been replaced.
type identity struct {
	authority *ca.Authority
	id        trust.ID

	mu     sync.Mutex
	svid   trust.SVID
	issuer string // what the svid was issued under
}

// SVID implements trust.Source.
func (i *identity) SVID() (trust.SVID, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	issuer := i.authority.Bundle().Hash() + i.authority.NotAfter().String()
	half := i.svid.NotBefore.Add(i.svid.NotAfter.Sub(i.svid.NotBefore) / 2)
	if !i.svid.IsZero() && i.issuer == issuer && now.Before(half) {
		return i.svid, nil
	}
	svid, err := i.authority.Issue(i.id)
	if err != nil {
		if !i.svid.IsZero() && now.Before(i.svid.NotAfter) {
			return i.svid, nil // the old one still holds
		}
		return trust.SVID{}, fmt.Errorf("issue own svid: %w", err)
	}
	i.svid, i.issuer = svid, issuer
	return svid, nil
}

// Bundle implements trust.Source.
func (i *identity) Bundle() (trust.Bundle, error) { return i.authority.Bundle(), nil }
