package controllers

import (
	"cmp"
	"context"

	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/federation"
)

// watchKind calls f for every object of kind that comes, changes or goes, until
// stop is called.
func watchKind(ctx context.Context, local *Local, kind client.Object, f func(client.Object)) (stop func(), err error) {
	informer, err := local.Cache.GetInformer(ctx, kind)
	if err != nil {
		return nil, err
	}
	call := func(obj any) {
		if unknown, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
			obj = unknown.Obj
		}
		if o, ok := obj.(client.Object); ok {
			f(o)
		}
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: call, UpdateFunc: func(_, now any) { call(now) }, DeleteFunc: call,
	})
	if err != nil {
		return nil, err
	}
	return func() { _ = informer.RemoveEventHandler(registration) }, nil
}

// serviceChange is one clusterset service that differs between two snapshots.
type serviceChange struct{ old, now *federation.Service } // nil: there is none

// key names the service.
func (c serviceChange) key() objectKey {
	if c.now == nil {
		return keyOf(c.old)
	}
	return keyOf(c.now)
}

// follower tells from snapshot to snapshot which clusterset services differ. It
// compares pointers in one walk, without looking anything up. The zero follower
// has seen nothing. Its user serializes calls.
type follower struct{ seen []*federation.Service } // sorted by key

// next returns the differences from the last snapshot to s, in key order.
func (f *follower) next(s *federation.Snapshot) []serviceChange {
	var out []serviceChange
	note := func(old, now *federation.Service) {
		if c := (serviceChange{old, now}); cmp.Or(now, old).Key.ClusterSet() {
			out = append(out, c)
		}
	}
	old := f.seen
	seen := make([]*federation.Service, 0, len(old)+1)
	for svc := range s.Services() {
		seen = append(seen, svc)
		if len(old) > 0 && old[0] == svc {
			old = old[1:]
			continue
		}
		for len(old) > 0 && old[0].Key.Compare(svc.Key) < 0 {
			note(old[0], nil)
			old = old[1:]
		}
		switch {
		case len(old) == 0 || old[0].Key != svc.Key:
			note(nil, svc)
			continue
		case old[0] != svc:
			note(old[0], svc)
		}
		old = old[1:]
	}
	for _, svc := range old {
		note(svc, nil)
	}
	f.seen = seen
	return out
}

func clustersDiffer(old, now *federation.Snapshot) bool {
	a, b := old.Clusters(), now.Clusters()
	if len(a) != len(b) {
		return true
	}
	for i := range a {
		if a[i] != b[i] {
			return true
		}
	}
	return false
}

func keyOf(svc *federation.Service) objectKey {
	return objectKey{Namespace: svc.Key.Namespace, Name: svc.Key.Name}
}
