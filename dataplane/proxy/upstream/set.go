package upstream

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
)

// warmTimeout bounds how long a request waits for the first load assignment of
// an xds cluster that has just arrived. (Envoy waits 15 s to use it at all.)
const warmTimeout = 5 * time.Second

// Set is all xds clusters of a proxy.
type Set struct {
	dialer *Dialer

	mu       sync.RWMutex
	clusters map[string]*Cluster
	changed  chan struct{} // closed and replaced by each Apply
}

// NewSet returns an empty Set.
func NewSet(dialer *Dialer) *Set {
	return &Set{dialer: dialer, clusters: map[string]*Cluster{}, changed: make(chan struct{})}
}

// Apply switches to cfg. Clusters whose configuration is the same pointer stay;
// others drain, and new ones take over the record of their hosts.
func (s *Set) Apply(cfg *config.Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[string]*Cluster, len(cfg.Clusters))
	var gone []*Cluster
	for name, cc := range cfg.Clusters {
		old := s.clusters[name]
		c, before := old, (*Cluster)(nil)
		if old == nil || old.cfg != cc {
			c, before = newCluster(cc, s.dialer), old
		}
		c.assign(cfg.Assignments[cc.Assignment], before)
		next[name] = c
	}
	for name, c := range s.clusters {
		if next[name] != c {
			gone = append(gone, c)
		}
	}
	s.clusters = next
	close(s.changed)
	s.changed = make(chan struct{})
	for _, c := range gone {
		c.drain()
	}
}

// Get returns the xds cluster of that name, once its hosts are known. The error
// wraps ErrUnknown where there is no such cluster, ErrNoHealthy where its hosts
// did not become known in time.
func (s *Set) Get(ctx context.Context, name string) (*Cluster, error) {
	var timeout <-chan time.Time
	for {
		s.mu.RLock()
		c, changed := s.clusters[name], s.changed
		s.mu.RUnlock()
		if c == nil {
			return nil, fmt.Errorf("%w %q", ErrUnknown, name)
		}
		select {
		case <-c.ready:
			return c, nil
		default:
		}
		if timeout == nil {
			timer := time.NewTimer(warmTimeout)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-changed: // maybe another cluster bears the name now
		case <-timeout:
			return nil, fmt.Errorf("%w: hosts of %q are not known yet", ErrNoHealthy, name)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Clusters returns all, by name.
func (s *Set) Clusters() []*Cluster {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]*Cluster, 0, len(s.clusters))
	for _, name := range slices.Sorted(maps.Keys(s.clusters)) {
		out = append(out, s.clusters[name])
	}
	return out
}

// Run sweeps connections that are idle or over age until ctx ends, and then
// drains everything.
func (s *Set) Run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			for _, c := range s.Clusters() {
				c.drain()
			}
			return
		case now := <-tick.C:
			for _, c := range s.Clusters() {
				c.sweep(now)
			}
		}
	}
}
