package drill

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

const shop = `
apiVersion: v1
kind: Service
metadata: {name: checkout}
spec: {selector: {app: checkout}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {selector: {app: checkout, version: v1}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {selector: {app: other}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: checkout-v1}
spec:
  replicas: 3
  selector: {matchLabels: {app: checkout, version: v1}}
  template:
    metadata: {labels: {app: checkout, version: v1}}
    spec: {containers: [{name: web, image: example/web}]}
`

// real returns a real API server as two clusters would see it, and a namespace with a shop.
func real(t *testing.T) (*cluster.Cluster, string) {
	t.Helper()
	env := testenv.Start(t)
	env.InstallIsthmus(t)
	c, err := cluster.New("east", env.Config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: api.SystemNamespace}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ns := env.Namespace(t)
	objs, err := cluster.Parse([]byte(shop))
	if err == nil {
		err = c.Apply(t.Context(), ns, objs...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c, ns
}

func replicas(t *testing.T, c *cluster.Cluster, ns string) int32 {
	t.Helper()
	scale, err := c.Kube.AppsV1().Deployments(ns).GetScale(t.Context(), "checkout-v1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return scale.Spec.Replicas
}

// On a real API server: changes are made, undone as often as one likes, and leave alone what
// somebody else did since; a note keeps others away and says what to undo.
func TestChangesAndNote(t *testing.T) {
	c, ns := real(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	changes, err := ScaleAway(ctx, c, ns, "checkout")
	if err != nil || len(changes) != 1 || changes[0].Before != 3 {
		t.Fatalf("%+v, %v", changes, err)
	}
	shared, err := SharedWith(ctx, c, ns, "checkout", changes)
	if err != nil || len(shared) != 1 || shared[0] != "alias" {
		t.Errorf("shared with %v, %v", shared, err)
	}
	h := Hands{Open: func(string) (*cluster.Cluster, error) { return c, nil }}

	t.Run("note", func(t *testing.T) { testNote(ctx, t, c, changes) })
	t.Run("undo", func(t *testing.T) {
		if err := Make(ctx, h, changes); err != nil || replicas(t, c, ns) != 0 {
			t.Fatalf("made: %v", err)
		}
		all := append([]Change{{Kind: KindClient, Context: "east", Namespace: ns, Name: ClientName}}, changes...)
		for range 2 {
			if err := Undo(ctx, h, all); err != nil || replicas(t, c, ns) != 3 {
				t.Fatalf("undone: %v", err)
			}
		}
		if err := Make(ctx, h, changes); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Scale(ctx, ns, "checkout-v1", 5); err != nil {
			t.Fatal(err)
		}
		if err := Undo(ctx, h, changes); err != nil || replicas(t, c, ns) != 5 {
			t.Errorf("what somebody else scaled was scaled back: %v", err)
		}
	})
	t.Run("slow", func(t *testing.T) { testSlow(ctx, t, c, h) })
	t.Run("relay of a NodePort", func(t *testing.T) { testRelayOfNodePort(ctx, t, c) })
	t.Run("fault of a link", func(t *testing.T) { testLinkFault(ctx, t, c, h) })
	t.Run("undo goes on", func(t *testing.T) {
		healed := false
		h.Heal = func(context.Context, string) error { healed = true; return errors.New("no") }
		err := Undo(ctx, h, []Change{{Kind: KindCut, Cut: &Cut{}}, {Kind: "new"}})
		if err == nil || !healed || !strings.Contains(err.Error(), "newer isthmus") {
			t.Errorf("healed %v, %v", healed, err)
		}
	})
}

func testNote(ctx context.Context, t *testing.T, c *cluster.Cluster, changes []Change) {
	if err := Refuse(ctx, c); err != nil {
		t.Fatal(err)
	}
	note := Note{ID: "one", Owner: "me", Since: t0, Scenario: "local-endpoints", Service: "a/b", From: "east", Changes: changes}
	hold, err := Take(ctx, note, []*cluster.Cluster{c})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Take(ctx, Note{ID: "two", Owner: "you"}, []*cluster.Cluster{c})
	if !errors.Is(err, ErrRunning) || errors.Is(err, ErrAbandoned) || !strings.Contains(err.Error(), "by me since 2026-01-02T03:04:05Z") {
		t.Errorf("a second drill: %v", err)
	}
	got, err := ReadNote(ctx, c)
	if err != nil || got == nil || got.ID != "one" || len(got.Changes) != 1 || got.Changes[0] != changes[0] || !got.Running(time.Now()) {
		t.Fatalf("%+v, %v", got, err)
	}
	leases := c.Kube.CoordinationV1().Leases(api.SystemNamespace)
	l, err := leases.Get(ctx, NoteName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l.Spec.RenewTime = new(metav1.NewMicroTime(time.Now().Add(-time.Hour)))
	if _, err := leases.Update(ctx, l, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := Refuse(ctx, c); !errors.Is(err, ErrAbandoned) {
		t.Errorf("a silent drill: %v", err)
	}
	hold.renew(ctx, c)
	if err := Refuse(ctx, c); !errors.Is(err, ErrRunning) || errors.Is(err, ErrAbandoned) {
		t.Errorf("after a sign of life: %v", err)
	}
	if err := Forget(ctx, Note{ID: "two"}, []*cluster.Cluster{c}); err != nil || Refuse(ctx, c) == nil {
		t.Errorf("another's note was taken away: %v", err)
	}
	for range 2 {
		if err := hold.Release(ctx); err != nil {
			t.Error(err)
		}
	}
	if err := Refuse(ctx, c); err != nil {
		t.Error(err)
	}
}

// Peers are led to the relay, and back; what is gone is no error, and the annotation of a relay that
// somebody deleted goes, too.
func testSlow(ctx context.Context, t *testing.T, c *cluster.Cluster, h Hands) {
	services := c.Kube.CoreV1().Services(api.SystemNamespace)
	port := []corev1.ServicePort{{Port: api.PortEastWest}}
	if _, err := services.Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: api.EastWestName}, Spec: corev1.ServiceSpec{Ports: port}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	slow := Change{Kind: KindSlow, Context: "east", Relay: &Relay{Cluster: "east", Delay: time.Second, Image: "example/samples"}}
	given := func(want string) {
		t.Helper()
		if got, _, err := GatewayByHand(ctx, c); err != nil || got != want {
			t.Errorf("the gateway's addresses are %q, want %q, %v", got, want, err)
		}
	}
	start := func() {
		t.Helper()
		if err := c.Apply(ctx, api.SystemNamespace, slow.Relay.objects()...); err != nil {
			t.Fatal(err)
		}
		s, err := services.Get(ctx, RelayName, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.9"}}
		if _, err := services.UpdateStatus(ctx, s, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	start()
	if err := slow.Undo(ctx, h); err != nil { // it was prepared only
		t.Fatal(err)
	}
	start()
	if err := slow.Make(ctx, h); err != nil {
		t.Fatal(err)
	}
	given("192.0.2.9:15443")
	for range 2 {
		if err := slow.Undo(ctx, h); err != nil {
			t.Error(err)
		}
		given("")
	}
	if _, err := services.Get(ctx, RelayName, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the relay is there still: %v", err)
	}
	if err := annotate(ctx, c, new("192.0.2.9:15443")); err != nil {
		t.Fatal(err)
	}
	if err := slow.Undo(ctx, h); err != nil {
		t.Error(err)
	}
	given("")
}
