package controllers_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/controllers"
)

// One object that the API server refuses costs no other: slices of other clusters
// are made, kept true and deleted, and the import says what is refused, and why.
func TestRefusedObject(t *testing.T) {
	l := local(t)
	ns := env.Namespace(t)
	view := importView{t, l, client.ObjectKey{Namespace: ns, Name: "reviews"}}
	imports := controllers.NewImports(l, options())
	refused := func(words ...string) func() bool {
		return func() bool {
			i := view.get()
			if i == nil {
				return false
			}
			c := meta.FindStatusCondition(i.Status.Conditions, "isthmus.dev/ObjectRefused")
			return c != nil && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(c.Message, w) })
		}
	}
	badHost := func(s *federation.Service) { s.Endpoints[0].Hostname = "Not A Name" }
	imports.Update(exported(ns, true, badHost))
	run(t, imports.Run)
	eventually(t, "east's slice is told", refused("slice", "hostname", "Not A Name"))
	eventually(t, "west's slice is there", func() bool { return view.slices()["west"].Name != "" && view.slices()["east"].Name == "" })
	if !view.ready() || len(view.get().Status.Clusters) == 0 {
		t.Errorf("status %+v", view.get().Status)
	}
	imports.Update(exported(ns, true, badHost, func(s *federation.Service) { s.Exports = s.Exports[:1] }))
	eventually(t, "west's slice goes", func() bool { return len(view.slices()) == 0 })

	long := func(s *federation.Service) {
		s.Declared = &federation.Declared{Ports: []federation.DeclaredPort{{Name: "http", Transport: "TCP", Number: 9080}}, SessionAffinity: "ClientIP", AffinitySeconds: 100000}
	}
	imports.Update(exported(ns, true, long))
	eventually(t, "the derived service is told", refused("derived service isthmus-", "timeoutSeconds"))
	eventually(t, "slices are there nevertheless", func() bool { return len(view.slices()) == 2 })
	if i := view.get(); len(i.Spec.IPs) != 1 || !view.ready() {
		t.Errorf("the service that is there is good: %+v", i)
	}
	began, ip := time.Now(), view.get().Spec.IPs[0]
	if err := l.Delete(t.Context(), view.derived()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "without a service the import is not ready", func() bool {
		c := meta.FindStatusCondition(view.get().Status.Conditions, "Ready")
		return c.Status == "False" && strings.Contains(c.Message, "timeoutSeconds")
	})
	t.Logf("told after %v", time.Since(began))
	imports.Update(exported(ns, true))
	eventually(t, "all is well, at the address that it had", func() bool {
		return view.ready() && view.derived() != nil && view.get().Spec.IPs[0] == ip && meta.FindStatusCondition(view.get().Status.Conditions, "isthmus.dev/ObjectRefused") == nil
	})
}
