package testenv_test

import (
	"context"
	"os"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/internal/testenv"
)

func TestMain(m *testing.M) {
	os.Exit(testenv.Shared(m, func(e *testenv.Env) { env = e }))
}

var env *testenv.Env

func TestTokensAreReviewed(t *testing.T) {
	namespace := env.Namespace(t)
	pod, err := env.Client(t).CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p"},
		Spec: corev1.PodSpec{
			ServiceAccountName: "caller",
			Containers:         []corev1.Container{{Name: "c", Image: "i"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	bound := &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}
	token := env.Token(t, namespace, "caller", bound, "for-us")

	for audience, want := range map[string]bool{"for-us": true, "for-others": false} {
		review, err := env.Client(t).AuthenticationV1().TokenReviews().Create(t.Context(), &authenticationv1.TokenReview{
			Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{audience}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := review.Status.Authenticated; got != want {
			t.Errorf("audience %s: authenticated %v, want %v (%s)", audience, got, want, review.Status.Error)
		}
		if want && review.Status.User.Extra["authentication.kubernetes.io/pod-name"][0] != "p" {
			t.Errorf("review does not name the pod: %v", review.Status.User)
		}
	}
}

func TestAccountsHaveOnlyTheirRights(t *testing.T) {
	client, err := kubernetes.NewForConfig(env.AccountConfig(t, env.Namespace(t), "nobody"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("listing secrets gave %v, want forbidden", err)
	}
}

func TestCRDsAreServed(t *testing.T) {
	env.InstallMCS(t)
	env.InstallIsthmus(t)
	env.InstallMCS(t) // twice does no harm
}

func TestServersAreIndependentAndRestart(t *testing.T) {
	other := testenv.Start(t, testenv.WithControllers())
	client := other.Client(t)
	if _, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	other.Kill()
	if _, err := client.CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{}); err == nil {
		t.Error("a killed API server answered")
	}
	other.Restart(t)
	if _, err := client.CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if _, err := env.Client(t).CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the other server answered %v, want not found", err)
	}
}

// A client that goes on calling while its API server restarts may be told that it
// has no right, but only until the API server is ready.
func TestForbiddenOnlyWhileStarting(t *testing.T) {
	other := testenv.Start(t)
	const namespace, account = "default", "reader"
	config := other.AccountConfig(t, namespace, account)
	config.QPS = -1 // no limit
	_, err := other.Client(t).RbacV1().RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: account}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: account}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	list := func(ctx context.Context) error {
		_, err := client.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{Limit: 1})
		return err
	}
	if testenv.Starting(time.Now().Add(-time.Hour)) {
		t.Error("an hour ago nothing was starting")
	}
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan []time.Time)
		go func() {
			var forbidden []time.Time
			for ctx.Err() == nil {
				if err := list(ctx); apierrors.IsForbidden(err) {
					forbidden = append(forbidden, time.Now())
				}
			}
			ended <- forbidden
		}()
		other.Restart(t)
		err := list(ctx)
		cancel()
		forbidden := <-ended
		t.Logf("forbidden %d times", len(forbidden))
		if err != nil {
			t.Errorf("when it was ready: %v", err)
		}
		for _, at := range forbidden {
			if !testenv.Starting(at) {
				t.Errorf("forbidden at %v, when nothing was starting", at)
			}
		}
	}
}
