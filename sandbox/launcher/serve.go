package launcher

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/sandbox/plan"
)

// serve relays the host's loopback ports and answers on the control socket.
func (s *sandbox) serve(ctx context.Context) error {
	for _, c := range s.plan.Clusters {
		go relay(s.relays[c.Name], c.APIServer())
	}
	server := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	return server.Serve(s.control)
}

// relay passes every connection of listener on to target.
func relay(listener net.Listener, target string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go pass(conn.(*net.TCPConn), target)
	}
}

func pass(from *net.TCPConn, target string) {
	defer from.Close()
	conn, err := net.DialTimeout("tcp", target, 10*time.Second)
	if err != nil {
		_ = from.SetLinger(0) // refused there means reset here
		return
	}
	to := conn.(*net.TCPConn)
	defer to.Close()
	var both sync.WaitGroup
	half := func(dst, src *net.TCPConn) {
		_, err := io.Copy(dst, src)
		if err != nil {
			_ = dst.SetLinger(0)
			dst.Close()
			src.Close()
			return
		}
		_ = dst.CloseWrite()
	}
	both.Go(func() { half(to, from) })
	both.Go(func() { half(from, to) })
	both.Wait()
}

// handler serves the control socket. Whoever may open it owns the sandbox.
func (s *sandbox) handler() http.Handler {
	var mu sync.Mutex // one change at a time
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(w).Encode(s.status())
	})
	change := func(path string, do func(body io.Reader) error) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if err := do(http.MaxBytesReader(w, r.Body, 1<<16)); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
		})
	}
	change("/cut", func(body io.Reader) error { return s.cut(body) })
	change("/heal", func(io.Reader) error { return s.heal() })
	change("/act", func(body io.Reader) error { return s.act(body) })
	mux.HandleFunc("GET /capture", captureUnderlay)
	return mux
}

func (s *sandbox) status() plan.Status {
	var status plan.Status
	for _, c := range s.plan.Clusters {
		n := s.nodes[c.Name]
		status.Processes = append(status.Processes, n.processes[plan.Control].status(), n.processes[plan.Node].status())
		status.Cuts = append(status.Cuts, n.cuts...)
	}
	return status
}

func (s *sandbox) cut(body io.Reader) error {
	var cut plan.Cut
	if err := strict(body, &cut); err != nil {
		return err
	}
	if err := cut.Validate(s.plan); err != nil {
		return err
	}
	if err := s.addCut(cut); err != nil || cut.What != plan.All {
		return err
	}
	return s.addCut(plan.Cut{From: cut.To, To: cut.From, What: cut.What, Mode: cut.Mode})
}

// addCut replaces an earlier cut of the same thing.
func (s *sandbox) addCut(cut plan.Cut) error {
	n := s.nodes[cut.From]
	cuts := slices.DeleteFunc(slices.Clone(n.cuts), func(old plan.Cut) bool { return old.To == cut.To && old.What == cut.What })
	cuts = append(cuts, cut)
	if err := n.nft(cutRules(s.plan, cuts)); err != nil {
		return err
	}
	n.cuts = cuts
	return nil
}

func (s *sandbox) heal() error {
	for _, n := range s.nodes {
		if len(n.cuts) == 0 {
			continue
		}
		if err := n.nft(cutRules(s.plan, nil)); err != nil {
			return err
		}
		n.cuts = nil
	}
	return nil
}

func (s *sandbox) act(body io.Reader) error {
	var act plan.Act
	if err := strict(body, &act); err != nil {
		return err
	}
	n, ok := s.nodes[act.Cluster]
	if !ok {
		return fmt.Errorf("no cluster %q", act.Cluster)
	}
	p, ok := n.processes[act.Part]
	if !ok {
		return fmt.Errorf("no part %q: want %s or %s", act.Part, plan.Control, plan.Node)
	}
	switch act.Action {
	case "kill":
		p.kill()
		return nil
	case "start":
		return p.start()
	default:
		return fmt.Errorf("no action %q: want kill or start", act.Action)
	}
}

func strict(body io.Reader, into any) error {
	decoder := json.NewDecoder(body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	return nil
}
