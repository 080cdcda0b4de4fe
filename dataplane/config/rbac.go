package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"

	"github.com/isthmus-mesh/isthmus/trust"
)

// Access says who may use a connection: whom one of its principals matches.
type Access struct{ principals []principal }

// A principal matches callers by the names of their verified certificate, URIs
// before DNS names; there are none without a certificate.
type principal func(names []string) bool

// Allows reports whether the caller may; nil is one without a certificate.
func (a *Access) Allows(peer *trust.Peer) bool {
	var names []string
	if peer != nil {
		names = append(names, peer.ID.String())
		if peer.Leaf != nil {
			names = append(names, peer.Leaf.DNSNames...)
		}
	}
	return slices.ContainsFunc(a.principals, func(p principal) bool { return p(names) })
}

// parseAccess reads a filter that allows some callers and refuses all others.
// (Envoy judges at the first byte that a caller sends; we before there is any.)
func parseAccess(path string, m *rbacfilterv3.RBAC) (*Access, error) {
	if m.GetRules() == nil {
		return nil, unsupported(path+".rules", "missing")
	}
	a := &Access{}
	policies := m.GetRules().GetPolicies()
	for _, name := range slices.Sorted(maps.Keys(policies)) {
		policy, at := policies[name], fmt.Sprintf("%s.rules.policies[%q]", path, name)
		for i, p := range policy.GetPermissions() {
			if !p.GetAny() {
				return nil, unsupported(fmt.Sprintf("%s.permissions[%d]", at, i), "anything but any")
			}
		}
		for i, p := range policy.GetPrincipals() {
			next, err := parsePrincipal(fmt.Sprintf("%s.principals[%d]", at, i), p)
			if err != nil {
				return nil, err
			}
			a.principals = append(a.principals, next)
		}
	}
	return a, nil
}

func parsePrincipal(path string, m *rbacv3.Principal) (principal, error) {
	switch id := m.GetIdentifier().(type) {
	case *rbacv3.Principal_Any:
		if !id.Any {
			return nil, unsupported(path+".any", "false")
		}
		return func([]string) bool { return true }, nil
	case *rbacv3.Principal_NotId:
		not, err := parsePrincipal(path+".not_id", id.NotId)
		return func(names []string) bool { return !not(names) }, err
	case *rbacv3.Principal_AndIds:
		all, err := parsePrincipals(path+".and_ids", id.AndIds)
		return func(names []string) bool {
			return !slices.ContainsFunc(all, func(p principal) bool { return !p(names) })
		}, err
	case *rbacv3.Principal_OrIds:
		all, err := parsePrincipals(path+".or_ids", id.OrIds)
		return func(names []string) bool {
			return slices.ContainsFunc(all, func(p principal) bool { return p(names) })
		}, err
	case *rbacv3.Principal_Authenticated_:
		return parseAuthenticated(path+".authenticated.principal_name", id.Authenticated)
	default:
		return nil, unsupported(path, fmt.Sprintf("%T", id))
	}
}

func parsePrincipals(path string, set *rbacv3.Principal_Set) ([]principal, error) {
	var all []principal
	for i, m := range set.GetIds() {
		p, err := parsePrincipal(fmt.Sprintf("%s.ids[%d]", path, i), m)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s.ids: none", path)
	}
	return all, nil
}

// parseAuthenticated takes a name exactly as it stands in a certificate. Envoy
// compares the subject too, which always has an equals sign, so a name with one
// is refused here.
func parseAuthenticated(path string, m *rbacv3.Principal_Authenticated) (principal, error) {
	name := m.GetPrincipalName().GetExact()
	if name == "" || strings.Contains(name, "=") {
		return nil, unsupported(path, "anything but the exact name of a URI or a host")
	}
	return func(names []string) bool { return slices.Contains(names, name) }, nil
}
