package webhook

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/api"
)

// exclusion is what the sidecar leaves alone, as comma-separated lists.
type exclusion struct{ outboundPorts, inboundPorts, outboundCIDRs string }

// exclusions reads and checks the annotations, ours before Istio's.
func exclusions(annotations map[string]string) (exclusion, error) {
	read := func(ours, theirs string, check func(string) error) (string, error) {
		name, text := ours, annotations[ours]
		if text == "" {
			name, text = theirs, annotations[theirs]
		}
		var list []string
		for item := range strings.SplitSeq(text, ",") {
			item = strings.TrimSpace(item)
			if item == "" {
				continue
			}
			if err := check(item); err != nil {
				return "", fmt.Errorf("annotation %s: %w", name, err)
			}
			list = append(list, item)
		}
		return strings.Join(list, ","), nil
	}
	var out exclusion
	var err error
	if out.outboundPorts, err = read(api.AnnotationExcludeOutboundPorts, "traffic.sidecar.istio.io/excludeOutboundPorts", checkPort); err != nil {
		return exclusion{}, err
	}
	if out.inboundPorts, err = read(api.AnnotationExcludeInboundPorts, "traffic.sidecar.istio.io/excludeInboundPorts", checkPort); err != nil {
		return exclusion{}, err
	}
	if out.outboundCIDRs, err = read(api.AnnotationExcludeOutboundCIDRs, "traffic.sidecar.istio.io/excludeOutboundIPRanges", checkCIDR); err != nil {
		return exclusion{}, err
	}
	return out, nil
}

func checkPort(s string) error {
	if n, err := strconv.ParseUint(s, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is not a port from 1 to 65535", s)
	}
	return nil
}

func checkCIDR(s string) error {
	if _, err := netip.ParsePrefix(s); err != nil {
		return fmt.Errorf("%q is not an address range such as 10.0.0.0/8", s)
	}
	return nil
}

// environment is the same for both containers.
func environment(cfg Config, excluded exclusion, probes string) []corev1.EnvVar {
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
		{"ISTHMUS_EXCLUDE_OUTBOUND_PORTS", excluded.outboundPorts},
		{"ISTHMUS_EXCLUDE_INBOUND_PORTS", excluded.inboundPorts},
		{"ISTHMUS_EXCLUDE_OUTBOUND_CIDRS", excluded.outboundCIDRs},
	} {
		env = append(env, corev1.EnvVar{Name: pair[0], Value: pair[1]})
	}
	return env
}

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
	var others []corev1.Volume
	for _, v := range pod.Spec.Volumes {
		if v.Name != tokenVolume && v.Name != rootVolume && v.Name != dataVolume {
			others = append(others, v)
		}
	}
	pod.Spec.Volumes = append(others, ours...)
}
