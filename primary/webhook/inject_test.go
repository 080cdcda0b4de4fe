package webhook_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
)

var config = webhook.Config{
	Image: "isthmus-mesh/isthmus-proxy:dev", PullPolicy: corev1.PullIfNotPresent, Version: "dev",
	Cluster: "east", Network: "net1", TrustDomain: "cluster.local", Discovery: "isthmusd.isthmus-system.svc:15012",
}

const reviews = `
metadata:
  name: reviews
  namespace: shop
spec:
  serviceAccountName: reviews
  initContainers:
  - name: migrate
    image: reviews
  - name: logs
    image: logs
    restartPolicy: Always
    startupProbe: {exec: {command: [ls]}}
  containers:
  - name: app
    image: reviews
    ports: [{name: http, containerPort: 9080}]
    livenessProbe: {httpGet: {path: /live, port: http, scheme: HTTPS, httpHeaders: [{name: X, value: "1"}]}, timeoutSeconds: 3}
    readinessProbe: {tcpSocket: {port: 9080}, periodSeconds: 7}
    startupProbe: {grpc: {port: 9081, service: health}}
  - name: other
    image: other
    livenessProbe: {exec: {command: [ls]}}
    readinessProbe: {httpGet: {host: example.com, port: 80}}
  volumes:
  - {name: isthmus-token, emptyDir: {}}
  - {name: work, emptyDir: {}}
`

func pod(t *testing.T, text string) *corev1.Pod {
	t.Helper()
	var p corev1.Pod
	if err := yaml.UnmarshalStrict([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return &p
}

func inject(t *testing.T, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	out, err := webhook.Inject(p, config)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func names(list []corev1.Container) []string {
	var out []string
	for _, c := range list {
		out = append(out, c.Name)
	}
	return out
}

func variable(c corev1.Container, name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

func TestInject(t *testing.T) {
	before := pod(t, reviews)
	out := inject(t, before)
	if diff := cmp.Diff(pod(t, reviews), before); diff != "" {
		t.Errorf("the argument was changed:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"isthmus-init", "isthmus-proxy", "migrate", "logs"}, names(out.Spec.InitContainers)); diff != "" {
		t.Errorf("order:\n%s", diff)
	}
	if out.Annotations[api.AnnotationInjected] != "dev" {
		t.Errorf("annotations %v", out.Annotations)
	}
	proxy := out.Spec.InitContainers[1]
	if proxy.RestartPolicy == nil || *proxy.RestartPolicy != corev1.ContainerRestartPolicyAlways || proxy.StartupProbe.HTTPGet.Port.IntValue() != api.PortHealth {
		t.Errorf("not a native sidecar with a startup probe: %+v", proxy)
	}
	if got := variable(proxy, "ISTHMUS_DISCOVERY_CLUSTER"); got != "east" {
		t.Errorf("discovery cluster %q", got)
	}
	var token *corev1.Volume
	for i, v := range out.Spec.Volumes {
		if v.Name == "isthmus-token" {
			if token != nil {
				t.Error("two token volumes")
			}
			token = &out.Spec.Volumes[i]
		}
	}
	if token == nil || token.Projected == nil || token.Projected.Sources[0].ServiceAccountToken.Audience != "isthmus.dev/east" {
		t.Errorf("token volume %+v", token)
	}
}

func TestProbes(t *testing.T) {
	out := inject(t, pod(t, reviews))
	app := out.Spec.Containers[0]
	for kind, probe := range map[string]*corev1.Probe{"livez": app.LivenessProbe, "readyz": app.ReadinessProbe, "startupz": app.StartupProbe} {
		if probe.HTTPGet == nil || probe.HTTPGet.Path != "/app-health/app/"+kind || probe.HTTPGet.Port.IntValue() != api.PortHealth || probe.TCPSocket != nil || probe.GRPC != nil {
			t.Errorf("%s is %+v", kind, probe.ProbeHandler)
		}
	}
	if app.ReadinessProbe.PeriodSeconds != 7 {
		t.Error("the period was lost")
	}
	if p := out.Spec.Containers[1].ReadinessProbe; p.HTTPGet.Host != "example.com" {
		t.Errorf("a probe of another host was rewritten: %+v", p)
	}
	var got map[string]webhook.Probe
	if err := json.Unmarshal([]byte(variable(out.Spec.InitContainers[1], "ISTHMUS_PROBES")), &got); err != nil {
		t.Fatal(err)
	}
	live := got["/app-health/app/livez"]
	if len(got) != 3 || live.HTTPGet.Port.IntValue() != 9080 || live.HTTPGet.Scheme != corev1.URISchemeHTTPS || live.TimeoutSeconds != 3 || len(live.HTTPGet.HTTPHeaders) != 1 {
		t.Errorf("probes %+v", got)
	}
	if got["/app-health/app/readyz"].TCPSocket.Port.IntValue() != 9080 || got["/app-health/app/startupz"].GRPC.Port != 9081 {
		t.Errorf("probes %+v", got)
	}
}

// A second call changes nothing; a container that somebody put before ours goes behind.
func TestReinvocation(t *testing.T) {
	once := inject(t, pod(t, reviews))
	if diff := cmp.Diff(once, inject(t, once)); diff != "" {
		t.Errorf("a second call changed:\n%s", diff)
	}
	more := once.DeepCopy()
	late := pod(t, `{spec: {containers: [{name: late, image: l, readinessProbe: {tcpSocket: {port: 1}}}], initContainers: [{name: first, image: f}]}}`)
	more.Spec.Containers = append(more.Spec.Containers, late.Spec.Containers...)
	more.Spec.InitContainers = slices.Insert(more.Spec.InitContainers, 0, late.Spec.InitContainers...)
	again := inject(t, more)
	if diff := cmp.Diff([]string{"isthmus-init", "isthmus-proxy", "first", "migrate", "logs"}, names(again.Spec.InitContainers)); diff != "" {
		t.Errorf("order:\n%s", diff)
	}
	probes := variable(again.Spec.InitContainers[1], "ISTHMUS_PROBES")
	for _, want := range []string{"/app-health/app/livez", "/app-health/late/readyz", "/app-health/app/startupz"} {
		if !strings.Contains(probes, want) {
			t.Errorf("probes %s lack %s", probes, want)
		}
	}
}

func TestSkip(t *testing.T) {
	for name, text := range map[string]string{
		"host network":     `{spec: {hostNetwork: true, containers: [{name: a}]}}`,
		"our label":        `{metadata: {labels: {isthmus.dev/inject: "false"}}, spec: {containers: [{name: a}]}}`,
		"istio label":      `{metadata: {labels: {sidecar.istio.io/inject: "false"}}, spec: {containers: [{name: a}]}}`,
		"istio annotation": `{metadata: {annotations: {sidecar.istio.io/inject: "false"}}, spec: {containers: [{name: a}]}}`,
		"windows":          `{spec: {os: {name: windows}, containers: [{name: a}]}}`,
	} {
		p := pod(t, text)
		if webhook.Skip(p) == "" {
			t.Errorf("%s: not skipped", name)
		}
		if diff := cmp.Diff(p, inject(t, p)); diff != "" {
			t.Errorf("%s: changed:\n%s", name, diff)
		}
	}
}

func TestExclusions(t *testing.T) {
	p := pod(t, `{metadata: {annotations: {isthmus.dev/exclude-outbound-ports: "3306, 6379", traffic.sidecar.istio.io/excludeInboundPorts: "22",
		isthmus.dev/exclude-outbound-cidrs: "10.0.0.0/8,fd00::/8"}}, spec: {containers: [{name: a}]}}`)
	proxy := inject(t, p).Spec.InitContainers[0]
	for name, want := range map[string]string{"ISTHMUS_EXCLUDE_OUTBOUND_PORTS": "3306,6379", "ISTHMUS_EXCLUDE_INBOUND_PORTS": "22", "ISTHMUS_EXCLUDE_OUTBOUND_CIDRS": "10.0.0.0/8,fd00::/8"} {
		if got := variable(proxy, name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, text := range map[string]string{
		"name taken":    `{spec: {containers: [{name: isthmus-proxy}]}}`,
		"bad port":      `{metadata: {annotations: {isthmus.dev/exclude-outbound-ports: "70000"}}, spec: {containers: [{name: a}]}}`,
		"bad range":     `{metadata: {annotations: {isthmus.dev/exclude-outbound-cidrs: "10.0.0.1"}}, spec: {containers: [{name: a}]}}`,
		"port name":     `{spec: {containers: [{name: a, readinessProbe: {httpGet: {port: web}}}]}}`,
		"forged probe":  `{spec: {containers: [{name: a, readinessProbe: {httpGet: {port: 15021, path: /app-health/a/readyz}}}]}}`,
		"broken probes": `{spec: {containers: [{name: a}], initContainers: [{name: isthmus-proxy, env: [{name: ISTHMUS_PROBES, value: "{"}]}]}}`,
	} {
		if _, err := webhook.Inject(pod(t, text), config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Whatever pod comes in, injection does not panic, and once it has passed a
// second call gives the same.
func FuzzInject(f *testing.F) {
	for _, text := range []string{reviews, `{}`, `{spec: {hostNetwork: true}}`} {
		data, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p corev1.Pod
		if json.Unmarshal(data, &p) != nil {
			return
		}
		once, err := webhook.Inject(&p, config)
		if err != nil {
			return
		}
		twice, err := webhook.Inject(once, config)
		if err != nil {
			t.Fatalf("second call: %v", err)
		}
		if diff := cmp.Diff(once, twice); diff != "" {
			t.Errorf("second call changed:\n%s", diff)
		}
	})
}
