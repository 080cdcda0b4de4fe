package xds

import (
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
)

// FuzzRead gives the checks of the built-in data plane whatever may come.
func FuzzRead(f *testing.F) {
	for _, m := range []proto.Message{edsCluster("a"), assignment("a"), route("a"), listener(f, "a", "a")} {
		r := wrap(f, "1", m)
		b, err := proto.Marshal(&discoveryv3.DeltaDiscoveryResponse{
			TypeUrl: r.GetResource().GetTypeUrl(), Resources: []*discoveryv3.Resource{r, r}, RemovedResources: []string{"b"},
		})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		resp := new(discoveryv3.DeltaDiscoveryResponse)
		if proto.Unmarshal(b, resp) != nil {
			return
		}
		ch := read(resp, func(string) bool { return true }, config.Check, time.Now())
		for name, r := range ch.set {
			if name != nameOf(r.Message) {
				t.Errorf("%q calls itself %q", name, nameOf(r.Message))
			}
			references(r.Message)
		}
		d := detail(ch.refused)
		if (d != nil) != (len(ch.refused) > 0) || len(d.GetMessage()) > maxDetail+maxReason+MaxNameLength {
			t.Errorf("detail: %d bytes for %d refusals", len(d.GetMessage()), len(ch.refused))
		}
	})
}

// What is refused is said in a line each, however much it is.
func TestDetail(t *testing.T) {
	var refused []Refusal
	for range 1000 {
		refused = append(refused, Refusal{Name: "a", Reason: strings.Repeat("x", maxReason)})
	}
	d := detail(refused)
	if n := len(d.GetMessage()); n > 2*maxDetail || !strings.HasSuffix(d.GetMessage(), "more") {
		t.Errorf("%d bytes, ends %q", n, d.GetMessage()[n-20:])
	}
	if detail(nil) != nil {
		t.Error("an ACK with a detail is a NACK")
	}
}
