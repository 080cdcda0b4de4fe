package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const distantMesh = `
cluster east network=blue region=eu %s read
cluster west network=green region=eu %s read gateways=10.2.0.2:15443
service reviews.shop
  port 9080 http
  vip east 10.96.0.7
  export west 9080/http
  endpoint west 10.3.0.2 pod=reviews-1 account=reviews mtls 9080:9080
service db.shop headless
  port 5432 tcp
  export west 5432/tcp
  endpoint west 10.3.0.2 pod=reviews-1 account=reviews mtls 5432:6432
  endpoint west 10.3.0.3 pod=reviews-2 account=reviews mtls 5432:6432
  synthetic east west reviews-1 240.241.0.7
  synthetic east west reviews-2 240.241.0.8
workload east/shop/web-1 account=web
workload west/shop/reviews-1 account=reviews 9080/http 6432/tcp
`

// An application reaches one pod of a headless service of another network by the
// address that stands for it: by class E, the default route, the redirect, that
// pod's listener and its own server name. (No other pod takes its place.) Where
// the service lets other clusters call only, its sidecar refuses.
func TestDistantPod(t *testing.T) {
	w := newWorld(t)
	east, west := fmt.Sprintf(distantMesh, "local", ""), fmt.Sprintf(distantMesh, "", "local")
	serveLines(t, w.app, "10.3.0.2:6432")
	until := func(to, want string) *call {
		t.Helper()
		for end := time.Now().Add(deadline); ; time.Sleep(20 * time.Millisecond) {
			c, err := callFrom(t, w.web, "10.1.0.2", to)
			if err != nil {
				t.Fatal(err)
			}
			got := c.line("")
			if got == want {
				return c
			}
			c.Close()
			if time.Now().After(end) {
				t.Fatalf("%s: %q, want %q", to, got, want)
			}
		}
	}
	w.west.update(west)
	w.east.update(east)
	c := until("240.241.0.7:6432", "hello")
	if got := c.line("one"); got != "one" {
		t.Errorf("%q", got)
	}
	until("240.241.0.8:6432", caught) // its pod is not there
	until("240.241.0.7:5432", caught) // the pod does not listen at the service's port
	until("240.241.0.9:6432", caught) // stands for nobody

	w.west.update(strings.Replace(west, "6432/tcp\n", "6432/tcp from:6432=west\n", 1))
	until("240.241.0.7:6432", caught)
	w.west.update(strings.Replace(west, "6432/tcp\n", "6432/tcp from:6432=east,west\n", 1))
	until("240.241.0.7:6432", "hello")
}
