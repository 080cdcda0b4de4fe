// Package relay passes DNS on between two addresses, UDP and TCP, without
// looking into the messages: the engine's resolver sits on the node's loopback,
// which pods cannot reach.
package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	answerWithin = 5 * time.Second
	streamEnds   = 30 * time.Second
	maxMessage   = 65535 // bytes, RFC 1035 §4.2.2
	maxAtOnce    = 512   // messages and streams; more wait
)

// Run relays from address on to address to, both host:port, until ctx ends.
func Run(ctx context.Context, on, to string) error {
	listener, err := net.Listen("tcp", on)
	if err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp", listener.Addr().String())
	if err != nil {
		listener.Close()
		return err
	}
	defer context.AfterFunc(ctx, func() { listener.Close(); packets.Close() })()
	r := relay{to: to, slots: make(chan struct{}, maxAtOnce)}
	defer r.running.Wait()
	var streams error
	r.running.Go(func() { streams = r.streams(listener); packets.Close() })
	err = r.messages(packets)
	listener.Close()
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(err, streams)
}

type relay struct {
	to      string
	slots   chan struct{}
	running sync.WaitGroup
}

// begin runs work in a slot of its own.
func (r *relay) begin(work func()) {
	r.slots <- struct{}{}
	r.running.Go(func() {
		defer func() { <-r.slots }()
		work()
	})
}

func (r *relay) streams(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		r.begin(func() { r.stream(conn) })
	}
}

func (r *relay) stream(conn net.Conn) {
	defer conn.Close()
	up, err := net.DialTimeout("tcp", r.to, answerWithin)
	if err != nil {
		return
	}
	defer up.Close()
	end := time.Now().Add(streamEnds)
	if errors.Join(conn.SetDeadline(end), up.SetDeadline(end)) != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(up, conn)
		up.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(conn, up)
	conn.Close()
	<-done
}

func (r *relay) messages(packets net.PacketConn) error {
	for {
		buffer := make([]byte, maxMessage)
		n, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return err
		}
		r.begin(func() {
			if answer := r.ask(buffer[:n]); answer != nil {
				packets.WriteTo(answer, from)
			}
		})
	}
}

// ask returns the answer to a message, or nil; who asked will ask again.
func (r *relay) ask(message []byte) []byte {
	up, err := net.DialTimeout("udp", r.to, answerWithin)
	if err != nil {
		return nil
	}
	defer up.Close()
	if up.SetDeadline(time.Now().Add(answerWithin)) != nil {
		return nil
	}
	if _, err := up.Write(message); err != nil {
		return nil
	}
	answer := make([]byte, maxMessage)
	n, err := up.Read(answer)
	if err != nil {
		return nil
	}
	return answer[:n]
}
