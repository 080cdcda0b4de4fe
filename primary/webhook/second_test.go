package webhook_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
)

// second is a mutating webhook of somebody else's: it adds a container with a
// probe, an init container and a native sidecar, each in front, a volume, and has
// every image come from a mirror. It does nothing that it has done before.
func second(w http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	var pod corev1.Pod
	err := json.NewDecoder(r.Body).Decode(&review)
	if err == nil {
		err = json.Unmarshal(review.Request.Object.Raw, &pod)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	var patch []operation
	for path, list := range map[string][]corev1.Container{"/spec/containers": pod.Spec.Containers, "/spec/initContainers": pod.Spec.InitContainers} {
		for i, c := range list {
			if !strings.HasPrefix(c.Image, "mirror.example/") {
				patch = append(patch, operation{"replace", fmt.Sprintf("%s/%d/image", path, i), "mirror.example/" + c.Image})
			}
		}
	}
	if !slices.Contains(names(pod.Spec.Containers), "late") {
		late := corev1.Container{Name: "late", Image: "mirror.example/late", ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(8088), Path: "/ok"}}}}
		first := corev1.Container{Name: "late-init", Image: "mirror.example/late"}
		side := corev1.Container{Name: "late-side", Image: "mirror.example/late", RestartPolicy: new(corev1.ContainerRestartPolicyAlways), LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8089)}}}}
		volume := corev1.Volume{Name: "late", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
		patch = append(patch, operation{"add", "/spec/containers/0", late})
		if len(pod.Spec.InitContainers) == 0 {
			patch = append(patch, operation{"add", "/spec/initContainers", []corev1.Container{first, side}})
		} else {
			patch = append(patch, operation{"add", "/spec/initContainers/0", side}, operation{"add", "/spec/initContainers/0", first})
		}
		if len(pod.Spec.Volumes) == 0 {
			patch = append(patch, operation{"add", "/spec/volumes", []corev1.Volume{volume}})
		} else {
			patch = append(patch, operation{"add", "/spec/volumes/0", volume})
		}
	}
	response := &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	if len(patch) > 0 {
		response.PatchType = new(admissionv1.PatchTypeJSONPatch)
		response.Patch, _ = json.Marshal(patch) // of plain values
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(admissionv1.AdmissionReview{TypeMeta: review.TypeMeta, Response: response})
}

// Another webhook before or after ours, called once or again: the result is the
// same, with our containers first, every probe by way of the sidecar, its changes
// to ours kept, and nothing there twice.
func TestSecondWebhook(t *testing.T) {
	client := kubernetes.NewForConfigOrDie(env.Config)
	installed(t, client)
	var calls atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		second(w, r)
	}))
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	ns := labelled(t, client, map[string]string{"istio-injection": "enabled"})
	configurations := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	var results []*corev1.Pod
	for _, name := range []string{"aaa-before", "zzz-after"} {
		for _, policy := range []admissionregistrationv1.ReinvocationPolicyType{"Never", "IfNeeded"} {
			title := fmt.Sprintf("%s, %s", name, policy)
			if _, err := configurations.Create(t.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{
				ObjectMeta: metav1.ObjectMeta{Name: name},
				Webhooks: []admissionregistrationv1.MutatingWebhook{{
					Name:         "second.example.com",
					ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: new(server.URL), CABundle: ca},
					Rules: []admissionregistrationv1.RuleWithOperations{{
						Operations: []admissionregistrationv1.OperationType{"CREATE"},
						Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
					}},
					NamespaceSelector:  &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": ns}},
					ReinvocationPolicy: &policy, SideEffects: new(admissionregistrationv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
				}},
			}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			before := pod(t, reviews)
			before.Namespace, before.Name, before.GenerateName, before.Spec.ServiceAccountName = ns, "", "p-", "default"
			before.Spec.AutomountServiceAccountToken = new(false)
			var made *corev1.Pod
			eventually(t, "the API server calls both: "+title, func() bool {
				got, err := client.CoreV1().Pods(ns).Create(t.Context(), before, metav1.CreateOptions{})
				made = got
				if err != nil {
					t.Logf("%s: %v", title, err)
				}
				return err == nil && slices.Contains(names(got.Spec.Containers), "late")
			})
			if err := configurations.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the API server calls ours alone", func() bool {
				got, err := create(t, client, ns, nil)
				return err == nil && !slices.Contains(names(got.Spec.Containers), "late")
			})
			checkBoth(t, title, made, name == "aaa-before" && policy == "Never")
			results = append(results, made)
		}
	}
	if calls.Load() == 0 || len(results) != 4 {
		t.Errorf("%d calls, %d results", calls.Load(), len(results))
	}
}

// checkBoth says what is wrong with a pod that both webhooks have seen. Where the
// other one came first and was not called again it has not seen our images.
func checkBoth(t *testing.T, title string, got *corev1.Pod, unseen bool) {
	t.Helper()
	if diff := cmp.Diff([]string{"isthmus-init", "isthmus-proxy", "late-init", "late-side", "migrate", "logs"}, names(got.Spec.InitContainers)); diff != "" {
		t.Errorf("%s: init containers:\n%s", title, diff)
	}
	if diff := cmp.Diff([]string{"late", "app", "other"}, names(got.Spec.Containers)); diff != "" {
		t.Errorf("%s: containers:\n%s", title, diff)
	}
	var volumes []string
	for _, v := range got.Spec.Volumes {
		volumes = append(volumes, v.Name)
	}
	slices.Sort(volumes)
	if diff := cmp.Diff([]string{"isthmus-data", "isthmus-root", "isthmus-token", "late", "work"}, volumes); diff != "" {
		t.Errorf("%s: volumes:\n%s", title, diff)
	}
	proxy := got.Spec.InitContainers[1]
	var probes map[string]webhook.Probe
	if err := json.Unmarshal([]byte(variable(proxy, "ISTHMUS_PROBES")), &probes); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"app/livez", "app/readyz", "app/startupz", "app/prestopz", "late/readyz", "late-side/livez"} {
		if _, ok := probes["/app-health/"+path]; !ok {
			t.Errorf("%s: probe %s is not the proxy's", title, path)
		}
	}
	for _, c := range append(got.Spec.InitContainers[2:], got.Spec.Containers...) {
		for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
			if p != nil && p.Exec == nil && (p.HTTPGet == nil || p.HTTPGet.Host == "" && p.HTTPGet.Port.IntValue() != api.PortHealth) {
				t.Errorf("%s: container %s is probed directly: %+v", title, c.Name, p)
			}
		}
	}
	for _, c := range got.Spec.InitContainers[:2] {
		if mirrored := strings.HasPrefix(c.Image, "mirror.example/"); mirrored == unseen {
			t.Errorf("%s: image %s", title, c.Image)
		}
	}
}

// A namespace whose LimitRange wants limits gives them to the sidecar after the
// webhook; its second look must not take them away, or the pod would be refused.
func TestLimitRange(t *testing.T) {
	client := kubernetes.NewForConfigOrDie(env.Config)
	installed(t, client)
	ns := labelled(t, client, map[string]string{"istio-injection": "enabled"})
	size := func(s string) corev1.ResourceList { return corev1.ResourceList{"memory": resource.MustParse(s)} }
	if _, err := client.CoreV1().LimitRanges(ns).Create(t.Context(), &corev1.LimitRange{
		ObjectMeta: metav1.ObjectMeta{Name: "bounds"},
		Spec:       corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypeContainer, Max: size("1Gi"), Default: size("256Mi"), DefaultRequest: size("64Mi")}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the API server knows the LimitRange, and the pod is taken", func() bool {
		got, err := create(t, client, ns, nil)
		if err != nil {
			t.Logf("refused: %v", err)
			return false
		}
		for _, c := range append(got.Spec.InitContainers, got.Spec.Containers...) {
			if c.Resources.Limits.Memory().String() != "256Mi" {
				return false
			}
		}
		return len(got.Spec.InitContainers) == 2
	})
}
