//go:build conformance

package conformance

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

func headlessSpecs() []spec {
	database := func(from string) func(*fixture) {
		return func(f *fixture) {
			calls(from)(f)
			headless(f.service)
			f.workload = statefulSet(2)
		}
	}
	return []spec{
		{Name: "a pod of a headless service is reached by its name (pod without sidecar)", Section: "6", Networks: oneNetwork, run: podByName, setUp: database(plainCaller)},
		{Name: "a pod of a headless service is reached by its name (pod with sidecar)", Section: "6", run: podByName, setUp: database(meshedCaller)},
		{Name: "SRV records of a StatefulSet's pods", Section: "6", run: srvByHostname, setUp: database(plainCaller)},
		{Name: "another network's headless pods have synthetic addresses", Section: "5", Networks: separateNetworks, run: syntheticSlice, setUp: database(plainCaller)},
		{Name: "one headless pod that goes changes no other's address", Section: "5", Networks: separateNetworks, run: onePodGoes, setUp: database(meshedCaller)},
	}
}

func podByName(f *fixture) {
	f.podAddresses(f.clusters[0], 2)
	for pod, address := range f.hostnames() {
		name := f.name(pod, f.clusters[0].name)
		line := times(5, "echo hi | nc -w 3 "+name+" 42")
		f.answers(line, func(output string) error { return same(tally(output), map[string]int{address: 5}) })
	}
}

func srvByHostname(f *fixture) {
	var want []string
	for pod := range f.hostnames() {
		want = append(want, "42 "+f.name(pod, f.clusters[0].name))
	}
	slices.Sort(want)
	f.answers("nslookup -type=SRV "+f.name("_tcp", "_tcp"), func(output string) error {
		var got []string
		for _, m := range srv.FindAllStringSubmatch(output, -1) {
			got = append(got, m[1]+" "+m[2])
		}
		return same(slices.Sorted(slices.Values(got)), want)
	})
}

// hostnames maps the first cluster's pods to their own addresses, by
// Kubernetes' own slices there.
func (f *fixture) hostnames() map[string]string {
	f.Helper()
	out := map[string]string{}
	f.before(starting, "two pods with a name", func(ctx context.Context) error {
		clear(out)
		list, err := f.serviceSlices(ctx, f.clusters[0])
		if err != nil {
			return err
		}
		for _, s := range list {
			for _, e := range s.Endpoints {
				if e.Hostname != nil && e.Conditions.Ready != nil && *e.Conditions.Ready {
					out[*e.Hostname] = e.Addresses[0]
				}
			}
		}
		return same(len(out), 2)
	})
	return out
}

// stands maps pods of the first cluster to the addresses that stand for them in the second.
func (f *fixture) stands(ctx context.Context) (map[string]string, error) {
	list, err := f.slices(ctx, f.clusters[1])
	out := map[string]string{}
	for _, s := range list {
		if s.Labels[discoveryv1.LabelServiceName] == helloName || s.Labels[mcsv1beta1.LabelSourceCluster] != f.clusters[0].name {
			return nil, fmt.Errorf("slice %s has labels %v", s.Name, s.Labels)
		}
		for _, e := range s.Endpoints {
			a, err := netip.ParseAddr(e.Addresses[0])
			if err != nil || !synthetic.Contains(a) || e.Hostname == nil || e.TargetRef == nil || e.TargetRef.Name != *e.Hostname {
				return nil, fmt.Errorf("slice %s has endpoint %s", s.Name, text(e))
			}
			if e.Conditions.Ready != nil && *e.Conditions.Ready {
				out[*e.Hostname] = e.Addresses[0]
			}
		}
	}
	return out, err
}

func syntheticSlice(f *fixture) {
	pods := f.hostnames()
	var got map[string]string
	f.eventually("two synthetic addresses", func(ctx context.Context) (err error) {
		if got, err = f.stands(ctx); err != nil {
			return err
		}
		return same(len(got), len(pods))
	})
	var all []string
	for pod, address := range got {
		if pods[pod] == "" || slices.Contains(all, address) {
			f.Errorf("%s has %s of %v", pod, address, got)
		}
		all = append(all, address)
		f.answersIn(f.clusters[1], "nslookup "+f.name(pod, f.clusters[0].name), addressesAre([]string{address}))
	}
	f.answersIn(f.clusters[1], "nslookup "+f.name(), addressesAre(all))
	f.answersIn(f.clusters[0], "nslookup "+f.name(), addressesAre(slices.Collect(maps.Values(pods)))) // its own pods' own
}

func onePodGoes(f *fixture) {
	pods := f.hostnames()
	var before map[string]string
	f.eventually("two synthetic addresses", func(ctx context.Context) (err error) {
		if before, err = f.stands(ctx); err != nil {
			return err
		}
		return same(len(before), len(pods))
	})
	name := f.name(helloName+"-0", f.clusters[0].name)
	line := "echo hi | nc -w 3 " + name + " 42"
	f.answersIn(f.clusters[1], line, contains("pod ip "+pods[helloName+"-0"]))
	f.scale(f.clusters[0], 1)
	f.eventually("one synthetic address", func(ctx context.Context) error {
		now, err := f.stands(ctx)
		if err != nil {
			return err
		}
		return same(now, map[string]string{helloName + "-0": before[helloName+"-0"]})
	})
	out := f.ask(f.Context(), f.clusters[1], times(10, line))
	f.must(same(tally(out), map[string]int{pods[helloName+"-0"]: 10}))
	f.answersIn(f.clusters[1], "nslookup "+f.name(helloName+"-1", f.clusters[0].name), isNXDOMAIN)
}
