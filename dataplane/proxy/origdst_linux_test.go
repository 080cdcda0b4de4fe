package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/dataplane/intercept"
	"github.com/isthmus-mesh/isthmus/dataplane/intercept/netnstest"
)

// The kernel tells where a redirected connection was going, in both families,
// and the local address where nothing was redirected.
func TestOriginalDst(t *testing.T) {
	pod, outside := netnstest.New(t), netnstest.New(t)
	netnstest.Connect(pod, outside, "eth0", "veth0", []string{"10.0.0.2/24", "fd00::2/64"}, []string{"10.0.0.1/24", "fd00::1/64"})
	pod.Must(func() error { return intercept.Apply(intercept.Options{}) })
	got := make(chan string, 1)
	for _, network := range []string{"tcp4", "tcp6"} {
		ln := pod.Listen(network, fmt.Sprintf(":%d", api.PortInbound))
		plain := outside.Listen(network, ":9000")
		for _, l := range []net.Listener{ln, plain} {
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					dst, err := originalDst(c)
					got <- fmt.Sprint(dst, err)
					_ = c.Close()
				}
			}()
		}
	}
	for _, c := range []struct {
		from *netnstest.Namespace
		to   string
	}{{outside, "10.0.0.2:8080"}, {outside, "[fd00::2]:8080"}, {outside, "10.0.0.1:9000"}, {outside, "[fd00::1]:9000"}} {
		conn, err := c.from.Dial(t.Context(), c.to, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if want := fmt.Sprint(netip.MustParseAddrPort(c.to), nil); <-got != want {
			t.Errorf("want %s", want)
		}
	}
}
