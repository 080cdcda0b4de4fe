package proxy_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/isthmus-mesh/isthmus/trust"
)

func authenticated(name string) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_Authenticated_{Authenticated: &rbacv3.Principal_Authenticated{
		PrincipalName: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}},
	}}}
}

func not(p *rbacv3.Principal) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_NotId{NotId: p}}
}

// allow lets in whom one of the principals matches.
func allow(principals ...*rbacv3.Principal) *listenerv3.Filter {
	return filter("envoy.filters.network.rbac", &rbacfilterv3.RBAC{StatPrefix: "p", Rules: &rbacv3.RBAC{
		Policies: map[string]*rbacv3.Policy{"callers": {
			Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_Any{Any: true}}}, Principals: principals,
		}},
	}})
}

// ask opens a connection of the mesh as src and returns what the server says
// before it is asked anything.
func ask(t testing.TB, to string, src trust.Source) (string, error) {
	t.Helper()
	c, err := net.Dial("tcp", to)
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	tc := tls.Client(c, trust.ClientTLS(src, reviewsSNI, []string{"isthmus"}, nil))
	if err := tc.Handshake(); err != nil {
		return "", err
	}
	var line [10]byte
	n, err := io.ReadFull(tc, line[:])
	return string(line[:n]), err
}

const hello220 = "220 hello\n"

// A caller that may not use a port gets no byte of a server that speaks first,
// which does not even learn that it called.
func TestDeniedBeforeTheServerSpeaks(t *testing.T) {
	var called atomic.Int64
	at := tcpApp(t, func(c *net.TCPConn) { called.Add(1); greeter(c) })
	w := newTwoClusters(t, at, false, true)
	entry := w.ca.svid(t, "east", "isthmus-system", "isthmus-entry")
	admit := func(who *rbacv3.Principal) {
		l := inboundListener(anyPort, at.Port(), true, false)
		l.FilterChains[0].Filters = append([]*listenerv3.Filter{allow(who)}, l.FilterChains[0].Filters...)
		w.west.apply(t, with(w.westState, l))
	}
	admit(not(authenticated(entry.id())))
	to := w.west.bound(t, "inbound").String()
	if got, err := ask(t, to, entry); got != "" || err == nil || errors.Is(err, os.ErrDeadlineExceeded) || called.Load() != 0 {
		t.Errorf("the entry gateway got %q, %v; the server was called %d times", got, err, called.Load())
	}
	if got, err := ask(t, to, w.eastID); got != hello220 {
		t.Errorf("anybody else got %q, %v", got, err)
	}
	admit(authenticated(trust.ClusterDNS("north")))
	before := called.Load()
	if got, err := ask(t, to, w.eastID); got != "" || err == nil || called.Load() != before {
		t.Errorf("another cluster got %q, %v", got, err)
	}
	if got, err := ask(t, to, w.ca.svid(t, "north", "shop", "any")); got != hello220 {
		t.Errorf("the cluster got %q, %v", got, err)
	}
}

// Before the HTTP connection manager too.
func TestDeniedHTTP(t *testing.T) {
	at := named(t, "reviews")
	w := newTwoClusters(t, at, true, true)
	c := client(t, w.east, "127.0.0.2", false)
	if code, _ := get(t, c, "GET", nil); code != 200 {
		t.Fatalf("before: %d", code)
	}
	l := inboundListener(anyPort, at.Port(), true, true)
	l.FilterChains[0].Filters = append([]*listenerv3.Filter{allow(not(authenticated(w.eastID.id())))}, l.FilterChains[0].Filters...)
	w.west.apply(t, with(w.westState, l))
	eventually(t, "east is denied", func() bool { code, _ := get(t, c, "GET", nil); return code == 503 })
}

// clientsOf demands one of the DNS names of clients.
func clientsOf(l *listenerv3.Listener, names ...string) *listenerv3.Listener {
	common := commonTLS()
	for _, n := range names {
		check := common.GetCombinedValidationContext().DefaultValidationContext
		check.MatchTypedSubjectAltNames = append(check.MatchTypedSubjectAltNames, &tlsv3.SubjectAltNameMatcher{
			SanType: tlsv3.SubjectAltNameMatcher_DNS, Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: n}},
		})
	}
	l.FilterChains[0].TransportSocket = socketOf("envoy.transport_sockets.tls", &tlsv3.DownstreamTlsContext{RequireClientCertificate: yes(), CommonTlsContext: common})
	return l
}

// Clusters that are not named fail in the handshake, by an alert.
func TestChosenClusters(t *testing.T) {
	at := tcpApp(t, greeter)
	w := newTwoClusters(t, at, false, true)
	w.west.apply(t, with(w.westState, clientsOf(inboundListener(anyPort, at.Port(), true, false), trust.ClusterDNS("west"), trust.ClusterDNS("east"))))
	to := w.west.bound(t, "inbound").String()
	for cluster, want := range map[string]string{"west": hello220, "east": hello220, "north": "", "eas": "", "east-2": ""} {
		got, err := ask(t, to, w.ca.svid(t, cluster, "shop", "productpage"))
		if got != want || want == "" && (err == nil || !strings.Contains(err.Error(), "remote error: tls:")) {
			t.Errorf("%s got %q, %v", cluster, got, err)
		}
	}
	if got, err := ask(t, to, source{bundle: w.ca.bundle}); got != "" || err == nil {
		t.Errorf("without a certificate: %q, %v", got, err)
	}
	other := newAuthority(t, "cluster.local").svid(t, "east", "shop", "productpage")
	if got, err := ask(t, to, source{svid: other.svid, bundle: w.ca.bundle}); got != "" || err == nil {
		t.Errorf("another authority's east: %q, %v", got, err)
	}
	// Chosen anew, while connections are open.
	w.west.apply(t, with(w.westState, clientsOf(inboundListener(anyPort, at.Port(), true, false), trust.ClusterDNS("west"))))
	if got, err := ask(t, w.west.bound(t, "inbound").String(), w.eastID); got != "" || err == nil {
		t.Errorf("east is not named any more: %q, %v", got, err)
	}
}

// Plaintext chains with source ranges let in nobody from elsewhere, in the same
// port as mTLS.
func TestPlaintextBySource(t *testing.T) {
	at := tcpApp(t, greeter)
	w := newTwoClusters(t, at, false, true)
	l := clientsOf(inboundListener(anyPort, at.Port(), false, false), trust.ClusterDNS("west"))
	l.FilterChains[1].FilterChainMatch.SourcePrefixRanges = ranges(t, "127.0.0.40/32")
	l.ListenerFiltersTimeout = dur(100 * time.Millisecond)
	w.west.apply(t, with(w.westState, l))
	to := loopback(w.west.bound(t, "inbound").Port()).String()
	from := func(ip string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		c, err := d.Dial("tcp", to)
		must(t, err)
		must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	greeted(t, from("127.0.0.40"))
	nothing(t, "plaintext from elsewhere", from("127.0.0.41"))
	if got, err := ask(t, to, w.ca.svid(t, "west", "shop", "any")); got != hello220 {
		t.Errorf("own cluster by mTLS: %q, %v", got, err)
	}
	if got, err := ask(t, to, w.eastID); got != "" || err == nil {
		t.Errorf("another cluster by mTLS: %q, %v", got, err)
	}
}
