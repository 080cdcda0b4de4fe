package webhook

import (
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/isthmus-mesh/isthmus/api"
)

// probesVariable holds the pod's own probes as JSON: a map from the path under
// which the proxy runs one to what it does.
const probesVariable = "ISTHMUS_PROBES"

// Probe is one probe of an application's container, run by the proxy in
// kubelet's place: strict mTLS refuses kubelet, and a redirected port takes
// any connection. Exactly one of the first three is set; ports are numbers.
type Probe struct {
	HTTPGet        *corev1.HTTPGetAction   `json:"httpGet,omitempty"`
	TCPSocket      *corev1.TCPSocketAction `json:"tcpSocket,omitempty"`
	GRPC           *corev1.GRPCAction      `json:"grpc,omitempty"`
	TimeoutSeconds int32                   `json:"timeoutSeconds,omitempty"` // 0 means 1
}

func ready(period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromInt32(api.PortHealth), Scheme: corev1.URISchemeHTTP}},
		PeriodSeconds:    period,
		TimeoutSeconds:   2,
		SuccessThreshold: 1,
		FailureThreshold: failures,
	}
}

// knownProbes returns what an earlier injection moved to the proxy.
func knownProbes(pod *corev1.Pod) (map[string]Probe, error) {
	for _, c := range pod.Spec.InitContainers {
		if c.Name != ProxyContainer {
			continue
		}
		for _, e := range c.Env {
			if e.Name != probesVariable || e.Value == "" {
				continue
			}
			var known map[string]Probe
			if err := json.Unmarshal([]byte(e.Value), &known); err != nil {
				return nil, fmt.Errorf("variable %s of container %s: %w", probesVariable, ProxyContainer, err)
			}
			return known, nil
		}
	}
	return nil, nil
}

// rewriteProbes points every probe that kubelet makes over the network to the
// proxy, and returns all of them as JSON ("" if there is none). Those that were
// rewritten before are taken from known.
func rewriteProbes(pod *corev1.Pod, known map[string]Probe) (string, error) {
	all := map[string]Probe{}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			c := &list[i]
			for kind, probe := range map[string]*corev1.Probe{"livez": c.LivenessProbe, "readyz": c.ReadinessProbe, "startupz": c.StartupProbe} {
				path := "/app-health/" + c.Name + "/" + kind
				if err := rewriteProbe(c, probe, path, known, all); err != nil {
					return "", fmt.Errorf("container %s, probe %s: %w", c.Name, kind, err)
				}
			}
		}
	}
	if len(all) == 0 {
		return "", nil
	}
	data, err := json.Marshal(all)
	return string(data), err
}

func rewriteProbe(c *corev1.Container, probe *corev1.Probe, path string, known, all map[string]Probe) error {
	if probe == nil {
		return nil
	}
	if rewritten(probe) {
		moved, ok := known[probe.HTTPGet.Path]
		if !ok {
			return fmt.Errorf("it leads to the sidecar's %s, which nobody described", probe.HTTPGet.Path)
		}
		all[probe.HTTPGet.Path] = moved
		return nil
	}
	moved, err := describe(c, probe)
	if err != nil || moved == nil {
		return err
	}
	all[path] = *moved
	probe.ProbeHandler = corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
		Path: path, Port: intstr.FromInt32(api.PortHealth), Scheme: corev1.URISchemeHTTP,
	}}
	return nil
}

// rewritten reports whether probe leads to the proxy already.
func rewritten(probe *corev1.Probe) bool {
	h := probe.HTTPGet
	return h != nil && h.Port.IntValue() == api.PortHealth && strings.HasPrefix(h.Path, "/app-health/")
}

// describe returns what the proxy is to do, or nil for a probe that does not
// come over the pod's network: a command, or one aimed at another host.
func describe(c *corev1.Container, probe *corev1.Probe) (*Probe, error) {
	out := &Probe{TimeoutSeconds: probe.TimeoutSeconds}
	switch {
	case probe.HTTPGet != nil && probe.HTTPGet.Host == "":
		port, err := portNumber(c, probe.HTTPGet.Port)
		if err != nil {
			return nil, err
		}
		out.HTTPGet = probe.HTTPGet.DeepCopy()
		out.HTTPGet.Port = port
	case probe.TCPSocket != nil && probe.TCPSocket.Host == "":
		port, err := portNumber(c, probe.TCPSocket.Port)
		if err != nil {
			return nil, err
		}
		out.TCPSocket = &corev1.TCPSocketAction{Port: port}
	case probe.GRPC != nil:
		out.GRPC = probe.GRPC.DeepCopy()
	default:
		return nil, nil
	}
	return out, nil
}

// portNumber resolves a port's name among the container's ports.
func portNumber(c *corev1.Container, port intstr.IntOrString) (intstr.IntOrString, error) {
	if port.Type == intstr.Int {
		return port, nil
	}
	for _, p := range c.Ports {
		if p.Name == port.StrVal {
			return intstr.FromInt32(p.ContainerPort), nil
		}
	}
	if n := port.IntValue(); n > 0 && n < 65536 {
		return intstr.FromInt32(int32(n)), nil
	}
	return port, fmt.Errorf("the container has no port named %q", port.StrVal)
}
