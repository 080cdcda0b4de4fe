package watch

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

// The local API server goes away and comes back: what was known stays, and what
// changes afterwards is seen within seconds.
func TestLocalAPIServerRestarts(t *testing.T) {
	t.Parallel() // with the other, on API servers of their own
	own := testenv.Start(t)
	c := prepare(t, own, "net-east")
	workload{"shop", "reviews", "10.20.0.5", true, false}.create(t, c)
	r := start(t, func(o *Options) { o.Local = own.Config })
	key := federation.ServiceKey{Cluster: "east", Namespace: "shop", Name: "reviews"}
	known := func(s *federation.Snapshot) bool { return s.Service(key) != nil && len(s.Service(key).Endpoints) == 1 }
	r.wait("own service", known)
	own.Kill()
	if !known(r.Snapshot()) {
		t.Error("the service is gone with the API server")
	}
	own.Restart(t)
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "late"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	must(t, client.IgnoreAlreadyExists(c.Create(t.Context(), svc)))
	r.wait("what came after", func(s *federation.Snapshot) bool {
		return s.Service(federation.ServiceKey{Cluster: "east", Namespace: "shop", Name: "late"}) != nil && known(s)
	})
}

// etcd is restored from a backup, so resource versions move backwards: what the
// API server no longer has goes, and what comes after is seen. (faults 12)
func TestLocalAPIServerIsRestored(t *testing.T) {
	t.Parallel() // with the other, on API servers of their own
	own := testenv.Start(t)
	c := prepare(t, own, "net-east")
	service := func(name string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	}
	has := func(s *federation.Snapshot, name string) bool {
		return s.Service(federation.ServiceKey{Cluster: "east", Namespace: "shop", Name: name}) != nil
	}
	must(t, client.IgnoreAlreadyExists(c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})))
	must(t, c.Create(t.Context(), service("kept")))
	own.Backup(t)
	r := start(t, func(o *Options) { o.Local = own.Config })
	for i := range 20 {
		must(t, c.Create(t.Context(), service(fmt.Sprint("undone-", i))))
	}
	r.wait("what will be undone", func(s *federation.Snapshot) bool { return has(s, "undone-19") && has(s, "kept") })
	own.Restore(t)
	must(t, c.Create(t.Context(), service("after")))
	r.wait("the API server's truth", func(s *federation.Snapshot) bool {
		return has(s, "after") && has(s, "kept") && !has(s, "undone-0") && !has(s, "undone-19")
	})
}
