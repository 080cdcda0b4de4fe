package ca

import (
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/trust"
)

// Source is the identity of the program that holds the authority, as a
// trust.Source. It needs no running part: each call renews what is past half of
// its life, or was signed by an intermediate that has been replaced.
type Source struct {
	authority *Authority
	id        trust.ID

	mu     sync.Mutex
	svid   trust.SVID
	issuer *issuer // of svid
	issued time.Time
}

// Source returns the source of id.
func (a *Authority) Source(id trust.ID) *Source { return &Source{authority: a, id: id} }

// Bundle implements trust.Source.
func (s *Source) Bundle() (trust.Bundle, error) { return s.authority.Bundle(), nil }

// SVID implements trust.Source. While the authority cannot sign, the last one
// serves to its end.
func (s *Source) SVID() (trust.SVID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, current := s.authority.now(), s.authority.issuer.Load()
	if s.issuer == current && now.Sub(s.issued) < s.svid.NotAfter.Sub(s.issued)/2 && !now.Before(s.svid.NotBefore) {
		return s.svid, nil
	}
	svid, err := s.authority.Issue(s.id)
	if err != nil {
		if !s.svid.IsZero() && now.Before(s.svid.NotAfter) {
			return s.svid, nil
		}
		return trust.SVID{}, err
	}
	s.svid, s.issuer, s.issued = svid, current, now
	return svid, nil
}
