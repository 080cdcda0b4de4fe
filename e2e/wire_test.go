//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

const secretWord = "XYZZY-plain-sight"

// What crosses the link between the clusters while pods call each other is TLS and nothing else: every
// connection's first bytes are a TLS record, both ways, and no payload holds what was sent.
func TestOnlyTLSOnTheWire(t *testing.T) {
	const ns, url = "wire", "http://echo.wire.svc.clusterset.local"
	caller := exportedEcho(t, ns, mesh.West)
	caller.Reaches(t, url, time.Minute, "west")
	capture := startCapture(t)
	for _, target := range []string{url, "tcp://echo.wire.svc.clusterset.local:9090", "grpc://echo.wire.svc.clusterset.local:7070"} {
		s, err := caller.Call(t.Context(), target, 20, "--new-connections", "-H", "X-Secret: "+secretWord)
		if err != nil || s.Failed > 0 {
			t.Fatalf("%s: %d of %d failed: %v %v", target, s.Failed, s.Requests, s.Errors, err)
		}
	}
	flows := capture()
	called := whereCallsGo(t, ns)
	calls := 0
	for name, data := range flows {
		if slices.ContainsFunc(called, func(end string) bool { return strings.HasSuffix(strings.TrimSuffix(name, " syn"), "> "+end) }) {
			calls++
		}
		if bytes.Contains(data, []byte(secretWord)) || bytes.Contains(data, []byte("X-Served")) {
			t.Errorf("%s: what was sent can be read", name)
		}
		if len(data) >= 3 && (data[0] < 0x14 || data[0] > 0x17 || data[1] != 3) && strings.HasSuffix(name, " syn") {
			t.Errorf("%s begins with % x: no TLS record", name, data[:3])
		}
	}
	if calls == 0 {
		t.Errorf("no connection to %v among %d", called, len(flows))
	}
}

// whereCallsGo returns the addresses to which sidecars of east connect when they call echo of west: west's gateways, or
// on one network the pod itself.
func whereCallsGo(t *testing.T, ns string) []string {
	t.Helper()
	var out []string
	if mesh.East.Network == mesh.West.Network {
		ip := mesh.West.Ready(t, ns, "app=echo", 1)[0].Status.PodIP
		for _, port := range []string{"8080", "9090", "7070"} {
			out = append(out, net.JoinHostPort(ip, port))
		}
		return out
	}
	link, err := mesh.East.Link(t.Context(), "west")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range link.Status.Gateways {
		out = append(out, g.Address)
	}
	return out
}

// startCapture records what crosses between the nodes until the returned function is called, which returns
// the TCP payload of each direction of each connection; names end in "syn" where the first byte was seen.
func startCapture(t *testing.T) func() map[string][]byte {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	var pcap lockedBuffer
	started, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- mesh.ground.capture(ctx, &pcap, func() { close(started) }) }()
	select {
	case <-started:
	case err := <-done:
		t.Fatalf("capture: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("the capture did not start within 20 s")
	}
	return func() map[string][]byte {
		t.Helper()
		Eventually(t, 20*time.Second, "the capture holds the calls", func(context.Context) error {
			if n := len(pcap.String()); n < 50_000 {
				return fmt.Errorf("%d bytes", n)
			}
			return nil
		})
		stop()
		if err := <-done; err != nil {
			t.Errorf("capture: %v", err)
		}
		flows, err := readPcap(strings.NewReader(pcap.String()))
		if err != nil {
			t.Fatalf("read capture: %v", err)
		}
		return flows
	}
}

// readPcap joins the TCP payloads of an Ethernet capture, for each direction of each connection. Segments are
// taken in the order of the wire, which on a bridge without loss is that of the stream.
func readPcap(r io.Reader) (map[string][]byte, error) {
	var header [24]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	flows, begun := map[string][]byte{}, map[string]bool{}
	for {
		var record [16]byte
		if _, err := io.ReadFull(r, record[:]); err != nil {
			return flows, nil // the end, or a record that was cut off by it
		}
		frame := make([]byte, binary.LittleEndian.Uint32(record[8:]))
		if _, err := io.ReadFull(r, frame); err != nil {
			return flows, nil
		}
		name, payload, syn, ok := tcpSegment(frame)
		if !ok {
			continue
		}
		begun[name] = begun[name] || syn
		if begun[name] {
			name += " syn"
		}
		flows[name] = append(flows[name], payload...)
	}
}

// tcpSegment takes a frame apart; ok is false for all that is not TCP over IPv4.
func tcpSegment(frame []byte) (name string, payload []byte, syn, ok bool) {
	if len(frame) < 14+20 || binary.BigEndian.Uint16(frame[12:]) != 0x0800 {
		return "", nil, false, false
	}
	ip := frame[14:]
	size, total := int(ip[0]&0x0f)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if ip[9] != 6 || len(ip) < size+20 {
		return "", nil, false, false
	}
	tcp := ip[size:min(len(ip), max(total, size+20))]
	offset := int(tcp[12]>>4) * 4
	if offset > len(tcp) {
		return "", nil, false, false
	}
	from, to := binary.BigEndian.Uint16(tcp[0:]), binary.BigEndian.Uint16(tcp[2:])
	name = fmt.Sprintf("%d.%d.%d.%d:%d > %d.%d.%d.%d:%d", ip[12], ip[13], ip[14], ip[15], from, ip[16], ip[17], ip[18], ip[19], to)
	return name, tcp[offset:], tcp[13]&0x02 != 0, true
}
