package webhook

import "fmt"

// EnforceLabel is the label by which a namespace has Pod Security refuse pods
// that are above a level.
const EnforceLabel = "pod-security.kubernetes.io/enforce"

// ForbiddenBy says by which level of Pod Security a namespace of these labels
// refuses every pod with a sidecar, "" where it does not: baseline and restricted
// forbid NET_ADMIN, without which a pod cannot redirect its own traffic.
func ForbiddenBy(labels map[string]string) string {
	if level := labels[EnforceLabel]; level == "baseline" || level == "restricted" {
		return level
	}
	return ""
}

// AllowPods is the command that lets pods with a sidecar start in namespace.
func AllowPods(namespace string) string {
	return fmt.Sprintf("kubectl label namespace %s %s=privileged --overwrite", namespace, EnforceLabel)
}
