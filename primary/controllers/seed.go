package controllers

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
)

// seed begins a term: what the slices in the API server say is given, and what
// the ledger says rests. Both are read there, since a cache may be behind what
// the last term wrote, and would give a number twice.
func (r *Imports) seed(ctx context.Context) (*numbers, error) {
	addresses := range4{r.opts.Synthetic}
	l := &configMapLedger{local: r.local, namespace: cmp.Or(r.opts.Namespace, api.SystemNamespace), range4: addresses}
	n := newNumbers(r.opts.EntryPorts, addresses, l)
	resting, err := l.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("read what rests: %w", err)
	}
	imported, err := r.liveSlices(ctx)
	if err != nil {
		return nil, fmt.Errorf("list imported slices: %w", err)
	}
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range imported {
		n.adopt(&imported[i])
	}
	n.rest(resting, now)
	if len(n.entry.pool.Resting()) < len(resting.Entry) { // some have rested enough
		n.changed.entry++
		n.wake()
	}
	if len(n.synthetic.pool.Resting()) < len(resting.Synthetic) {
		n.changed.synthetic++
		n.wake()
	}
	return n, nil
}

// liveSlices lists the imported slices, oldest first: where two say that they have
// the same number, the older keeps it.
func (r *Imports) liveSlices(ctx context.Context) ([]discoveryv1.EndpointSlice, error) {
	var out []discoveryv1.EndpointSlice
	for next := ""; ; {
		var list discoveryv1.EndpointSliceList
		err := r.local.Direct.List(ctx, &list, client.MatchingLabels{discoveryv1.LabelManagedBy: api.ManagedBy}, client.HasLabels{labelServiceName, labelSourceCluster},
			client.Limit(500), client.Continue(next))
		if err != nil {
			return nil, err
		}
		out = append(out, list.Items...)
		if next = list.Continue; next == "" {
			break
		}
	}
	slices.SortStableFunc(out, func(a, b discoveryv1.EndpointSlice) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

// adopt holds what a slice says is given.
func (n *numbers) adopt(s *discoveryv1.EndpointSlice) {
	key := objectKey{Namespace: s.Namespace, Name: s.Labels[labelServiceName]}
	for port, entry := range parseEntryPorts(s.Annotations[api.AnnotationEntryPorts]) {
		n.entry.hold(key, strconv.Itoa(int(port)), sourceOf(s), int(entry))
	}
	for pod, addr := range syntheticOf(s) {
		if offset, ok := n.addresses.offset(addr); ok {
			n.synthetic.hold(key, string(pod.Cluster)+"/"+pod.Pod, pod.Cluster, offset)
		}
	}
}

// syntheticOf returns the addresses that a slice of a headless import gives to pods.
func syntheticOf(s *discoveryv1.EndpointSlice) map[podOf]netip.Addr {
	out := map[podOf]netip.Addr{}
	if _, headless := s.Labels[corev1.IsHeadlessService]; !headless {
		return out
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.TargetRef == nil || e.TargetRef.Kind != "Pod" || len(e.Addresses) == 0 {
			continue
		}
		if addr, err := netip.ParseAddr(e.Addresses[0]); err == nil {
			out[podOf{sourceOf(s), e.TargetRef.Name}] = addr
		}
	}
	return out
}

// parseEntryPorts reads api.AnnotationEntryPorts. One that ingest refuses gives
// nothing.
func parseEntryPorts(text string) map[uint16]uint16 {
	ports, err := federation.ParseEntryPorts(text)
	if err != nil {
		return nil
	}
	out := map[uint16]uint16{}
	for _, p := range ports {
		out[p.Service] = p.Port
	}
	return out
}

// formatEntryPorts writes api.AnnotationEntryPorts: sorted by port.
func formatEntryPorts(ports map[uint16]uint16) string {
	var pairs []string
	for _, p := range sortedPorts(ports) {
		pairs = append(pairs, fmt.Sprintf("%d=%d", p, ports[p]))
	}
	return strings.Join(pairs, ",")
}
