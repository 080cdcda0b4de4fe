// Package webhook puts the sidecar into pods: the pure injection that the CLI
// uses too, and the admission webhook around it.
package webhook

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/api"
)

// Names of what is put into a pod.
const (
	InitContainer  = "isthmus-init"
	ProxyContainer = "isthmus-proxy"

	tokenVolume = "isthmus-token"
	rootVolume  = "isthmus-root"
	dataVolume  = "isthmus-data"
)

// Config is what every injected pod of a cluster is told.
type Config struct {
	Image      string // of isthmus-proxy, with hub and tag
	PullPolicy corev1.PullPolicy
	Version    string // value of the annotation isthmus.dev/injected

	Cluster     string
	Network     string
	TrustDomain string
	// Discovery is the host:port of isthmusd, and DiscoveryCluster the cluster
	// that it runs in.
	Discovery        string
	DiscoveryCluster string
	Dataplane        string // builtin or envoy

	Resources corev1.ResourceRequirements // of the sidecar
}

// Skip says why a pod is left alone, or "" when it is not. Selectors of the
// webhook have chosen the namespace already.
func Skip(pod *corev1.Pod) string {
	switch {
	case pod.Spec.HostNetwork:
		return "the pod uses the host's network"
	case pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows:
		return "the pod runs on windows"
	case optOut(pod, api.LabelInject), optOut(pod, api.LabelIstioPod):
		return "the pod opted out"
	}
	return ""
}

// optOut reports whether a label or an annotation of that name says "false".
func optOut(pod *corev1.Pod, name string) bool {
	return pod.Labels[name] == "false" || pod.Annotations[name] == "false"
}

// Inject returns a copy of pod with the sidecar in it, or an unchanged copy of a
// pod that Skip names. It may be applied again, also after somebody has added
// containers, and then gives the same or brings ours back to their places. An
// error says what in the pod does not allow it.
func Inject(pod *corev1.Pod, cfg Config) (*corev1.Pod, error) {
	out := pod.DeepCopy()
	if Skip(pod) != "" {
		return out, nil
	}
	if err := checkNames(pod); err != nil {
		return nil, err
	}
	excluded, err := exclusions(pod.Annotations)
	if err != nil {
		return nil, err
	}
	known, err := knownProbes(out)
	if err != nil {
		return nil, err
	}
	out.Spec.InitContainers = slices.DeleteFunc(out.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == InitContainer || c.Name == ProxyContainer
	})
	probes, err := rewriteProbes(out, known)
	if err != nil {
		return nil, err
	}
	env := environment(cfg, excluded, probes)
	ours := []corev1.Container{initContainer(cfg, env), proxyContainer(cfg, slices.Clone(env))}
	out.Spec.InitContainers = append(ours, out.Spec.InitContainers...)
	setVolumes(out, cfg)
	if out.Annotations == nil {
		out.Annotations = map[string]string{}
	}
	out.Annotations[api.AnnotationInjected] = cfg.Version
	return out, nil
}

// checkNames refuses containers of the pod's own that bear our names.
func checkNames(pod *corev1.Pod) error {
	for _, c := range pod.Spec.Containers {
		if c.Name == InitContainer || c.Name == ProxyContainer {
			return fmt.Errorf("container %s has a name that the sidecar needs: rename it, or opt out with the label %s=false", c.Name, api.LabelInject)
		}
	}
	return nil
}

func initContainer(cfg Config, env []corev1.EnvVar) corev1.Container {
	return corev1.Container{
		Name:            InitContainer,
		Image:           cfg.Image,
		ImagePullPolicy: cfg.PullPolicy,
		Args:            []string{"intercept"},
		Env:             env,
		SecurityContext: securityContext(),
		Resources:       cfg.Resources,
	}
}

func proxyContainer(cfg Config, env []corev1.EnvVar) corev1.Container {
	return corev1.Container{
		Name:            ProxyContainer,
		Image:           cfg.Image,
		ImagePullPolicy: cfg.PullPolicy,
		Args:            []string{"sidecar"},
		RestartPolicy:   new(corev1.ContainerRestartPolicyAlways), // a native sidecar
		Env:             env,
		Ports:           []corev1.ContainerPort{{Name: "isthmus-metrics", ContainerPort: api.PortProxyMetrics, Protocol: corev1.ProtocolTCP}},
		StartupProbe:    ready(1, 600),
		ReadinessProbe:  ready(2, 3),
		SecurityContext: securityContext(),
		Resources:       cfg.Resources,
		VolumeMounts: []corev1.VolumeMount{
			{Name: tokenVolume, MountPath: "/var/run/secrets/isthmus", ReadOnly: true},
			{Name: rootVolume, MountPath: "/var/run/isthmus/root", ReadOnly: true},
			{Name: dataVolume, MountPath: "/var/run/isthmus/data"},
		},
	}
}

// securityContext gives what interception needs and nothing else. The rules
// tell the proxy's own connections by socket mark, which needs NET_ADMIN; a
// capability counts only for uid 0.
func securityContext() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		RunAsUser:                new(int64(0)),
		RunAsGroup:               new(int64(0)),
		RunAsNonRoot:             new(false),
		Capabilities: &corev1.Capabilities{
			Add:  []corev1.Capability{"NET_ADMIN", "NET_RAW"},
			Drop: []corev1.Capability{"ALL"},
		},
	}
}
