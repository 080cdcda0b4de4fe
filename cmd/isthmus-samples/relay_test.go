package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// startRelay runs a relay to a server that echoes, and returns its address and what ends it.
func startRelay(t *testing.T, r relay) (addr string, end func() error) {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn) // ends with the connection
			}()
		}
	}()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.to = server.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.serve(ctx, l) }()
	return l.Addr().String(), func() error { cancel(); return <-done }
}

func dialRelay(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	tcp, _ := conn.(*net.TCPConn)
	return tcp
}

// A round trip takes the delay, much data no longer than little, and an end is passed on after all.
func TestRelayDelays(t *testing.T) {
	const delay = 200 * time.Millisecond
	addr, end := startRelay(t, relay{delay: delay, linger: time.Minute})
	conn := dialRelay(t, addr)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	begin := time.Now()
	go func() {
		_, _ = conn.Write(sent) // what is missing is seen below
		_ = conn.CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	took := time.Since(begin)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes came back, %v", len(got), len(sent), err)
	}
	if took < delay || took > 20*time.Second {
		t.Errorf("it took %s, the delay is %s", took, delay)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

// A relay that is to end lets an open connection go on, and ends it when its time is over.
func TestRelayLingers(t *testing.T) {
	addr, end := startRelay(t, relay{linger: time.Second})
	conn := dialRelay(t, addr)
	say := func() error {
		if _, err := conn.Write([]byte("x")); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, make([]byte, 1))
		return err
	}
	if err := say(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- end() }()
	if err := say(); err != nil {
		t.Errorf("while it lingers: %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("it went on for ever")
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
