package meshstatus

import (
	"context"
	"net/netip"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/federation"
)

// Keys of the ConfigMap api.EntryRetiredName, with a line for each number that rests.
const (
	restingPorts     = "entry-ports"
	restingAddresses = "synthetic-addresses"
)

// readEntry reads the entry gateway, the ranges that isthmusd runs with, and what imports have of them.
func (out *Cluster) readEntry(ctx context.Context, c *cluster.Cluster) (err error) {
	if out.Entry.Workload, err = workload(ctx, c, api.EntryName); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if out.home != nil { // a remote has the ranges of who serves it
		ranges, err := Ranges(ctx, out.home)
		if err != nil {
			return err
		}
		out.Entry.Ports, out.Entry.Synthetic = ranges.Ports, ranges.Synthetic
	}
	found, err := c.Kube.DiscoveryV1().EndpointSlices(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelManagedBy + "=" + api.ManagedBy})
	if err != nil {
		return err
	}
	out.Entry.count(found.Items)
	resting, err := c.Kube.CoreV1().ConfigMaps(api.SystemNamespace).Get(ctx, api.EntryRetiredName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil // nothing was given up yet
	}
	if err != nil {
		return err
	}
	out.Entry.Ports.Resting, out.Entry.Synthetic.Resting = lines(resting.Data[restingPorts]), lines(resting.Data[restingAddresses])
	return nil
}

// Ranges returns the ranges that isthmusd runs with, and nothing else of the entry gateway.
func Ranges(ctx context.Context, c *cluster.Cluster) (Entry, error) {
	var e Entry
	d, err := c.Kube.AppsV1().Deployments(api.SystemNamespace).Get(ctx, api.ControlPlaneName, metav1.GetOptions{})
	if err == nil {
		e.readRanges(d)
	}
	return e, err
}

// readRanges takes the ranges from isthmusd's arguments.
func (e *Entry) readRanges(d *appsv1.Deployment) {
	for _, container := range d.Spec.Template.Spec.Containers {
		for _, arg := range container.Args {
			if value, ok := strings.CutPrefix(arg, "--entry-ports="); ok {
				e.Ports.Range, e.Ports.Size = value, portsIn(value)
			}
			if value, ok := strings.CutPrefix(arg, "--synthetic-range="); ok {
				e.Synthetic.Range, e.Synthetic.Size = value, addressesIn(value)
			}
		}
	}
}

// count counts what imports have: a port once for all sources of an import, an address for each pod.
func (e *Entry) count(found []discoveryv1.EndpointSlice) {
	type port struct{ namespace, name, service string }
	ports, addresses := map[port]bool{}, map[string]bool{}
	inRange, err := netip.ParsePrefix(e.Synthetic.Range)
	for _, s := range found {
		if given, err := federation.ParseEntryPorts(s.Annotations[api.AnnotationEntryPorts]); err == nil {
			for _, p := range given {
				ports[port{s.Namespace, s.Labels[mcsv1beta1.LabelServiceName], strconv.Itoa(int(p.Service))}] = true
			}
		}
		if _, headless := s.Labels[corev1.IsHeadlessService]; !headless || err != nil {
			continue
		}
		for _, endpoint := range s.Endpoints {
			for _, text := range endpoint.Addresses {
				if a, err := netip.ParseAddr(text); err == nil && inRange.Contains(a) {
					addresses[text] = true
				}
			}
		}
	}
	e.Ports.Used, e.Synthetic.Used = len(ports), len(addresses)
}

// portsIn is how many ports FIRST-LAST holds; 0 where it is not of that form.
func portsIn(text string) int {
	first, last, _ := strings.Cut(text, "-")
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || a > b {
		return 0
	}
	return int(b-a) + 1
}

// addressesIn is how many addresses an IPv4 range holds, the first and the last of which are nobody's.
func addressesIn(text string) int {
	p, err := netip.ParsePrefix(text)
	if err != nil || !p.Addr().Is4() || p.Bits() > 30 {
		return 0
	}
	return 1<<(32-p.Bits()) - 2
}

func lines(text string) int {
	n := 0
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			n++
		}
	}
	return n
}
