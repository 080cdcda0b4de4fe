package server

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/primary/controllers"
)

// doorFinder finds the own gateway's door once for all remotes that ask at about
// the same time.
type doorFinder struct {
	kube      kubernetes.Interface
	namespace string

	mu    sync.Mutex
	door  controllers.Door
	err   error
	until time.Time
}

// doorFor is how long an answer serves others.
const doorFor = 2 * time.Second

func newDoorFinder(kube kubernetes.Interface, namespace string) *doorFinder {
	return &doorFinder{kube: kube, namespace: namespace}
}

func (f *doorFinder) find(ctx context.Context) (controllers.Door, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.After(f.until) {
		f.door, f.err = controllers.FindDoor(ctx, f.kube, f.namespace)
		f.until = now.Add(doorFor)
	}
	return f.door, f.err
}
