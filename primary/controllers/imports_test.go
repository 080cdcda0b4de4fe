package controllers_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/controllers"
)

// condition returns the import's condition, or an empty one.
func (v importView) condition(kind string) metav1.Condition {
	if i := v.get(); i != nil {
		if c := meta.FindStatusCondition(i.Status.Conditions, kind); c != nil {
			return *c
		}
	}
	return metav1.Condition{}
}

// An import has the families of its exporters that this cluster has, which is
// IPv4 alone. (mcs.md §4, IPFamilyNotSupported)
func TestImportFamilies(t *testing.T) {
	l := local(t)
	ns := env.Namespace(t)
	with := func(families ...string) func(*federation.Service) {
		return func(s *federation.Service) {
			s.Declared = &federation.Declared{Families: families, Ports: []federation.DeclaredPort{{Name: "http", Transport: "TCP", Number: 9080}}}
		}
	}
	m := newWorld(t)
	for name, families := range map[string][]string{"four": {"IPv4"}, "six": {"IPv6"}, "four-six": {"IPv4", "IPv6"}, "six-four": {"IPv6", "IPv4"}, "any": nil} {
		m.exports(ns, name, 1, with(families...))
	}
	imports := controllers.NewImports(l, options())
	imports.Update(m.snapshot())
	stop := run(t, imports.Run)
	view := func(name string) importView { return importView{t, l, client.ObjectKey{Namespace: ns, Name: name}} }
	eventually(t, "six has no family here", func() bool {
		c := view("six").condition("Ready")
		return c.Status == metav1.ConditionFalse && c.Reason == "IPFamilyNotSupported" && strings.Contains(c.Message, "IPv6")
	})
	if i := view("six").get(); len(i.Spec.IPs) != 0 || view("six").derived() != nil {
		t.Errorf("an import without a family has %v", i.Spec.IPs)
	}
	for _, name := range []string{"four", "four-six", "six-four", "any"} {
		eventually(t, name+" is ready", view(name).ready)
		i := view(name).get()
		if len(i.Spec.IPs) != 1 || len(i.Spec.IPFamilies) != 1 || i.Spec.IPFamilies[0] != corev1.IPv4Protocol {
			t.Errorf("%s: %v %v", name, i.Spec.IPFamilies, i.Spec.IPs)
		}
		if missing := strings.Contains(view(name).condition("Ready").Message, "no IPv6 address"); missing != strings.Contains(name, "six") {
			t.Errorf("%s: %s", name, view(name).condition("Ready").Message)
		}
	}
	was := map[string]string{}
	for _, name := range []string{"four-six", "six-four"} {
		was[name] = view(name).derived().ResourceVersion
	}
	t.Run("a new term writes nothing, and a family that comes makes it ready", func(t *testing.T) {
		stop()
		imports := controllers.NewImports(l, options())
		imports.Update(m.snapshot())
		run(t, imports.Run)
		settled(t, l, imports, m)
		for name, version := range was {
			if now := view(name).derived().ResourceVersion; now != version {
				t.Errorf("%s was written: %s, %s", name, version, now)
			}
		}
		m.exports(ns, "six", 1, with("IPv6", "IPv4"))
		imports.Update(m.snapshot())
		eventually(t, "six is ready", view("six").ready)
	})
}

// An import that a user wrote says that nobody exports it, and is taken back when
// somebody does. (issue: an import written by a user)
func TestUsersImport(t *testing.T) {
	l := local(t)
	ns := env.Namespace(t)
	view := importView{t, l, client.ObjectKey{Namespace: ns, Name: "reviews"}}
	theirs := &mcsv1beta1.ServiceImport{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "reviews"},
		Spec: mcsv1beta1.ServiceImportSpec{
			Type: mcsv1beta1.ClusterSetIP, IPs: []string{"192.0.2.66"}, SessionAffinity: corev1.ServiceAffinityClientIP, Ports: []mcsv1beta1.ServicePort{{Port: 1, Protocol: corev1.ProtocolTCP}},
		},
	}
	if err := l.Create(t.Context(), theirs.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	m := newWorld(t)
	imports := controllers.NewImports(l, options())
	imports.Update(m.snapshot())
	run(t, imports.Run)
	eventually(t, "it says that nobody exports it", func() bool {
		c := view.condition("Ready")
		return c.Status == metav1.ConditionFalse && c.Reason == "Pending" && strings.Contains(c.Message, "no cluster exports") && strings.Contains(c.Message, "only isthmusd writes")
	})
	if i := view.get(); len(i.Spec.IPs) != 1 || i.Spec.IPs[0] != "192.0.2.66" || i.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		t.Errorf("what the user wrote: %+v", i.Spec)
	}
	m.exports(ns, "reviews", 1, func(s *federation.Service) { s.Headless = true })
	imports.Update(m.snapshot())
	eventually(t, "it is ours, and nothing of the user's is left", func() bool {
		i := view.get()
		return view.ready() && i.Spec.Type == mcsv1beta1.Headless && len(i.Spec.IPs) == 0 && i.Spec.SessionAffinity != corev1.ServiceAffinityClientIP && i.Spec.Ports[0].Port == 9080 &&
			view.condition("Ready").Message == ""
	})
	eventually(t, "an event says so", func() bool {
		var events corev1.EventList
		if err := l.Direct.List(t.Context(), &events, client.InNamespace(ns)); err != nil {
			t.Fatal(err)
		}
		return len(events.Items) == 1 && events.Items[0].Reason == "TakenBack" && events.Items[0].InvolvedObject.UID == view.get().UID
	})
	delete(m.services, federation.ServiceKey{Namespace: ns, Name: "reviews"})
	imports.Update(m.snapshot())
	eventually(t, "it goes with its export", func() bool { return view.get() == nil })
	if err := l.Create(t.Context(), theirs.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new one is told again", func() bool { return view.condition("Ready").Reason == "Pending" })
}

// What a crash left at any point is removed by the next term.
func TestOrphans(t *testing.T) {
	l := local(t)
	ns := env.Namespace(t)
	key := func(name string) client.ObjectKey { return client.ObjectKey{Namespace: ns, Name: name} }
	names := []string{"all", "import", "service", "slice"}
	m := newWorld(t)
	for _, name := range names {
		m.exports(ns, name, 1)
	}
	imports := controllers.NewImports(l, options())
	imports.Update(m.snapshot())
	stop := run(t, imports.Run)
	derived := map[string]*corev1.Service{}
	for _, name := range names {
		view := importView{t, l, key(name)}
		eventually(t, name+" is ready", view.ready)
		eventually(t, name+"'s service is seen", func() bool { derived[name] = view.derived(); return derived[name] != nil })
	}
	slices := func(name string) (out []discoveryv1.EndpointSlice) {
		var list discoveryv1.EndpointSliceList
		if err := l.Direct.List(t.Context(), &list, client.InNamespace(ns), client.MatchingLabels{"multicluster.kubernetes.io/service-name": name}); err != nil {
			t.Fatal(err)
		}
		return list.Items
	}
	stop()
	remove := func(o client.Object) {
		if err := l.Delete(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"service", "slice"} { // no import
		remove(importView{t, l, key(name)}.get())
	}
	for _, name := range []string{"import", "slice"} { // no service
		remove(derived[name])
	}
	for _, name := range []string{"import", "service"} { // no slice
		for _, s := range slices(name) {
			remove(&s)
		}
	}
	again := controllers.NewImports(l, options())
	again.Update(nothing(true))
	run(t, again.Run)
	eventually(t, "nothing is left", func() bool {
		for _, name := range names {
			var s corev1.Service
			if (importView{t, l, key(name)}).get() != nil || l.Direct.Get(t.Context(), client.ObjectKeyFromObject(derived[name]), &s) == nil || len(slices(name)) > 0 {
				return false
			}
		}
		return true
	})
	eventually(t, "their ports rest", func() bool {
		var noted corev1.ConfigMap
		err := l.Direct.Get(t.Context(), client.ObjectKey{Namespace: api.SystemNamespace, Name: api.EntryRetiredName}, &noted)
		return err == nil && strings.Contains(noted.Data["entry-ports"], ns+"/all/9080 west\n") && strings.Contains(noted.Data["entry-ports"], ns+"/slice/9080 west\n")
	})
}

// A lost cluster leaves the slices and the status and comes back; the import, its
// address and its port stay. (mcs.md §5, leases)
func TestLostAndBack(t *testing.T) {
	l := local(t)
	ns := env.Namespace(t)
	view := importView{t, l, client.ObjectKey{Namespace: ns, Name: "reviews"}}
	m := newWorld(t, "10.1.9.1")
	m.exports(ns, "reviews", 2)
	imports := controllers.NewImports(l, options())
	imports.Update(m.snapshot())
	run(t, imports.Run)
	eventually(t, "ready", func() bool { return view.ready() && len(view.slices()) == 1 })
	ip, uid, port := view.get().Spec.IPs[0], view.get().UID, view.slices()["west"].Annotations[api.AnnotationEntryPorts]

	lost := newWorld(t, "10.1.9.1")
	lost.clusters["west"].Reachable, lost.clusters["west"].Lost = false, true
	lost.exports(ns, "reviews", 0, func(s *federation.Service) { s.Exports = nil })
	imports.Update(lost.snapshot())
	eventually(t, "west is gone", func() bool { return len(view.slices()) == 0 && len(view.get().Status.Clusters) == 0 })
	if i := view.get(); i.UID != uid || i.Spec.IPs[0] != ip || view.derived() == nil {
		t.Errorf("import %+v", i)
	}
	imports.Update(m.snapshot())
	eventually(t, "west is back", func() bool { return len(view.slices()) == 1 && len(view.get().Status.Clusters) == 1 })
	if i := view.get(); i.UID != uid || i.Spec.IPs[0] != ip || view.slices()["west"].Annotations[api.AnnotationEntryPorts] != port {
		t.Errorf("import %+v, port %s and now %v", i.Spec, port, view.slices()["west"].Annotations)
	}
}
