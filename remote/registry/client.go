package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"
)

// Limits of a remote client. A watch that hears nothing is pinged, so that a
// connection into the void ends.
const (
	dialTimeout   = 5 * time.Second
	headerTimeout = 30 * time.Second
	pingAfter     = 10 * time.Second
	pingTimeout   = 5 * time.Second
	maxAnswer     = 256 << 20 // bytes of one answer that is no watch
)

var errTooLarge = errors.New("answer is larger than 256 MiB")

// NewClient returns a client for the API server of access. It has connections
// of its own: CloseIdleConnections ends those that nobody uses, closeClient all. It
// follows no redirect and no proxy setting.
func NewClient(access Access, allow []string) (*http.Client, error) {
	return newClient(access, allow, nil)
}

// newClient is NewClient for a client whose connections pass gate, where there is one.
func newClient(access Access, allow []string, gate *gate) (*http.Client, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(access.CA) {
		return nil, refused("certificate-authority-data holds no certificate")
	}
	config := &tls.Config{RootCAs: roots, ServerName: access.ServerName, MinVersion: tls.VersionTLS12}
	if len(access.CertPEM) > 0 {
		pair, err := tls.X509KeyPair(access.CertPEM, access.KeyPEM)
		if err != nil {
			return nil, refused("client-certificate-data and client-key-data do not fit")
		}
		config.Certificates = []tls.Certificate{pair}
	}
	dialer := &net.Dialer{
		Timeout: dialTimeout, KeepAlive: 15 * time.Second,
		Control: func(_, address string, _ syscall.RawConn) error { return allowedAddr(address, allow) },
	}
	conns := &conns{dial: dialer.DialContext, gate: gate}
	transport := &http.Transport{
		DialContext:           conns.dialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: headerTimeout,
		IdleConnTimeout:       90 * time.Second,
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	return &http.Client{
		Transport:     bearer{access.Token, transport, conns},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// bearer adds the token to each request.
type bearer struct {
	token string
	next  *http.Transport
	conns *conns
}

// closeClient ends all connections of a client that nobody uses any more.
func closeClient(c *http.Client) {
	c.CloseIdleConnections()
	if b, ok := c.Transport.(bearer); ok {
		b.conns.closeAll()
	}
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	resp, err := b.next.RoundTrip(r)
	if err == nil && r.URL.Query().Get("watch") == "" {
		resp.Body = &limited{resp.Body, maxAnswer}
	}
	return resp, err
}

// limited ends an answer that does not end.
type limited struct {
	io.ReadCloser
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// CloseIdleConnections lets http.Client reach the transport.
func (b bearer) CloseIdleConnections() { b.next.CloseIdleConnections() }
