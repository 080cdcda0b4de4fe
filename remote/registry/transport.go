package registry

import (
	"errors"
	"net/http"
	"sync"

	"k8s.io/client-go/rest"
)

// A Transport leads to one API server under all the rules of NewClient, for
// clients that live longer than a token: Use gives it the next.
type Transport struct {
	allow []string

	mu     sync.Mutex
	client *http.Client
}

// NewTransport returns a transport for access. The error wraps ErrRefused.
func NewTransport(access Access, allow []string) (*Transport, error) {
	t := &Transport{allow: allow}
	return t, t.Use(access)
}

// Use makes later requests go by access. Watches that run stay on the old
// connection until they end. Where access is refused, nothing changes.
func (t *Transport) Use(access Access) error {
	client, err := access.connect(t.allow, nil)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client != nil {
		t.client.CloseIdleConnections()
	}
	t.client = client
	return nil
}

// Close ends every connection, those of watches too.
func (t *Transport) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	closeClient(t.client)
}

var errRedirect = errors.New("the API server redirects, which is not followed")

// RoundTrip implements http.RoundTripper. A redirect is an error: the client
// above would follow it, and the token with it.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	client := t.client
	t.mu.Unlock()
	resp, err := client.Transport.RoundTrip(r)
	if err == nil && resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.StatusCode != http.StatusNotModified {
		_ = resp.Body.Close()
		return nil, errRedirect
	}
	return resp, err
}

// Config returns a client configuration for server, https://HOST:PORT, that
// goes through t.
func (t *Transport) Config(server string) *rest.Config {
	return &rest.Config{Host: server, Transport: t}
}
