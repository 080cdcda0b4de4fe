package fleet

import (
	"net/http"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Cluster is one API server of a fleet. It is an http.Handler and safe for
// concurrent use.
type Cluster struct {
	Name   string
	Server string // https://127.0.0.1:PORT

	store  *store
	codec  *codec
	http   *http.Server
	served <-chan struct{}
}

// Put stores obj, with its apiVersion and kind set, in place of the one of its
// name, and tells every watch. Nobody may change obj after: to change an object,
// put a copy.
func (c *Cluster) Put(obj client.Object) error {
	_, err := c.store.put(obj)
	return err
}

// Delete removes an object of that kind ("Pod") and reports whether it was there.
func (c *Cluster) Delete(kind, namespace, name string) bool {
	return c.store.remove(kind, types.NamespacedName{Namespace: namespace, Name: name})
}

// Get returns an object, or nil. Do not change it.
func (c *Cluster) Get(kind, namespace, name string) client.Object {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	shelf := c.store.names[kind]
	if shelf == nil {
		return nil
	}
	return shelf.objects[types.NamespacedName{Namespace: namespace, Name: name}]
}

// All returns every object of a kind, sorted by name. Do not change them.
func (c *Cluster) All(kind string) []client.Object {
	shelf := c.store.names[kind]
	if shelf == nil {
		return nil
	}
	out, _ := c.store.list(shelf, selector{fields: fields.Everything(), labels: labels.Everything()})
	return out
}
