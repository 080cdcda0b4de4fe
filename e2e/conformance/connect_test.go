//go:build conformance

package conformance

import (
	"fmt"
	"strings"
)

func connectSpecs() []spec {
	calls := func(exported bool) func(*fixture) {
		return func(f *fixture) { f.callers, f.workload, f.exported = true, deployment(1), exported }
	}
	plain := func(f *fixture) { // no affinity, so that both clusters' pods are seen
		calls(true)(f)
		f.service.Spec.SessionAffinity, f.service.Spec.SessionAffinityConfig = "", nil
	}
	return []spec{
		{Name: "what is not exported cannot be reached", Section: "2", Required: true, run: unreachable, setUp: calls(false)},
		{Name: "an exported service is reached by TCP from every cluster", Section: "6", run: byTCP, setUp: calls(true)},
		{Name: "an exported service is reached by UDP from every cluster", Section: "6", run: byUDP, setUp: calls(true)},
		{Name: "two exporters both serve", Section: "5", run: bothServe, setUp: plain},
	}
}

func (f *fixture) call(option string) string {
	return fmt.Sprintf("echo hi | nc %s%s 42", option, f.name())
}

func unreachable(f *fixture) {
	f.podAddresses(f.clusters[0], 1)
	for _, c := range f.clusters {
		for range 20 {
			if out := f.ask(f.Context(), c, f.call("")); strings.Contains(out, "pod ip") {
				f.Fatalf("%s: %s", c.name, out)
			}
		}
	}
}

func byTCP(f *fixture) {
	pod := f.podAddresses(f.clusters[0], 1)[0]
	f.answers(f.call(""), contains("pod ip "+pod))
}

func byUDP(f *fixture) {
	pod := f.podAddresses(f.clusters[0], 1)[0]
	f.answers(f.call("-u -w 2 "), contains("pod ip "+pod))
}

func bothServe(f *fixture) {
	service := f.service.DeepCopy()
	service.ResourceVersion, service.UID = "", ""
	f.create(f.clusters[1], deployment(1))
	f.second(service, newExport())
	for _, from := range f.clusters {
		pod := f.podAddresses(from, 1)[0]
		f.answers(f.call(""), contains("pod ip "+pod))
	}
}
