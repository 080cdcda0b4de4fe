package intercept

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/nftables"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/dataplane/intercept/netnstest"
)

// pair makes a pod and the world outside, connected, with servers everywhere.
func pair(t *testing.T) (pod, outside *netnstest.Namespace) {
	pod, outside = netnstest.New(t), netnstest.New(t)
	netnstest.Connect(pod, outside, "eth0", "eth0", []string{"10.0.0.2/24", "fd00::2/64"}, []string{"10.0.0.1/24", "fd00::1/64"})
	pod.Gateway("10.0.0.1", "fd00::1")
	serve(pod, api.PortOutbound, "outbound")
	serve(pod, api.PortInbound, "inbound")
	serve(pod, api.PortHealth, "health")
	serve(pod, api.PortProxyMetrics, "metrics")
	serve(pod, 8080, "app")
	serve(pod, 8081, "app")
	serve(outside, 9000, "outside")
	serve(outside, 9001, "outside")
	return pod, outside
}

func TestRedirect(t *testing.T) {
	pod, outside := pair(t)
	pod.Must(func() error {
		return Apply(Options{ExcludeInboundPorts: []uint16{8081}, ExcludeOutboundPorts: []uint16{9001}})
	})
	for _, c := range []struct {
		name string
		from *netnstest.Namespace
		mark int
		to   string // %s is the address of the pod, or of outside
		want string
	}{
		{"application to a service", pod, 0, "vip:80", "outbound vip:80"},
		{"application to a pod", pod, 0, "outside:9000", "outbound outside:9000"},
		{"sidecar to a pod", pod, api.MarkOutbound, "outside:9000", "outside -"},
		{"sidecar as inbound to a pod", pod, api.MarkInbound, "outside:9000", "outside -"},
		{"sidecar to its own pod", pod, api.MarkOutbound, "pod:8080", "inbound pod:8080"},
		{"sidecar to its own pod, excluded port", pod, api.MarkOutbound, "pod:8081", "app -"},
		{"sidecar to its own loopback", pod, api.MarkOutbound, "lo:8080", "app -"},
		{"sidecar to the application", pod, api.MarkInbound, "pod:8080", "app -"},
		{"application to itself", pod, 0, "pod:8080", "app -"},
		{"application to loopback", pod, 0, "lo:8080", "app -"},
		{"application to the sidecar", pod, 0, "lo:15001", "refused"},
		{"application to the sidecar's inbound", pod, 0, "pod:15006", "refused"},
		{"application to an excluded port", pod, 0, "outside:9001", "outside -"},
		{"outside to the application", outside, 0, "pod:8080", "inbound pod:8080"},
		{"outside to a port nobody serves", outside, 0, "pod:7", "inbound pod:7"},
		{"outside to an excluded port", outside, 0, "pod:8081", "app -"},
		{"outside to health", outside, 0, "pod:15021", "health -"},
		{"outside to metrics", outside, 0, "pod:15090", "metrics -"},
		{"outside to admin", outside, 0, "pod:15000", "inbound pod:15000"},
		{"outside to outbound", outside, 0, "pod:15001", "refused"},
		{"outside to inbound", outside, 0, "pod:15006", "refused"},
	} {
		for _, names := range []*strings.Replacer{
			strings.NewReplacer("pod:", "10.0.0.2:", "outside:", "10.0.0.1:", "vip:", "10.96.0.1:", "lo:", "127.0.0.1:"),
			strings.NewReplacer("pod:", "[fd00::2]:", "outside:", "[fd00::1]:", "vip:", "[fd96::1]:", "lo:", "[::1]:"),
		} {
			if got := dial(t, c.from, names.Replace(c.to), c.mark); got != names.Replace(c.want) {
				t.Errorf("%s: %s gave %q, want %q", c.name, names.Replace(c.to), got, names.Replace(c.want))
			}
		}
	}
}

func TestExcludedRanges(t *testing.T) {
	pod, _ := pair(t)
	for _, c := range []struct{ cidrs, to, want string }{
		{"10.0.0.0/24", "10.0.0.1:9000", "outside -"},
		{"10.0.0.1", "10.0.0.1:9000", "outside -"},
		{"10.0.0.2/32,10.0.1.0/24", "10.0.0.1:9000", "outbound 10.0.0.1:9000"},
		{"fd00::/63", "[fd00::1]:9000", "outside -"},
		{"fd00::/63", "10.0.0.1:9000", "outbound 10.0.0.1:9000"},
		{"0.0.0.0/0", "10.0.0.1:9000", "outside -"},
	} {
		cidrs, err := ParseCIDRs(c.cidrs)
		if err != nil {
			t.Fatal(err)
		}
		pod.Must(func() error { return Apply(Options{ExcludeOutboundCIDRs: cidrs}) })
		if got := dial(t, pod, c.to, 0); got != c.want {
			t.Errorf("without %s: %s gave %q, want %q", c.cidrs, c.to, got, c.want)
		}
	}
}

// Applying twice is applying once, and undoing leaves nothing.
func TestApplyTwiceAndUndo(t *testing.T) {
	pod, _ := pair(t)
	count := func() (tables, rules int) {
		pod.Must(func() error {
			conn, err := nftables.New()
			if err != nil {
				return err
			}
			all, err := conn.ListTables()
			if err != nil {
				return err
			}
			for _, table := range all {
				tables++
				for _, chain := range []string{chainOutput, chainPrerouting, chainGuard} {
					r, err := conn.GetRules(table, &nftables.Chain{Name: chain})
					if err != nil {
						return err
					}
					rules += len(r)
				}
			}
			return nil
		})
		return tables, rules
	}
	pod.Must(func() error { return Apply(Options{}) })
	_, once := count()
	pod.Must(func() error { return Apply(Options{ExcludeInboundPorts: []uint16{1, 2, 3}}) })
	pod.Must(func() error { return Apply(Options{}) })
	if tables, twice := count(); tables != 1 || once != twice || once != len(rules(Options{})) {
		t.Errorf("%d tables, %d rules, after the first time %d", tables, twice, once)
	}
	for range 2 {
		pod.Must(Undo)
		if tables, _ := count(); tables != 0 {
			t.Errorf("%d tables left", tables)
		}
	}
	if got := dial(t, pod, "10.0.0.1:9000", 0); got != "outside -" {
		t.Errorf("after undo: %q", got)
	}
}

// The sidecar's user is known without a mark, and so are users and groups that
// are excluded; all others are redirected, also where only an id nearby is.
func TestUsers(t *testing.T) {
	if addr := os.Getenv("INTERCEPT_TEST_DIAL"); addr != "" {
		fmt.Print("answer:", dialHere(addr), ";")
		return
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root can become another user")
	}
	pod, _ := pair(t)
	pod.Must(func() error {
		return Apply(Options{ExcludeUIDs: []uint32{4000, 1<<32 - 2}, ExcludeGIDs: []uint32{5000}})
	})
	const taken, direct = "outbound ", "outside -"
	for _, c := range []struct {
		uid, gid uint32
		want     string
	}{
		{0, 0, taken},
		{api.ProxyUID, api.ProxyUID, direct},
		{4000, 4000, direct},
		{4001, 4001, taken},
		{4000, 0, direct},
		{0, 4000, taken},
		{4001, 5000, direct},
		{5000, 4001, taken},
		{1<<32 - 2, 1, direct},
	} {
		for _, addr := range []string{"10.0.0.1:9000", "[fd00::1]:9000"} {
			want := c.want
			if want == taken {
				want += addr
			}
			if got := dialAs(t, pod, c.uid, c.gid, addr); got != want {
				t.Errorf("uid %d, gid %d to %s: %q, want %q", c.uid, c.gid, addr, got, want)
			}
		}
	}
}

// dialAs has a process of that user and group dial addr in the pod.
func dialAs(t *testing.T, pod *netnstest.Namespace, uid, gid uint32, addr string) string {
	t.Helper()
	var out []byte
	pod.Must(func() (err error) {
		exe, err := os.Open("/proc/self/exe") // the test binary's folder may be closed to others
		if err != nil {
			return err
		}
		defer exe.Close()
		cmd := exec.Command("/proc/self/fd/3", "-test.run=^TestUsers$")
		cmd.ExtraFiles = []*os.File{exe}
		cmd.Env = []string{"INTERCEPT_TEST_DIAL=" + addr}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}, Pdeathsig: syscall.SIGKILL}
		out, err = cmd.CombinedOutput()
		return err
	})
	_, rest, _ := strings.Cut(string(out), "answer:")
	answer, _, found := strings.Cut(rest, ";")
	if !found {
		t.Fatalf("the dialling process printed %q", out)
	}
	return answer
}

// What is included limits what is taken; what is excluded comes first.
func TestIncluded(t *testing.T) {
	pod, outside := pair(t)
	serve(outside, 9002, "outside")
	ranges := func(text string) Only[netip.Prefix] {
		only, err := ParseOnly(text, ParseCIDRs)
		if err != nil {
			t.Fatal(err)
		}
		return only
	}
	ports := func(list ...uint16) Only[uint16] { return Only[uint16]{Limited: true, List: list} }
	for _, c := range []struct {
		name     string
		opts     Options
		from     *netnstest.Namespace
		mark     int
		to, want string
	}{
		{"a range that is taken", Options{OnlyOutboundCIDRs: ranges("10.0.0.0/24,fd00::/64")}, pod, 0, "outside:9000", "outbound outside:9000"},
		{"another range", Options{OnlyOutboundCIDRs: ranges("10.0.1.0/24,fd01::/64")}, pod, 0, "outside:9000", "outside -"},
		{"all ranges", Options{OnlyOutboundCIDRs: ranges("*")}, pod, 0, "outside:9000", "outbound outside:9000"},
		{"no range", Options{OnlyOutboundCIDRs: ranges("none")}, pod, 0, "outside:9000", "outside -"},
		{"no range, but a port", Options{OnlyOutboundCIDRs: ranges("none"), AlsoOutboundPorts: []uint16{9000}}, pod, 0, "outside:9000", "outbound outside:9000"},
		{"no range, another port", Options{OnlyOutboundCIDRs: ranges("none"), AlsoOutboundPorts: []uint16{9000}}, pod, 0, "outside:9001", "outside -"},
		{"a port beside all", Options{AlsoOutboundPorts: []uint16{9001}}, pod, 0, "outside:9000", "outbound outside:9000"},
		{"excluded within a range", Options{OnlyOutboundCIDRs: ranges("10.0.0.0/24,fd00::/64"), ExcludeOutboundPorts: []uint16{9000}}, pod, 0, "outside:9000", "outside -"},
		{"inbound that is taken", Options{OnlyInboundPorts: ports(8080)}, outside, 0, "pod:8080", "inbound pod:8080"},
		{"inbound that is not", Options{OnlyInboundPorts: ports(8080)}, outside, 0, "pod:8081", "app -"},
		{"no inbound", Options{OnlyInboundPorts: ports()}, outside, 0, "pod:8080", "app -"},
		{"inbound excluded too", Options{OnlyInboundPorts: ports(8080), ExcludeInboundPorts: []uint16{8080}}, outside, 0, "pod:8080", "app -"},
		{"outside to inbound, none taken", Options{OnlyInboundPorts: ports()}, outside, 0, "pod:15006", "refused"},
		{"itself, taken", Options{OnlyInboundPorts: ports(8080)}, pod, api.MarkOutbound, "pod:8080", "inbound pod:8080"},
		{"itself, not taken", Options{OnlyInboundPorts: ports(8080)}, pod, api.MarkOutbound, "pod:8081", "app -"},
	} {
		pod.Must(func() error { return Apply(c.opts) })
		for _, names := range []*strings.Replacer{
			strings.NewReplacer("pod:", "10.0.0.2:", "outside:", "10.0.0.1:"),
			strings.NewReplacer("pod:", "[fd00::2]:", "outside:", "[fd00::1]:"),
		} {
			if got := dial(t, c.from, names.Replace(c.to), c.mark); got != names.Replace(c.want) {
				t.Errorf("%s: %s gave %q, want %q", c.name, names.Replace(c.to), got, names.Replace(c.want))
			}
		}
	}
}

// A device that is excluded is left alone both ways, another one is not.
func TestExcludedInterfaces(t *testing.T) {
	pod, outside := pair(t)
	netnstest.Connect(pod, outside, "net1", "net1", []string{"10.1.0.2/24"}, []string{"10.1.0.1/24"})
	pod.Must(func() error { return Apply(Options{ExcludeInterfaces: []string{"net1", "absent0"}}) })
	for _, c := range []struct {
		from     *netnstest.Namespace
		to, want string
	}{
		{pod, "10.1.0.1:9000", "outside -"},
		{pod, "10.0.0.1:9000", "outbound 10.0.0.1:9000"},
		{outside, "10.1.0.2:8080", "app -"},
		{outside, "10.0.0.2:8080", "inbound 10.0.0.2:8080"},
	} {
		if got := dial(t, c.from, c.to, 0); got != c.want {
			t.Errorf("%s gave %q, want %q", c.to, got, c.want)
		}
	}
}
