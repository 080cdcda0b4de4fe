package watch

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/trust"
)

// A gateway's hostname that fails keeps its last addresses, one that resolves
// anew has the new ones, and none leads back to this machine. (faults 13, 52)
func TestGatewayHostnames(t *testing.T) {
	var answer []netip.Addr
	var failure error
	domain, err := trust.ParseDomain("cluster.local")
	must(t, err)
	w, err := New(Options{
		Local: &rest.Config{}, Cluster: "east", Domain: domain,
		LookUp: func(context.Context, string) ([]netip.Addr, error) { return answer, failure },
	})
	must(t, err)
	w.resolved["gw.example"] = resolution{}
	good, other := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")
	for _, tt := range []struct {
		addrs []netip.Addr
		err   error
		want  []netip.Addr
	}{
		{nil, errors.New("no such host"), nil},
		{[]netip.Addr{netip.MustParseAddr("::ffff:192.0.2.7")}, nil, []netip.Addr{good}},
		{nil, errors.New("timeout"), []netip.Addr{good}},
		{[]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("169.254.169.254")}, nil, []netip.Addr{good}},
		{[]netip.Addr{other, netip.MustParseAddr("::1")}, nil, []netip.Addr{other}},
	} {
		answer, failure = tt.addrs, tt.err
		w.lookUp(t.Context(), "gw.example")
		if got := w.resolved["gw.example"].addrs; !slices.Equal(got, tt.want) {
			t.Errorf("after %v, %v: %v, want %v", tt.addrs, tt.err, got, tt.want)
		}
	}
}
