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
