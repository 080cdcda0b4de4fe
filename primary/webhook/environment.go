package webhook

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/api"
)

// environment is the proxy's.
func environment(cfg Config, probes string) []corev1.EnvVar {
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
	}
	env := []corev1.EnvVar{
		field("POD_NAME", "metadata.name"),
		field("POD_NAMESPACE", "metadata.namespace"),
		field("POD_UID", "metadata.uid"),
		field("POD_IP", "status.podIP"),
		field("POD_IPS", "status.podIPs"),
		field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
		field("NODE_NAME", "spec.nodeName"),
	}
	for _, pair := range [][2]string{
		{"ISTHMUS_CLUSTER", cfg.Cluster},
		{"ISTHMUS_NETWORK", cfg.Network},
		{"ISTHMUS_TRUST_DOMAIN", cfg.TrustDomain},
		{"ISTHMUS_DISCOVERY", cfg.Discovery},
		{"ISTHMUS_DISCOVERY_CLUSTER", cmp.Or(cfg.DiscoveryCluster, cfg.Cluster)},
		{"ISTHMUS_DATAPLANE", cmp.Or(cfg.Dataplane, "builtin")},
		{probesVariable, probes},
	} {
		env = append(env, corev1.EnvVar{Name: pair[0], Value: pair[1]})
	}
	return env
}

// ownVariable reports whether a variable is one that only some injections set.
func ownVariable(name string) bool {
	return name == probesVariable || slices.ContainsFunc(lists, func(l list) bool { return l.variable == name })
}

var ownVolumes = []string{tokenVolume, rootVolume, dataVolume}

func ownVolume(name string) bool { return slices.Contains(ownVolumes, name) }

// setVolumes replaces our volumes, so that nobody else's of that name stays.
func setVolumes(pod *corev1.Pod, cfg Config) {
	ours := []corev1.Volume{
		{Name: tokenVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			DefaultMode: new(int32(0o644)),
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: api.TokenAudience(cfg.Cluster), ExpirationSeconds: new(int64(3600)), Path: "token",
			}}},
		}}},
		{Name: rootVolume, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: api.BundleConfigMapName}, DefaultMode: new(int32(0o644)),
		}}},
		{Name: dataVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
	}
	others := slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return ownVolume(v.Name) })
	pod.Spec.Volumes = append(others, ours...)
}
