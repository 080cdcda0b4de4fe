package join

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
	"github.com/isthmus-mesh/isthmus/remote/registry"
)

var env *testenv.Env

func TestMain(m *testing.M) {
	os.Exit(testenv.Shared(m, func(e *testenv.Env) { env = e }))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// loopbackOnly lets secrets name the test servers' addresses.
func loopbackOnly() Options { return Options{AllowServers: []string{"127.0.0.1"}} }

// sides are two clusters. One API server plays both, as neither looks at the
// other's objects here.
func sides(t *testing.T) (east, west Side) {
	t.Helper()
	env.InstallIsthmus(t)
	env.EnsureNamespace(t, api.SystemNamespace)
	make := func(name string) Side {
		return Side{Context: name, Config: env.Config, Cluster: name, Server: env.Config.Host}
	}
	return make("east"), make("west")
}

// readerClient is a client with what the remote secret gives.
func readerClient(t *testing.T, cluster string) (*kubernetes.Clientset, []byte) {
	t.Helper()
	secret, err := env.Client(t).CoreV1().Secrets(api.SystemNamespace).Get(t.Context(), api.RemoteSecretPrefix+cluster, metav1.GetOptions{})
	must(t, err)
	if secret.Labels[api.LabelRemoteCluster] != cluster || string(secret.Data[api.RemoteClusterKey]) != cluster {
		t.Errorf("secret names %v and %q", secret.Labels, secret.Data[api.RemoteClusterKey])
	}
	raw := secret.Data[api.RemoteKubeconfigKey]
	access, err := registry.ParseKubeconfig(raw, []string{"127.0.0.1"})
	must(t, err)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: access.Server, BearerToken: access.Token, TLSClientConfig: rest.TLSClientConfig{CAData: access.CA}})
	must(t, err)
	return client, raw
}

// Link twice makes a reader that may look and nothing else; Unlink twice leaves nothing.
func TestLinkAndUnlink(t *testing.T) {
	east, west := sides(t)
	for range 2 {
		must(t, Link(t.Context(), east, west, loopbackOnly()))
	}
	reader, _ := readerClient(t, "west")
	_, err := reader.CoreV1().Services("").List(t.Context(), metav1.ListOptions{})
	must(t, err)
	for what, attributes := range map[string]authorizationv1.ResourceAttributes{
		"read secrets":      {Verb: "list", Resource: "secrets"},
		"read one secret":   {Verb: "get", Resource: "secrets", Namespace: api.SystemNamespace},
		"write services":    {Verb: "create", Resource: "services"},
		"impersonate":       {Verb: "impersonate", Resource: "users"},
		"another's token":   {Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: api.SystemNamespace, Name: "isthmusd"},
		"token elsewhere":   {Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "default", Name: ReaderAccount("east")},
		"read pods' logs":   {Verb: "get", Resource: "pods", Subresource: "log"},
		"read config maps":  {Verb: "list", Resource: "configmaps"},
		"exec":              {Verb: "create", Resource: "pods", Subresource: "exec"},
		"proxy to services": {Verb: "get", Resource: "services", Subresource: "proxy"},
	} {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &attributes}}
		answer, err := reader.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
		must(t, err)
		if answer.Status.Allowed {
			t.Errorf("the reader may %s", what)
		}
	}
	for range 2 {
		must(t, Unlink(t.Context(), east, west, loopbackOnly()))
	}
	client := env.Client(t)
	if _, err := client.CoreV1().Secrets(api.SystemNamespace).Get(t.Context(), api.RemoteSecretPrefix+"west", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("secret: %v", err)
	}
	if _, err := client.CoreV1().ServiceAccounts(api.SystemNamespace).Get(t.Context(), ReaderAccount("east"), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("account: %v", err)
	}
	left, err := client.RbacV1().ClusterRoles().List(t.Context(), metav1.ListOptions{LabelSelector: api.LabelManagedBy + "=" + api.ManagedBy})
	must(t, err)
	if len(left.Items) > 0 {
		t.Errorf("%d cluster roles are left", len(left.Items))
	}
}

// A token older than a day is renewed by the account itself; a younger one is not.
func TestRenew(t *testing.T) {
	east, west := sides(t)
	must(t, Link(t.Context(), east, west, loopbackOnly()))
	t.Cleanup(func() { _ = Unlink(context.Background(), east, west, loopbackOnly()) })
	_, before := readerClient(t, "west")
	opts := RenewOptions{Local: env.Client(t), AllowServers: []string{"127.0.0.1"}, Now: time.Now()}
	renewals, err := Renew(t.Context(), opts)
	must(t, err)
	if len(renewals) != 1 || renewals[0].Err != nil || renewals[0].Renewed {
		t.Fatalf("young token: %+v", renewals)
	}
	if left := time.Until(renewals[0].Expires); left < 6*24*time.Hour {
		t.Errorf("the token lives %s only", left)
	}
	opts.Now = opts.Now.Add(RenewAfter + time.Minute)
	renewals, err = Renew(t.Context(), opts)
	must(t, err)
	if len(renewals) != 1 || renewals[0].Err != nil || !renewals[0].Renewed {
		t.Fatalf("old token: %+v", renewals)
	}
	reader, after := readerClient(t, "west")
	if string(before) == string(after) {
		t.Error("the secret is as it was")
	}
	_, err = reader.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	must(t, err)
}

// Check names what is wrong before anything is written.
func TestCheck(t *testing.T) {
	east, west := sides(t)
	found := Check(t.Context(), []Side{east, west}, Options{})
	if len(found) == 0 || found[0].Reason != "NotInstalled" || !strings.Contains(found[0].Next, "isthmus install east") {
		t.Errorf("not installed: %v", found)
	}
	maps := env.Client(t).CoreV1().ConfigMaps(api.SystemNamespace)
	_, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: api.MeshConfigMapName}, Data: map[string]string{"cluster": "east", "trustDomain": "cluster.local"}}, metav1.CreateOptions{})
	must(t, err)
	t.Cleanup(func() { must(t, maps.Delete(context.Background(), api.MeshConfigMapName, metav1.DeleteOptions{})) })
	reasons := map[string]bool{}
	for _, f := range Check(t.Context(), []Side{east, west}, Options{}) {
		reasons[f.Reason] = true
		if f.Message == "" || f.Next == "" {
			t.Errorf("finding says too little: %+v", f)
		}
	}
	for _, want := range []string{"NoRoot", "WrongName", "SameCluster"} {
		if !reasons[want] {
			t.Errorf("no finding %s in %v", want, reasons)
		}
	}
}

// The server of the secret works from inside, or Link refuses before it writes.
func TestLinkRefusesLoopback(t *testing.T) {
	east, west := sides(t)
	west.Server = ""
	err := Link(t.Context(), east, west, Options{})
	if err == nil || !strings.Contains(err.Error(), "works on this machine only") {
		t.Errorf("error %v", err)
	}
	if linked, err := Linked(t.Context(), east, "west", Options{}); err != nil || linked {
		t.Errorf("linked %v, %v", linked, err)
	}
	if _, err := env.Client(t).CoreV1().ServiceAccounts(api.SystemNamespace).Get(t.Context(), ReaderAccount("east"), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("account: %v", err)
	}
}

func TestServerOf(t *testing.T) {
	config, err := loadKubeconfig(`
apiVersion: v1
kind: Config
clusters:
- name: c
  cluster:
    server: https://127.0.0.1:1234
    extensions:
    - name: isthmus.dev/internal-server
      extension: https://172.30.0.11:6443
contexts:
- name: east
  context: {cluster: c, user: u}
`)
	must(t, err)
	if got := ServerOf(config, "east"); got != "https://172.30.0.11:6443" {
		t.Errorf("server %q", got)
	}
	if got := ServerOf(config, "west"); got != "" {
		t.Errorf("server of an unknown context %q", got)
	}
}

func loadKubeconfig(text string) (*clientcmdapi.Config, error) { return clientcmd.Load([]byte(text)) }
