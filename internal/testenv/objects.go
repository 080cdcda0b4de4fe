package testenv

import (
	"context"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// Namespace makes a namespace with a name of its own and deletes it with the
// test. Tests that share an API server keep apart by it.
func (e *Env) Namespace(t testing.TB) string {
	t.Helper()
	namespaces := e.Client(t).CoreV1().Namespaces()
	ns, err := namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("make namespace: %v", err)
	}
	t.Cleanup(func() { _ = namespaces.Delete(context.Background(), ns.Name, metav1.DeleteOptions{}) })
	return ns.Name
}

// EnsureNamespace makes the namespace name unless it exists.
func (e *Env) EnsureNamespace(t testing.TB, name string) {
	t.Helper()
	_, err := e.Client(t).CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatalf("make namespace %s: %v", name, err)
	}
}

// Token returns a token of a service account, which is made unless it exists,
// as is its namespace. No audience means the API server's. bound may be nil or
// name the Pod that the token is bound to.
func (e *Env) Token(t testing.TB, namespace, account string, bound *authenticationv1.BoundObjectReference, audiences ...string) string {
	t.Helper()
	e.EnsureNamespace(t, namespace)
	accounts := e.Client(t).CoreV1().ServiceAccounts(namespace)
	_, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatalf("make account %s/%s: %v", namespace, account, err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: audiences, BoundObjectRef: bound}}
	answer, err := accounts.CreateToken(t.Context(), account, request, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("make token of %s/%s: %v", namespace, account, err)
	}
	return answer.Status.Token
}

// AccountConfig returns a client configuration that acts as a service account,
// with the rights it has been given and no others.
func (e *Env) AccountConfig(t testing.TB, namespace, account string) *rest.Config {
	t.Helper()
	config := rest.AnonymousClientConfig(e.Config)
	config.BearerToken = e.Token(t, namespace, account, nil)
	return config
}
