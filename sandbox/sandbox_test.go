package sandbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/install"
	"github.com/isthmus-mesh/isthmus/install/coredns"
	"github.com/isthmus-mesh/isthmus/sandbox"
)

// TestSandbox proves what a sandbox gives, on three clusters: west and south
// share a network that east is not on.
func TestSandbox(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three clusters")
	}
	bin := programs(t)
	s := up(t, sandbox.Options{Bin: bin, Clusters: []sandbox.Cluster{
		{Name: "east"}, {Name: "west", Network: "shared"}, {Name: "south", Network: "shared"},
	}})
	t.Run("pods are whole", func(t *testing.T) { testPods(t, in(t, s, "east")) })
	t.Run("capabilities are honoured", func(t *testing.T) { testCapabilities(t, in(t, s, "east")) })
	t.Run("what cannot be had is an event", func(t *testing.T) { testBadImage(t, in(t, s, "east")) })
	t.Run("services and names", func(t *testing.T) { testServices(t, in(t, s, "east")) })
	t.Run("clusterset names", func(t *testing.T) { testClusterSet(t, in(t, s, "west")) })
	t.Run("networks are apart", func(t *testing.T) { testNetworks(t, in(t, s, "east"), in(t, s, "west"), in(t, s, "south")) })
	t.Run("cuts", func(t *testing.T) { testCuts(t, in(t, s, "east"), in(t, s, "west")) })
	t.Run("capture", func(t *testing.T) { testCapture(t, in(t, s, "east"), in(t, s, "west")) })
	t.Run("control part restarts under pods", func(t *testing.T) { testRestart(t, in(t, s, "west")) })
	t.Run("node part restarts with its pods", func(t *testing.T) { testNodeRestart(t, in(t, s, "south")) })
	t.Run("programs can be replaced", func(t *testing.T) { testReplace(t, in(t, s, "east"), bin) })
	t.Run("kubeconfig", func(t *testing.T) { testKubeconfig(t, s) })
	t.Run("up again", func(t *testing.T) { testUpAgain(t, s) })
}

func testPods(t *testing.T, c *cluster) {
	p := server("whole")
	p.Spec.InitContainers = []corev1.Container{
		{Name: "first", Image: "isthmus-mesh/probe", Args: []string{"say", "first"}},
		{Name: "sidecar", Image: "isthmus-mesh/probe", Args: []string{"serve", "9090"}, RestartPolicy: new(corev1.ContainerRestartPolicyAlways)},
		{Name: "after", Image: "isthmus-mesh/probe", Args: []string{"get", "http://127.0.0.1:9090/"}}, // the sidecar runs by then
	}
	if _, err := c.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "whole"}, Data: map[string]string{"key": "from the map"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p.Spec.Volumes = []corev1.Volume{
		{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
		{Name: "map", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "whole"}}}},
		{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "somebody", Path: "token"}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}},
		}}}},
	}
	main := &p.Spec.Containers[0]
	main.VolumeMounts = []corev1.VolumeMount{
		{Name: "memory", MountPath: "/var/run/memory"}, {Name: "map", MountPath: "/etc/map"}, {Name: "token", MountPath: "/var/run/secrets/isthmus"},
	}
	got := c.start(p)

	if out, _ := c.run("whole", "read", "/etc/map/key"); out != "from the map" {
		t.Errorf("the config map's file holds %q", out)
	}
	if out, _ := c.run("whole", "read", "/var/run/secrets/isthmus/labels"); !strings.Contains(out, `app="whole"`) {
		t.Errorf("the downward API's file holds %q", out)
	}
	if out, _ := c.run("whole", "read", "/var/run/secrets/isthmus/token"); strings.Count(out, ".") != 2 {
		t.Errorf("the projected token is %q", out)
	}
	for _, path := range []string{"/var/run/memory/x", "/tmp/x"} {
		if out, code := c.run("whole", "write", path, "x"); code != 0 {
			t.Errorf("write %s: %s", path, out)
		}
	}
	if _, code := c.run("whole", "fail"); code != 3 {
		t.Errorf("exec gave exit code %d, want 3", code)
	}
	if out, _ := c.run("whole", "get", "http://127.0.0.1:8080/"); !strings.HasPrefix(out, "whole sees 127.0.0.1") {
		t.Errorf("over loopback: %q", out)
	}
	logs, err := c.CoreV1().Pods("default").GetLogs("whole", &corev1.PodLogOptions{Container: "first"}).DoRaw(t.Context())
	if err != nil || string(logs) != "first\n" {
		t.Errorf("logs of the init container: %q, %v", logs, err)
	}
	if got.Status.PodIP == "" || got.Status.HostIP != c.sandbox.NodeAddress(c.name) {
		t.Errorf("addresses of the pod: %q on %q", got.Status.PodIP, got.Status.HostIP)
	}
}

// testCapabilities reads them from the kernel, for the program and for exec.
func testCapabilities(t *testing.T, c *cluster) {
	p := server("caps")
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{
		Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN", "NET_RAW"},
	}}
	c.start(p)
	const want = "CapEff:\t0000000000003000" // bits 12 and 13
	for _, file := range []string{"/proc/1/status", "/proc/self/status"} {
		if out, _ := c.run("caps", "read", file); !strings.Contains(out, want) {
			t.Errorf("%s has no line %q:\n%s", file, want, out)
		}
	}
}

func testBadImage(t *testing.T, c *cluster) {
	p := pod("foreign")
	p.Spec.Containers[0].Image = "nginx"
	c.create(p)
	c.wait("an event", func() error {
		events, err := c.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=foreign"})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if strings.Contains(e.Message, "the sandbox has no registry") {
				return nil
			}
		}
		return fmt.Errorf("%d events, none says why", len(events.Items))
	})
}

func testServices(t *testing.T, c *cluster) {
	c.start(server("web"))
	svc := c.expose("web", corev1.ServiceTypeClusterIP)
	// A pod that calls itself through its Service, by name.
	c.wait("the service", func() error {
		if out, code := c.run("web", "get", "http://web.default.svc.cluster.local/"); code != 0 {
			return errors.New(out)
		}
		return nil
	})
	if out, _ := c.run("web", "lookup", "web.default.svc.cluster.local"); strings.TrimSpace(out) != svc.Spec.ClusterIP {
		t.Errorf("web is %q, want %s", out, svc.Spec.ClusterIP)
	}
	if out, code := c.run("web", "lookup", "nobody.default.svc.cluster.local"); code == 0 {
		t.Errorf("a name of nobody has the address %q", out)
	}
	// What the API server does to call a webhook.
	line, err := c.sandbox.Enter(c.name, "bash", "-c", "exec 3<>/dev/tcp/"+svc.Spec.ClusterIP+"/80")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := command(line).CombinedOutput(); err != nil {
		t.Errorf("from the node to the ClusterIP: %v\n%s", err, text)
	}
}

func testClusterSet(t *testing.T, c *cluster) {
	c.start(server("asker"))
	config, err := c.sandbox.Config(c.name)
	if err != nil {
		t.Fatal(err)
	}
	if report, err := coredns.Look(t.Context(), c.Clientset); err != nil || report.State != coredns.Can {
		t.Errorf("CoreDNS is not that of a stock cluster: %+v, %v", report, err)
	}
	if err := install.ApplyCRDs(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if report, err := coredns.Configure(t.Context(), c.Clientset); err != nil || !report.Changed {
		t.Fatalf("configure CoreDNS: %+v, %v", report, err)
	}
	applyImport(t, config, &mcs.ServiceImport{
		ObjectMeta: metav1.ObjectMeta{Name: "checkout", Namespace: "default"},
		Spec: mcs.ServiceImportSpec{
			Type: mcs.ClusterSetIP, IPs: []string{"10.21.200.7"},
			Ports: []mcs.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	})
	c.wait("the clusterset name", func() error {
		if out, _ := c.run("asker", "lookup", "checkout.default.svc.clusterset.local"); strings.TrimSpace(out) != "10.21.200.7" {
			return errors.New(out)
		}
		return nil
	})
}

func testNetworks(t *testing.T, east, west, south *cluster) {
	for _, c := range []*cluster{east, west, south} {
		c.start(server("net"))
	}
	address := func(c *cluster) string {
		p, err := c.CoreV1().Pods("default").Get(t.Context(), "net", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return p.Status.PodIP
	}
	lb := west.expose("net", corev1.ServiceTypeLoadBalancer)
	if east.reaches("net", "http://"+address(west)+":8080/") {
		t.Error("a pod of another network was reached by its address")
	}
	if west.reaches("net", "http://"+address(east)+":8080/") {
		t.Error("a pod of another network was reached by its address")
	}
	want := "net sees " + address(west)
	if out, _ := west.run("net", "get", "http://"+address(south)+":8080/"); out != want {
		t.Errorf("on the same network: %q, want %q: no translation", out, want)
	}
	east.wait("west's load balancer", func() error {
		if out, code := east.run("net", "get", "http://"+lb.Status.LoadBalancer.Ingress[0].IP+"/"); code != 0 {
			return errors.New(out)
		}
		return nil
	})
	// Not even with a route: the node refuses what was not meant for a Service.
	line, err := east.sandbox.Enter("east", "ip", "route", "add", address(west), "via", east.sandbox.NodeAddress("west"))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := command(line).CombinedOutput(); err != nil {
		t.Fatalf("add route: %v\n%s", err, text)
	}
	if east.reaches("net", "http://"+address(west)+":8080/") {
		t.Error("with a route, a pod of another network was reached by its address")
	}
}

func testCuts(t *testing.T, east, west *cluster) {
	s := east.sandbox
	east.start(server("cut"))
	west.start(server("cut"))
	lb := west.expose("cut", corev1.ServiceTypeLoadBalancer).Status.LoadBalancer.Ingress[0].IP
	gateway := func() bool { return east.reaches("cut", "http://"+lb+"/") }
	// Reached when the TLS server complains, and not the network.
	api := func() bool {
		out, _ := east.run("cut", "get", "http://"+s.NodeAddress("west")+":6443/")
		return strings.Contains(out, "HTTPS") || strings.Contains(out, "malformed")
	}
	east.wait("the gateway", func() error {
		if !gateway() || !api() {
			return errors.New("not reached")
		}
		return nil
	})
	cases := []struct {
		from         string
		what         sandbox.What
		gateway, api bool
	}{
		{"east", sandbox.Gateway, false, true},
		{"", sandbox.API, true, false},
		{"east", sandbox.Port(80), false, true},
		{"west", sandbox.All, false, false},
	}
	for _, mode := range []sandbox.Mode{sandbox.Refuse, sandbox.Drop} {
		for _, tt := range cases {
			to := "west"
			if tt.from == "west" {
				to = "east" // both ways, whichever is named first
			}
			if err := s.Cut(t.Context(), tt.from, to, mode, tt.what); err != nil {
				t.Fatal(err)
			}
			started := time.Now()
			if got := gateway(); got != tt.gateway {
				t.Errorf("%s %s: gateway reached: %v", mode, tt.what, got)
			}
			if got := api(); got != tt.api {
				t.Errorf("%s %s: API server reached: %v", mode, tt.what, got)
			}
			if took := time.Since(started); mode == sandbox.Drop && took < 2*time.Second {
				t.Errorf("%s %s: noticed after %v, as if refused", mode, tt.what, took)
			}
			if err := s.Heal(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !gateway() || !api() {
				t.Errorf("%s %s: not healed", mode, tt.what)
			}
		}
	}
	if err := s.Cut(t.Context(), "east", "nowhere", sandbox.Drop, sandbox.All); err == nil {
		t.Error("a cut from an unknown cluster was taken")
	}
}

func testCapture(t *testing.T, east, west *cluster) {
	east.start(server("seen"))
	west.start(server("seen"))
	lb := west.expose("seen", corev1.ServiceTypeLoadBalancer).Status.LoadBalancer.Ingress[0].IP
	ctx, stop := context.WithCancel(t.Context())
	var pcap bytes.Buffer
	started := make(chan struct{})
	var capture sync.WaitGroup
	capture.Go(func() {
		if err := east.sandbox.Capture(ctx, &pcap, func() { close(started) }); err != nil {
			t.Error(err)
		}
	})
	<-started
	east.wait("an answer", func() error {
		if out, code := east.run("seen", "get", "http://"+lb+"/a-word-to-find"); code != 0 {
			return errors.New(out)
		}
		return nil
	})
	time.Sleep(300 * time.Millisecond) // for the last packets; nothing tells that they have come
	stop()
	capture.Wait()
	if n := bytes.Count(pcap.Bytes(), []byte("GET /a-word-to-find")); n != 1 {
		t.Errorf("the request was captured %d times in %d bytes, want once", n, pcap.Len())
	}
}

func testRestart(t *testing.T, c *cluster) {
	before := c.start(server("stays"))
	c.expose("stays", corev1.ServiceTypeClusterIP)
	other := in(t, c.sandbox, "south")
	other.start(server("caller"))
	url := "http://" + before.Status.PodIP + ":8080/"
	if err := c.sandbox.Kill(t.Context(), c.name, sandbox.Control); err != nil {
		t.Fatal(err)
	}
	status, err := c.sandbox.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range status.Processes {
		if down := p.Cluster == c.name && p.Part == sandbox.Control; p.Running == down {
			t.Errorf("%s %s: running %v", p.Cluster, p.Part, p.Running)
		}
	}
	if !other.reaches("caller", url) {
		t.Error("without its API server a pod does not answer")
	}
	if err := c.sandbox.Restart(t.Context(), c.name, sandbox.Control); err != nil {
		t.Fatal(err)
	}
	after, err := c.CoreV1().Pods("default").Get(t.Context(), "stays", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if after.UID != before.UID || after.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error("the pod was restarted with the API server")
	}
}

func testNodeRestart(t *testing.T, c *cluster) {
	c.start(server("anew"))
	if err := c.sandbox.Restart(t.Context(), c.name, sandbox.Node); err != nil {
		t.Fatal(err)
	}
	c.wait("the pod to run anew", func() error {
		p, err := c.CoreV1().Pods("default").Get(t.Context(), "anew", metav1.GetOptions{})
		if err != nil {
			return err
		}
		// One that ended with the node is not always counted as restarted.
		if len(p.Status.ContainerStatuses) == 0 || !p.Status.ContainerStatuses[0].Ready {
			return fmt.Errorf("status %+v", p.Status)
		}
		return nil
	})
	c.wait("the pod to answer", func() error {
		logs, err := c.CoreV1().Pods("default").GetLogs("anew", &corev1.PodLogOptions{}).DoRaw(t.Context())
		if err != nil || !strings.Contains(string(logs), "serving") {
			return fmt.Errorf("logs %q: %w", logs, err)
		}
		return nil
	})
}

func testReplace(t *testing.T, c *cluster, bin string) {
	buildProbe(t, bin, "two")
	c.start(server("renewed"))
	logs, err := c.CoreV1().Pods("default").GetLogs("renewed", &corev1.PodLogOptions{}).DoRaw(t.Context())
	if err != nil || !strings.Contains(string(logs), "serving two") {
		t.Errorf("a new pod says %q (%v), not the new program's words", logs, err)
	}
}

func testKubeconfig(t *testing.T, s *sandbox.Sandbox) {
	config, err := clientcmd.LoadFromFile(s.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	if config.CurrentContext != "east" || len(config.Contexts) != 3 {
		t.Errorf("context %q of %d", config.CurrentContext, len(config.Contexts))
	}
	extension, err := json.Marshal(config.Clusters["west"].Extensions[sandbox.InternalServerExtension])
	if want := `"https://172.30.0.12:6443"`; err != nil || string(extension) != want {
		t.Errorf("internal server %s (%v), want %s", extension, err, want)
	}
}

func testUpAgain(t *testing.T, s *sandbox.Sandbox) {
	clusters := []sandbox.Cluster{{Name: "east"}, {Name: "west", Network: "shared"}, {Name: "south", Network: "shared"}}
	if _, err := sandbox.Up(t.Context(), sandbox.Options{Dir: s.Dir(), Clusters: clusters}); err != nil {
		t.Errorf("a second up: %v", err)
	}
	if _, err := sandbox.Up(t.Context(), sandbox.Options{Dir: s.Dir(), Clusters: clusters[:1]}); err == nil || !strings.Contains(err.Error(), "take it down first") {
		t.Errorf("other clusters in the same folder: %v", err)
	}
}

// TestKilledLauncherLeavesNothing kills it without warning.
func TestKilledLauncherLeavesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	opts := sandbox.Options{Bin: programs(t), Dir: filepath.Join(t.TempDir(), "sandbox"), Bare: true, Clusters: []sandbox.Cluster{{Name: "one"}}}
	s := up(t, opts)
	var state struct{ PID, Init int }
	data, err := os.ReadFile(filepath.Join(s.Dir(), "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &state); err != nil {
		t.Fatal(err)
	}
	inside := descendants(t, state.Init)
	if len(inside) < 3 {
		t.Fatalf("found %d processes inside, want init, control and node at least", len(inside))
	}
	if err := syscall.Kill(state.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for _, pid := range inside {
		for alive(pid) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d outlived its launcher", pid)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if _, err := sandbox.Attach(s.Dir()); !errors.Is(err, sandbox.ErrNotRunning) {
		t.Errorf("attach to a dead sandbox: %v", err)
	}
	up(t, opts) // goes over the remains
	for range 2 {
		if err := sandbox.Down(t.Context(), s.Dir()); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(s.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("down left the folder: %v", err)
	}
}

func TestUpExplains(t *testing.T) {
	cases := map[string]struct {
		opts sandbox.Options
		want string
	}{
		"no clusters": {sandbox.Options{}, "1 to 8 clusters"},
		"bad name":    {sandbox.Options{Clusters: []sandbox.Cluster{{Name: "East!"}}}, "DNS label"},
		"twice":       {sandbox.Options{Clusters: []sandbox.Cluster{{Name: "a"}, {Name: "a"}}}, "named twice"},
		"not built":   {sandbox.Options{Clusters: []sandbox.Cluster{{Name: "a"}}, Bin: "/nonexistent"}, "make build"},
		"too many":    {sandbox.Options{Clusters: make([]sandbox.Cluster, 9)}, "1 to 8 clusters"},
	}
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			tt.opts.Dir = filepath.Join(t.TempDir(), "s")
			_, err := sandbox.Up(t.Context(), tt.opts)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if _, err := os.Stat(tt.opts.Dir); err == nil {
				t.Error("a refused sandbox left its folder")
			}
		})
	}
}
