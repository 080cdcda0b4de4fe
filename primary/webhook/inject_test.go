package webhook_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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
    lifecycle: {preStop: {httpGet: {path: /bye, port: http}}, postStart: {exec: {command: [ls]}}}
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
	result, err := webhook.Inject(p, config)
	if err != nil {
		t.Fatal(err)
	}
	return result.Pod
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

// Where no version is given it is the image's, so that it is the same for all who inject.
func TestVersion(t *testing.T) {
	for image, want := range map[string]string{
		"isthmus-proxy": "latest", "hub:5000/isthmus-proxy": "latest", "hub:5000/isthmus-proxy:v1": "v1", "hub/isthmus-proxy:v1@sha256:ab": "ab",
	} {
		cfg := config
		cfg.Image, cfg.Version = image, ""
		result, err := webhook.Inject(pod(t, reviews), cfg)
		if err != nil || result.Pod.Annotations[api.AnnotationInjected] != want {
			t.Errorf("%s: %v, %v", image, result.Pod.Annotations, err)
		}
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
	if hook := app.Lifecycle.PreStop.HTTPGet; hook.Path != "/app-health/app/prestopz" || hook.Port.IntValue() != api.PortHealth || app.Lifecycle.PostStart.Exec == nil {
		t.Errorf("hooks %+v", app.Lifecycle)
	}
	if bye := got["/app-health/app/prestopz"]; bye.HTTPGet == nil || bye.HTTPGet.Path != "/bye" || bye.HTTPGet.Port.IntValue() != 9080 || bye.TimeoutSeconds != 600 {
		t.Errorf("hook %+v", bye)
	}
	if len(got) != 4 || live.HTTPGet.Port.IntValue() != 9080 || live.HTTPGet.Scheme != corev1.URISchemeHTTPS || live.TimeoutSeconds != 3 || len(live.HTTPGet.HTTPHeaders) != 1 {
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

// What is put into a pod asks for two capabilities at most and nothing else that
// Pod Security's level "restricted" refuses, but that it is root: capabilities count for uid 0 only.
func TestLeastRights(t *testing.T) {
	out := inject(t, pod(t, reviews))
	for i, want := range [][]corev1.Capability{{"NET_ADMIN", "NET_RAW"}, {"NET_ADMIN"}} {
		c := out.Spec.InitContainers[i]
		got := c.SecurityContext
		expected := &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
			RunAsUser: new(int64(0)), RunAsGroup: new(int64(0)), RunAsNonRoot: new(false),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: want},
		}
		if diff := cmp.Diff(expected, got); diff != "" {
			t.Errorf("%s:\n%s", c.Name, diff)
		}
		for _, v := range c.VolumeMounts {
			if v.MountPath != "/var/run/isthmus/data" && !v.ReadOnly {
				t.Errorf("%s can write %s", c.Name, v.MountPath)
			}
		}
	}
	if len(out.Spec.InitContainers[0].VolumeMounts) != 0 {
		t.Error("the init container has volumes")
	}
	for _, v := range out.Spec.Volumes {
		if v.HostPath != nil {
			t.Errorf("volume %s is the host's", v.Name)
		}
	}
	if out.Spec.HostPID || out.Spec.HostIPC || out.Spec.SecurityContext != nil {
		t.Error("the pod itself was changed")
	}
}

func TestSkip(t *testing.T) {
	for name, test := range map[string]struct {
		text    string
		warning string
	}{
		"host network":        {`{spec: {hostNetwork: true, containers: [{name: a}]}}`, "host's network"},
		"windows":             {`{spec: {os: {name: windows}, containers: [{name: a}]}}`, "windows"},
		"our label":           {`{metadata: {labels: {isthmus.dev/inject: "false"}}, spec: {containers: [{name: a}]}}`, ""},
		"our annotation":      {`{metadata: {annotations: {isthmus.dev/inject: "false"}}, spec: {containers: [{name: a}]}}`, ""},
		"istio label":         {`{metadata: {labels: {sidecar.istio.io/inject: "false"}}, spec: {containers: [{name: a}]}}`, ""},
		"istio annotation":    {`{metadata: {annotations: {sidecar.istio.io/inject: "false"}}, spec: {containers: [{name: a}]}}`, ""},
		"label first":         {`{metadata: {labels: {sidecar.istio.io/inject: "false"}, annotations: {sidecar.istio.io/inject: "true"}}, spec: {containers: [{name: a}]}}`, ""},
		"one of two":          {`{metadata: {labels: {sidecar.istio.io/inject: "true", isthmus.dev/inject: "false"}}, spec: {containers: [{name: a}]}}`, ""},
		"system's namespace":  {`{metadata: {namespace: kube-system, labels: {isthmus.dev/inject: "true"}}, spec: {containers: [{name: a}]}}`, ""},
		"our own namespace":   {`{metadata: {namespace: isthmus-system}, spec: {containers: [{name: a}]}}`, ""},
		"kind's storage pods": {`{metadata: {namespace: local-path-storage}, spec: {containers: [{name: a}]}}`, ""},
	} {
		p := pod(t, test.text)
		result, err := webhook.Inject(p, config)
		if err != nil || result.Skipped == "" {
			t.Errorf("%s: not skipped, %v", name, err)
			continue
		}
		if diff := cmp.Diff(p, result.Pod); diff != "" {
			t.Errorf("%s: changed:\n%s", name, diff)
		}
		if told := strings.Join(result.Warnings, " "); (told == "") != (test.warning == "") || !strings.Contains(told, test.warning) {
			t.Errorf("%s: warnings %q", name, told)
		}
	}
}

// What is neither true nor false says nothing, as in Istio, and is told; a label
// hides the annotation of its name.
func TestNotSkipped(t *testing.T) {
	for name, test := range map[string]struct {
		text    string
		warning string
	}{
		"label first":   {`{metadata: {labels: {sidecar.istio.io/inject: "true"}, annotations: {sidecar.istio.io/inject: "false"}}, spec: {containers: [{name: a}]}}`, ""},
		"empty label":   {`{metadata: {labels: {sidecar.istio.io/inject: ""}, annotations: {sidecar.istio.io/inject: "false"}}, spec: {containers: [{name: a}]}}`, ""},
		"False":         {`{metadata: {annotations: {sidecar.istio.io/inject: "False"}}, spec: {containers: [{name: a}]}}`, `sidecar.istio.io/inject="False"`},
		"ours, a typo":  {`{metadata: {labels: {isthmus.dev/inject: "fasle"}}, spec: {containers: [{name: a}]}}`, `isthmus.dev/inject="fasle"`},
		"nothing said":  {`{spec: {containers: [{name: a}]}}`, ""},
		"linux, spoken": {`{spec: {os: {name: linux}, containers: [{name: a}]}}`, ""},
	} {
		result, err := webhook.Inject(pod(t, test.text), config)
		if err != nil || result.Skipped != "" || len(result.Pod.Spec.InitContainers) != 2 {
			t.Errorf("%s: skipped: %q, %v", name, result.Skipped, err)
		}
		if told := strings.Join(result.Warnings, " "); (told == "") != (test.warning == "") || !strings.Contains(told, test.warning) {
			t.Errorf("%s: warnings %q", name, told)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"init's name taken": {`{spec: {containers: [{name: isthmus-init}]}}`, "rename it"},
		"port name":         {`{spec: {containers: [{name: a, readinessProbe: {httpGet: {port: web}}}]}}`, `no port named "web"`},
		"hook's port name":  {`{spec: {containers: [{name: a, lifecycle: {preStop: {httpGet: {port: web}}}}]}}`, `no port named "web"`},
		"forged probe":      {`{spec: {containers: [{name: a, readinessProbe: {httpGet: {port: 15021, path: /app-health/a/readyz}}}]}}`, "nobody described"},
		"broken probes":     {`{spec: {containers: [{name: a}], initContainers: [{name: isthmus-proxy, env: [{name: ISTHMUS_PROBES, value: "{"}]}]}}`, "ISTHMUS_PROBES"},
		"broken status":     {`{metadata: {annotations: {isthmus.dev/status: "["}}, spec: {containers: [{name: a}]}}`, "isthmus.dev/status"},
		"istio's pod":       {`{metadata: {annotations: {sidecar.istio.io/status: "{}"}}, spec: {containers: [{name: a}]}}`, "one mesh only"},
	} {
		if _, err := webhook.Inject(pod(t, test.text), config); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// More probes than the proxy runs are refused here, where the pod's author sees it.
func TestTooManyProbes(t *testing.T) {
	p := pod(t, `{spec: {containers: []}}`)
	for i := range api.MaxProbes + 1 {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
			Name: "c" + strconv.Itoa(i), LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 1}}},
		})
	}
	if _, err := webhook.Inject(p, config); err == nil || !strings.Contains(err.Error(), api.AnnotationRewriteProbes) {
		t.Errorf("error %v", err)
	}
	p.Annotations = map[string]string{api.AnnotationRewriteProbes: "false"}
	inject(t, p)
}

// Whatever pod comes in, injection does not panic, and once it has passed a
// second call gives the same.
func FuzzInject(f *testing.F) {
	for _, text := range []string{reviews, template, `{}`, `{spec: {hostNetwork: true}}`} {
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
		twice, err := webhook.Inject(once.Pod, config)
		if err != nil {
			t.Fatalf("second call: %v", err)
		}
		if diff := cmp.Diff(once.Pod, twice.Pod, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("second call changed:\n%s", diff)
		}
	})
}
