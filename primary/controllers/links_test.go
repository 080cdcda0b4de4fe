package controllers_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/controllers"
	"github.com/isthmus-mesh/isthmus/remote/registry"
)

// Endpoints that come and go cost a link a write in ten seconds, and the last
// count is written; its state is written at once, whatever was written before.
func TestLinkCountsAreHeld(t *testing.T) {
	l, written := counted(t)
	key := client.ObjectKey{Namespace: api.SystemNamespace, Name: "held"}
	link := &v1alpha1.ClusterLink{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Spec: v1alpha1.ClusterLinkSpec{Cluster: "west"}}
	if err := l.Create(t.Context(), link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Delete(context.Background(), link) })
	up := registry.Status{Cluster: "west", Server: "https://192.0.2.9:6443", Accepted: true, Reachable: true, LastReachable: time.Now(), Synced: true}
	r := &remotes{statuses: []registry.Status{up}}
	m := newWorld(t)
	m.clusters["west"] = &federation.Cluster{Name: "west", Network: "net1", Read: true, Reachable: true}
	links := controllers.NewLinks(l, api.SystemNamespace, "east", r, nil, discard)
	m.exports("shop", "reviews", 1)
	links.Update(m.snapshot())
	run(t, links.Run)
	status := func() v1alpha1.ClusterLinkStatus {
		var out v1alpha1.ClusterLink
		_ = l.Get(t.Context(), key, &out)
		return out.Status
	}
	writes := func() (n int) {
		for _, w := range written.in(api.SystemNamespace) {
			if strings.HasPrefix(w, http.MethodPatch) && strings.Contains(w, "/clusterlinks/held/status") {
				n++
			}
		}
		return n
	}
	eventually(t, "the link counts one", func() bool { return status().Endpoints == 1 && status().State == v1alpha1.LinkConnected })
	writes()
	pods := 1
	eventually(t, "thirty changes", func() bool {
		pods++
		m.exports("shop", "reviews", pods)
		links.Update(m.snapshot())
		return pods == 31
	})
	down := up
	down.Reachable, down.Message = false, "connection refused"
	r.set(down)
	eventually(t, "the state is written meanwhile", func() bool { return status().State == v1alpha1.LinkStale })
	if n := writes(); n > 3 { // a burst's first, the state, and a count that is ten seconds old where the machine is slow
		t.Errorf("%d writes for thirty changes of a count", n)
	}
	m.exports("shop", "reviews", 7)
	links.Update(m.snapshot())
	eventually(t, "the last count", func() bool { return status().Endpoints == 7 })
	if n := writes(); n > 1 {
		t.Errorf("%d writes for the last count", n)
	}
}

// A drained cluster is so in its link's condition and in what the status remembers
// of it, on a real API server, and leaves its state as it is.
func TestLinkSaysDraining(t *testing.T) {
	l, _ := counted(t)
	key := client.ObjectKey{Namespace: api.SystemNamespace, Name: "drains"}
	link := &v1alpha1.ClusterLink{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Spec: v1alpha1.ClusterLinkSpec{Cluster: "west"}}
	if err := l.Create(t.Context(), link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Delete(context.Background(), link) })
	up := registry.Status{Cluster: "west", Server: "https://192.0.2.9:6443", Accepted: true, Reachable: true, LastReachable: time.Now(), Synced: true}
	m := newWorld(t)
	links := controllers.NewLinks(l, api.SystemNamespace, "east", &remotes{statuses: []registry.Status{up}}, nil, discard)
	is := func(drain string) {
		t.Helper()
		d, err := federation.ParseDrain(drain)
		if err != nil {
			t.Fatal(err)
		}
		m.clusters["west"] = &federation.Cluster{Name: "west", Network: "net1", Read: true, Reachable: true, Drain: d}
		links.Update(m.snapshot())
	}
	says := func(status metav1.ConditionStatus, reason, remembered string) {
		t.Helper()
		eventually(t, "the link says "+reason, func() bool {
			var out v1alpha1.ClusterLink
			_ = l.Get(t.Context(), key, &out)
			c := meta.FindStatusCondition(out.Status.Conditions, v1alpha1.ConditionDraining)
			return c != nil && c.Status == status && c.Reason == reason && out.Status.Drain == remembered && out.Status.State == v1alpha1.LinkConnected
		})
	}
	is("")
	run(t, links.Run)
	says(metav1.ConditionFalse, v1alpha1.ReasonInUse, "")
	is("draining,since=2026-11-29T05:00:00Z")
	says(metav1.ConditionTrue, v1alpha1.ReasonDraining, "draining,since=2026-11-29T05:00:00Z")
	is("returning=50,since=2026-11-29T05:00:00Z")
	says(metav1.ConditionTrue, v1alpha1.ReasonReturning, "returning=50,since=2026-11-29T05:00:00Z")
	is("")
	says(metav1.ConditionFalse, v1alpha1.ReasonInUse, "")
}
