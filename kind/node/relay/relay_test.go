package relay

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

const patience = 20 * time.Second

// upstream answers every message and every stream with what it got, reversed.
func upstream(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close(); packets.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				data, err := io.ReadAll(conn)
				if err == nil {
					conn.Write(reversed(data))
				}
			}()
		}
	}()
	go func() {
		buffer := make([]byte, maxMessage)
		for {
			n, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			packets.WriteTo(reversed(buffer[:n]), from)
		}
	}()
	return listener.Addr().String()
}

func reversed(data []byte) []byte {
	out := make([]byte, 0, len(data))
	for i := len(data) - 1; i >= 0; i-- {
		out = append(out, data[i])
	}
	return out
}

// start runs a relay on a free port until the test ends.
func start(t *testing.T, to string) (on string) {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	on = free.Addr().String()
	free.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, on, to) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("relay ended: %v", err)
		}
	})
	return on
}

// Both protocols are passed on and answered, and ending the context ends the relay.
func TestRelay(t *testing.T) {
	on := start(t, upstream(t))
	for _, network := range []string{"tcp", "udp"} {
		var conn net.Conn
		var err error
		for end := time.Now().Add(patience); time.Now().Before(end); {
			if conn, err = net.Dial("tcp", on); err == nil { // it listens
				break
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if network == "udp" {
			conn.Close()
			if conn, err = net.Dial("udp", on); err != nil {
				t.Fatal(err)
			}
		}
		conn.SetDeadline(time.Now().Add(patience))
		conn.Write([]byte("query"))
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.CloseWrite()
		}
		answer := make([]byte, 100)
		n, err := conn.Read(answer)
		if err != nil || string(answer[:n]) != "yreuq" {
			t.Errorf("%s: %q, %v", network, answer[:n], err)
		}
		conn.Close()
	}
}
