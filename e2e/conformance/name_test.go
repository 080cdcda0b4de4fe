//go:build conformance

package conformance

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

func nameSpecs() []spec {
	pods := func(n int32, headlessly bool) func(*fixture) {
		return func(f *fixture) {
			f.callers, f.workload = true, deployment(n)
			if headlessly {
				headless(f.service)
			}
		}
	}
	return []spec{
		{Name: "the name of a ClusterIP service is the clusterset address", Section: "6", run: nameOfAddress, setUp: pods(1, false)},
		{Name: "SRV records of a ClusterIP service", Section: "6", run: srvOfAddress, setUp: pods(1, false)},
		{Name: "cluster.local stays local", Section: "6", run: localName, setUp: pods(1, false)},
		{Name: "the name of a headless service is its ready pods", Networks: oneNetwork, Section: "6", run: nameOfPods, setUp: pods(2, true)},
		{Name: "SRV records of a headless service", Networks: oneNetwork, Section: "6", run: srvOfPods, setUp: pods(2, true)},
		{Name: "a pod of a headless service has a name with its cluster", Section: "6", run: nameOfPod, setUp: func(f *fixture) {
			pods(2, true)(f)
			f.workload = statefulSet(2)
		}},
		{Name: "names that must not be", Section: "6", run: otherNames, setUp: pods(1, false)},
	}
}

func nameOfAddress(f *fixture) {
	for _, c := range f.clusters {
		i := f.imported(c, hasAddress)
		f.answersIn(c, "nslookup "+f.name(), addressesAre(i.Spec.IPs[:1]))
	}
}

func localName(f *fixture) {
	var s corev1.Service
	f.must(f.clusters[0].Get(f.Context(), f.key(helloName), &s))
	f.imported(f.clusters[1], hasAddress)
	line := fmt.Sprintf("nslookup %s.%s.svc.cluster.local", helloName, f.namespace)
	f.answersIn(f.clusters[0], line, addressesAre([]string{s.Spec.ClusterIP}))
	f.answersIn(f.clusters[1], line, contains("NXDOMAIN"))
}

func nameOfPods(f *fixture) {
	want := f.podAddresses(f.clusters[0], 2)
	f.answers("nslookup "+f.name(), addressesAre(want))
}

func nameOfPod(f *fixture) {
	f.podAddresses(f.clusters[0], 2)
	for _, c := range f.clusters {
		f.eventually(c.name+": two named endpoints", func(ctx context.Context) error {
			list, err := f.slices(ctx, c)
			if err != nil || len(list) != 1 || len(list[0].Endpoints) != 2 {
				return fmt.Errorf("%d slices (%v)", len(list), err)
			}
			for _, e := range list[0].Endpoints {
				if e.Hostname == nil || e.Conditions.Ready == nil || !*e.Conditions.Ready {
					return errors.New("not ready, or without a name: " + e.Addresses[0])
				}
			}
			return nil
		})
		list, err := f.slices(f.Context(), c)
		f.must(err)
		for _, e := range list[0].Endpoints {
			f.answersIn(c, "nslookup "+f.name(*e.Hostname, list[0].Labels[mcsv1beta1.LabelSourceCluster]), addressesAre(e.Addresses))
		}
	}
}

// srv finds port and target in nslookup's lines.
var srv = regexp.MustCompile(`service = \d+ \d+ (\d+) (\S+)`)

func srvOfAddress(f *fixture) {
	f.answers("nslookup -type=SRV "+f.name(), func(output string) error {
		var got []string
		for _, m := range srv.FindAllStringSubmatch(output, -1) {
			got = append(got, m[1]+" "+strings.TrimSuffix(m[2], "."))
		}
		return same(got, []string{"42 " + f.name()})
	})
	f.answers("nslookup -type=SRV "+f.name("_tcp", "_tcp"), contains(" 42 "))
}

func srvOfPods(f *fixture) {
	want := f.podAddresses(f.clusters[0], 2)
	f.answers("nslookup -type=SRV "+f.name(), func(output string) error {
		found := srv.FindAllStringSubmatch(output, -1)
		for i, a := range want {
			host := strings.ReplaceAll(a, ".", "-")
			ok := slices.ContainsFunc(found, func(m []string) bool { return m[1] == "42" && strings.HasPrefix(m[2], host) })
			if !ok || len(found) != len(want) {
				return fmt.Errorf("%d records, none for pod %d", len(found), i)
			}
		}
		return nil
	})
}

func otherNames(f *fixture) {
	f.imported(f.clusters[1], hasAddress)
	f.answers("nslookup "+f.name(), contains("Name:"))
	for _, name := range []string{
		strings.Replace(f.name(), helloName, "nobody", 1), strings.Replace(f.name(), f.namespace, "nowhere", 1),
		f.name("nobody"), f.name("nobody", f.clusters[0].name), f.name("_sctp", "_sctp"),
	} {
		f.answers("nslookup "+name, isNXDOMAIN)
	}
	f.answers("nslookup -type=SRV "+f.name("_nothing", "_tcp"), isNXDOMAIN)
}

var addressLine = regexp.MustCompile(`Name:.*\s*Address:\s*(\S+)`)

func addressesAre(want []string) func(string) error {
	return func(output string) error {
		var got []string
		for _, m := range addressLine.FindAllStringSubmatch(output, -1) {
			got = append(got, m[1])
		}
		slices.Sort(got)
		return same(got, slices.Sorted(slices.Values(want)))
	}
}
