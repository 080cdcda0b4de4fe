package resources

import (
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/trust"
)

// entryIdentity returns who entry gateways of a trust domain are, in whichever
// cluster; the zero identity for the zero domain.
func entryIdentity(domain trust.Domain) trust.ID {
	id, err := trust.NewID(domain, api.SystemNamespace, api.EntryName)
	if err != nil {
		return trust.ID{}
	}
	return id
}

// refuse lets every caller in but id. It comes after the handshake.
func refuse(stat string, id trust.ID) *listenerv3.Filter {
	caller := &rbacv3.Principal{Identifier: &rbacv3.Principal_Authenticated_{Authenticated: &rbacv3.Principal_Authenticated{
		PrincipalName: exactly(id.String()),
	}}}
	return networkFilter("envoy.filters.network.rbac", &rbacfilterv3.RBAC{
		StatPrefix: stat,
		Rules: &rbacv3.RBAC{Action: rbacv3.RBAC_ALLOW, Policies: map[string]*rbacv3.Policy{"callers": {
			Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_Any{Any: true}}},
			Principals:  []*rbacv3.Principal{{Identifier: &rbacv3.Principal_NotId{NotId: caller}}},
		}}},
	})
}

func exactly(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}
