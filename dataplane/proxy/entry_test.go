package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	statev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	setstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
)

// ranges are the source_prefix_ranges of a filter chain.
func ranges(t testing.TB, prefixes ...string) []*corev3.CidrRange {
	t.Helper()
	var out []*corev3.CidrRange
	for _, s := range prefixes {
		p, err := netip.ParsePrefix(s)
		must(t, err)
		out = append(out, &corev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: u32(uint32(p.Bits()))})
	}
	return out
}

func setCluster(format string) *listenerv3.Filter {
	return filter("envoy.filters.network.set_filter_state", &setstatev3.Config{OnNewConnection: []*statev3.FilterStateValue{{
		Key: &statev3.FilterStateValue_ObjectKey{ObjectKey: "envoy.tcp_proxy.cluster"},
		Value: &statev3.FilterStateValue_FormatString{FormatString: &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{
			TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: format}},
		}}},
	}}})
}

// entryFilters end a connection after life.
func entryFilters(life time.Duration) []*listenerv3.Filter {
	return []*listenerv3.Filter{setCluster("entry|%DOWNSTREAM_LOCAL_PORT%"), filter("envoy.filters.network.tcp_proxy", &tcpproxyv3.TcpProxy{
		StatPrefix: "p", ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: "blackhole"}, MaxConnectAttempts: u32(4), IdleTimeout: dur(time.Hour),
		MaxDownstreamConnectionDuration: dur(life),
	})}
}

// entryListener is that of docs/xds.md; shutOut may be empty.
func entryListener(t testing.TB, life time.Duration, from, shutOut []string) *listenerv3.Listener {
	t.Helper()
	l := &listenerv3.Listener{
		Name: "entry", Address: addr(anyPort),
		ListenerFilters: []*listenerv3.ListenerFilter{listenerFilter("envoy.filters.listener.original_dst", &originaldstv3.OriginalDst{})},
	}
	if len(shutOut) > 0 {
		l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
			FilterChainMatch: &listenerv3.FilterChainMatch{SourcePrefixRanges: ranges(t, shutOut...)}, Filters: tcpFilters("blackhole"),
		})
	}
	l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
		FilterChainMatch: &listenerv3.FilterChainMatch{SourcePrefixRanges: ranges(t, from...)}, Filters: entryFilters(life),
	})
	return l
}

// entryCluster is the xds cluster of an entry port, with the load assignment of a service port.
func entryCluster(port, assignment, sni string, sans ...string) *clusterv3.Cluster {
	c := edsCluster("entry|"+port, sni, sans...)
	c.EdsClusterConfig.ServiceName = assignment
	c.UpstreamBindConfig = &corev3.BindConfig{SocketOptions: []*corev3.SocketOption{intOption(6, 18, 5000)}}
	c.TypedExtensionProtocolOptions = nil
	return c
}

// enter connects from an address to the entry gateway at 127.0.0.N.
func enter(t testing.TB, via *instance, from, local string) *net.TCPConn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr(local), via.bound(t, "entry").Port()).String())
	must(t, err)
	must(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// nothing fails the test unless c is closed before any byte comes.
func nothing(t testing.TB, what string, c net.Conn) {
	t.Helper()
	got, err := io.ReadAll(c)
	if len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: got %d bytes %.40q, %v", what, len(got), got, err)
	}
}

const (
	inside   = "127.0.0.40"
	shut     = "127.0.0.41"
	outside  = "127.0.1.40"
	stranger = "127.0.2.40"
)

// entryWorld is a gateway at which port 20001 leads over mTLS to a server that
// speaks first, and 20002 to one in plaintext.
func entryWorld(t testing.TB, life time.Duration, change ...func(*proxyOptions)) (*instance, state) {
	t.Helper()
	at := tcpApp(t, greeter)
	w := newTwoClusters(t, at, false, true)
	p := start(t, w.ca.svid(t, "east", "isthmus-system", "isthmus-entry"), change...)
	p.dsts.set("127.0.0.21", mustAddr(t, "10.9.9.9:20001"))
	p.dsts.set("127.0.0.22", mustAddr(t, "10.9.9.9:20002"))
	p.dsts.set("127.0.0.23", mustAddr(t, "10.9.9.9:20003"))
	s := newState(entryListener(t, life, []string{"127.0.0.0/24"}, []string{shut + "/32"}),
		entryCluster("20001", reviewsName, reviewsSNI, w.westID.id()), assignment(reviewsName, ep{at: w.gateway.bound(t, "east-west"), mtls: true}),
		entryCluster("20002", "outbound|1||b", ""), assignment("outbound|1||b", ep{at: at}))
	p.apply(t, s)
	return p, s
}

// Callers come through at the port of their service; at any other port, from
// stranger or shut out they get nothing.
func TestEntryGateway(t *testing.T) {
	p, _ := entryWorld(t, 24*time.Hour)
	for _, local := range []string{"127.0.0.21", "127.0.0.22"} {
		c := enter(t, p, inside, local)
		greeted(t, c)
		must(t, c.Close())
	}
	nothing(t, "a port of no service", enter(t, p, inside, "127.0.0.23"))
	nothing(t, "the gateway's own port", enter(t, p, inside, "127.0.0.1"))
	nothing(t, "shut out", enter(t, p, shut, "127.0.0.21"))
	nothing(t, "from stranger", enter(t, p, outside, "127.0.0.21"))
	eventually(t, "no connection is left", func() bool { return p.Connections() == 0 })
}

// A peer at a socket of both families is known by its IPv4 address.
func TestEntryMappedPeer(t *testing.T) {
	dual := func(o *proxyOptions) {
		o.Listen = func(context.Context, string, netip.AddrPort) (net.Listener, error) {
			return net.Listen("tcp", "[::]:0")
		}
	}
	p, _ := entryWorld(t, time.Hour, dual)
	greeted(t, enter(t, p, inside, "127.0.0.22"))
	nothing(t, "shut out", enter(t, p, shut, "127.0.0.22"))
	nothing(t, "from stranger", enter(t, p, outside, "127.0.0.22"))
}

// A service that goes closes the port, one that comes opens it, and neither
// touches the listener's connections.
func TestEntryPortsChange(t *testing.T) {
	p, s := entryWorld(t, time.Hour)
	long := &talk{c: enter(t, p, inside, "127.0.0.22")}
	long.r = bufio.NewReader(long.c)
	if line, err := long.r.ReadString('\n'); err != nil {
		t.Fatal(line, err)
	}
	p.apply(t, with(s, entryCluster("20003", "outbound|1||b", ""))) // the same load assignment twice
	greeted(t, enter(t, p, inside, "127.0.0.23"))
	less := with(s)
	delete(less["type.googleapis.com/envoy.config.cluster.v3.Cluster"], "entry|20001")
	p.apply(t, less)
	nothing(t, "a port given up", enter(t, p, inside, "127.0.0.21"))
	_, err := io.WriteString(long.c, "still\n")
	must(t, err)
	if line, err := long.r.ReadString('\n'); err != nil || line != "250 still\n" {
		t.Errorf("%q %v", line, err)
	}
}

// Ranges that come and go leave the connections of those who are still inside;
// the others' end after the time to drain.
func TestEntryRangesChange(t *testing.T) {
	echo := tcpApp(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	p := start(t, nil)
	p.dsts.set("127.0.0.22", mustAddr(t, "10.9.9.9:20002"))
	s := newState(entryCluster("20002", "outbound|1||b", ""), assignment("outbound|1||b", ep{at: echo}))
	apply := func(from ...string) {
		t.Helper()
		p.apply(t, with(s, entryListener(t, time.Hour, from, []string{shut + "/32"})))
	}
	open := func(from string) *talk {
		t.Helper()
		c := enter(t, p, from, "127.0.0.22")
		k := &talk{c, bufio.NewReader(c)}
		if !k.works() {
			t.Fatal(from)
		}
		return k
	}
	apply("127.0.0.0/24")
	stays := open(inside)
	apply("127.0.0.0/24", "127.0.1.0/24")
	goes := open("127.0.1.40")
	apply("127.0.0.0/24", "127.0.2.0/24")
	nothing(t, "out of the ranges", enter(t, p, "127.0.1.40", "127.0.0.22"))
	eventually(t, "the connection from outside ends", func() bool { return !goes.works() })
	for range 3 { // as long as a chain takes to drain
		if !stays.works() {
			t.Fatal("the connection from inside ended")
		}
		open("127.0.2.40")
	}
	p.apply(t, s) // the listener goes
	eventually(t, "all connections end", func() bool { return !stays.works() })
}

// A pod that is shut out of a range that stays loses the connections it has, in
// the time to drain; its neighbour's go on. Then the other way about.
func TestEntryShutOut(t *testing.T) {
	echo := tcpApp(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	p := start(t, nil)
	p.dsts.set("127.0.0.22", mustAddr(t, "10.9.9.9:20002"))
	s := newState(entryCluster("20002", "outbound|1||b", ""), assignment("outbound|1||b", ep{at: echo}))
	apply := func(shutOut ...string) {
		p.apply(t, with(s, entryListener(t, time.Hour, []string{"127.0.0.0/24"}, shutOut)))
	}
	open := func(from string) *talk {
		c := enter(t, p, from, "127.0.0.22")
		k := &talk{c, bufio.NewReader(c)}
		if !k.works() {
			t.Fatal(from)
		}
		return k
	}
	for _, before := range [][]string{nil, {stranger + "/32"}} { // the chain of those shut out is new, or only its ranges are
		apply(before...)
		stays, goes := open(inside), open(shut)
		apply(append(before, shut+"/32")...)
		nothing(t, "shut out", enter(t, p, shut, "127.0.0.22"))
		eventually(t, "the connection of who is shut out ends", func() bool { return !goes.works() })
		if !stays.works() {
			t.Fatal("the neighbour's connection ended")
		}
		apply(before...)
		if !open(shut).works() || !stays.works() {
			t.Fatal("not let in again")
		}
	}
}

// However often the ranges change, nobody inside all of them is ever refused or
// cut, and nobody outside all of them ever gets a byte.
func TestEntryRangesStress(t *testing.T) {
	echo := tcpApp(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	p := start(t, nil, func(o *proxyOptions) { o.DrainTimeout = 5 * time.Millisecond })
	p.dsts.set("127.0.0.22", mustAddr(t, "10.9.9.9:20002"))
	s := newState(entryCluster("20002", "outbound|1||b", ""), assignment("outbound|1||b", ep{at: echo}))
	apply := func(from ...string) { p.apply(t, with(s, entryListener(t, time.Hour, from, []string{shut + "/32"}))) }
	apply(inside + "/32")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.22"), p.bound(t, "entry").Port()).String()
	call := func(from string) *talk {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", to)
		if err != nil {
			t.Error(err)
			return nil
		}
		return &talk{c, bufio.NewReader(c)}
	}
	held := call(inside)
	defer held.c.Close()
	for _, from := range []string{inside, inside, "127.0.1.40", shut, stranger} {
		wg.Go(func() {
			for ctx.Err() == nil {
				k := call(from)
				if k == nil {
					return
				}
				works := k.works()
				_ = k.c.Close()
				if from == inside && !works || (from == shut || from == stranger) && works {
					t.Errorf("from %s: served %v", from, works)
					return
				}
			}
		})
	}
	for i := range 200 {
		apply([][]string{{inside + "/32"}, {"127.0.0.0/24"}, {inside + "/32", "127.0.1.0/24"}, {"127.0.0.0/23"}}[i%4]...)
		if !held.works() {
			t.Fatal("a connection from inside was cut")
		}
	}
}

// A connection ends after its time, however busy it is.
func TestMaxConnectionDuration(t *testing.T) {
	flood := tcpApp(t, func(c *net.TCPConn) {
		for err := error(nil); err == nil; {
			_, err = c.Write(make([]byte, 1<<10))
		}
	})
	p := start(t, nil)
	p.dsts.set("127.0.0.22", mustAddr(t, "10.9.9.9:20002"))
	p.apply(t, newState(entryListener(t, 300*time.Millisecond, []string{"127.0.0.0/24"}, nil),
		entryCluster("20002", "outbound|1||b", ""), assignment("outbound|1||b", ep{at: flood})))
	began := time.Now()
	n, err := io.Copy(io.Discard, enter(t, p, inside, "127.0.0.22"))
	if n == 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) < 300*time.Millisecond {
		t.Errorf("after %v and %d bytes: %v; want a reset", time.Since(began), n, err)
	}
	eventually(t, "no connection is left", func() bool { return p.Connections() == 0 })
	p.dsts.set("127.0.0.23", mustAddr(t, "10.9.9.9:20003"))
	p.apply(t, newState(entryListener(t, 300*time.Millisecond, []string{"127.0.0.0/24"}, nil), entryCluster("20003", "outbound|1||c", "")))
	began = time.Now()
	nothing(t, "while its hosts are not known", enter(t, p, inside, "127.0.0.23"))
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("ended after %v", took)
	}
}
