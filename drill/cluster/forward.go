package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
)

// Tunnel leads to a port of a pod by the API server, also where the pod listens
// on loopback only.
type Tunnel struct {
	Addr string // host:port on loopback

	stop chan struct{}
	done chan error
}

// Forward opens a tunnel to port of a pod. Close it.
func (c *Cluster) Forward(ctx context.Context, namespace, pod string, port int) (*Tunnel, error) {
	transport, upgrader, err := spdy.RoundTripperFor(c.Config)
	if err != nil {
		return nil, fmt.Errorf("forward to %s/%s: %w", namespace, pod, err)
	}
	url := c.Kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("portforward").URL()
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	ready := make(chan struct{})
	t := &Tunnel{stop: make(chan struct{}), done: make(chan error, 1)}
	fw, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", port)}, t.stop, ready, io.Discard, io.Discard)
	if err != nil {
		return nil, fmt.Errorf("forward to %s/%s: %w", namespace, pod, err)
	}
	go func() { t.done <- fw.ForwardPorts() }()
	select {
	case err := <-t.done:
		return nil, fmt.Errorf("forward to %s/%s of %s: %w", namespace, pod, c.Context, err)
	case <-ctx.Done():
		t.Close()
		return nil, ctx.Err()
	case <-ready:
	}
	ports, err := fw.GetPorts()
	if err != nil || len(ports) != 1 {
		t.Close()
		return nil, fmt.Errorf("forward to %s/%s: no local port: %w", namespace, pod, err)
	}
	t.Addr = fmt.Sprintf("127.0.0.1:%d", ports[0].Local)
	return t, nil
}

// Close ends the tunnel and waits for that.
func (t *Tunnel) Close() {
	close(t.stop)
	<-t.done
}

// maxBody bounds what is read of an answer.
const maxBody = 64 << 20

// AnswerError is an answer other than 200.
type AnswerError struct {
	Path, Status string
	Code         int
	Text         string // what it said, cut
}

func (e *AnswerError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("%s answered %s", e.Path, e.Status)
	}
	return fmt.Sprintf("%s answered %s: %s", e.Path, e.Status, e.Text)
}

// maxText is how much of a bad answer goes into its error, in bytes.
const maxText = 200

// Get asks path of the HTTP server behind the tunnel and returns the body of a
// good answer.
func (t *Tunnel) Get(ctx context.Context, path string) ([]byte, error) {
	return t.Do(ctx, http.MethodGet, path)
}

// Do is Get by another method. An answer other than 200 is an AnswerError.
func (t *Tunnel) Do(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+t.Addr+path, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, &AnswerError{Path: req.URL.Path, Status: res.Status, Code: res.StatusCode, Text: strings.TrimSpace(string(body[:min(len(body), maxText)]))}
	}
	return body, nil
}

// GetJSON is Get with the answer decoded into out.
func (t *Tunnel) GetJSON(ctx context.Context, path string, out any) error {
	body, err := t.Get(ctx, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// Do asks path of a pod's port by method and returns the body of a good answer.
func (c *Cluster) Do(ctx context.Context, namespace, pod string, port int, method, path string) ([]byte, error) {
	t, err := c.Forward(ctx, namespace, pod, port)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	body, err := t.Do(ctx, method, path)
	if err != nil {
		return nil, fmt.Errorf("ask %s/%s of %s: %w", namespace, pod, c.Context, err)
	}
	return body, nil
}

// GetJSON asks path of a pod's port and decodes the answer into out.
func (c *Cluster) GetJSON(ctx context.Context, namespace, pod string, port int, path string, out any) error {
	t, err := c.Forward(ctx, namespace, pod, port)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := t.GetJSON(ctx, path, out); err != nil {
		return fmt.Errorf("ask %s/%s of %s: %w", namespace, pod, c.Context, err)
	}
	return nil
}
