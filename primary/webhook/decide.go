package webhook

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/api"
)

// systemNamespaces get no sidecars, whatever their labels or their pods say:
// those that Istio leaves alone, and ours.
var systemNamespaces = []string{"kube-system", "kube-public", "kube-node-lease", "local-path-storage", api.SystemNamespace}

// Skip says why a pod is left alone, or "" when it is not. Selectors of the
// webhook have chosen namespace and pod already; docs/injection.md has the table.
func Skip(pod *corev1.Pod) string {
	switch {
	case pod.Spec.HostNetwork:
		return "the pod uses the host's network"
	case pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows:
		return "the pod runs on windows"
	case slices.Contains(systemNamespaces, pod.Namespace):
		return "namespace " + pod.Namespace + " is the system's"
	case wish(pod, api.LabelInject) == "false", wish(pod, api.LabelIstioPod) == "false":
		return "the pod opted out"
	}
	return ""
}

// wish returns what the pod says under a name, by a label or else by an annotation.
// A label that is there counts, also an empty one, as Istio has it.
func wish(pod *corev1.Pod, name string) string {
	if value, ok := pod.Labels[name]; ok {
		return value
	}
	return pod.Annotations[name]
}

// skipWarnings tells the pod's author what may surprise: not what the pod itself
// asked for.
func skipWarnings(pod *corev1.Pod, why string) []string {
	if pod.Spec.HostNetwork || pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows {
		return []string{"isthmus: the pod gets no sidecar: " + why}
	}
	return nil
}

// wishWarnings names values that are neither "true" nor "false", and so say nothing.
func wishWarnings(pod *corev1.Pod) []string {
	var out []string
	for _, name := range []string{api.LabelInject, api.LabelIstioPod} {
		if value := wish(pod, name); value != "" && value != "true" && value != "false" {
			out = append(out, fmt.Sprintf("isthmus: %s=%q is neither true nor false, and counts as if it were not there", name, shorten(value)))
		}
	}
	return out
}

// shorten keeps a text of others from filling a message.
func shorten(s string) string {
	const enough = 64 // bytes
	if len(s) <= enough {
		return s
	}
	return strings.ToValidUTF8(s[:enough], "") + "..."
}
