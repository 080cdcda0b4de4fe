package proxy_test

import (
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	reviewsName = "outbound|9080||reviews.shop.svc.clusterset.local"
	reviewsSNI  = "p9080.reviews.shop.sni.isthmus.internal"
)

var reviewsVIP = netip.MustParseAddrPort("10.96.0.10:9080")

// twoClusters is the path of one request: a sidecar in east, west's gateway, a
// sidecar in west, the application.
type twoClusters struct {
	ca                        *authority
	east, gateway, west       *instance
	eastID, gatewayID, westID source
	eastState, gatewayState   state
	westState                 state
}

// newTwoClusters starts the path to an application at appAddr. The service's
// listener in east is made by listen.
func newTwoClusters(t testing.TB, appAddr netip.AddrPort, http, strict bool) *twoClusters {
	t.Helper()
	ca := newAuthority(t, "cluster.local")
	w := &twoClusters{
		ca: ca, eastID: ca.svid(t, "east", "shop", "productpage"), westID: ca.svid(t, "west", "shop", "reviews"),
		gatewayID: ca.svid(t, "west", "isthmus-system", "isthmus-eastwest"),
	}
	patient := func(o *proxyOptions) { o.DrainTimeout = 20 * time.Second }
	w.east, w.gateway, w.west = start(t, w.eastID, patient), start(t, w.gatewayID, patient), start(t, w.westID, patient)

	w.west.dsts.set("127.0.0.1", appAddr)
	w.westState = newState(inboundListener(anyPort, appAddr.Port(), strict, http), originalDst(inboundName(appAddr.Port()), 1338, http))
	w.west.apply(t, w.westState)

	w.gatewayState = newState(gatewayListener(loopback(0)), gatewayCluster(reviewsSNI),
		assignment(reviewsSNI, ep{at: loopback(w.west.bound(t, "inbound").Port())}))
	w.gateway.apply(t, w.gatewayState)

	filters := tcpFilters(reviewsName)
	if http {
		filters = httpFilters(manager(wrapperspb.String(reviewsName), false))
	}
	w.east.dsts.set("127.0.0.2", reviewsVIP)
	w.eastState = newState(outboundCatchAll(anyPort), passthrough(), serviceListener(reviewsName, reviewsVIP, filters), routes(reviewsName),
		edsCluster(reviewsName, reviewsSNI, w.westID.id()), assignment(reviewsName, ep{at: w.gateway.bound(t, "east-west"), mtls: true}))
	w.east.apply(t, w.eastState)
	return w
}

// A request goes from pod to pod through both sidecars and the gateway, and the
// application is told who called.
func TestPath(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		var got http.Header
		at := app(t, func(w http.ResponseWriter, r *http.Request) {
			got = r.Header.Clone()
			w.Header().Set("Server", "reviews")
			_, _ = io.WriteString(w, r.Proto+" "+r.URL.Path)
		})
		w := newTwoClusters(t, at, true, true)
		req, _ := http.NewRequest("GET", "http://reviews.shop:9080/a/./b/../c", nil)
		req.Header.Set("X-Forwarded-Client-Cert", "By=spiffe://cluster.local/ns/x/sa/forged")
		req.Header["x_forwarded_client_cert"] = []string{"forged"}
		req.Header.Set("X-Isthmus-Peer", "forged")
		res, err := client(t, w.east, "127.0.0.2", h2).Do(req)
		must(t, err)
		body, err := io.ReadAll(res.Body)
		must(t, err)
		_ = res.Body.Close()
		want := "HTTP/1.1 /a/c"
		if h2 {
			want = "HTTP/2.0 /a/c"
		}
		if res.StatusCode != 200 || string(body) != want || res.Header.Get("Server") != "reviews" {
			t.Fatalf("got %d %q %v", res.StatusCode, body, res.Header)
		}
		xfcc := got.Get("X-Forwarded-Client-Cert")
		wantXFCC := "By=" + w.westID.id() + ";Hash="
		if !strings.HasPrefix(xfcc, wantXFCC) || !strings.HasSuffix(xfcc, ";URI="+w.eastID.id()+";DNS=east.clusters.isthmus.internal") {
			t.Errorf("xfcc %q", xfcc)
		}
		for _, name := range []string{"x_forwarded_client_cert", "X_forwarded_client_cert", "X-Isthmus-Peer"} {
			if got[name] != nil {
				t.Errorf("%s passed: %v", name, got[name])
			}
		}
		if len(got.Get("X-Request-Id")) != 36 {
			t.Errorf("request id %q", got.Get("X-Request-Id"))
		}
	}
}
