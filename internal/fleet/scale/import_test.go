package scale_test

import (
	"errors"
	"fmt"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

// quiet is how long nothing may be written before the imports are looked at.
const quiet = 2 * time.Second

// arrival is what a first full import took.
type arrival struct {
	Imports, Proxies time.Time
	Writes           map[string]int
}

// await waits until every import is there with address, status and slices, and
// every proxy has everything; it gives up after most, with what is missing.
func (w *world) await(m *mesh, proxies []*proxy, most time.Duration) (arrival, error) {
	w.t.Helper()
	var out arrival
	var why error
	want, deadline := m.want(), time.Now().Add(most)
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for time.Now().Before(deadline) {
		<-ticker.C
		if out.Proxies.IsZero() {
			if why = haveAll(proxies, want); why == nil {
				out.Proxies = time.Now()
			}
		}
		requests := w.d.stats(w.t, false).Requests
		if requests.Last.IsZero() || time.Since(requests.Last) < quiet || out.Proxies.IsZero() {
			continue
		}
		if why = w.imported(m); why == nil {
			out.Imports, out.Writes = requests.Last, requests.minus(counts{})
			return out, nil
		}
	}
	why = errors.Join(w.imported(m), why)
	return out, fmt.Errorf("not complete after %s: %w", most, why)
}

func haveAll(proxies []*proxy, want map[string]int) error {
	for _, p := range proxies {
		if n, example, err := p.missing(want); err != nil || n > 0 {
			return fmt.Errorf("proxy %s lacks %d of %d services (%s), %v", p.name, n, len(want), example, err)
		}
	}
	return nil
}

// imported reads all imports and slices and holds them against what is exported.
func (w *world) imported(m *mesh) error {
	var imports mcsv1beta1.ServiceImportList
	if err := w.client.List(w.t.Context(), &imports); err != nil {
		return err
	}
	var endpoints discoveryv1.EndpointSliceList
	if err := w.client.List(w.t.Context(), &endpoints, client.HasLabels{mcsv1beta1.LabelSourceCluster}); err != nil {
		return err
	}
	sources := map[types.NamespacedName]map[string]bool{}
	for i := range endpoints.Items {
		s := &endpoints.Items[i]
		key := types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[mcsv1beta1.LabelServiceName]}
		if sources[key] == nil {
			sources[key] = map[string]bool{}
		}
		sources[key][s.Labels[mcsv1beta1.LabelSourceCluster]] = true
	}
	if len(imports.Items) != len(m.services) {
		return fmt.Errorf("%d of %d imports", len(imports.Items), len(m.services))
	}
	for i := range imports.Items {
		imp := &imports.Items[i]
		key := client.ObjectKeyFromObject(imp)
		name := fmt.Sprintf("outbound|%d||%s.%s.svc.clusterset.local", imp.Spec.Ports[0].Port, key.Name, key.Namespace)
		s := m.services[name]
		if s == nil || len(imp.Spec.IPs) != 1 || len(imp.Status.Clusters) != len(s.exports) || len(sources[key]) != len(s.exports) {
			return fmt.Errorf("import %s has addresses %v, %d clusters in its status, slices of %d", key, imp.Spec.IPs, len(imp.Status.Clusters), len(sources[key]))
		}
	}
	return nil
}
