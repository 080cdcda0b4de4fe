//go:build conformance

package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/api"
)

func remoteSliceSpecs() []spec {
	return []spec{
		{Name: "another network's slice has the entry gateway's address and port", Section: "5", Networks: separateNetworks, run: entrySlice, setUp: withPods(2)},
		{Name: "the entry port of a port stays when pods and exports come and go", Section: "5", Networks: separateNetworks, run: samePortAgain, setUp: withPods(1)},
	}
}

func entrySpecs() []spec {
	return []spec{
		{Name: "an export can refuse the entry gateway, meshed pods still reach it", Section: "5", Networks: separateNetworks, run: exportRefuses, setUp: func(f *fixture) {
			calls(plainCaller)(f)
			f.export.Annotations[api.AnnotationEntry] = api.EntryRefuse
		}},
		{Name: "a namespace can be shut out of the entry gateway", Section: "5", Networks: separateNetworks, run: shutOut, setUp: calls(plainCaller)},
	}
}

// entrySlice checks the slices of the first cluster in the second, and that in
// the first they hold the pods.
func entrySlice(f *fixture) {
	pods := f.podAddresses(f.clusters[0], 2)
	f.eventually("own slice", func(ctx context.Context) error {
		list, err := f.slices(ctx, f.clusters[0])
		if err != nil {
			return err
		}
		return same(slices.Sorted(slices.Values(readyAddresses(list))), pods)
	})
	f.eventually("the other's slice", func(ctx context.Context) error {
		entries, err := f.entries(ctx, f.clusters[1])
		if err != nil {
			return err
		}
		list, err := f.slices(ctx, f.clusters[1])
		if err != nil {
			return err
		}
		for _, s := range list {
			if _, err := entryPort(s); err != nil {
				return err
			}
		}
		return same(slices.Sorted(slices.Values(readyAddresses(list))), entries)
	})
}

func readyAddresses(list []discoveryv1.EndpointSlice) []string {
	var out []string
	for _, s := range list {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && *e.Conditions.Ready {
				out = append(out, e.Addresses...)
			}
		}
	}
	return out
}

// entries are the addresses of the ready pods of a cluster's entry gateway.
func (f *fixture) entries(ctx context.Context, c *cluster) ([]string, error) {
	var list corev1.PodList
	if err := c.List(ctx, &list, client.InNamespace(api.SystemNamespace), client.MatchingLabels{api.LabelGateway: api.GatewayEntry}); err != nil {
		return nil, err
	}
	var out []string
	for _, p := range list.Items {
		if slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue }) {
			out = append(out, p.Status.PodIP)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no entry gateway is ready")
	}
	slices.Sort(out)
	return out, nil
}

// entryPort returns the one port of a slice, which its annotation has too.
// UDP is not carried.
func entryPort(s discoveryv1.EndpointSlice) (int32, error) {
	if len(s.Ports) != 1 || *s.Ports[0].Protocol != corev1.ProtocolTCP || *s.Ports[0].Name != "tcp" {
		return 0, fmt.Errorf("slice %s has ports %s", s.Name, text(s.Ports))
	}
	p := *s.Ports[0].Port
	if want := "42=" + strconv.Itoa(int(p)); s.Annotations[api.AnnotationEntryPorts] != want || p < 20000 || p > 29999 {
		return 0, fmt.Errorf("slice %s has %q, want %q", s.Name, s.Annotations[api.AnnotationEntryPorts], want)
	}
	return p, nil
}

func samePortAgain(f *fixture) {
	port := func() (out int32) {
		f.eventually("a slice with an endpoint", func(ctx context.Context) error {
			list, err := f.slices(ctx, f.clusters[1])
			if err != nil || len(readyAddresses(list)) == 0 {
				return fmt.Errorf("%d slices (%v)", len(list), err)
			}
			out, err = entryPort(list[0])
			return err
		})
		return out
	}
	f.podAddresses(f.clusters[0], 1)
	first := port()
	f.scale(f.clusters[0], 0)
	f.eventually("no endpoint is ready", func(ctx context.Context) error {
		list, err := f.slices(ctx, f.clusters[1])
		if err != nil {
			return err
		}
		return same(len(readyAddresses(list)), 0)
	})
	f.scale(f.clusters[0], 1)
	f.podAddresses(f.clusters[0], 1)
	f.must(same(port(), first))
	f.unexport(f.clusters[0])
	f.notImported(f.clusters[1])
	f.create(f.clusters[0], newExport())
	f.must(same(port(), first))
}

func exportRefuses(f *fixture) {
	pod := f.podAddresses(f.clusters[0], 1)[0]
	f.answersIn(f.clusters[0], f.call("-w 3 "), contains("pod ip "+pod)) // no gateway is in between
	f.imported(f.clusters[1], hasAddress)
	f.throughout("no endpoint", func(ctx context.Context) error {
		list, err := f.slices(ctx, f.clusters[1])
		if err != nil {
			return err
		}
		return same(len(readyAddresses(list)), 0)
	})
	f.must(silent(f.ask(f.Context(), f.clusters[1], times(5, f.call("-w 1 ")))))
	f.from = meshedCaller
	f.create(f.clusters[1], callerPod(f.from))
	f.running(f.clusters[1])
	f.answersIn(f.clusters[1], f.call("-w 3 "), contains("pod ip "+pod))
	f.annotate(f.clusters[0], api.AnnotationEntry, "")
	f.from = plainCaller
	f.answersIn(f.clusters[1], f.call("-w 3 "), contains("pod ip "+pod))
}

func shutOut(f *fixture) {
	pod := f.podAddresses(f.clusters[0], 1)[0]
	f.answersIn(f.clusters[1], f.call("-w 3 "), contains("pod ip "+pod))
	f.labelNamespace(f.clusters[1], api.LabelEntry, api.EntryRefuse)
	f.answersIn(f.clusters[1], times(3, f.call("-w 1 ")), silent)
	f.labelNamespace(f.clusters[1], api.LabelEntry, "")
	f.answersIn(f.clusters[1], f.call("-w 3 "), contains("pod ip "+pod))
}

// synthetic is the default range of addresses of other networks' pods.
var synthetic = netip.MustParsePrefix("240.241.0.0/16")
