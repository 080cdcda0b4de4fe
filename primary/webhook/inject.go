// Package webhook puts the sidecar into pods: the pure injection that the CLI
// uses too, and the admission webhook around it.
package webhook

import (
	"cmp"
	"strings"

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
	Version    string // value of the annotation isthmus.dev/injected; the image's tag when empty

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

// A Result is what injection makes of a pod.
type Result struct {
	Pod      *corev1.Pod // a copy; unchanged where Skipped says why
	Skipped  string      // why the pod is left alone; "" where it has a sidecar now
	Warnings []string    // for the pod's author
}

// Inject returns a copy of pod with the sidecar in it, or an unchanged copy of a
// pod that Skip names. It may be applied again, also after somebody has added
// containers or changed ours, and then gives the same or brings ours back to
// their places. An error says what in the pod does not allow it.
func Inject(pod *corev1.Pod, cfg Config) (Result, error) {
	out := pod.DeepCopy()
	if why := Skip(pod); why != "" {
		return Result{Pod: out, Skipped: why, Warnings: skipWarnings(pod, why)}, nil
	}
	wishes, err := readWishes(pod.Annotations)
	if err != nil {
		return Result{}, err
	}
	known, err := knownProbes(out)
	if err != nil {
		return Result{}, err
	}
	had, err := takeEarlier(out)
	if err != nil {
		return Result{}, err
	}
	probes, err := rewriteProbes(out, known, wishes.keepProbes)
	if err != nil {
		return Result{}, err
	}
	if wishes.resources != nil {
		cfg.Resources = *wishes.resources
	}
	proxy := had.over(proxyContainer(cfg, environment(cfg, probes)), had.proxy)
	setup := initContainer(cfg, wishes.lists)
	setup.Image, setup.ImagePullPolicy = proxy.Image, proxy.ImagePullPolicy // they are one program
	out.Spec.InitContainers = append([]corev1.Container{had.over(setup, had.init), proxy}, out.Spec.InitContainers...)
	setVolumes(out, cfg)
	if err := writeRecord(out, cmp.Or(cfg.Version, tag(cfg.Image)), cfg.Image, cfg.Resources); err != nil {
		return Result{}, err
	}
	return Result{Pod: out, Warnings: append(wishWarnings(pod), wishes.warnings...)}, nil
}

// tag returns what an image's name says after its last colon, its tag or digest.
func tag(image string) string {
	name := image[strings.LastIndexByte(image, '/')+1:]
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		return name[i+1:]
	}
	return "latest"
}

func initContainer(cfg Config, env []corev1.EnvVar) corev1.Container {
	return corev1.Container{
		Name:            InitContainer,
		Image:           cfg.Image,
		ImagePullPolicy: cfg.PullPolicy,
		Args:            []string{"intercept"},
		Env:             env,
		SecurityContext: securityContext("NET_ADMIN", "NET_RAW"),
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
		SecurityContext: securityContext("NET_ADMIN"),
		Resources:       cfg.Resources,
		VolumeMounts: []corev1.VolumeMount{
			{Name: tokenVolume, MountPath: "/var/run/secrets/isthmus", ReadOnly: true},
			{Name: rootVolume, MountPath: "/var/run/isthmus/root", ReadOnly: true},
			{Name: dataVolume, MountPath: "/var/run/isthmus/data"},
		},
	}
}

// securityContext gives what interception needs and nothing else: the init
// container writes rules, by which the kernel tells the proxy's connections from
// others by their socket mark, which the proxy needs NET_ADMIN for. Kubernetes
// gives capabilities to uid 0 only.
func securityContext(capabilities ...corev1.Capability) *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		RunAsUser:                new(int64(0)),
		RunAsGroup:               new(int64(0)),
		RunAsNonRoot:             new(false),
		Capabilities: &corev1.Capabilities{
			Add:  capabilities,
			Drop: []corev1.Capability{"ALL"},
		},
	}
}
