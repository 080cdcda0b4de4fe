package config

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previousprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
)

const defaultRouteTimeout = 15 * time.Second // Envoy's

func parseRoutes(m *routev3.RouteConfiguration) (*Routes, error) {
	out := &Routes{Name: m.GetName(), source: m}
	if len(m.GetVirtualHosts()) != 1 {
		return nil, unsupported("virtual_hosts", fmt.Sprintf("%d of them", len(m.GetVirtualHosts())))
	}
	vh := m.GetVirtualHosts()[0]
	if !slices.Equal(vh.GetDomains(), []string{"*"}) {
		return nil, unsupported("virtual_hosts[0].domains", `anything but "*"`)
	}
	for _, name := range m.GetResponseHeadersToRemove() {
		out.Remove = append(out.Remove, http.CanonicalHeaderKey(name))
	}
	for i, r := range vh.GetRoutes() {
		route, err := parseRoute(fmt.Sprintf("virtual_hosts[0].routes[%d]", i), r)
		if err != nil {
			return nil, err
		}
		out.Routes = append(out.Routes, route)
	}
	return out, nil
}

func parseRoute(path string, m *routev3.Route) (Route, error) {
	a := m.GetRoute()
	if a == nil {
		return Route{}, fmt.Errorf("%s.route: missing", path)
	}
	if _, ok := m.GetMatch().GetPathSpecifier().(*routev3.RouteMatch_Prefix); !ok {
		return Route{}, fmt.Errorf("%s.match.prefix: missing", path)
	}
	if a.GetCluster() == "" {
		return Route{}, fmt.Errorf("%s.route.cluster: missing", path)
	}
	timeout, err := duration(path+".route.timeout", a.GetTimeout(), defaultRouteTimeout)
	if err != nil {
		return Route{}, err
	}
	retry, err := parseRetry(path+".route.retry_policy", a.GetRetryPolicy())
	if err != nil {
		return Route{}, err
	}
	return Route{Prefix: m.GetMatch().GetPrefix(), Cluster: a.GetCluster(), Timeout: timeout, Retry: retry}, nil
}

func parseRetry(path string, m *routev3.RetryPolicy) (Retry, error) {
	if m == nil {
		return Retry{}, nil
	}
	r := Retry{Attempts: int(min(number(m.GetNumRetries(), 1), maxAttempts)), OtherHosts: len(m.GetRetryHostPredicate()) > 0}
	for on := range strings.SplitSeq(m.GetRetryOn(), ",") {
		switch strings.TrimSpace(on) {
		case "":
		case "connect-failure":
			r.ConnectFailure = true
		case "refused-stream":
			r.RefusedStream = true
		case "reset-before-request":
			r.ResetBefore = true
		case "retriable-headers":
			for _, h := range m.GetRetriableHeaders() {
				if !h.GetPresentMatch() {
					return Retry{}, unsupported(path+".retriable_headers", "anything but present_match")
				}
				r.Headers = append(r.Headers, http.CanonicalHeaderKey(h.GetName()))
			}
		default:
			return Retry{}, unsupported(path+".retry_on", on)
		}
	}
	if p := m.GetRetryPriority(); p != nil {
		inner, err := unpack(path+".retry_priority.typed_config", p.GetTypedConfig())
		if err != nil {
			return Retry{}, err
		}
		pp, ok := inner.(*previousprioritiesv3.PreviousPrioritiesConfig)
		if !ok {
			return Retry{}, unsupported(path+".retry_priority.typed_config", p.GetTypedConfig().GetTypeUrl())
		}
		r.PriorityEvery = int(min(pp.GetUpdateFrequency(), maxAttempts))
	}
	return r, nil
}
