//go:build conformance

package conformance

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

func connectSpecs() []spec {
	return slices.Concat(
		fromBoth(spec{Name: "what is not exported cannot be reached", Section: "2", Required: true, run: unreachable, setUp: func(f *fixture) { f.exported = false }}),
		fromBoth(spec{Name: "an exported service is reached by TCP from every cluster", Section: "6", run: byTCP}),
		fromBoth(spec{Name: "of a service in two clusters only the exporting one is reached", Section: "2", run: onlyExporter}),
		[]spec{
			{Name: "an exported service is reached by UDP from every cluster", Section: "6", Networks: oneNetwork, run: byUDP, setUp: calls(plainCaller)},
			{Name: "UDP does not cross networks, and the export says so", Section: "5", Networks: separateNetworks, run: udpStays, setUp: calls(plainCaller)},
			{Name: "two exporters both serve", Section: "5", Networks: oneNetwork, run: bothServe, setUp: calls(plainCaller)},
			{Name: "a client's session stays with one pod of all clusters", Section: "3", Networks: oneNetwork, run: sticky, setUp: func(f *fixture) {
				calls(plainCaller)(f)
				f.service.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			}},
			{Name: "servers without a sidecar are not reached from other networks, and the export says so", Section: "5", Networks: separateNetworks, run: noSidecar, setUp: func(f *fixture) {
				calls(plainCaller)(f)
				f.meshed = false
			}},
		},
		fromBoth(spec{Name: "own pods come first, and others serve when they are gone", Section: "5", Networks: separateNetworks, run: ownFirst}),
	)
}

// fromBoth makes two of a spec: from a pod without a sidecar and from one with.
// On one network the first leaves everything without a sidecar.
func fromBoth(s spec) []spec {
	plain, meshed := s, s
	plain.Name, meshed.Name = s.Name+" (pod without sidecar)", s.Name+" (pod with sidecar)"
	for spec, caller := range map[*spec]string{&plain: plainCaller, &meshed: meshedCaller} {
		spec.setUp = func(f *fixture) {
			calls(caller)(f)
			if s.setUp != nil {
				s.setUp(f)
			}
		}
	}
	return []spec{plain, meshed}
}

// calls gives the spec one serving pod and a pod that asks. The port says no
// application protocol, as bytes are what is sent, and has no affinity, so that
// all pods behind it are seen.
func calls(from string) func(*fixture) {
	return func(f *fixture) {
		f.callers, f.from, f.workload = true, from, deployment(1)
		f.meshed = f.meshed || from == meshedCaller
		f.service = callable()
	}
}

func callable() *corev1.Service {
	s := newService()
	s.Spec.SessionAffinity, s.Spec.SessionAffinityConfig, s.Spec.Ports[0].AppProtocol = "", nil, nil
	return s
}

func (f *fixture) call(option string) string { return f.callPort(option, 42) }

func (f *fixture) callPort(option string, port int32) string {
	return fmt.Sprintf("echo hi | nc %s%s %d", option, f.name(), port)
}

func unreachable(f *fixture) {
	f.podAddresses(f.clusters[0], 1)
	for _, c := range f.clusters {
		if err := silent(f.ask(f.Context(), c, times(20, f.call("-w 1 ")))); err != nil {
			f.Fatalf("%s: %v", c.name, err)
		}
	}
}

func byTCP(f *fixture) {
	pod := f.podAddresses(f.clusters[0], 1)[0]
	f.answers(f.call("-w 3 "), contains("pod ip "+pod))
}

func byUDP(f *fixture) {
	pod := f.podAddresses(f.clusters[0], 1)[0]
	f.answers(f.call("-u -w 2 "), contains("pod ip "+pod))
}

func udpStays(f *fixture) {
	pod := f.podAddresses(f.clusters[0], 1)[0]
	f.ready(f.clusters[0], "not TCP", "udp 42/UDP")
	f.answersIn(f.clusters[0], f.call("-u -w 2 "), contains("pod ip "+pod))
	f.answers(f.call("-w 3 "), contains("pod ip "+pod)) // TCP of the same number does
	if err := silent(f.ask(f.Context(), f.clusters[1], times(3, f.call("-u -w 2 ")))); err != nil {
		f.Error(err)
	}
}

func onlyExporter(f *fixture) {
	f.create(f.clusters[1], callable())
	f.create(f.clusters[1], deployment(1))
	f.podAddresses(f.clusters[1], 1)
	f.alone(f.clusters, 42, f.podAddresses(f.clusters[0], 1)[0])
}

func bothServe(f *fixture) {
	f.create(f.clusters[1], deployment(1))
	f.second(callable(), newExport())
	for _, from := range f.clusters {
		pod := f.podAddresses(from, 1)[0]
		f.answers(f.call("-w 3 "), contains("pod ip "+pod))
	}
}

func sticky(f *fixture) {
	f.create(f.clusters[1], deployment(2))
	other := callable()
	other.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	f.second(other, newExport())
	f.podAddresses(f.clusters[0], 1)
	f.podAddresses(f.clusters[1], 2)
	for _, c := range f.clusters {
		f.eventually("three pods of two clusters", func(ctx context.Context) error {
			list, err := f.slices(ctx, c)
			if err != nil {
				return err
			}
			return same(len(readyAddresses(list)), 3)
		})
		f.answersIn(c, times(15, f.call("-w 2 ")), func(output string) error {
			got := tally(output)
			if len(got) != 1 || got["failed"] > 0 {
				return fmt.Errorf("answered by %v", got)
			}
			return nil
		})
	}
}

func noSidecar(f *fixture) {
	pod := f.podAddresses(f.clusters[0], 1)[0]
	f.ready(f.clusters[0], "no ready pod has a sidecar")
	f.answersIn(f.clusters[0], f.call("-w 3 "), contains("pod ip "+pod))
	f.imported(f.clusters[1], hasAddress)
	f.throughout("no endpoint", func(ctx context.Context) error {
		list, err := f.slices(ctx, f.clusters[1])
		if err != nil {
			return err
		}
		return same(len(readyAddresses(list)), 0)
	})
	f.must(silent(f.ask(f.Context(), f.clusters[1], times(5, f.call("-w 1 ")))))
}

func ownFirst(f *fixture) {
	f.create(f.clusters[1], deployment(1))
	f.second(callable(), newExport())
	for i, c := range f.clusters {
		f.alone(f.clusters[i:i+1], 42, f.podAddresses(c, 1)[0])
	}
	f.scale(f.clusters[1], 0)
	f.alone(f.clusters[1:], 42, f.podAddresses(f.clusters[0], 1)[0])
	f.scale(f.clusters[1], 1)
	f.alone(f.clusters[1:], 42, f.podAddresses(f.clusters[1], 1)[0])
}

// alone waits until ten calls in turn from each of clusters are answered by one pod.
func (f *fixture) alone(clusters []*cluster, port int32, pod string) {
	f.Helper()
	line := times(10, f.callPort("-w 2 ", port))
	for _, c := range clusters {
		f.answersIn(c, line, func(output string) error { return same(tally(output), map[string]int{pod: 10}) })
	}
}

// times repeats a line of shell.
func times(n int, line string) string {
	return fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); %s || echo failed; done; echo all were made", n, line)
}

// silent wants that all calls of times were made and none was answered.
func silent(output string) error {
	if strings.Contains(output, "pod ip") || !strings.Contains(output, "all were made") {
		return fmt.Errorf("answered, or not called: %q", output)
	}
	return nil
}

var podLine = regexp.MustCompile(`pod ip (\S+)|(failed)`)

// tally counts the answers by pod, and those that failed as "failed".
func tally(output string) map[string]int {
	out := map[string]int{}
	for _, m := range podLine.FindAllStringSubmatch(output, -1) {
		out[m[1]+m[2]]++
	}
	return out
}

// background calls from c again and again; the function that it returns ends
// that and fails if any call failed or was answered by a pod that is not in pods.
func (f *fixture) background(c *cluster, pods ...string) (end func()) {
	ctx, cancel := context.WithCancel(f.Context())
	total := map[string]int{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for pod, n := range tally(f.ask(f.Context(), c, times(5, f.call("-w 5 ")))) {
				total[pod] += n
			}
		}
	}()
	return func() {
		f.Helper()
		cancel()
		<-done
		for pod := range maps.Clone(total) {
			if !slices.Contains(pods, pod) {
				f.Fatalf("%s: calls were answered so: %v, by none but %v wanted", c.name, total, pods)
			}
		}
		if len(total) == 0 {
			f.Fatalf("%s: no call was answered", c.name)
		}
	}
}
