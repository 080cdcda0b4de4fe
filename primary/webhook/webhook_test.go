package webhook_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
	"k8s.io/apimachinery/pkg/runtime"
)

var env *testenv.Env

func TestMain(m *testing.M) {
	os.Exit(testenv.Shared(m, func(e *testenv.Env) { env = e }))
}

// serve starts a replica of the webhook: its listener, its certificate.
func serve(t *testing.T, client kubernetes.Interface) (address string, serving *webhook.Serving) {
	t.Helper()
	serving, err := webhook.NewServing(webhook.ServingOptions{Client: client, Hosts: []string{"127.0.0.1"}, Interval: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	namespaces := webhook.NewNamespaces(client)
	mux.Handle(webhook.Path, webhook.Handler(config, namespaces.Labels, nil))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 3)
	go func() { done <- serving.Run(ctx) }()
	go func() { done <- namespaces.Run(ctx) }()
	go func() { done <- server.Serve(tls.NewListener(plain, serving.TLS())) }()
	t.Cleanup(func() {
		cancel()
		_ = server.Close()
		for range cap(done) {
			<-done
		}
	})
	return plain.Addr().String(), serving
}

// configuration returns the chart's own webhook configuration, pointed at address.
func configuration(t *testing.T, address string) *admissionregistrationv1.MutatingWebhookConfiguration {
	t.Helper()
	objs, err := install.Render(install.Values{Cluster: "east"})
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range objs {
		if obj.GetKind() != "MutatingWebhookConfiguration" {
			continue
		}
		var c admissionregistrationv1.MutatingWebhookConfiguration
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &c); err != nil {
			t.Fatal(err)
		}
		for i := range c.Webhooks {
			c.Webhooks[i].ClientConfig.Service = nil
			c.Webhooks[i].ClientConfig.URL = new("https://" + address + webhook.Path)
		}
		return &c
	}
	t.Fatal("the chart has no webhook configuration")
	return nil
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20s: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// installed serves the webhook and has the API server call it, as the chart says.
func installed(t *testing.T, client kubernetes.Interface) *admissionregistrationv1.MutatingWebhookConfiguration {
	t.Helper()
	env.EnsureNamespace(t, api.SystemNamespace)
	address, serving := serve(t, client)
	configurations := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	made, err := configurations.Create(t.Context(), configuration(t, address), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = configurations.Delete(context.Background(), made.Name, metav1.DeleteOptions{}) })
	eventually(t, "the configuration bears a caBundle", func() bool {
		c, err := configurations.Get(t.Context(), made.Name, metav1.GetOptions{})
		if err != nil {
			return false
		}
		for _, w := range c.Webhooks {
			if len(w.ClientConfig.CABundle) == 0 {
				return false
			}
		}
		return serving.Ready()
	})
	ns := labelled(t, client, map[string]string{"istio-injection": "enabled"})
	eventually(t, "the API server knows the webhook", func() bool {
		p, err := create(t, client, ns, nil)
		return err == nil && p.Annotations[api.AnnotationInjected] != ""
	})
	return made
}

// The API server itself calls the webhook: what cannot be injected is refused with
// the reason, and while nobody answers no pod starts.
func TestAPIServerCalls(t *testing.T) {
	client := kubernetes.NewForConfigOrDie(env.Config)
	configurations := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	made := installed(t, client)

	t.Run("refused", func(t *testing.T) {
		ns := labelled(t, client, map[string]string{"istio-injection": "enabled"})
		p := pod(t, `{metadata: {generateName: p-}, spec: {serviceAccountName: default, automountServiceAccountToken: false, containers: [{name: a, image: a, readinessProbe: {tcpSocket: {port: web}}}]}}`)
		_, err := client.CoreV1().Pods(ns).Create(t.Context(), p, metav1.CreateOptions{})
		if err == nil || !strings.Contains(err.Error(), `no port named "web"`) {
			t.Errorf("error %v", err)
		}
	})

	t.Run("fails closed", func(t *testing.T) {
		ns := labelled(t, client, map[string]string{"istio-injection": "enabled"})
		c, err := configurations.Get(t.Context(), made.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range c.Webhooks {
			c.Webhooks[i].ClientConfig.URL = new("https://127.0.0.1:1" + webhook.Path)
		}
		if _, err := configurations.Update(t.Context(), c, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "pods are refused while nobody answers", func() bool {
			_, err := create(t, client, ns, nil)
			return apierrors.IsInternalError(err)
		})
	})
}

// Two replicas share one authority, and a broken one is made anew.
func TestSharedAuthority(t *testing.T) {
	client := kubernetes.NewForConfigOrDie(env.Config)
	env.EnsureNamespace(t, api.SystemNamespace)
	_, a := serve(t, client)
	_, b := serve(t, client)
	eventually(t, "both are ready", func() bool { return a.Ready() && b.Ready() })
	authorityKey := func(s *webhook.Serving) string {
		leaf, err := s.TLS().GetCertificate(nil)
		if err != nil {
			return err.Error()
		}
		return string(leaf.Leaf.AuthorityKeyId)
	}
	eventually(t, "both have one authority", func() bool { return authorityKey(a) == authorityKey(b) })
	before := authorityKey(a)

	secrets := client.CoreV1().Secrets(api.SystemNamespace)
	secret, err := secrets.Get(t.Context(), webhook.SecretName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret.Data[corev1.TLSPrivateKeyKey] = []byte("broken")
	if _, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both have a new authority", func() bool { return authorityKey(a) != before && authorityKey(a) == authorityKey(b) })
}

func TestBadRequests(t *testing.T) {
	server := httptest.NewServer(webhook.Handler(config, nil, nil))
	defer server.Close()
	review := func(resource, kind, object string) io.Reader {
		return strings.NewReader(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"CREATE","namespace":"shop",` +
			`"resource":{"version":"v1","resource":"` + resource + `"},"kind":{"version":"v1","kind":"` + kind + `"},"object":` + object + `}}`)
	}
	for name, test := range map[string]struct {
		contentType string
		body        io.Reader
		want        int
		says        string
	}{
		"too large":     {"application/json", io.LimitReader(spaces{}, 5<<20), http.StatusRequestEntityTooLarge, "larger than"},
		"wrong type":    {"text/plain", strings.NewReader("{}"), http.StatusUnsupportedMediaType, "application/json"},
		"nothing":       {"application/json", strings.NewReader(""), http.StatusBadRequest, "decode review"},
		"not json":      {"application/json", strings.NewReader("{"), http.StatusBadRequest, "decode review"},
		"no request":    {"application/json", strings.NewReader(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`), http.StatusBadRequest, "no request"},
		"other kind":    {"application/json", strings.NewReader(`{"apiVersion":"v1","kind":"Pod"}`), http.StatusBadRequest, "not an AdmissionReview"},
		"deeply nested": {"application/json", bytes.NewReader(bytes.Repeat([]byte("["), 1<<20)), http.StatusBadRequest, "max depth"},
		// 3 bytes of text would become a container of a kilobyte.
		"many objects":   {"application/json", review("pods", "Pod", `{"spec":{"containers":[`+strings.Repeat("{},", 1<<20)+`{}]}}`), http.StatusRequestEntityTooLarge, "objects"},
		"many nulls":     {"application/json", review("pods", "Pod", `{"spec":{"containers":[`+strings.Repeat("null,", 700_000)+`null]}}`), http.StatusRequestEntityTooLarge, "objects"},
		"nested pod":     {"application/json", review("pods", "Pod", strings.Repeat(`{"spec":`, 5000)+`{}`+strings.Repeat(`}`, 5000)), http.StatusOK, "no containers"},
		"wrong kind":     {"application/json", review("pods", "Secret", `{"kind":"Secret"}`), http.StatusOK, "not a Pod"},
		"wrong object":   {"application/json", review("pods", "Pod", `{"kind":"Secret"}`), http.StatusOK, "it is a Secret"},
		"no object":      {"application/json", review("pods", "Pod", `null`), http.StatusOK, "decode pod"},
		"not an object":  {"application/json", review("pods", "Pod", `7`), http.StatusOK, "decode pod"},
		"other resource": {"application/json", review("secrets", "Secret", `{"kind":"Secret"}`), http.StatusOK, `"allowed":true`},
	} {
		response, err := http.Post(server.URL, test.contentType, test.body)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != test.want || !strings.Contains(string(body), test.says) {
			t.Errorf("%s: status %d, want %d: %.300s %v", name, response.StatusCode, test.want, body, err)
		}
	}
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func labelled(t *testing.T, client kubernetes.Interface, labels map[string]string) string {
	t.Helper()
	name := env.Namespace(t)
	ns, err := client.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range labels {
		ns.Labels[k] = v
	}
	if _, err := client.CoreV1().Namespaces().Update(t.Context(), ns, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	ensureAccount(t, client, name)
	return name
}

// ensureAccount makes the default account, which no controller does here.
func ensureAccount(t *testing.T, client kubernetes.Interface, ns string) {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := client.CoreV1().ServiceAccounts(ns).Create(t.Context(), account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

func plainPod(generateName string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: generateName},
		Spec:       corev1.PodSpec{ServiceAccountName: "default", AutomountServiceAccountToken: new(false), Containers: []corev1.Container{{Name: "a", Image: "a"}}},
	}
}

func create(t *testing.T, client kubernetes.Interface, ns string, labels map[string]string) (*corev1.Pod, error) {
	t.Helper()
	p := plainPod("p-")
	p.Labels = labels
	return client.CoreV1().Pods(ns).Create(t.Context(), p, metav1.CreateOptions{})
}

// Whatever is posted, the handler answers, and what it allows is a pod that
// injection gives.
func FuzzHandler(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"CREATE","kind":{"kind":"Pod"},"resource":{"resource":"pods"},"object":{"spec":{"containers":[{"name":"a"}]}}}}`))
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"CREATE","resource":{"resource":"pods"},"object":null}}`))
	f.Add([]byte(`{`))
	handler := webhook.Handler(config, nil, nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		request := httptest.NewRequest(http.MethodPost, webhook.Path, bytes.NewReader(body))
		request.Header.Set("Content-Type", "application/json")
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		if recorder.Code != http.StatusOK && recorder.Code != http.StatusBadRequest && recorder.Code != http.StatusRequestEntityTooLarge {
			t.Errorf("status %d", recorder.Code)
		}
	})
}
