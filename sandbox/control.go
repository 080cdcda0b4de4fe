package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/isthmus-mesh/isthmus/sandbox/plan"
)

// Cut takes what of cluster to away from cluster from: refused or dropped, for
// open connections too. An empty from means every other cluster. All works both
// ways. A second cut of the same thing replaces the first.
func (s *Sandbox) Cut(ctx context.Context, from, to string, mode Mode, what What) error {
	if from != "" {
		return s.post(ctx, "/cut", plan.Cut{From: from, To: to, Mode: mode, What: what})
	}
	for _, c := range s.state.Plan.Clusters {
		if c.Name == to {
			continue
		}
		if err := s.Cut(ctx, c.Name, to, mode, what); err != nil {
			return err
		}
	}
	return nil
}

// Heal undoes all cuts.
func (s *Sandbox) Heal(ctx context.Context) error { return s.post(ctx, "/heal", nil) }

// Kill ends a part of cluster without warning; it stays down. Pods outlive the
// control part, and end with the node part.
func (s *Sandbox) Kill(ctx context.Context, cluster string, part Part) error {
	return s.post(ctx, "/act", plan.Act{Cluster: cluster, Part: part, Action: "kill"})
}

// Start starts a part that was killed, and does nothing if it runs. It does
// not wait until the part is of use: see WaitReady.
func (s *Sandbox) Start(ctx context.Context, cluster string, part Part) error {
	return s.post(ctx, "/act", plan.Act{Cluster: cluster, Part: part, Action: "start"})
}

// Restart kills a part, starts it again on its old data and waits until the
// cluster is ready.
func (s *Sandbox) Restart(ctx context.Context, cluster string, part Part) error {
	if err := s.Kill(ctx, cluster, part); err != nil {
		return err
	}
	if err := s.Start(ctx, cluster, part); err != nil {
		return err
	}
	return s.WaitReady(ctx, cluster)
}

// Status tells what processes run and what is cut.
func (s *Sandbox) Status(ctx context.Context) (Status, error) {
	var status Status
	body, err := s.do(ctx, http.MethodGet, "/status", nil)
	if err != nil {
		return status, err
	}
	defer body.Close()
	return status, json.NewDecoder(body).Decode(&status)
}

// Capture writes what the nodes send over the underlay to w, as a pcap file,
// until ctx ends; then it returns nil. When started, which may be nil, has been
// called, everything that is sent is seen.
func (s *Sandbox) Capture(ctx context.Context, w io.Writer, started func()) error {
	body, err := s.do(ctx, http.MethodGet, "/capture", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if started != nil {
		started()
	}
	if _, err := io.Copy(w, body); err != nil && ctx.Err() == nil {
		return fmt.Errorf("capture: %w", err)
	}
	return nil
}

func (s *Sandbox) post(ctx context.Context, path string, request any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	body, err := s.do(ctx, http.MethodPost, path, data)
	if err != nil {
		return err
	}
	return body.Close()
}

func (s *Sandbox) do(ctx context.Context, method, path string, data []byte) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://sandbox"+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DialContext: s.dial, DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("ask the sandbox: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return nil, errors.New(strings.TrimSpace(string(text)))
}

// dial connects to the control socket however long its path is.
func (s *Sandbox) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	folder, err := os.Open(s.dir)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	var d net.Dialer
	return d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), plan.SocketFile))
}
