package controllers_test

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/controllers"
)

// A headless import has the families of its exporters and no other. Kubernetes
// gives a headless Service without a selector both, also where the cluster has
// one alone, unless it is told.
func TestHeadlessFamilies(t *testing.T) {
	l := local(t)
	ns := env.Namespace(t)
	with := func(families ...string) func(*federation.Service) {
		return func(s *federation.Service) {
			s.Headless = true
			s.Declared = &federation.Declared{Families: families, Ports: []federation.DeclaredPort{{Name: "http", Transport: "TCP", Number: 9080}}}
		}
	}
	m := newWorld(t)
	wanted := map[string][]corev1.IPFamily{
		"four": {corev1.IPv4Protocol}, "six": {corev1.IPv6Protocol}, "any": {corev1.IPv4Protocol},
		"four-six": {corev1.IPv4Protocol, corev1.IPv6Protocol}, "six-four": {corev1.IPv6Protocol, corev1.IPv4Protocol},
	}
	for name, families := range wanted {
		var declared []string
		for _, f := range families {
			declared = append(declared, string(f))
		}
		if name == "any" {
			declared = nil
		}
		m.exports(ns, name, 1, with(declared...))
	}
	imports := controllers.NewImports(l, options())
	imports.Update(m.snapshot())
	run(t, imports.Run)
	check := func() {
		for name, want := range wanted {
			view := importView{t, l, client.ObjectKey{Namespace: ns, Name: name}}
			eventually(t, name+" has its families", func() bool {
				d := view.derived()
				return view.ready() && d != nil && slices.Equal(d.Spec.IPFamilies, want) && slices.Equal(view.get().Spec.IPFamilies, want)
			})
		}
	}
	check()

	t.Run("a derived service that has others is mended", func(t *testing.T) {
		for _, name := range []string{"four", "six", "any"} {
			d := importView{t, l, client.ObjectKey{Namespace: ns, Name: name}}.derived()
			patch := []byte(`{"spec":{"ipFamilyPolicy":"RequireDualStack","ipFamilies":null}}`)
			if err := l.Patch(t.Context(), d, client.RawPatch("application/merge-patch+json", patch)); err != nil {
				t.Fatal(err)
			}
			if len(d.Spec.IPFamilies) != 2 {
				t.Fatalf("%s: %v", name, d.Spec.IPFamilies)
			}
		}
		check()
	})

	t.Run("what the exporters have changes", func(t *testing.T) {
		wanted["four"], wanted["four-six"] = []corev1.IPFamily{corev1.IPv6Protocol}, []corev1.IPFamily{corev1.IPv4Protocol}
		m.exports(ns, "four", 1, with("IPv6"))
		m.exports(ns, "four-six", 1, with("IPv4"))
		imports.Update(m.snapshot())
		check()
	})
}
