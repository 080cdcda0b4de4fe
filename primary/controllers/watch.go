package controllers

import (
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

// changedServices returns the clusterset services that differ between two
// snapshots.
func changedServices(old, now *federation.Snapshot) []objectKey {
	var out []objectKey
	for svc := range now.Services() {
		if svc.Key.ClusterSet() && (old == nil || old.Service(svc.Key) != svc) {
			out = append(out, keyOf(svc))
		}
	}
	for svc := range old.Services() {
		if svc.Key.ClusterSet() && now.Service(svc.Key) == nil {
			out = append(out, keyOf(svc))
		}
	}
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
