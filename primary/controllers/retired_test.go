package controllers_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/controllers"
)

// The ConfigMap keeps what somebody else has written there meanwhile, is made
// again where it was deleted, and loses what has rested enough.
func TestRetired(t *testing.T) {
	l := local(t)
	ns := env.Namespace(t) // stands for the system namespace
	key := client.ObjectKey{Namespace: ns, Name: api.EntryRetiredName}
	admin := l.Direct.(client.Client)
	line := func(number string, ago time.Duration, key string) string {
		return fmt.Sprintf("%s %d %s\n", number, time.Now().Add(-ago).Unix(), key)
	}
	old := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: key.Name}, Data: map[string]string{
		"entry-ports":         line("33001", 26*time.Hour, "gone/long/80") + line("33002", 24*time.Hour, "gone/lately/80") + "what is this\n",
		"synthetic-addresses": line("240.241.0.1", 11*time.Minute, "gone/db/west/db-0") + line("240.241.0.2", 9*time.Minute, "gone/db/west/db-1"),
	}}
	if err := admin.Create(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	data := func() string {
		var have corev1.ConfigMap
		if err := admin.Get(t.Context(), key, &have); err != nil {
			return err.Error()
		}
		return have.Data["entry-ports"] + have.Data["synthetic-addresses"]
	}
	opts := options()
	opts.Namespace = ns
	m := newWorld(t)
	m.exports(ns, "one", 1)
	m.exports(ns, "two", 1)
	m.exports(ns, "three", 1)
	imports := controllers.NewImports(l, opts)
	imports.Update(m.snapshot())
	run(t, imports.Run)
	eventually(t, "cleaned of what has rested enough, and of nothing else", func() bool {
		d := data()
		return strings.Count(d, "\n") == 2 && strings.Contains(d, "gone/lately/80") && strings.Contains(d, "240.241.0.2 ")
	})
	gone := func(name string) {
		view := importView{t, l, client.ObjectKey{Namespace: ns, Name: name}}
		eventually(t, name+" is there", view.ready)
		delete(m.services, federation.ServiceKey{Namespace: ns, Name: name})
		imports.Update(m.snapshot())
		eventually(t, name+" is gone", func() bool { return view.get() == nil })
		if d := data(); !strings.Contains(d, ns+"/"+name+"/9080") { // not: eventually
			t.Errorf("%s is gone and not noted: %s", name, d)
		}
	}
	gone("one")
	var have corev1.ConfigMap
	if err := admin.Get(t.Context(), key, &have); err != nil {
		t.Fatal(err)
	}
	have.Data["entry-ports"] += line("33009", time.Hour, "another/term/80")
	if err := admin.Update(t.Context(), &have); err != nil {
		t.Fatal(err)
	}
	gone("two")
	if d := data(); !strings.Contains(d, "another/term/80") || !strings.Contains(d, "/one/9080") {
		t.Errorf("what another wrote is lost: %s", d)
	}
	if err := admin.Delete(t.Context(), &have); err != nil {
		t.Fatal(err)
	}
	gone("three")
	if d := data(); !strings.Contains(d, "/one/9080") {
		t.Errorf("made again without what rests: %s", d)
	}
}
