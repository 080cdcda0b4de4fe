//go:build conformance

package conformance

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/api"
)

func failoverSpecs() []spec {
	asked := func(f *fixture) {
		calls(meshedCaller)(f)
		f.export.Annotations[api.AnnotationLocalName] = api.LocalNameFailover
	}
	return []spec{
		{Name: "the local name fails over where the export asks for it", Section: "6", run: failsOver, setUp: asked},
		{Name: "the local name does not fail over otherwise", Section: "6", run: staysLocal, setUp: calls(meshedCaller)},
		{Name: "a local-name that is not known is told", Section: "4", run: func(f *fixture) { f.ready(f.clusters[0], api.AnnotationLocalName) }, setUp: func(f *fixture) {
			f.export.Annotations[api.AnnotationLocalName] = "sometimes"
		}},
	}
}

func (f *fixture) callLocal() string {
	return fmt.Sprintf("echo hi | nc -w 2 %s.%s.svc.cluster.local 42", helloName, f.namespace)
}

// withoutOwn makes the service in both clusters, and takes the pods of the
// first away after they were called by the local name.
func (f *fixture) withoutOwn() (other string) {
	f.create(f.clusters[1], deployment(1))
	f.second(callable(), newExport())
	other = f.podAddresses(f.clusters[1], 1)[0]
	own := f.podAddresses(f.clusters[0], 1)[0]
	f.answersIn(f.clusters[0], times(10, f.callLocal()), func(output string) error { return same(tally(output), map[string]int{own: 10}) })
	f.scale(f.clusters[0], 0)
	f.alone(f.clusters[:1], 42, other) // the clusterset's name fails over in any case
	return other
}

func failsOver(f *fixture) {
	other := f.withoutOwn()
	f.answersIn(f.clusters[0], times(10, f.callLocal()), func(output string) error { return same(tally(output), map[string]int{other: 10}) })
	f.scale(f.clusters[0], 1)
	own := f.podAddresses(f.clusters[0], 1)[0]
	f.answersIn(f.clusters[0], times(10, f.callLocal()), func(output string) error { return same(tally(output), map[string]int{own: 10}) })
}

func staysLocal(f *fixture) {
	f.withoutOwn()
	f.answersIn(f.clusters[0], times(5, f.callLocal()), silent)
}
