package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
)

// State is the accepted resources: by type URL, then by name. Messages are not
// changed by anyone after they are given here.
type State = map[string]map[string]proto.Message

// parseAny parses a resource and returns the name that it bears.
func parseAny(m proto.Message) (string, error) {
	switch m := m.(type) {
	case *listenerv3.Listener:
		_, err := parseListener(m)
		return m.GetName(), err
	case *clusterv3.Cluster:
		_, err := parseCluster(m)
		return m.GetName(), err
	case *endpointv3.ClusterLoadAssignment:
		_, err := parseAssignment(m)
		return m.GetClusterName(), err
	case *routev3.RouteConfiguration:
		_, err := parseRoutes(m)
		return m.GetName(), err
	default:
		return "", fmt.Errorf("%T: %w", m, ErrUnsupported)
	}
}

// Build makes the configuration of state, sharing with prev (which may be nil)
// what did not change. A resource that cannot be used leaves prev's of the same
// name in place and is reported in the joined error; the Config is usable all
// the same. The caller has run Check, so an error here is exceptional.
func Build(prev *Config, state State) (*Config, error) {
	if prev == nil {
		prev = &Config{}
	}
	var errs [4]error
	next := &Config{}
	next.Clusters, errs[0] = share(prev.Clusters, state[TypeCluster], parseCluster, func(c *Cluster) proto.Message { return c.source })
	next.Assignments, errs[1] = share(prev.Assignments, state[TypeEndpoint], parseAssignment, func(a *Assignment) proto.Message { return a.source })
	next.Listeners, errs[2] = share(prev.Listeners, state[TypeListener], parseListener, func(l *Listener) proto.Message { return l.source })
	next.Routes, errs[3] = share(prev.Routes, state[TypeRoute], parseRoutes, func(r *Routes) proto.Message { return r.source })
	for name, l := range next.Listeners {
		if old := prev.Listeners[name]; old != nil && old != l {
			shareChains(old, l)
		}
	}
	return next, errors.Join(errs[:]...)
}

// share parses each message, or takes over the last value where the message is
// the same.
func share[M proto.Message, T any](prev map[string]*T, in map[string]proto.Message, parse func(M) (*T, error), source func(*T) proto.Message) (map[string]*T, error) {
	out := make(map[string]*T, len(in))
	var errs []error
	for name, m := range in {
		old := prev[name]
		if old != nil && (source(old) == m || proto.Equal(source(old), m)) {
			out[name] = old
			continue
		}
		v, err := parseAs(m, parse)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			v = old
		}
		if v != nil {
			out[name] = v
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return out, errors.Join(errs...)
}

func parseAs[M proto.Message, T any](m proto.Message, parse func(M) (*T, error)) (*T, error) {
	typed, ok := m.(M)
	if !ok {
		return nil, fmt.Errorf("unexpected message %T", m)
	}
	return parse(typed)
}

// shareChains replaces chains of l by equal ones of old, so that a connection
// of an unchanged chain is not drained.
func shareChains(old, l *Listener) {
	byKey := make(map[string]*Chain, len(old.Chains)+1)
	for _, c := range old.Chains {
		byKey[c.key] = c
	}
	for i, c := range l.Chains {
		if same := byKey[c.key]; same != nil {
			l.Chains[i] = same
		}
	}
	if l.Default != nil && old.Default != nil && l.Default.key == old.Default.key {
		l.Default = old.Default
	}
}
