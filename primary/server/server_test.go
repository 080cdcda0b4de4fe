package server_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"

	"github.com/isthmus-mesh/isthmus/api"
	cav1 "github.com/isthmus-mesh/isthmus/api/ca"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
	"github.com/isthmus-mesh/isthmus/primary/controllers"
	"github.com/isthmus-mesh/isthmus/primary/server"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
)

var env *testenv.Env

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	if file := os.Getenv(planeVariable); file != "" {
		os.Exit(planeMain(file))
	}
	os.Exit(testenv.Shared(m, func(e *testenv.Env) { env = e }))
}

// isthmusd is one running control plane.
type isthmusd struct {
	discovery, webhook, metrics, health, debug string
	bundle                                     trust.Bundle
	domain                                     trust.Domain
	stop                                       func()
}

// start runs the composition of isthmusd for cluster east on the tests' API server.
func start(t *testing.T, identity, caDir string, bundle trust.Bundle) *isthmusd {
	t.Helper()
	return startIn(t, env, "east", identity, caDir, bundle)
}

// startIn does so for a cluster on an API server of its own.
func startIn(t *testing.T, env *testenv.Env, cluster, identity, caDir string, bundle trust.Bundle, change ...func(*server.Options)) *isthmusd {
	t.Helper()
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	listeners := server.Listeners{Discovery: listen(), Webhook: listen(), Metrics: listen(), Health: listen(), Debug: listen()}
	logged := new(buffer)
	opts := server.Options{
		Config: account(t, env, cluster), Cluster: federation.ClusterName(cluster), Domain: bundle.Domain(), Identity: identity, CADir: caDir,
		Listeners: listeners, Injection: webhook.Config{Image: "isthmus-mesh/isthmus-proxy:dev", Version: "dev"},
		AllowServers: []string{"127.0.0.1"}, Log: slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&opts)
	}
	srv, err := server.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		text := logged.String()
		for _, line := range refusals(text) {
			t.Errorf("the chart's rights are too few: %s", line)
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", identity, text)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("isthmusd: %v", err)
				}
			case <-time.After(40 * time.Second):
				t.Error("isthmusd does not end")
			}
		})
	}
	t.Cleanup(stop)
	d := &isthmusd{
		discovery: listeners.Discovery.Addr().String(), health: listeners.Health.Addr().String(), debug: listeners.Debug.Addr().String(),
		webhook: listeners.Webhook.Addr().String(), metrics: listeners.Metrics.Addr().String(),
		bundle: bundle, domain: bundle.Domain(), stop: stop,
	}
	eventually(t, "isthmusd is ready", func() bool {
		response, err := http.Get("http://" + d.health + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return d
}

// buffer collects a log.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// refusals returns the lines of a log that tell of a right which the account does
// not have, but for those of slog that came from an API server which had only just
// been started and had not read the roles yet.
func refusals(text string) (out []string) {
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "forbidden") {
			continue
		}
		stamp, _, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
		if at, err := time.Parse(time.RFC3339Nano, stamp); err != nil || !testenv.Starting(at) {
			out = append(out, line)
		}
	}
	return out
}

// account installs the chart, its Deployments aside, and returns the way in of
// isthmusd's own account: with the rights that the chart gives and no others.
func account(t *testing.T, env *testenv.Env, cluster string) *rest.Config {
	t.Helper()
	objs, err := install.Render(install.Values{Cluster: cluster})
	if err != nil {
		t.Fatal(err)
	}
	objs = slices.DeleteFunc(objs, func(o *unstructured.Unstructured) bool { return o.GetKind() == "Deployment" })
	if err := install.Apply(t.Context(), env.Config, objs, nil); err != nil {
		t.Fatal(err)
	}
	return env.AccountConfig(t, api.SystemNamespace, api.ControlPlaneName)
}

// authority writes a CA folder for cluster east, as the Secret is mounted.
func authority(t *testing.T) (dir string, bundle trust.Bundle) {
	t.Helper()
	root := newRoot(t)
	bundle, err := root.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	return caFolder(t, root, "east"), bundle
}

func newRoot(t *testing.T) *ca.Root {
	t.Helper()
	domain, err := trust.ParseDomain(api.DefaultTrustDomain)
	if err != nil {
		t.Fatal(err)
	}
	root, err := ca.CreateRoot(ca.RootOptions{Domain: domain})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func caFolder(t *testing.T, root *ca.Root, cluster string) string {
	t.Helper()
	chain, key, err := root.Intermediate(cluster)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := root.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{api.CAChainKey: chain, api.CAKeyKey: key, api.CABundleKey: bundle.PEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestEndToEnd goes a sidecar's way: a token gives an SVID, the SVID opens xDS,
// and an export of its service becomes an import with an address, which is sent.
func TestEndToEnd(t *testing.T) {
	caDir, bundle := authority(t)
	d := start(t, "isthmusd-1", caDir, bundle)

	ns := env.Namespace(t)
	kube := kubernetes.NewForConfigOrDie(env.Config)
	pod := makePod(t, env, kube, ns, "client", "10.1.0.7")
	makeService(t, kube, ns, "reviews", pod)
	token := env.Token(t, ns, "client", &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}, api.TokenAudience("east"))

	svid := d.sign(t, token)
	if got := svid.ID.String(); got != "spiffe://cluster.local/ns/"+ns+"/sa/client" || svid.Cluster != "east" {
		t.Fatalf("svid is of %s, cluster %s", got, svid.Cluster)
	}

	scheme, err := controllers.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(env.Config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	export := &mcsv1beta1.ServiceExport{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "reviews"}}
	if err := c.Create(t.Context(), export); err != nil {
		t.Fatal(err)
	}
	var imported mcsv1beta1.ServiceImport
	eventually(t, "the import has an address", func() bool {
		return c.Get(t.Context(), client.ObjectKeyFromObject(export), &imported) == nil && len(imported.Spec.IPs) == 1 && len(imported.Status.Clusters) == 1
	})

	stream := d.delta(t, svid, ns, pod.Name)
	wanted := "outbound|9080||reviews." + ns + ".svc.clusterset.local"
	for seen := map[string]bool{}; !seen[wanted]; {
		response, err := stream.Recv()
		if err != nil {
			t.Fatalf("receive: %v", err)
		}
		for _, r := range response.Resources {
			seen[r.Name] = true
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: response.TypeUrl, ResponseNonce: response.Nonce}); err != nil {
			t.Fatal(err)
		}
	}

	var proxies []struct{ Pod, Cluster string }
	d.get(t, "/debug/proxies", &proxies)
	if len(proxies) != 1 || proxies[0].Pod != "client" {
		t.Errorf("debug view shows %+v", proxies)
	}
	for _, path := range []string{"/debug/clusters", "/debug/snapshot", "/debug/problems", "/debug/pushes"} {
		var any any
		d.get(t, path, &any)
	}

	if err := c.Delete(t.Context(), export); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the import is gone", func() bool {
		return client.IgnoreNotFound(c.Get(t.Context(), client.ObjectKeyFromObject(export), &imported)) == nil &&
			c.Get(t.Context(), client.ObjectKeyFromObject(export), &imported) != nil
	})
}

// Who proves nothing gets nothing, and the server lives on.
func TestUnauthenticated(t *testing.T) {
	caDir, bundle := authority(t)
	d := start(t, "isthmusd-2", caDir, bundle)
	conn := d.dial(t, trust.SVID{})

	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "sidecar~1.2.3.4~a.b~b.svc.cluster.local"}, TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster"})
	if _, err := stream.Recv(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("xds without credentials: %v", err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer not-a-token")
	if _, err := cav1.NewCertificateServiceClient(conn).Sign(ctx, &cav1.SignRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("sign with a bad token: %v", err)
	}
	ns := env.Namespace(t)
	foreign := env.Token(t, ns, "client", nil, "https://kubernetes.default.svc")
	ctx = metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+foreign)
	if _, err := cav1.NewCertificateServiceClient(conn).Sign(ctx, &cav1.SignRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("sign with another audience's token: %v", err)
	}
	plain, err := net.Dial("tcp", d.discovery)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_, _ = plain.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	_ = plain.SetReadDeadline(time.Now().Add(20 * time.Second))
	if answer, _ := io.ReadAll(plain); len(answer) > 7 { // a TLS alert at most
		t.Errorf("plaintext was answered: %q", answer)
	}
	var view struct{ Leader bool }
	d.get(t, "/debug/clusters", &view)
}

// Two replicas: one leads, and when it ends the other does.
func TestElection(t *testing.T) {
	caDir, bundle := authority(t)
	a := start(t, "isthmusd-a", caDir, bundle)
	leading := func(d *isthmusd) bool {
		var view struct{ Leader bool }
		d.get(t, "/debug/clusters", &view)
		return view.Leader
	}
	eventually(t, "the first leads", func() bool { return leading(a) })
	b := start(t, "isthmusd-b", caDir, bundle)
	if leading(b) {
		t.Error("two leaders")
	}
	a.stop()
	eventually(t, "the second leads", func() bool { return leading(b) })
}

func makePod(t *testing.T, env *testenv.Env, kube kubernetes.Interface, ns, name, ip string) *corev1.Pod {
	t.Helper()
	env.Token(t, ns, name, nil) // makes the account
	pod, err := kube.CoreV1().Pods(ns).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{api.AnnotationInjected: "dev"}, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			ServiceAccountName: name, AutomountServiceAccountToken: new(false), NodeName: "node-1",
			Containers: []corev1.Container{{Name: "app", Image: "app"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	if pod, err = kube.CoreV1().Pods(ns).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	return pod
}

func makeService(t *testing.T, kube kubernetes.Interface, ns, name string, pod *corev1.Pod) {
	t.Helper()
	_, err := kube.CoreV1().Services(ns).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": pod.Name}, Ports: []corev1.ServicePort{{Name: "http", Port: 9080}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = kube.DiscoveryV1().EndpointSlices(ns).Create(t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(9080)), Protocol: new(corev1.ProtocolTCP)}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{pod.Status.PodIP}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: ns, Name: pod.Name, UID: pod.UID},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// source is a client's identity; without SVID it has only the bundle.
type source struct {
	svid   trust.SVID
	bundle trust.Bundle
}

func (s source) SVID() (trust.SVID, error) {
	if s.svid.IsZero() {
		return trust.SVID{}, trust.ErrNoSVID
	}
	return s.svid, nil
}
func (s source) Bundle() (trust.Bundle, error) { return s.bundle, nil }

func (d *isthmusd) dial(t *testing.T, svid trust.SVID) *grpc.ClientConn {
	t.Helper()
	return d.dialOf(t, "east", svid)
}

// dialOf connects to the control plane of a cluster.
func (d *isthmusd) dialOf(t *testing.T, cluster string, svid trust.SVID) *grpc.ClientConn {
	t.Helper()
	server, err := trust.NewID(d.domain, api.SystemNamespace, api.ControlPlaneName)
	if err != nil {
		t.Fatal(err)
	}
	config := trust.ClientTLS(source{svid, d.bundle}, trust.ClusterDNS(cluster), []string{"h2"}, trust.Only(server))
	conn, err := grpc.NewClient("passthrough:///"+d.discovery, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// sign gets an SVID for a new key by token.
func (d *isthmusd) sign(t *testing.T, token string) trust.SVID {
	t.Helper()
	return d.signOf(t, "east", token)
}

// signOf does so at the control plane of a cluster.
func (d *isthmusd) signOf(t *testing.T, cluster, token string) trust.SVID {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	response, err := cav1.NewCertificateServiceClient(d.dialOf(t, cluster, trust.SVID{})).Sign(ctx, &cav1.SignRequest{Csr: csr, Cluster: cluster})
	if err != nil {
		t.Fatalf("sign: %v", err)
	}
	var chain []*x509.Certificate
	for _, der := range response.Chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, cert)
	}
	svid, err := trust.NewSVID(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	return svid
}

// delta opens a stream of all xds clusters and listeners.
func (d *isthmusd) delta(t *testing.T, svid trust.SVID, ns, pod string) discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	t.Cleanup(cancel)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(d.dial(t, svid)).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]any{"CLUSTER_ID": "east", "NETWORK": "east", "NAMESPACE": ns, "POD_NAME": pod, "SERVICE_ACCOUNT": "client", "PROXY_TYPE": "sidecar", "SPEAKS": "mtls"}
	meta, err := structpb.NewStruct(fields)
	if err != nil {
		t.Fatal(err)
	}
	node := &corev3.Node{Id: "sidecar~10.1.0.7~" + pod + "." + ns + "~" + ns + ".svc.cluster.local", Cluster: "client." + ns, Metadata: meta}
	for _, kind := range []string{"cluster.v3.Cluster", "listener.v3.Listener"} {
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: "type.googleapis.com/envoy.config." + kind}); err != nil {
			t.Fatal(err)
		}
	}
	return stream
}

func (d *isthmusd) get(t *testing.T, path string, into any) {
	t.Helper()
	response, err := http.Get("http://" + d.debug + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 40 s: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
