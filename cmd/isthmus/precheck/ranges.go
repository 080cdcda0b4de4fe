package precheck

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/meshstatus"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// DefaultSynthetic is where addresses that stand for pods of other networks come from, unless the
// chart's syntheticRange says otherwise.
const DefaultSynthetic = "240.241.0.0/16"

// manyPods is how many pods and services are asked for their addresses, where no ranges are told:
// enough to find the range that they come from.
const manyPods = 500

// Used is what a cluster uses of the address space: ranges where it tells them, and addresses.
type Used struct {
	Pods, Services, Nodes []netip.Prefix
}

// Addresses reads what the cluster tells of its ranges: the nodes' pod ranges and addresses, its
// ServiceCIDRs (Kubernetes 1.33 and later), and the addresses of pods and services, since not
// every network tells its ranges to the API server.
func Addresses(ctx context.Context, c *cluster.Cluster) (Used, error) {
	var used Used
	nodes, err := c.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return used, fmt.Errorf("list nodes: %w", err)
	}
	for _, n := range nodes.Items {
		used.Pods = appendRanges(used.Pods, n.Spec.PodCIDRs...)
		for _, a := range n.Status.Addresses {
			used.Nodes = appendRanges(used.Nodes, a.Address)
		}
	}
	pods, err := c.Kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{Limit: manyPods})
	if err != nil {
		return used, fmt.Errorf("list pods: %w", err)
	}
	for _, p := range pods.Items {
		if !p.Spec.HostNetwork {
			used.Pods = appendRanges(used.Pods, p.Status.PodIP)
		}
	}
	return used, used.readServices(ctx, c)
}

func (u *Used) readServices(ctx context.Context, c *cluster.Cluster) error {
	ranges, err := c.Kube.NetworkingV1().ServiceCIDRs().List(ctx, metav1.ListOptions{})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
		return fmt.Errorf("list service ranges: %w", err)
	}
	if err == nil {
		for _, r := range ranges.Items {
			u.Services = appendRanges(u.Services, r.Spec.CIDRs...)
		}
	}
	services, err := c.Kube.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{Limit: manyPods})
	if err != nil {
		return fmt.Errorf("list services: %w", err)
	}
	for _, s := range services.Items {
		u.Services = appendRanges(u.Services, s.Spec.ClusterIPs...)
	}
	return nil
}

// appendRanges adds ranges and addresses; what is neither (a host name, None, nothing), or lies within
// what is there already, is left out.
func appendRanges(to []netip.Prefix, texts ...string) []netip.Prefix {
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a, err := netip.ParseAddr(text)
			if err != nil {
				continue
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		within := func(have netip.Prefix) bool { return have.Bits() <= p.Bits() && have.Overlaps(p) }
		if !slices.ContainsFunc(to, within) {
			to = append(to, p)
		}
	}
	return to
}

// Overlap says what of the cluster lies within r; "" where nothing does.
func (u Used) Overlap(r netip.Prefix) string {
	var out []string
	for _, kind := range []struct {
		name   string
		ranges []netip.Prefix
	}{{"pods", u.Pods}, {"services", u.Services}, {"nodes", u.Nodes}} {
		for _, p := range kind.ranges {
			if p.Overlaps(r) {
				out = append(out, fmt.Sprintf("%s of %s", p, kind.name))
				break // one says enough
			}
		}
	}
	return strings.Join(out, ", ")
}

// String says what is known, shortly.
func (u Used) String() string {
	return fmt.Sprintf("pods %s, services %s", first(u.Pods), first(u.Services))
}

func first(ranges []netip.Prefix) string {
	switch len(ranges) {
	case 0:
		return "not known"
	case 1:
		return ranges[0].String()
	}
	return fmt.Sprintf("%s and %d more", ranges[0], len(ranges)-1)
}

// Synthetic is the finding about a range of synthetic addresses in a cluster that uses what used says.
func Synthetic(where, text string, used Used) Finding {
	f := Finding{Where: where, What: "synthetic range", State: OK}
	r, err := netip.ParsePrefix(text)
	if err != nil {
		f.State, f.Message, f.Next = Bad, fmt.Sprintf("%q is no address range", text), "isthmus install "+where+" --set syntheticRange="+DefaultSynthetic
		return f
	}
	f.Message = fmt.Sprintf("%s is free beside %s", r, used)
	if with := used.Overlap(r); with != "" {
		f.State, f.Message = Bad, fmt.Sprintf("%s, whose addresses stand for pods of other networks, overlaps %s", r, with)
		f.Next = "isthmus install " + where + " --set syntheticRange=RANGE, with one that nobody uses here"
	}
	return f
}

// lookAtRanges sees whether the addresses that stand for pods of other networks are free.
func (f *facts) lookAtRanges(ctx context.Context, c *cluster.Cluster) {
	used, err := Addresses(ctx, c)
	if err != nil {
		f.add("synthetic range", Warn, "see that no pod, service or node has an address of "+DefaultSynthetic, "cannot be read: %v", err)
		return
	}
	text := cmp.Or(f.plan.Synthetic, DefaultSynthetic)
	if f.installed && f.plan.Synthetic == "" {
		if e, err := meshstatus.Ranges(ctx, c); err == nil && e.Synthetic.Range != "" {
			text = e.Synthetic.Range
		}
	}
	f.findings = append(f.findings, Synthetic(f.context, text, used))
}

// lookAtGuard sees whether the API server can keep others from writing ServiceImports.
func (f *facts) lookAtGuard(c *cluster.Cluster) {
	const group = "admissionregistration.k8s.io/v1"
	found, err := c.Kube.Discovery().ServerResourcesForGroupVersion(group)
	there := err == nil && slices.ContainsFunc(found.APIResources, func(r metav1.APIResource) bool { return r.Kind == "ValidatingAdmissionPolicy" })
	switch {
	case err != nil:
		f.add("import guard", Warn, "see whether "+group+" has ValidatingAdmissionPolicy", "cannot be asked: %v", err)
	case !there:
		f.add("import guard", Warn, "upgrade to Kubernetes 1.30 or later; until then isthmus install "+f.context+" --set imports.guard=false",
			"no ValidatingAdmissionPolicy: ServiceImports of others are taken back or marked, not refused")
	default:
		f.add("import guard", OK, "", "ValidatingAdmissionPolicy is there")
	}
}
