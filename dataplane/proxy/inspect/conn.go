// Package inspect looks at the first bytes of a connection without taking them:
// is it TLS, with which server name and protocols, is it HTTP.
package inspect

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// Limits in bytes of what is looked at.
const (
	maxClientHello = 64 << 10
	maxRequestLine = 16 << 10
)

// ErrTimeout says that the time ended before the bytes told what they are.
var ErrTimeout = errors.New("inspection timed out")

// Conn is a connection whose first bytes may be looked at. Reads give them
// again before anything else. It is not for concurrent reading while inspected.
type Conn struct {
	net.Conn
	head []byte // looked at and not yet read
	err  error  // of the underlying read, given after head
}

// NewConn wraps c.
func NewConn(c net.Conn) *Conn { return &Conn{Conn: c} }

// Read gives the bytes that were looked at, then the connection's.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		if c.head = c.head[n:]; len(c.head) == 0 {
			c.head = nil
		}
		return n, nil
	}
	if c.err != nil {
		err := c.err
		if err != io.EOF {
			c.err = nil
		}
		return 0, err
	}
	return c.Conn.Read(p)
}

// Head takes the bytes that were looked at: the caller passes them on and
// reads from the underlying connection from then on.
func (c *Conn) Head() []byte {
	head := c.head
	c.head = nil
	return head
}

// CloseWrite ends the writing side, if the underlying connection can.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// more reads some bytes more into head. It returns false when there are none:
// the peer has ended, the deadline has passed, or limit bytes are there.
func (c *Conn) more(limit int) (bool, error) {
	if len(c.head) >= limit || c.err != nil {
		return false, nil
	}
	buf := make([]byte, min(4096, limit-len(c.head)))
	n, err := c.Conn.Read(buf)
	c.head = append(c.head, buf[:n]...)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n > 0, ErrTimeout
	}
	if err != nil {
		c.err = err
	}
	return n > 0, nil
}

// Result is what the bytes said. Zero: nothing was recognised.
type Result struct {
	TLS          bool
	ServerName   string   // lower case; may be empty
	Applications []string // ALPN names, or http/1.0, http/1.1, h2c
}

// Inspect looks at c with the TLS inspector, the HTTP inspector or both, until
// deadline (zero: no end). On ErrTimeout the Result says what is known so far.
func Inspect(c *Conn, tls, http bool, deadline time.Time) (Result, error) {
	if err := c.Conn.SetReadDeadline(deadline); err != nil {
		return Result{}, err
	}
	defer func() { _ = c.Conn.SetReadDeadline(time.Time{}) }()
	judge := func() (Result, bool) { return judge(c.head, tls, http) }
	for {
		res, done := judge()
		if done {
			return res, nil
		}
		ok, err := c.more(maxClientHello)
		if err != nil {
			res, _ := judge()
			return res, err
		}
		if !ok {
			res, _ = judge()
			return res, nil
		}
	}
}

// judge says what head is, and whether more bytes could not change that.
func judge(head []byte, tls, http bool) (Result, bool) {
	if tls {
		if res, done := clientHello(head); res.TLS || !done {
			return res, done
		}
	}
	if http {
		return requestLine(head)
	}
	return Result{}, true
}
