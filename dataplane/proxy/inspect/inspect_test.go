package inspect

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// helloBytes is what a TLS client sends first.
func helloBytes(t testing.TB, sni string, alpn ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	c := tls.Client(&recorder{w: &out}, &tls.Config{ServerName: sni, NextProtos: alpn, InsecureSkipVerify: true})
	_ = c.Handshake()
	return out.Bytes()
}

type recorder struct {
	memory
	w io.Writer
}

func (r *recorder) Read([]byte) (int, error)    { return 0, io.EOF }
func (r *recorder) Write(p []byte) (int, error) { return r.w.Write(p) }

// fragment spreads a hello over records of size bytes.
func fragment(hello []byte, size int) []byte {
	var out []byte
	for body := range slices.Chunk(hello[recordHeader:], size) {
		out = append(out, recordHandshake, 3, 1)
		out = binary.BigEndian.AppendUint16(out, uint16(len(body)))
		out = append(out, body...)
	}
	return out
}

func TestInspect(t *testing.T) {
	hello := helloBytes(t, "P9080.Reviews.shop.sni.isthmus.internal", "isthmus")
	for _, c := range []struct {
		name string
		data string
		want Result
		err  error
	}{
		{"hello", string(hello), Result{TLS: true, ServerName: "p9080.reviews.shop.sni.isthmus.internal", Applications: []string{"isthmus"}}, nil},
		{"in records of 1", string(fragment(hello, 1)), Result{TLS: true, ServerName: "p9080.reviews.shop.sni.isthmus.internal", Applications: []string{"isthmus"}}, nil},
		{"in records of 100", string(fragment(hello, 100)), Result{TLS: true, ServerName: "p9080.reviews.shop.sni.isthmus.internal", Applications: []string{"isthmus"}}, nil},
		{"no name", string(helloBytes(t, "")), Result{TLS: true}, nil},
		{"half a hello", string(hello[:40]), Result{}, ErrTimeout},
		{"http/1.1", "GET /a HTTP/1.1\r\nHost: x\r\n", Result{Applications: []string{"http/1.1"}}, nil},
		{"http/1.0", "HEAD / HTTP/1.0\r\n", Result{Applications: []string{"http/1.0"}}, nil},
		{"http/2", preface, Result{Applications: []string{"h2c"}}, nil},
		{"half a line", "GET /a HT", Result{}, ErrTimeout},
		{"half a preface", preface[:5], Result{}, ErrTimeout},
		{"silence", "", Result{}, ErrTimeout},
		{"a mail client", "EHLO me\r\n", Result{}, nil},
		{"binary", "\x00\x01\x02", Result{}, nil},
		{"http/0.9", "GET /\r\n", Result{}, nil},
		{"http/3", "GET / HTTP/3\r\n", Result{}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			go func() {
				for i := range len(c.data) { // one byte at a time
					if _, err := far.Write([]byte{c.data[i]}); err != nil {
						return
					}
				}
			}()
			conn := NewConn(near)
			wait := 10 * time.Second
			if c.err != nil {
				wait = 200 * time.Millisecond
			}
			got, err := Inspect(conn, true, true, time.Now().Add(wait))
			if !errors.Is(err, c.err) || got.TLS != c.want.TLS || got.ServerName != c.want.ServerName || !slices.Equal(got.Applications, c.want.Applications) {
				t.Errorf("got %+v, %v", got, err)
			}
			again := make([]byte, len(conn.head))
			_, _ = io.ReadFull(conn, again)
			if !strings.HasPrefix(c.data, string(again)) {
				t.Error("what was looked at is not read again")
			}
		})
	}
}

// Whatever the bytes, looking at them ends, changes none of them, and finds no
// name with upper case.
func FuzzJudge(f *testing.F) {
	f.Add(helloBytes(f, "p9080.reviews.shop.sni.isthmus.internal", "isthmus"))
	f.Add(fragment(helloBytes(f, "a.b", "h2", "isthmus"), 3))
	f.Add([]byte(preface))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Add([]byte{0x16, 3, 1, 0, 1, 1, 0x16, 3, 1, 0, 1, 0})
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\xff\xff\xff\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		res, done := judge(data, true, true)
		if res.ServerName != strings.ToLower(res.ServerName) {
			t.Errorf("server name %q", res.ServerName)
		}
		if !bytes.Equal(before, data) {
			t.Error("changed")
		}
		if again, also := judge(data, true, true); again.TLS != res.TLS || also != done {
			t.Error("two answers")
		}
		if len(data) >= maxClientHello && !done {
			t.Error("wants more than the limit")
		}
	})
}
