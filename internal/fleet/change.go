package fleet

import (
	"fmt"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// clusterUID is the UID of a cluster's kube-system, by which clusters are told
// apart.
func clusterUID(i int) types.UID { return types.UID(fmt.Sprintf("11111111-0000-4000-8000-%012x", i+1)) }

// SetReady makes pod number i, from 0, of export e ready or not, as its
// EndpointSlice says: one change of one object.
func (f *Fleet) SetReady(e Export, i int, ready bool) error {
	c := f.clusters[e.Cluster]
	old, ok := c.Get("EndpointSlice", e.Namespace, e.Name+sliceEnd).(*discoveryv1.EndpointSlice)
	if !ok || i >= len(old.Endpoints) {
		return fmt.Errorf("fleet: cluster %s has no pod %d of %s/%s", c.Name, i, e.Namespace, e.Name)
	}
	slice := old.DeepCopy()
	slice.Endpoints[i].Conditions = conditions(ready)
	return c.Put(slice)
}
