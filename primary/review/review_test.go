package review_test

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
	"github.com/isthmus-mesh/isthmus/primary/review"
	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/csr"
)

var east *testenv.Env // set before any test, by TestMain alone

func TestMain(m *testing.M) {
	os.Exit(testenv.Shared(m, func(e *testenv.Env) { east = e }))
}

func newReviewer(t *testing.T, config *rest.Config, ttl time.Duration) *review.Reviewer {
	t.Helper()
	domain, err := trust.ParseDomain("mesh.test")
	if err != nil {
		t.Fatal(err)
	}
	r, err := review.New(review.Options{Cluster: "east", Config: config, Domain: domain, TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pod makes a pod of account web and returns what its tokens are bound to.
func pod(t *testing.T, e *testenv.Env, namespace string) *authenticationv1.BoundObjectReference {
	t.Helper()
	e.Token(t, namespace, "web", nil) // makes the account
	made, err := e.Client(t).CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web-1"},
		Spec: corev1.PodSpec{
			ServiceAccountName: "web", AutomountServiceAccountToken: new(false),
			Containers: []corev1.Container{{Name: "web", Image: "web"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: made.Name, UID: made.UID}
}

func TestReview(t *testing.T) {
	t.Parallel()
	namespace := east.Namespace(t)
	bound := pod(t, east, namespace)
	audience := api.TokenAudience("east")
	r := newReviewer(t, east.Config, 0)
	good := east.Token(t, namespace, "web", bound, audience)
	got, err := r.Review(t.Context(), "east", good)
	if err != nil {
		t.Fatal(err)
	}
	if want := "spiffe://mesh.test/ns/" + namespace + "/sa/web"; got.ID.String() != want || got.Cluster != "east" ||
		got.Namespace != namespace || got.Pod != "web-1" || got.PodUID != string(bound.UID) {
		t.Errorf("reviewed as %+v, want %s", got, want)
	}
	if _, err := r.Review(t.Context(), "west", good); !errors.Is(err, csr.ErrOtherCluster) {
		t.Errorf("for another cluster: %v", err)
	}
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	parts := strings.Split(good, ".")
	for name, token := range map[string]string{
		"another cluster's audience": east.Token(t, namespace, "web", bound, api.TokenAudience("west")),
		"the api server's audience":  east.Token(t, namespace, "web", bound),
		"not bound to a pod":         east.Token(t, namespace, "web", nil, audience),
		"alg none":                   header + "." + parts[1] + ".",
		"alg none, signed":           header + "." + parts[1] + "." + parts[2],
		"another payload":            parts[0] + "." + strings.Split(east.Token(t, namespace, "other", nil, audience), ".")[1] + "." + parts[2],
		"garbage":                    "abc",
	} {
		_, err := r.Review(t.Context(), "east", token)
		if !errors.Is(err, csr.ErrRefused) {
			t.Errorf("%s: %v, want %v", name, err, csr.ErrRefused)
		}
		if err != nil && (strings.Contains(err.Error(), token) || strings.Contains(err.Error(), parts[2])) {
			t.Errorf("%s: the error shows the token", name)
		}
	}
}

// The token of a pod that is gone is worth nothing, as soon as the API server's
// own cache says so: ours is shorter.
func TestDeletedPod(t *testing.T) {
	t.Parallel()
	namespace := east.Namespace(t)
	token := east.Token(t, namespace, "web", pod(t, east, namespace), api.TokenAudience("east"))
	r := newReviewer(t, east.Config, 0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := r.Review(ctx, "east", token); err != nil {
		t.Fatal(err)
	}
	err := east.Client(t).CoreV1().Pods(namespace).Delete(ctx, "web-1", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := r.Review(ctx, "east", token); errors.Is(err, csr.ErrRefused) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
}

// A token of another cluster with the same names, even with our audience, is not
// signed by this one's key.
func TestTokenOfAnotherIssuer(t *testing.T) {
	t.Parallel()
	other := testenv.Start(t)
	namespace := other.Namespace(t)
	token := other.Token(t, namespace, "web", pod(t, other, namespace), api.TokenAudience("east"))
	if _, err := newReviewer(t, east.Config, 0).Review(t.Context(), "east", token); !errors.Is(err, csr.ErrRefused) {
		t.Errorf("%v, want %v", err, csr.ErrRefused)
	}
	// And when its API server is gone, that is no refusal; a good answer is
	// believed for its short life.
	r := newReviewer(t, other.Config, time.Hour)
	if _, err := r.Review(t.Context(), "east", token); err != nil {
		t.Fatal(err)
	}
	second := other.Token(t, namespace, "web", nil, api.TokenAudience("east"))
	other.Kill()
	if _, err := r.Review(t.Context(), "east", token); err != nil {
		t.Errorf("a known answer: %v", err)
	}
	_, err := r.Review(t.Context(), "east", second)
	if err == nil || errors.Is(err, csr.ErrRefused) || errors.Is(err, csr.ErrOtherCluster) || strings.Contains(err.Error(), second) {
		t.Errorf("api server gone: %v", err)
	}
}

// Hundreds of reviews at once are not held back by the client's rate limit, which
// would be five a second.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	namespace := east.Namespace(t)
	bound := pod(t, east, namespace)
	config := rest.CopyConfig(east.Config)
	config.QPS, config.Burst = 0, 0
	r := newReviewer(t, config, time.Nanosecond)
	token := east.Token(t, namespace, "web", bound, api.TokenAudience("east"))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	results := make(chan error, 300)
	for range cap(results) {
		go func() {
			_, err := r.Review(ctx, "east", token)
			results <- err
		}()
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
}
