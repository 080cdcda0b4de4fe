package inspect

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"time"
)

const (
	recordHandshake = 0x16 // TLS record type (RFC 8446 §5.1)
	clientHelloType = 0x01
	recordHeader    = 5
	maxRecord       = 1<<14 + 256 // RFC 8446 §5.2
)

var errSeen = errors.New("seen")

// clientHello reads the ClientHello at the start of head, whatever records it
// is spread over. done is false while bytes are missing.
func clientHello(head []byte) (res Result, done bool) {
	switch {
	case len(head) == 0:
		return Result{}, false
	case head[0] != recordHandshake:
		return Result{}, true
	}
	complete, ok := helloComplete(head)
	if !ok {
		return Result{}, true // no TLS, or not sane
	}
	if !complete {
		return Result{}, len(head) >= maxClientHello
	}
	return parseHello(head)
}

// helloComplete reports whether head holds all records of its first handshake
// message; ok is false when it is no ClientHello within the limits.
func helloComplete(head []byte) (complete, ok bool) {
	var start []byte // of the message: its type and length
	var have int
	for rest := head; len(rest) >= recordHeader; {
		size := int(rest[3])<<8 | int(rest[4])
		if rest[0] != recordHandshake || rest[1] != 3 || size == 0 || size > maxRecord {
			return false, false
		}
		body := rest[recordHeader:]
		got := body[:min(size, len(body))]
		start = append(start, got[:min(len(got), 4-len(start))]...)
		have += len(got)
		if len(start) > 0 && start[0] != clientHelloType {
			return false, false
		}
		if len(start) == 4 {
			need := 4 + (int(start[1])<<16 | int(start[2])<<8 | int(start[3]))
			if need > maxClientHello {
				return false, false
			}
			if have >= need && len(body) >= size {
				return true, true
			}
		}
		rest = body[len(got):]
	}
	return false, true
}

// parseHello lets crypto/tls read the message: one parser less to get wrong.
func parseHello(head []byte) (Result, bool) {
	res := Result{}
	conf := &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		res = Result{TLS: true, ServerName: strings.ToLower(h.ServerName), Applications: h.SupportedProtos}
		return nil, errSeen
	}}
	_ = tls.Server(&memory{r: bytes.NewReader(head)}, conf).Handshake()
	return res, true
}

// memory is a connection that gives bytes and swallows what is written.
type memory struct{ r io.Reader }

func (m *memory) Read(p []byte) (int, error)       { return m.r.Read(p) }
func (m *memory) Write(p []byte) (int, error)      { return len(p), nil }
func (m *memory) Close() error                     { return nil }
func (m *memory) LocalAddr() net.Addr              { return nil }
func (m *memory) RemoteAddr() net.Addr             { return nil }
func (m *memory) SetDeadline(time.Time) error      { return nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }
