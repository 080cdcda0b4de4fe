package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
	"github.com/isthmus-mesh/isthmus/dataplane/proxy"
	"github.com/isthmus-mesh/isthmus/dataplane/telemetry"
	"github.com/isthmus-mesh/isthmus/dataplane/xds"
)

// rebindEvery is how often a configuration is applied again of which something
// could not be used, such as a port that the last process still holds.
const rebindEvery = 500 * time.Millisecond

// applier joins the xDS client with the built-in data plane. What passed Check
// is valid and acknowledged; what of it cannot be used yet is tried again until
// it can, while the rest is in use.
type applier struct {
	engine *proxy.Proxy
	log    *slog.Logger
	failed chan struct{} // an application failed: try again; holds one

	mu   sync.Mutex // serialises applications
	last xds.State
	err  error // of the last application
}

func newApplier(e *proxy.Proxy, log *slog.Logger) *applier {
	return &applier{engine: e, log: log, failed: make(chan struct{}, 1)}
}

func (*applier) Check(typeURL, name string, m proto.Message) error {
	return config.Check(typeURL, name, m)
}

func (a *applier) Apply(s xds.State) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = s
	a.apply()
	return nil
}

// apply applies the last state. The lock is held.
func (a *applier) apply() {
	before := a.err
	a.err = a.engine.Apply(a.last)
	switch {
	case a.err == nil && before != nil:
		a.log.Info("all of the configuration is in use")
	case a.err != nil && (before == nil || before.Error() != a.err.Error()):
		a.log.Error("configuration cannot be used in full, trying again", "err", a.err)
	}
	if a.err == nil {
		return
	}
	select {
	case a.failed <- struct{}{}:
	default:
	}
}

// Run applies again what failed, until ctx ends.
func (a *applier) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.failed:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rebindEvery):
		}
		a.mu.Lock()
		if a.err != nil {
			a.apply()
		}
		a.mu.Unlock()
	}
}

// bound says which of the listeners that the role needs is not open.
func (a *applier) bound(names []string) error {
	for _, name := range names {
		if len(a.engine.Bound(name)) == 0 {
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.err != nil {
				return fmt.Errorf("listener %s is not open: %w", name, a.err)
			}
			return fmt.Errorf("listener %s is not open", name)
		}
	}
	return nil
}

// listeners returns the names of the listeners without which the proxy is
// nothing. A gateway's has the name of its kind.
func (c *settings) listeners() []string {
	if c.role == roleGateway {
		return []string{c.kind}
	}
	return []string{"outbound", "inbound"}
}

// newEngine makes the built-in data plane.
func (p *app) newEngine() (*proxy.Proxy, error) {
	return proxy.New(proxy.Options{
		Source: p.identity, Log: p.log.With("part", "proxy"), Metrics: p.registry,
		Node: telemetry.Node{
			Cluster: p.cfg.cluster, Namespace: p.cfg.namespace, Pod: p.cfg.pod,
			Workload: workload(p.cfg.pod), Account: p.cfg.account, Principal: p.cfg.self,
		},
	})
}

// workload guesses the name of what made the pod from the pod's own, since the
// pod cannot know it: NAME-HASH-SUFFIX of a Deployment, NAME-SUFFIX of a
// DaemonSet or Job, NAME-NUMBER of a StatefulSet.
func workload(pod string) string {
	name, suffix := cutLast(pod)
	if name == "" {
		return pod
	}
	if rest, hash := cutLast(name); rest != "" && len(suffix) == 5 && generated(hash) && len(hash) >= 8 && len(hash) <= 10 {
		return rest
	}
	if isNumber(suffix) || len(suffix) == 5 && generated(suffix) {
		return name
	}
	return pod
}

func cutLast(s string) (before, after string) {
	i := strings.LastIndexByte(s, '-')
	if i < 0 {
		return "", s
	}
	return s[:i], s[i+1:]
}

// generated reports whether s consists of what Kubernetes makes suffixes of.
func generated(s string) bool {
	return strings.Trim(s, "bcdfghjklmnpqrstvwxz2456789") == ""
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
