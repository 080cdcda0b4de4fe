package server_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/primary/server"
)

// settle waits until both clusters hold what the exports say.
func (w *world) settle(planes []*plane) {
	w.t.Helper()
	began := time.Now()
	deadline := began.Add(90 * time.Second)
	for {
		var wrong []string
		for _, c := range w.clusters {
			wrong = append(wrong, w.differences(c)...)
		}
		if len(wrong) == 0 {
			w.t.Logf("settled after %v", time.Since(began).Round(100*time.Millisecond))
			return
		}
		if time.Now().After(deadline) || w.t.Failed() {
			for _, p := range planes {
				text := p.text()
				w.t.Logf("log of %s ends:\n%s", p.cluster, text[max(0, len(text)-6000):])
			}
			w.t.Fatalf("not right after %v:\n%s", time.Since(began).Round(time.Second), strings.Join(wrong, "\n"))
		}
		pause(w.t, w.rng, 100*time.Millisecond)
	}
}

// held is what a cluster holds for one import.
type held struct {
	imported *mcsv1beta1.ServiceImport
	derived  *corev1.Service
	slices   []discoveryv1.EndpointSlice
}

func (c *clusterWorld) holds() map[client.ObjectKey]*held {
	c.t.Helper()
	var imports mcsv1beta1.ServiceImportList
	var services corev1.ServiceList
	var slices discoveryv1.EndpointSliceList
	c.must("list imports", c.List(c.t.Context(), &imports))
	c.must("list services", c.List(c.t.Context(), &services, client.HasLabels{mcsv1beta1.LabelServiceName}))
	c.must("list slices", c.List(c.t.Context(), &slices, client.MatchingLabels{discoveryv1.LabelManagedBy: api.ManagedBy}))
	out := map[client.ObjectKey]*held{}
	of := func(ns, name string) *held {
		key := client.ObjectKey{Namespace: ns, Name: name}
		if out[key] == nil {
			out[key] = &held{}
		}
		return out[key]
	}
	for i := range imports.Items {
		of(imports.Items[i].Namespace, imports.Items[i].Name).imported = &imports.Items[i]
	}
	for i := range services.Items {
		h := of(services.Items[i].Namespace, services.Items[i].Labels[mcsv1beta1.LabelServiceName])
		if h.derived != nil {
			c.t.Errorf("%s/%s has two derived Services", services.Items[i].Namespace, services.Items[i].Name)
		}
		h.derived = &services.Items[i]
	}
	for _, s := range slices.Items {
		h := of(s.Namespace, s.Labels[mcsv1beta1.LabelServiceName])
		h.slices = append(h.slices, s)
	}
	return out
}

// exporters are the clusters that export key, sorted.
func (w *world) exporters(key client.ObjectKey) []*clusterWorld {
	var out []*clusterWorld
	for _, c := range w.clusters {
		if s := c.all[key]; s != nil && s.export && s.service {
			out = append(out, c)
		}
	}
	return out
}

// differences tells what in c is not as the exports say.
func (w *world) differences(c *clusterWorld) (wrong []string) {
	c.t.Helper()
	all := c.holds()
	numbers := map[string]string{} // of entry ports and synthetic addresses, what they stand for
	for _, ns := range worldNamespaces() {
		for _, name := range worldNames() {
			key := client.ObjectKey{Namespace: ns, Name: name}
			have, from := all[key], w.exporters(key)
			delete(all, key)
			switch {
			case len(from) == 0 || !c.ns[ns]:
				if have != nil {
					wrong = append(wrong, fmt.Sprintf("%s %s: nobody exports it, and there is import %t, service %t, %d slices", c.name, key, have.imported != nil, have.derived != nil, len(have.slices)))
				}
			case have == nil || have.imported == nil || have.derived == nil:
				wrong = append(wrong, fmt.Sprintf("%s %s: import or derived service missing", c.name, key))
			default:
				for _, text := range slices.Concat(c.importWrong(have, key, from), c.slicesWrong(have, key, from, numbers)) {
					wrong = append(wrong, fmt.Sprintf("%s %s: %s", c.name, key, text))
				}
			}
		}
	}
	for key := range all {
		wrong = append(wrong, fmt.Sprintf("%s %s: left over", c.name, key))
	}
	return slices.Concat(wrong, c.exportsWrong(), c.retiredWrong(numbers))
}

func (c *clusterWorld) importWrong(have *held, key client.ObjectKey, from []*clusterWorld) (wrong []string) {
	var ports, clusters, inImport, inService, status []string
	for _, p := range worldPorts() {
		if slices.ContainsFunc(from, func(f *clusterWorld) bool { return slices.Contains(f.all[key].ports, p) }) {
			ports = append(ports, portName(p))
		}
	}
	for _, f := range from {
		clusters = append(clusters, f.name)
	}
	for _, p := range have.imported.Spec.Ports {
		inImport = append(inImport, p.Name)
	}
	for _, p := range have.derived.Spec.Ports {
		inService = append(inService, p.Name)
	}
	for _, s := range have.imported.Status.Clusters {
		status = append(status, s.Cluster)
	}
	for what, pair := range map[string][2][]string{"ports": {inImport, ports}, "derived ports": {inService, ports}, "clusters": {status, clusters}} {
		slices.Sort(pair[0])
		slices.Sort(pair[1])
		if !slices.Equal(pair[0], pair[1]) {
			wrong = append(wrong, fmt.Sprintf("%s %v, want %v", what, pair[0], pair[1]))
		}
	}
	headless := c.headless(key)
	if got := have.imported.Spec.Type == mcsv1beta1.Headless; got != headless || (have.derived.Spec.ClusterIP == corev1.ClusterIPNone) != headless {
		wrong = append(wrong, "type "+string(have.imported.Spec.Type)+", address "+have.derived.Spec.ClusterIP)
	}
	if !headless && !slices.Equal(have.imported.Spec.IPs, have.derived.Spec.ClusterIPs) {
		wrong = append(wrong, fmt.Sprintf("addresses %v, of the service %v", have.imported.Spec.IPs, have.derived.Spec.ClusterIPs))
	}
	if owners := have.derived.OwnerReferences; len(owners) != 1 || owners[0].UID != have.imported.UID {
		wrong = append(wrong, "service is owned by another import")
	}
	return wrong
}

func (c *clusterWorld) headless(key client.ObjectKey) bool { return strings.HasPrefix(key.Name, "db") }

// slicesWrong checks the slices of each exporting cluster. Of one on another
// network they hold the entry gateway, or synthetic addresses, each of which
// stands for one thing alone: they are noted in numbers.
func (c *clusterWorld) slicesWrong(have *held, key client.ObjectKey, from []*clusterWorld, numbers map[string]string) (wrong []string) {
	got := map[string][]string{} // by source
	entry := map[string]string{} // one port of the import has one entry port, whatever the source
	for _, s := range have.slices {
		source := s.Labels[mcsv1beta1.LabelSourceCluster]
		if len(s.OwnerReferences) != 1 || s.OwnerReferences[0].UID != have.imported.UID {
			wrong = append(wrong, "slice "+s.Name+" is owned by another import")
		}
		if source == c.name || c.headless(key) {
			got[source] = append(got[source], c.podFacts(&s, source, numbers)...)
			continue
		}
		for pair := range strings.SplitSeq(s.Annotations[api.AnnotationEntryPorts], ",") {
			port, at, _ := strings.Cut(pair, "=")
			if old, known := entry[port]; known && old != at {
				wrong = append(wrong, fmt.Sprintf("port %s has entry ports %s and %s", port, old, at))
			}
			entry[port] = at
			if other, taken := numbers[at]; taken && other != key.String()+"/"+port {
				wrong = append(wrong, fmt.Sprintf("entry port %s is that of %s too", at, other))
			}
			numbers[at] = key.String() + "/" + port
		}
		for _, p := range s.Ports {
			name := strings.TrimPrefix(*p.Name, "p")
			if entry[name] != strconv.Itoa(int(*p.Port)) {
				wrong = append(wrong, fmt.Sprintf("port %s is at %d, its annotation says %q", name, *p.Port, entry[name]))
			}
			for _, e := range s.Endpoints {
				got[source] = append(got[source], fmt.Sprintf("%s ready=%t", *p.Name, *e.Conditions.Ready))
			}
		}
	}
	want := map[string][]string{}
	for _, f := range from {
		want[f.name] = c.wantFacts(key, f)
	}
	for _, f := range []string{"east", "west"} {
		slices.Sort(got[f])
		slices.Sort(want[f])
		if !slices.Equal(got[f], want[f]) || (len(want[f]) == 0) != (got[f] == nil) {
			wrong = append(wrong, fmt.Sprintf("slices of %s hold %v, want %v", f, got[f], want[f]))
		}
	}
	return wrong
}

// podFacts are those of a slice that holds pods, a line for each port of each.
func (c *clusterWorld) podFacts(s *discoveryv1.EndpointSlice, source string, numbers map[string]string) (out []string) {
	for _, e := range s.Endpoints {
		addr := netip.MustParseAddr(e.Addresses[0])
		name := ""
		if e.Hostname != nil {
			name = *e.Hostname
		}
		if source != c.name {
			what := strings.Join([]string{s.Namespace, s.Labels[mcsv1beta1.LabelServiceName], source, name}, "/")
			name += " synthetic"
			range4, _ := server.ParseSyntheticRange(server.DefaultSyntheticRange)
			if other, taken := numbers[addr.String()]; taken && other != what || !range4.Contains(addr) {
				name += " at the address of " + other
			}
			numbers[addr.String()] = what
		}
		for _, p := range s.Ports {
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s ready=%t", name, *p.Name, *e.Conditions.Ready)))
		}
	}
	return out
}

// wantFacts are those of the slices in c of what f exports.
func (c *clusterWorld) wantFacts(key client.ObjectKey, f *clusterWorld) (out []string) {
	theirs, ours := f.all[key], c.all[key]
	for _, p := range theirs.ports {
		switch {
		case c.headless(key) && f != c:
			for _, pod := range theirs.pods {
				out = append(out, fmt.Sprintf("%s synthetic %s ready=%t", pod, portName(p), theirs.ready))
			}
		case f == c:
			for _, pod := range theirs.pods {
				if !c.headless(key) {
					pod = ""
				}
				out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s ready=%t", pod, portName(p), theirs.ready)))
			}
		default: // own pods come first
			own := ours != nil && ours.export && ours.service && ours.ready && slices.Contains(ours.ports, p)
			out = append(out, fmt.Sprintf("%s ready=%t", portName(p), theirs.ready && !own))
		}
	}
	return out
}

// exportsWrong checks the conditions of the cluster's own exports.
func (c *clusterWorld) exportsWrong() (wrong []string) {
	var exports mcsv1beta1.ServiceExportList
	c.must("list exports", c.List(c.t.Context(), &exports))
	for i := range exports.Items {
		e := &exports.Items[i]
		s := c.all[client.ObjectKeyFromObject(e)]
		valid := meta.FindStatusCondition(e.Status.Conditions, string(mcsv1beta1.ServiceExportConditionValid))
		if valid == nil || (valid.Status == metav1.ConditionTrue) != s.service {
			wrong = append(wrong, fmt.Sprintf("%s %s: service %t, condition %+v", c.name, s.key, s.service, valid))
		}
	}
	return wrong
}

// retiredWrong checks that what rests for the sake of one is not used by another.
func (c *clusterWorld) retiredWrong(inUse map[string]string) (wrong []string) {
	var m corev1.ConfigMap
	err := c.Get(c.t.Context(), client.ObjectKey{Namespace: api.SystemNamespace, Name: api.EntryRetiredName}, &m)
	if client.IgnoreNotFound(err) != nil {
		c.must("read what rests", err)
	}
	for _, text := range m.Data {
		for line := range strings.Lines(text) { // NUMBER SECONDS WHAT
			fields := strings.Fields(line)
			if what := inUse[fields[0]]; what != "" && what != fields[2] {
				wrong = append(wrong, fmt.Sprintf("%s: %s rests and is that of %s", c.name, strings.TrimSpace(line), what))
			}
		}
	}
	return wrong
}

// addresses are those of what is exported throughout, and its entry ports.
func (w *world) addresses() map[string]string {
	w.t.Helper()
	out := map[string]string{}
	for _, c := range w.clusters {
		all := c.holds()
		for _, f := range w.clusters {
			for key, s := range f.all {
				h := all[key]
				if !s.anchor || h == nil || h.imported == nil {
					continue
				}
				id := c.name + " " + key.String()
				out[id+" import"] = string(h.imported.UID) + " " + strings.Join(h.imported.Spec.IPs, " ")
				for i := range h.slices {
					c.noteNumbers(out, id, &h.slices[i], f)
				}
			}
		}
	}
	return out
}

func (c *clusterWorld) noteNumbers(out map[string]string, id string, s *discoveryv1.EndpointSlice, source *clusterWorld) {
	if source == c || s.Labels[mcsv1beta1.LabelSourceCluster] != source.name {
		return
	}
	for pair := range strings.SplitSeq(s.Annotations[api.AnnotationEntryPorts], ",") {
		if port, at, _ := strings.Cut(pair, "="); port == "9080" {
			out[id+" entry port"] = at
		}
	}
	for _, e := range s.Endpoints {
		if e.Hostname != nil {
			out[id+" "+*e.Hostname] = e.Addresses[0]
		}
	}
}

// unmovedByRestart starts all control planes once more and has them make one
// import: what was right before is not written again.
func (w *world) unmovedByRestart(planes []*plane) {
	w.t.Helper()
	before := w.versions()
	for _, p := range planes {
		p.kill()
		p.start()
	}
	c, marker := w.clusters[0], client.ObjectKey{Namespace: worldNamespaces()[0], Name: "web-1"}
	s := c.all[marker]
	exported := s.export && s.service
	if !s.service {
		c.setService(s, true)
	}
	if s.export == exported {
		c.setExport(s, !exported)
	}
	w.settle(planes)
	for name, version := range w.versions() {
		if was := before[name]; was != version && !strings.Contains(name, "/"+marker.String()+" ") {
			w.t.Errorf("%s was written after a restart that changed nothing: version %s, was %s", name, version, was)
		}
	}
}

func (w *world) versions() map[string]string {
	out := map[string]string{}
	for _, c := range w.clusters {
		for key, h := range c.holds() {
			id := c.name + "/" + key.String() + " "
			out[id+"import"], out[id+"service"] = h.imported.ResourceVersion, h.derived.ResourceVersion
			for _, s := range h.slices {
				out[id+s.Name] = s.ResourceVersion
			}
		}
	}
	return out
}
