package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// tcpApp serves each connection by serve, in a goroutine of its own.
func tcpApp(t testing.TB, serve func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); serve(c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// dial connects through the outbound listener at 127.0.0.N, with a deadline.
func dial(t testing.TB, via *instance, local string) *net.TCPConn {
	t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr(local), via.bound(t, "outbound").Port())
	c, err := net.Dial("tcp", at.String())
	must(t, err)
	must(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// sums answers, when the client has ended, with a hash of what it got and then
// as many bytes as asked.
func sums(c *net.TCPConn) {
	h := sha256.New()
	n, err := io.Copy(h, c)
	if err != nil {
		return
	}
	_, _ = fmt.Fprintf(c, "%x %d", h.Sum(nil), n)
	_ = c.CloseWrite()
}

// Bytes pass exactly, with half close, over mTLS and gateway and spliced alike.
func TestTCPByteExact(t *testing.T) {
	at := tcpApp(t, sums)
	paths := map[string]*instance{}
	w := newTwoClusters(t, at, false, true)
	paths["mtls"] = w.east
	plain := start(t, nil)
	plain.dsts.set("127.0.0.2", reviewsVIP)
	plain.apply(t, newState(outboundCatchAll(anyPort), passthrough(), serviceListener(reviewsName, reviewsVIP, tcpFilters(reviewsName)),
		edsCluster(reviewsName, ""), assignment(reviewsName, ep{at: at})))
	paths["spliced"] = plain
	for name, via := range paths {
		for _, size := range []int{0, 1, 10 << 20} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				data := make([]byte, size)
				_, _ = rand.Read(data)
				c := dial(t, via, "127.0.0.2")
				_, err := c.Write(data)
				must(t, err)
				must(t, c.CloseWrite())
				got, err := io.ReadAll(c)
				must(t, err)
				if want := fmt.Sprintf("%x %d", sha256.Sum256(data), size); string(got) != want {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		}
	}
}

// One byte at a time comes back without delay.
func TestTCPSmallWrites(t *testing.T) {
	at := tcpApp(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	w := newTwoClusters(t, at, false, true)
	c := dial(t, w.east, "127.0.0.2")
	began := time.Now()
	for i := range 200 {
		_, err := c.Write([]byte{byte(i)})
		must(t, err)
		var b [1]byte
		_, err = io.ReadFull(c, b[:])
		must(t, err)
		if b[0] != byte(i) {
			t.Fatalf("byte %d came back as %d", i, b[0])
		}
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("200 round trips took %v", took)
	}
}

func greeter(c *net.TCPConn) {
	_, _ = io.WriteString(c, "220 hello\n")
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil {
		_, _ = io.WriteString(c, "250 "+line)
	}
}

func greeted(t testing.TB, c net.Conn) {
	t.Helper()
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	must(t, err)
	if line != "220 hello\n" {
		t.Fatalf("greeting %q", line)
	}
	_, err = io.WriteString(c, "me\n")
	must(t, err)
	line, err = r.ReadString('\n')
	must(t, err)
	if line != "250 me\n" {
		t.Fatalf("answer %q", line)
	}
}

// A server that speaks first is heard through mTLS and gateway, on a port of
// which nothing is known, and in plaintext at a permissive sidecar.
func TestServerSpeaksFirst(t *testing.T) {
	at := tcpApp(t, greeter)
	w := newTwoClusters(t, at, false, false)
	t.Run("mtls", func(t *testing.T) { greeted(t, dial(t, w.east, "127.0.0.2")) })
	t.Run("auto", func(t *testing.T) {
		w.east.apply(t, with(w.eastState, autoListener(reviewsName, reviewsVIP)))
		greeted(t, dial(t, w.east, "127.0.0.2"))
	})
	t.Run("permissive", func(t *testing.T) {
		c, err := net.Dial("tcp", loopback(w.west.bound(t, "inbound").Port()).String())
		must(t, err)
		defer c.Close()
		must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		greeted(t, c)
	})
}

// What no listener is for passes through to where it was going.
func TestPassthrough(t *testing.T) {
	at := tcpApp(t, greeter)
	p := start(t, nil)
	p.dsts.set("127.0.0.3", at)
	p.apply(t, newState(outboundCatchAll(anyPort), passthrough()))
	greeted(t, dial(t, p, "127.0.0.3"))
}

// A connection that was going to the proxy itself is closed, and so is one that
// an xds cluster would send there.
func TestNoLoop(t *testing.T) {
	p := start(t, nil)
	p.apply(t, newState(outboundCatchAll(anyPort), passthrough()))
	own := p.bound(t, "outbound").Port()
	closed := func(c net.Conn) {
		t.Helper()
		_, err := io.ReadAll(c)
		if err != nil && errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("not closed: %v", err)
		}
		if n := p.Connections(); n > 1 {
			t.Fatalf("%d connections", n)
		}
	}
	closed(dial(t, p, "127.0.0.1")) // no redirection: goes to the listener itself
	p.dsts.set("127.0.0.4", loopback(own))
	closed(dial(t, p, "127.0.0.4"))
	p.dsts.set("127.0.0.2", reviewsVIP)
	p.apply(t, newState(outboundCatchAll(anyPort), passthrough(), serviceListener(reviewsName, reviewsVIP, tcpFilters(reviewsName)),
		edsCluster(reviewsName, ""), assignment(reviewsName, ep{at: loopback(own)})))
	closed(dial(t, p, "127.0.0.2"))
}

// Dead hosts are passed over, then dead priorities, before any byte is sent.
func TestTCPConnectsElsewhere(t *testing.T) {
	at := tcpApp(t, greeter)
	p := start(t, nil)
	p.dsts.set("127.0.0.2", reviewsVIP)
	base := newState(outboundCatchAll(anyPort), passthrough(), serviceListener(reviewsName, reviewsVIP, tcpFilters(reviewsName)), edsCluster(reviewsName, ""))
	p.apply(t, with(base, assignment(reviewsName,
		ep{at: dead(t)}, ep{at: dead(t)}, ep{at: dead(t)}, ep{at: dead(t)}, ep{at: at, priority: 1})))
	greeted(t, dial(t, p, "127.0.0.2"))
	p.apply(t, with(base, assignment(reviewsName, ep{at: dead(t)}, ep{at: at})))
	for range 4 {
		greeted(t, dial(t, p, "127.0.0.2"))
	}
}

// dead is an address where nobody listens.
func dead(t testing.TB) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// A reset of one side reaches the other as a reset, not as an end.
func TestTCPReset(t *testing.T) {
	at := tcpApp(t, func(c *net.TCPConn) {
		_, _ = c.Write([]byte("part"))
		var b [1]byte
		_, _ = c.Read(b[:])
		_ = c.SetLinger(0)
	})
	p := start(t, nil)
	p.dsts.set("127.0.0.3", at)
	p.apply(t, newState(outboundCatchAll(anyPort), passthrough()))
	c := dial(t, p, "127.0.0.3")
	var part [4]byte
	_, err := io.ReadFull(c, part[:])
	must(t, err)
	_, err = c.Write([]byte("x"))
	must(t, err)
	if rest, err := io.ReadAll(c); err == nil {
		t.Errorf("a reset came as an end after %q", rest)
	}
}

// Many connections at once are all served and leave nothing behind.
func TestManyConnections(t *testing.T) {
	at := tcpApp(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	w := newTwoClusters(t, at, false, true)
	patient := edsCluster(reviewsName, reviewsSNI, w.westID.id())
	patient.ConnectTimeout = dur(20 * time.Second) // the race detector makes handshakes slow
	w.east.apply(t, with(w.eastState, patient))
	var wg sync.WaitGroup
	errs := make(chan error, 200)
	for i := range 200 {
		wg.Go(func() {
			at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), w.east.bound(t, "outbound").Port())
			c, err := net.DialTimeout("tcp", at.String(), 20*time.Second)
			if err != nil {
				errs <- err
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			msg := bytes.Repeat([]byte{byte(i)}, 1000)
			_, _ = c.Write(msg)
			got := make([]byte, len(msg))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, msg) {
				errs <- fmt.Errorf("connection %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	for name, p := range map[string]*instance{"east": w.east, "gateway": w.gateway, "west": w.west} {
		eventually(t, name+" has no connection left", func() bool { return p.Connections() == 0 })
	}
}
