package intercept

import (
	"strings"
	"testing"

	"github.com/google/nftables"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/dataplane/intercept/netnstest"
)

// gatewayPair is an entry gateway and a caller outside.
func gatewayPair(t *testing.T) (gateway, outside *netnstest.Namespace) {
	gateway, outside = netnstest.New(t), netnstest.New(t)
	netnstest.Connect(gateway, outside, "eth0", "eth0", []string{"10.0.0.2/24", "fd00::2/64"}, []string{"10.0.0.1/24", "fd00::1/64"})
	gateway.Gateway("10.0.0.1", "fd00::1")
	serve(gateway, api.PortEntry, "entry")
	for _, port := range []int{api.PortHealth, api.PortProxyMetrics, 19999, 20001, 30000} {
		serve(gateway, port, "own")
	}
	serve(outside, 20001, "outside")
	return gateway, outside
}

// Connections from outside to the range arrive at the gateway's port and know
// where they were going; nothing else is touched, the gateway's own calls to
// such ports least of all.
func TestEntryRedirect(t *testing.T) {
	gateway, outside := gatewayPair(t)
	gateway.Must(func() error { return ApplyEntry(api.PortRange{First: 20000, Last: 29999}) })
	gateway.Must(func() error { return ApplyEntry(api.PortRange{First: 20000, Last: 29999}) }) // once more is the same
	for _, c := range []struct {
		name     string
		from     *netnstest.Namespace
		to, want string
	}{
		{"first of the range", outside, "gw:20000", "entry gw:20000"},
		{"one that somebody listens at", outside, "gw:20001", "entry gw:20001"},
		{"last of the range", outside, "gw:29999", "entry gw:29999"},
		{"before the range", outside, "gw:19999", "own -"},
		{"after the range", outside, "gw:30000", "own -"},
		{"health", outside, "gw:15021", "own -"},
		{"metrics", outside, "gw:15090", "own -"},
		{"the entry port itself", outside, "gw:15444", "entry -"},
		{"a port where nobody listens", outside, "gw:7", "refused"},
		{"the gateway's own call", gateway, "out:20001", "outside -"},
		{"the gateway to itself", gateway, "gw:20001", "own -"},
		{"the gateway to its loopback", gateway, "lo:20001", "own -"},
	} {
		for _, names := range []*strings.Replacer{
			strings.NewReplacer("gw:", "10.0.0.2:", "out:", "10.0.0.1:", "lo:", "127.0.0.1:"),
			strings.NewReplacer("gw:", "[fd00::2]:", "out:", "[fd00::1]:", "lo:", "[::1]:"),
		} {
			if got := dial(t, c.from, names.Replace(c.to), 0); got != names.Replace(c.want) {
				t.Errorf("%s: %s gave %q, want %q", c.name, names.Replace(c.to), got, names.Replace(c.want))
			}
		}
	}
}

// Another range takes the place of the first, a sidecar's rules that of a
// gateway's, and undoing leaves nothing.
func TestEntryReplaced(t *testing.T) {
	gateway, outside := gatewayPair(t)
	gateway.Must(func() error { return Apply(Options{}) })
	gateway.Must(func() error { return ApplyEntry(api.PortRange{First: 20001, Last: 20001}) })
	if got := dial(t, outside, "10.0.0.2:19999", 0); got != "own -" {
		t.Errorf("after a sidecar's rules: %q", got)
	}
	gateway.Must(func() error { return ApplyEntry(api.PortRange{First: 19999, Last: 20000}) })
	for to, want := range map[string]string{"10.0.0.2:19999": "entry 10.0.0.2:19999", "10.0.0.2:20001": "own -"} {
		if got := dial(t, outside, to, 0); got != want {
			t.Errorf("%s: %q, want %q", to, got, want)
		}
	}
	gateway.Must(Undo)
	gateway.Must(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := conn.ListTables()
		if err == nil && len(tables) > 0 {
			t.Errorf("%d tables left", len(tables))
		}
		return err
	})
	if got := dial(t, outside, "10.0.0.2:20001", 0); got != "own -" {
		t.Errorf("after undo: %q", got)
	}
}
