package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

const unreachedHeader = "X-Isthmus-Unreached"

// marking makes an inbound listener say when it could not connect to the application.
func marking(l *listenerv3.Listener, cluster string) *listenerv3.Listener {
	m := manager(inlineRoutes(cluster), true)
	m.LocalReplyConfig = &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{{
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
			ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: []string{"UF"}},
		}},
		HeadersToAdd: []*corev3.HeaderValueOption{{
			Header:       &corev3.HeaderValue{Key: strings.ToLower(unreachedHeader), Value: "1"},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}},
	}}}
	l.FilterChains[0].Filters = httpFilters(m)
	return l
}

// elsewhere makes a route configuration send what reached no application to another host.
func elsewhere(rc *routev3.RouteConfiguration) *routev3.RouteConfiguration {
	p := rc.VirtualHosts[0].Routes[0].GetRoute().RetryPolicy
	p.RetryOn += ",retriable-headers"
	p.RetriableHeaders = []*routev3.HeaderMatcher{{
		Name: strings.ToLower(unreachedHeader), HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
	}}
	rc.ResponseHeadersToRemove = []string{strings.ToLower(unreachedHeader)}
	return rc
}

// A request whose application has just gone reaches the far sidecar, which says that it connected
// to nobody: the request, a POST too, is sent to another host. Where there is no other, the caller is
// told, without the mark.
func TestApplicationGoneBehindItsSidecar(t *testing.T) {
	gone := dead(t)
	w := newTwoClusters(t, gone, true, true)
	w.west.apply(t, newState(marking(inboundListener(anyPort, gone.Port(), true, true), inboundName(gone.Port())), originalDst(inboundName(gone.Port()), 1338, true)))
	other := app(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s of %d", r.Method, len(body))
	})
	through := ep{at: w.gateway.bound(t, "east-west"), mtls: true}

	for name, c := range map[string]struct {
		hosts []ep
		code  int
		text  string
	}{
		"another host":     {[]ep{through, {at: other}}, 200, "POST of 5000"},
		"another priority": {[]ep{through, {at: other, priority: 1}}, 200, "POST of 5000"},
		"none":             {[]ep{through}, 503, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := with(w.eastState, elsewhere(routes(reviewsName)), assignment(reviewsName, c.hosts...))
			w.east.apply(t, s)
			for range 4 {
				res, err := client(t, w.east, "127.0.0.2", false).Post("http://reviews/", "text/plain", strings.NewReader(strings.Repeat("x", 5000)))
				must(t, err)
				body, err := io.ReadAll(res.Body)
				must(t, err)
				_ = res.Body.Close()
				if res.StatusCode != c.code || c.text != "" && string(body) != c.text {
					t.Errorf("%d %q, want %d %q", res.StatusCode, body, c.code, c.text)
				}
				if res.Header.Get(unreachedHeader) != "" {
					t.Error("the caller sees the mark")
				}
			}
		})
	}
}
