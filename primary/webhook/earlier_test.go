package webhook_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/isthmus-mesh/isthmus/primary/webhook"
)

const template = `
metadata: {name: templated}
spec:
  containers:
  - name: istio-proxy
    image: auto
    resources: {limits: {memory: 64Mi}}
    env: [{name: ISTHMUS_LOG_LEVEL, value: debug}, {name: POD_NAME, value: forged}, {name: ISTHMUS_PROBES, value: forged}]
    volumeMounts: [{name: work, mountPath: /work}, {name: work, mountPath: /var/run/isthmus/root}]
    lifecycle: {preStop: {sleep: {seconds: 3}}}
  - name: app
    image: app
  volumes:
  - {name: work, emptyDir: {}}
`

// A container of the sidecar's name says what is to be different in it: it goes
// from among the application's, and what is ours stays ours.
func TestTemplate(t *testing.T) {
	out := inject(t, pod(t, template))
	if got := names(out.Spec.Containers); !slices.Equal(got, []string{"app"}) {
		t.Errorf("containers %v", got)
	}
	proxy := out.Spec.InitContainers[1]
	if proxy.Image != config.Image || proxy.Resources.Limits.Memory().String() != "64Mi" || proxy.Lifecycle.PreStop.Sleep.Seconds != 3 {
		t.Errorf("proxy %+v", proxy)
	}
	if variable(proxy, "ISTHMUS_LOG_LEVEL") != "debug" || variable(proxy, "POD_NAME") != "" || variable(proxy, "ISTHMUS_PROBES") != "" {
		t.Errorf("variables %+v", proxy.Env)
	}
	var paths []string
	for _, m := range proxy.VolumeMounts {
		paths = append(paths, m.Name+":"+m.MountPath)
	}
	if want := []string{"isthmus-token:/var/run/secrets/isthmus", "isthmus-root:/var/run/isthmus/root", "isthmus-data:/var/run/isthmus/data", "work:/work"}; !slices.Equal(paths, want) {
		t.Errorf("mounts %v", paths)
	}
	if diff := cmp.Diff(out, inject(t, out)); diff != "" {
		t.Errorf("a second call changed:\n%s", diff)
	}
}

func TestTemplateRefused(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"args":          {`{spec: {containers: [{name: isthmus-proxy, args: [sh]}, {name: a}]}}`, "args cannot be set"},
		"rights":        {`{spec: {containers: [{name: istio-proxy, securityContext: {privileged: true}}, {name: a}]}}`, "securityContext cannot be set"},
		"init, command": {`{spec: {containers: [{name: a}], initContainers: [{name: isthmus-init, command: [sh]}]}}`, "command cannot be set"},
		"two":           {`{spec: {containers: [{name: isthmus-proxy}, {name: istio-proxy}, {name: a}]}}`, "keep one"},
	} {
		if _, err := webhook.Inject(pod(t, test.text), config); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What others have changed in our containers since is kept, such as an image of
// another registry and the limits of a LimitRange; what they have not changed
// follows the configuration, also that of another release.
func TestChangesKept(t *testing.T) {
	once := inject(t, pod(t, reviews))
	changed := once.DeepCopy()
	for i := range 2 {
		c := &changed.Spec.InitContainers[i]
		c.Image = "mirror.example/" + c.Image
		c.Resources.Limits = corev1.ResourceList{"memory": resource.MustParse("1Gi")}
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "kube-api-access-x", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"})
	}
	next := config
	next.Image, next.Version, next.Network = "isthmus-mesh/isthmus-proxy:next", "next", "net2"
	for name, test := range map[string]struct {
		from        *corev1.Pod
		image, size string
	}{
		"changed":     {changed, "mirror.example/isthmus-mesh/isthmus-proxy:dev", "1Gi"},
		"not changed": {once, "isthmus-mesh/isthmus-proxy:next", "0"},
	} {
		result, err := webhook.Inject(test.from, next)
		if err != nil {
			t.Fatal(err)
		}
		for i, mounts := range []int{0, 3} {
			c := result.Pod.Spec.InitContainers[i]
			if c.Image != test.image || c.Resources.Limits.Memory().String() != test.size || len(c.VolumeMounts) != mounts {
				t.Errorf("%s: %s has image %s, limits %v, %d mounts", name, c.Name, c.Image, c.Resources.Limits, len(c.VolumeMounts))
			}
		}
		if got := variable(result.Pod.Spec.InitContainers[1], "ISTHMUS_NETWORK"); got != "net2" {
			t.Errorf("%s: network %q", name, got)
		}
	}
}
